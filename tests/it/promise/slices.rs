//! What the last hours' slices say, counted by index, is what the facts say.

use anyhow::Result;
use chrono::TimeDelta;
use lastgood::{
    attained::burns,
    promise::{Span, figures, timeline},
    status::paid,
};

use super::{Fleet, plans};

#[tokio::test(flavor = "multi_thread")]
async fn slices_and_facts_agree() -> Result<()> {
    let fleet = Fleet::begin().await?;
    let shops: Vec<String> = (0..6).map(|number| format!("shop{number}")).collect();
    for shop in &shops {
        fleet.db.add(shop, "acme", "pro").await?;
    }
    let (tiers, allowed) = paid(&plans()?);
    // Some come in time, some late, some twice in one slice, one outlasts the RPO, and one never comes.
    let mut points: Vec<(&str, i64, i64)> = vec![
        ("shop0", 0, 3),
        ("shop0", 60, 63),
        ("shop0", 120, 123),
        ("shop0", 180, 183),
        ("shop0", 240, 243),
        ("shop1", 0, 3),
        ("shop1", 100, 108),
        ("shop1", 209, 211),
        ("shop2", 10, 95),
        ("shop2", 96, 97),
        ("shop2", 98, 99),
        ("shop3", 0, 80),
        ("shop3", 70, 150),
        ("shop3", 140, 220),
        ("shop4", 0, 1),
    ];
    points.sort_by_key(|(.., exists)| *exists);
    let mut points = points.into_iter().peekable();
    for minute in (0..=300).step_by(5) {
        fleet.clock(minute).await?;
        while let Some((shop, consistent, exists)) =
            points.next_if(|(.., exists)| *exists <= minute)
        {
            fleet.point(shop, consistent, exists).await?;
        }
        fleet.db.catalog.count_slice(&tiers, &allowed).await?;
    }
    let span = Span {
        from: fleet.at(0),
        until: fleet.at(300),
    };
    let facts = fleet.db.catalog.promise_fleet(span).await?;
    let records = fleet.db.catalog.promise_records(&shops, span).await?;
    let (mut promised, mut broken) = (TimeDelta::zero(), TimeDelta::zero());
    for record in records.values() {
        for it in figures(&timeline(&facts, record, span)).values() {
            promised += it.promised;
            broken += it.broken;
        }
    }
    let sums: (f64, f64) = sqlx::query_as(
        "select sum(promised_seconds), sum(broken_seconds) from lastgood.promise_slices where tier = 'pro' and began_at >= '2031-03-05'",
    )
    .fetch_one(fleet.db.pool())
    .await?;
    assert!(broken > TimeDelta::minutes(300), "{broken}");
    assert_eq!(sums, (promised.as_seconds_f64(), broken.as_seconds_f64()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_burn_rate_is_how_fast_the_budget_goes() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    let (tiers, allowed) = paid(&plans()?);
    // Broken from minute 66 on.
    for minute in (0..=120).step_by(3) {
        fleet.clock(minute).await?;
        fleet.db.catalog.count_slice(&tiers, &allowed).await?;
    }
    fleet.count().await?;
    let burns = burns(&fleet.db.catalog, &plans()?).await?;
    let pro = burns.iter().find(|burn| burn.tier == "pro");
    let pro = pro.ok_or_else(|| anyhow::anyhow!("no tier"))?;
    let close = |a: Option<f64>, b: f64| a.is_some_and(|a| (a - b).abs() < 0.001);
    // Of 60 minutes 54, where 0.5 % are allowed; of 120 the same.
    assert!(close(pro.rate_1h, 0.9 / 0.005), "{pro:?}");
    assert!(close(pro.rate_6h, 0.45 / 0.005), "{pro:?}");
    assert!(close(pro.attained, 1.0 - 0.45), "{pro:?}");
    assert!(close(pro.budget_left, 1.0 - 0.45 / 0.005), "{pro:?}");
    let hobby = burns.iter().find(|burn| burn.tier == "hobby");
    assert!(hobby.is_some_and(|burn| burn.rate_1h.is_none() && burn.budget_left.is_none()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_producers_count_no_minute_twice() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    let (tiers, allowed) = paid(&plans()?);
    fleet.db.catalog.count_slice(&tiers, &allowed).await?;
    fleet.clock(10).await?;
    let (one, other) = (fleet.db.another().await?, fleet.db.another().await?);
    let (one, other) = tokio::join!(
        one.count_slice(&tiers, &allowed),
        other.count_slice(&tiers, &allowed)
    );
    assert!(one? != other?, "one of them counts");
    let seconds = "select sum(promised_seconds)::bigint from lastgood.promise_slices where began_at >= '2031-03-05'";
    assert_eq!(fleet.db.count(seconds).await?, 600);
    Ok(())
}

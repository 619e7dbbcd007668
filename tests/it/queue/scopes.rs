//! A pause covers exactly what its scope says, and its costs are counted over the same resources.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use lastgood::catalog::{Order, Scope};

use super::{
    claims_by_hand::{Claim, ask},
    workers::enqueue_on,
};
use crate::database::TestCatalog;

const ENGINES: [&str; 2] = ["postgres", "vector"];
const TIERS: [&str; 2] = ["pro", "hobby"];
const TEAMS: [&str; 2] = ["acme", "umbrella"];

fn order() -> Order {
    Order::new("olga", Some("the disk was full"))
}

/// Returns every scope that these three values of engine, tier and team allow.
fn scopes() -> impl Iterator<Item = Scope> {
    (0..8).map(|bits| {
        let given = |bit: u8, word: &str| (bits & bit != 0).then(|| word.to_owned());
        Scope {
            engine: given(1, "postgres"),
            tier: given(2, "pro"),
            team: given(4, "acme"),
        }
    })
}

/// Creates a resource for each engine, tier and team, each with a backup waiting.
async fn one_of_each(db: &TestCatalog) -> Result<()> {
    for engine in ENGINES {
        for tier in TIERS {
            for team in TEAMS {
                let id = format!("{engine}-{tier}-{team}");
                db.add_on(engine, &id, team, tier).await?;
                enqueue_on(db, engine, &id).await?;
            }
        }
    }
    Ok(())
}

/// Claims everything that can be claimed, puts it back, and returns the resources.
async fn claimable(db: &TestCatalog) -> Result<BTreeSet<String>> {
    let mut resources = BTreeSet::new();
    for queue in ENGINES {
        let claim = Claim {
            queue,
            ..Claim::default()
        };
        resources.extend(claim.take(db).await?.into_iter().map(|(_, id)| id));
    }
    db.execute(
        "update lastgood.runs set state = 'queued', attempt = 0, epoch = epoch + 1, lease_by = null, lease_until = null
         where state = 'running'",
    )
    .await?;
    Ok(resources)
}

#[tokio::test]
async fn a_pause_holds_back_just_what_its_scope_names() -> Result<()> {
    let db = TestCatalog::create().await?;
    one_of_each(&db).await?;
    let all = claimable(&db).await?;
    assert_eq!(all.len(), 8);
    for scope in scopes() {
        db.catalog.pause(&scope, &order()).await?;
        let words: Vec<_> = [&scope.engine, &scope.tier, &scope.team]
            .into_iter()
            .flatten()
            .collect();
        let is_covered = |id: &String| words.iter().all(|word| id.contains(word.as_str()));
        let free: BTreeSet<_> = all.iter().filter(|id| !is_covered(id)).cloned().collect();
        assert_eq!(free.len(), 8 - (8 >> words.len()));
        assert_eq!(claimable(&db).await?, free, "{scope:?}");

        // Queries about one resource and about all of them give the same answer.
        for id in &all {
            let pause = db.catalog.pause_over(id).await?;
            assert_eq!(pause.is_some(), is_covered(id), "{scope:?}, {id}");
        }
        let covered = db.catalog.resources_in(&scope).await?;
        assert_eq!(covered, i64::try_from(8 - free.len())?, "{scope:?}");
        let costs = db
            .catalog
            .pause_costs(&TIERS.map(str::to_owned), &[60.0, 60.0])
            .await?;
        let counted: Vec<_> = costs.iter().map(|cost| cost.resources).collect();
        assert_eq!(counted, [covered], "{scope:?}");
        db.catalog.resume(&scope, &order()).await?;
    }
    assert_eq!(claimable(&db).await?, all);
    Ok(())
}

#[tokio::test]
async fn a_pause_holds_back_runs_of_every_kind() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    db.add("other", "umbrella", "pro").await?;
    let kinds = [
        "backup",
        "copy",
        "drop_replaced",
        "expire",
        "restore",
        "verify",
    ];
    for resource in ["shop", "other"] {
        for kind in kinds {
            ask(&db, "postgres", kind, resource).await?;
        }
    }
    let scope = Scope {
        team: Some("acme".to_owned()),
        ..Scope::default()
    };
    db.catalog.pause(&scope, &order()).await?;
    let others = kinds.map(|kind| (kind.to_owned(), "other".to_owned()));
    assert_eq!(Claim::default().take(&db).await?, others);
    Ok(())
}

#[tokio::test]
async fn what_no_promise_covers_costs_nothing_under_a_pause() -> Result<()> {
    let db = TestCatalog::create().await?;
    for (id, engine, tier, team) in [
        ("counted", "postgres", "pro", "acme"),
        ("paused", "postgres", "pro", "acme"),
        ("removed", "postgres", "pro", "acme"),
        ("vetoed", "postgres", "pro", "acme"),
        ("vetoed-below-zero", "postgres", "pro", "acme"),
        ("other-engine", "vector", "pro", "acme"),
        ("other-tier", "postgres", "hobby", "acme"),
        ("other-team", "postgres", "pro", "umbrella"),
    ] {
        db.add_on(engine, id, team, tier).await?;
    }
    // All others would be just as broken, so that any of them would show in the figures.
    db.execute(
        "update lastgood.resources set
             newest_consistent_at = now() - make_interval(mins => case id when 'counted' then 70 else 61 end),
             status = case when id in ('paused', 'removed') then id else 'active' end,
             retention_days = case id when 'vetoed' then 0 when 'vetoed-below-zero' then -1 when 'counted' then 1 end",
    )
    .await?;
    let scope = Scope {
        engine: Some("postgres".to_owned()),
        tier: Some("pro".to_owned()),
        team: Some("acme".to_owned()),
    };
    db.catalog.pause(&scope, &order()).await?;
    db.execute("update lastgood.pauses set created_at = now() - interval '1 hour'")
        .await?;
    let tiers = ["pro", "hobby"].map(str::to_owned);
    let costs = db.catalog.pause_costs(&tiers, &[3600.0, 3600.0]).await?;
    let cost = costs.first().context("no pause")?;
    assert_eq!((cost.resources, cost.broken, cost.breaking), (1, 1, 0));
    assert_eq!(cost.next_break_at, None);

    // Resources on a tier that is no longer backed up do not count either.
    let costs = db.catalog.pause_costs(&tiers[1..], &[3600.0]).await?;
    let cost = costs.first().context("no pause")?;
    assert_eq!((cost.resources, cost.broken), (0, 0));
    Ok(())
}

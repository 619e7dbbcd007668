//! Rows written while a clock was ahead block nothing and keep no promise once the clock is right again.

use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};
use lastgood::{
    producer::{Mended, mend_future},
    queue::Ledger,
    schedule::exposure,
    status::exposed,
};

use crate::{
    database::{TestCatalog, plans},
    simulation::{Simulation, minutes},
};

const AT: &str = "2031-03-05T09:37:00Z";
const LEASE: Duration = Duration::from_secs(30);

/// Creates three resources that were registered three days ago, and one that is registered while the clock is six hours ahead. In those
/// hours one is backed up, one fails, and one is lost by its worker. Then the clock is right again.
async fn after_six_hours_ahead() -> Result<Simulation> {
    let mut sim = Simulation::begin(AT, plans(&[("pro", 60, 30)])?).await?;
    for id in ["failed", "lost", "shop"] {
        sim.db.add(id, "acme", "pro").await?;
    }
    sim.db
        .execute("update lastgood.resources set created_at = now() - interval '3 days', next_due_at = now()")
        .await?;
    sim.tick().await?;
    sim.succeed_all().await?;
    sim.advance(TimeDelta::hours(6)).await?;
    sim.db.add("late", "others", "pro").await?;
    sim.tick().await?;
    for claim in sim.claim().await? {
        let resource = sim.db.catalog.run(claim.id).await?.resource;
        match resource.as_str() {
            "failed" => sim.fail(&claim).await?,
            "shop" => sim.succeed(&claim, sim.now).await?,
            "late" => {
                sim.db
                    .execute("update lastgood.runs set run_at = now() + interval '1 minute' where resource_id = 'late'")
                    .await?;
            }
            _ => {}
        }
    }
    sim.advance(minutes(1) - TimeDelta::hours(6)).await?;
    Ok(sim)
}

async fn mend(sim: &Simulation) -> Result<Mended> {
    Ok(mend_future(&sim.db.catalog, LEASE).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_ahead_costs_nobody_a_backup_once_it_is_right() -> Result<()> {
    let mut sim = after_six_hours_ahead().await?;
    let mended = mend(&sim).await?;
    assert!(
        mended.resources >= 4 && mended.runs >= 4 && mended.points >= 1,
        "{mended:?}"
    );
    assert_eq!(mend(&sim).await?, Mended::default());
    let since = sim.now;
    let reaper = Ledger::new(sim.db.pool().clone(), "reaper", LEASE);
    sim.tick().await?;
    sim.succeed_all().await?;
    sim.advance(minutes(1)).await?;
    assert_eq!(reaper.reap().await?.len(), 2, "nobody renews these");
    assert_eq!(sim.succeed_all().await?, 2, "others take them at once");
    // Runs past the future hours that had already been backed up.
    sim.live(TimeDelta::hours(8), minutes(1)).await?;
    for id in ["failed", "late", "lost", "shop"] {
        let points = sim.points(id).await?;
        let points: Vec<_> = points.into_iter().filter(|at| *at >= since).collect();
        let first = *points.first().context("no point")?;
        // At its turn, because its current slot was already backed up. The new resource is backed up at once.
        let within = minutes(if id == "late" { 1 } else { 61 });
        assert!(first - since <= within, "{id}: {points:?}");
        let gaps = points.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.max() <= Some(minutes(62)), "{id}: {points:?}");
        assert!(points.last() <= Some(&sim.now), "{id}: {points:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_from_the_future_is_no_kept_promise_before_it_is_mended_and_after() -> Result<()> {
    let sim = after_six_hours_ahead().await?;
    for is_mended in [false, true] {
        if is_mended {
            mend(&sim).await?;
        }
        let shown = exposed(&sim.db.catalog, &sim.plans, None, sim.now, 10).await?;
        let promise = |id: &str| {
            let row = shown.resources.iter().find(|row| row.id == id);
            row.map(|row| (row.promise, row.exposure_seconds >= 0))
        };
        // Before the repair, no one knows since when it has been exposed; afterwards, it counts from the repair.
        let late = if is_mended { "kept" } else { "broken" };
        assert_eq!(promise("late"), Some((late, true)));
        let shop = if is_mended { "kept" } else { "broken" };
        assert_eq!(promise("shop"), Some((shop, true)));
        let tier = shown.tiers.first().context("no tier")?;
        assert_eq!(tier.broken, if is_mended { 0 } else { 2 });
    }
    let newest = sim.db.catalog.resource("shop").await?.newest_consistent_at;
    assert_eq!(newest, Some(sim.now - minutes(1)), "the one of before");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_right_is_not_mended() -> Result<()> {
    let mut sim = Simulation::begin(AT, plans(&[("pro", 60, 30), ("daily", 1440, 7)])?).await?;
    for (id, tier) in [("shop", "pro"), ("blog", "daily"), ("wiki", "pro")] {
        sim.db.add(id, "acme", tier).await?;
    }
    sim.live(TimeDelta::hours(3), minutes(5)).await?;
    sim.tick().await?;
    let claims = sim.claim().await?;
    if let Some(claim) = claims.first() {
        sim.fail(claim).await?;
    }
    // The longest back-off, and clocks that differ within the tolerance.
    sim.db
        .execute("update lastgood.runs set run_at = now() + interval '750 seconds' where state = 'queued'")
        .await?;
    sim.db
        .execute("update lastgood.resources set newest_consistent_at = now() + interval '5 minutes' where id = 'shop'")
        .await?;
    assert_eq!(mend(&sim).await?, Mended::default());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_and_the_schedule_agree_on_since_when_a_resource_is_exposed() -> Result<()> {
    let now: DateTime<Utc> = AT.parse()?;
    let db = TestCatalog::with_clock(now).await?;
    let instants = [-3600, -1, 0, 1, 300, 301, 86_400].map(|by| now + TimeDelta::seconds(by));
    let newest = instants.map(Some).into_iter().chain([None]);
    for newest in newest {
        for registered in instants {
            let since: DateTime<Utc> = sqlx::query_scalar("select lastgood.exposed_since($1, $2)")
                .bind(newest)
                .bind(registered)
                .fetch_one(db.pool())
                .await?;
            let age = (now - since).max(TimeDelta::zero());
            assert_eq!(
                age,
                exposure(now, newest, registered).age(),
                "{newest:?} {registered}"
            );
        }
    }
    Ok(())
}

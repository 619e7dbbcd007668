//! Missed or outlasted windows coalesce into one run.

use anyhow::{Context as _, Result};
use chrono::TimeDelta;

use crate::{
    database::plans,
    simulation::{Simulation, minutes, ticked},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_missed_windows_is_one_run() -> Result<()> {
    let mut sim = Simulation::begin("2031-03-05T09:37:00Z", plans(&[("paid", 60, 30)])?).await?;
    sim.db.add("shop", "acme", "paid").await?;
    sim.tick().await?;
    sim.succeed_all().await?;
    sim.advance(TimeDelta::hours(24)).await?;
    assert_eq!(sim.tick().await?, ticked(1, 1, 0));
    assert_eq!(sim.tick().await?, ticked(0, 0, 0));
    assert_eq!(
        sim.slots("shop", "queued").await?,
        [sim.slot("shop").await?]
    );
    sim.succeed_all().await?;
    sim.advance(TimeDelta::seconds(1)).await?;
    assert_eq!(sim.tick().await?.enqueued, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_still_waits_moves_to_the_current_slot_and_is_not_joined_by_a_second()
-> Result<()> {
    let mut sim = Simulation::begin("2031-03-05T09:37:00Z", plans(&[("paid", 60, 30)])?).await?;
    sim.db.add("shop", "acme", "paid").await?;
    assert_eq!(sim.tick().await?, ticked(1, 1, 0));
    let first = sim.slot("shop").await?;
    for hours in 1..=5 {
        sim.advance(TimeDelta::hours(1)).await?;
        assert_eq!(sim.tick().await?, ticked(1, 0, 1));
        let slot = first + TimeDelta::hours(hours);
        assert_eq!(sim.slots("shop", "queued").await?, [slot]);
    }
    assert_eq!(sim.db.count("select count(*) from lastgood.runs").await?, 1);
    // The slot that it covers now is not backed up again.
    sim.succeed_all().await?;
    sim.db
        .execute("update lastgood.resources set next_due_at = now()")
        .await?;
    assert_eq!(sim.tick().await?, ticked(1, 0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_outlasts_its_slot_is_not_joined_by_a_second_and_then_the_next_is_due()
-> Result<()> {
    let mut sim = Simulation::begin("2031-03-05T09:37:00Z", plans(&[("paid", 60, 30)])?).await?;
    sim.db.add("shop", "acme", "paid").await?;
    sim.tick().await?;
    let snapshot = sim.now;
    let claims = sim.claim().await?;
    for _ in 0..30 {
        sim.advance(minutes(5)).await?;
        let ticked = sim.tick().await?;
        assert_eq!((ticked.enqueued, ticked.coalesced), (0, 0));
    }
    // It ends two and a half hours later, and its data is as old.
    sim.succeed(claims.first().context("nothing to claim")?, snapshot)
        .await?;
    assert_eq!(sim.tick().await?, ticked(1, 1, 0));
    assert_eq!(
        sim.slots("shop", "queued").await?,
        [sim.slot("shop").await?]
    );
    Ok(())
}

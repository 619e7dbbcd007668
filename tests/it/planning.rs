//! Whatever happens at the same time, an active resource whose tier is backed up is due again within two cadences.

use anyhow::{Context as _, Result};
use chrono::TimeDelta;
use lastgood::{
    plan::Plans,
    producer::{Paid, apply_paid, apply_plans, tick, tick_paid},
};

use crate::{
    database::plans,
    eventually::{SOON, eventually},
    simulation::{Simulation, minutes, ticked},
};

const AT: &str = "2031-03-05T09:37:00Z";

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_changes_during_a_tick_is_planned_by_the_new_one() -> Result<()> {
    let sim = Simulation::begin(AT, plans(&[("old", 1440, 7), ("new", 60, 30)])?).await?;
    sim.db.add("shop", "acme", "old").await?;
    sim.tick().await?;
    sim.succeed_all().await?;
    sim.db
        .execute("update lastgood.resources set next_due_at = now()")
        .await?;
    // The row changes after the tick has begun: it is locked, and released with another tier.
    let mut change = sim.db.pool().begin().await?;
    sqlx::query("update lastgood.resources set tier = 'new' where id = 'shop'")
        .execute(&mut *change)
        .await?;
    let other = sim.db.another().await?;
    let (plans, now) = (sim.plans.clone(), sim.now);
    let ticking = tokio::spawn(async move { tick(&other, &plans, now).await });
    let held = ticking.await??;
    change.commit().await?;
    let after = sim.tick().await?;
    assert_eq!(held.enqueued + after.enqueued, 1, "{held:?} {after:?}");
    let row = sim.db.catalog.resource("shop").await?;
    assert_eq!(row.cadence_minutes, Some(60));
    assert!(row.next_due_at.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_ends_between_a_change_of_tier_and_the_next_tick_plans_nothing() -> Result<()>
{
    let mut sim = Simulation::begin(AT, Plans::built_in()).await?;
    sim.db.add("shop", "acme", "hobby").await?;
    sim.tick().await?;
    let claims = sim.claim().await?;
    sim.db
        .execute("update lastgood.resources set tier = 'pro' where id = 'shop'")
        .await?;
    sim.succeed(claims.first().context("no claim")?, sim.now)
        .await?;
    assert_eq!(sim.tick().await?.looked_at, 1);
    sim.succeed_all().await?;
    let row = sim.db.catalog.resource("shop").await?;
    assert_eq!(row.cadence_minutes, Some(60));
    sim.advance(minutes(61)).await?;
    assert_eq!(sim.tick().await?.enqueued, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_producer_with_older_plans_has_parked_is_planned_again() -> Result<()> {
    let sim = Simulation::begin(AT, plans(&[("paid", 60, 30), ("gold", 15, 30)])?).await?;
    let older = plans(&[("paid", 60, 30)])?;
    apply_plans(&sim.db.catalog, &sim.plans).await?;
    sim.db.add("shop", "acme", "gold").await?;
    assert_eq!(
        tick(&sim.db.catalog, &older, sim.now).await?,
        ticked(1, 0, 0)
    );
    assert_eq!(sim.tick().await?, ticked(0, 0, 0), "parked by the other");
    assert_eq!(apply_plans(&sim.db.catalog, &sim.plans).await?, 1);
    assert_eq!(sim.tick().await?, ticked(1, 1, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_due_time_from_a_clock_that_jumped_ahead_is_planned_again() -> Result<()> {
    let sim = Simulation::begin(AT, plans(&[("paid", 60, 30)])?).await?;
    sim.db.add("shop", "acme", "paid").await?;
    let jumped = sim.now + TimeDelta::days(400);
    tick(&sim.db.catalog, &sim.plans, jumped).await?;
    sim.succeed_all().await?;
    sim.db
        .execute("update lastgood.resources set next_due_at = now() + interval '400 days'")
        .await?;
    assert_eq!(sim.tick().await?, ticked(0, 0, 0));
    assert_eq!(apply_plans(&sim.db.catalog, &sim.plans).await?, 1);
    assert_eq!(sim.tick().await?, ticked(1, 1, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_from_a_worker_whose_clock_is_ahead_hides_no_exposure() -> Result<()> {
    let sim = Simulation::begin(AT, plans(&[("paid", 60, 30)])?).await?;
    sim.db.add("shop", "acme", "paid").await?;
    sim.tick().await?;
    let claims = sim.claim().await?;
    let ahead = sim.now + TimeDelta::days(1);
    sim.succeed(claims.first().context("no claim")?, ahead)
        .await?;
    let newest = sim.db.catalog.resource("shop").await?.newest_consistent_at;
    assert!(newest.is_some_and(|newest| newest <= sim.now), "{newest:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_run_follows_its_resource_to_another_engine() -> Result<()> {
    let sim = Simulation::begin(AT, plans(&[("paid", 60, 30)])?).await?;
    sim.db.add("shop", "acme", "paid").await?;
    sim.tick().await?;
    sim.db
        .execute("update lastgood.resources set engine = 'vector' where id = 'shop'")
        .await?;
    assert_eq!(sim.tick().await?, ticked(1, 0, 1));
    let moved = "select count(*) from lastgood.runs where queue = 'vector' and state = 'queued'";
    assert_eq!(sim.db.count(moved).await?, 1);
    Ok(())
}

/// A finish that locked its run before its resource would deadlock with the tick.
#[tokio::test(flavor = "multi_thread")]
async fn a_tick_and_a_finish_at_once_never_wait_for_each_other() -> Result<()> {
    let mut sim = Simulation::begin(AT, plans(&[("paid", 60, 30)])?).await?;
    sim.db.add("shop", "acme", "paid").await?;
    sim.tick().await?;
    let claims = sim.claim().await?;
    // The backup outlasts its slot, so that the tick meets its run in the index.
    sim.advance(minutes(125)).await?;
    // A tick's transaction, kept open after it has locked the resource.
    let mut ticking = sim.db.pool().begin().await?;
    sqlx::query("select id from lastgood.resources where id = 'shop' for no key update")
        .execute(&mut *ticking)
        .await?;
    let finishing = sim.succeed(claims.first().context("no claim")?, sim.now);
    let rest_of_the_tick = async {
        eventually(SOON, "the finish waits for the tick", async || {
            let waiting = "select count(*) from pg_stat_activity
                 where datname = current_database() and wait_event_type = 'Lock'";
            Ok(sim.db.count(waiting).await? > 0)
        })
        .await?;
        sqlx::query(
            "insert into lastgood.runs (queue, kind, trigger, resource_id, slot, args)
             values ('postgres', 'backup', 'scheduled', 'shop', now(), '{\"kind\": \"backup\"}') on conflict do nothing",
        )
        .execute(&mut *ticking)
        .await?;
        ticking.commit().await?;
        anyhow::Ok(())
    };
    let (finished, ticked) = tokio::join!(finishing, rest_of_the_tick);
    ticked?;
    finished
}

/// A replica without its plans file uses the built-in plans. It must not change what another replica's file covers or once covered.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_whose_plans_file_is_away_undoes_nothing_that_another_planned() -> Result<()> {
    let db = crate::database::TestCatalog::create().await?;
    let home = tempfile::tempdir()?;
    let path = home.path().join("plans.yaml");
    let text = "version: 1\ntiers:\n  gold: {rpo_minutes: 5, backup_retention_days: 7}\n  \
        hobby: {rpo_minutes: 0, backup_retention_days: 0}\n";
    std::fs::write(&path, text)?;
    let with_file = lastgood::plan::PlansFile::load(&path);
    let without = lastgood::plan::PlansFile::load(home.path().join("away.yaml"));
    for (id, tier) in [("shop", "gold"), ("toy", "hobby"), ("other", "pro")] {
        db.add(id, "acme", tier).await?;
    }
    let plan = async |file: &lastgood::plan::PlansFile| {
        let paid = Paid::of_file(&db.catalog, file).await?;
        apply_paid(&db.catalog, &paid).await?;
        tick_paid(&db.catalog, &paid, db.catalog.now().await?).await?;
        let planned = async |id: &str| {
            let row = db.catalog.resource(id).await?;
            Ok::<_, anyhow::Error>((row.cadence_minutes, row.next_due_at.is_some()))
        };
        Ok::<_, anyhow::Error>((
            planned("shop").await?,
            planned("toy").await?,
            planned("other").await?,
        ))
    };
    let hourly = (Some(60), true);
    // No producer ever had a file: the built-in plans are better than none.
    assert_eq!(
        plan(&without).await?,
        ((None, false), (Some(1440), true), hourly)
    );
    let as_the_file_says = ((Some(5), true), (None, false));
    for _ in 0..2 {
        let (shop, toy, _) = plan(&with_file).await?;
        assert_eq!((shop, toy), as_the_file_says);
        // While the other replica runs or after it has gone. What no file covered is backed up all the same.
        let (shop, toy, other) = plan(&without).await?;
        assert_eq!((shop, toy), as_the_file_says);
        assert_eq!(other, hourly);
    }
    Ok(())
}

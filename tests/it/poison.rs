//! A statement over many rows never fails for one of them: a poison row is left out and told, and everybody else is served.

use std::time::Duration;

use anyhow::Result;
use lastgood::{catalog::Bookmark, producer::tick, queue::Store};

use crate::{
    database::{TestCatalog, plans},
    simulation::{Simulation, minutes},
};

const AT: &str = "2031-03-05T09:37:00Z";

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_run_whose_new_slot_is_taken_stops_nobodys_schedule() -> Result<()> {
    let mut sim = Simulation::begin(AT, plans(&[("daily", 1440, 7), ("hourly", 60, 7)])?).await?;
    sim.db.add("shop", "acme", "hourly").await?;
    sim.tick().await?;
    sim.succeed_all().await?;
    // With a backlog, the daily run is still waiting when the tier is back.
    for tier in ["daily", "hourly"] {
        sqlx::query("update lastgood.resources set tier = $1, newest_consistent_at = null")
            .bind(tier)
            .execute(sim.db.pool())
            .await?;
        if tier == "daily" {
            sim.tick().await?;
        }
    }
    let waiting = "select count(*) from lastgood.runs where state = 'queued'";
    assert_eq!(sim.db.count(waiting).await?, 1);
    sim.db.add("blog", "others", "hourly").await?;
    let ticked = sim.tick().await?;
    assert_eq!((ticked.enqueued, ticked.coalesced), (1, 0));
    assert_eq!(ticked.left_out, ["shop"]);
    // It moves on as soon as there is a slot for it, and meanwhile it can be claimed.
    sim.advance(minutes(60)).await?;
    assert_eq!(sim.tick().await?.left_out, [""; 0]);
    assert_eq!(sim.succeed_all().await?, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_run_that_cannot_move_goes_to_its_new_engine_all_the_same() -> Result<()> {
    let sim = Simulation::begin(AT, plans(&[("daily", 1440, 7), ("hourly", 60, 7)])?).await?;
    sim.db.add("shop", "acme", "hourly").await?;
    sim.tick().await?;
    sim.succeed_all().await?;
    sim.db
        .execute("update lastgood.resources set tier = 'daily'")
        .await?;
    sim.tick().await?;
    sim.db
        .execute("update lastgood.resources set tier = 'hourly', engine = 'redis'")
        .await?;
    assert_eq!(sim.tick().await?.left_out, ["shop"]);
    let moved = "select count(*) from lastgood.runs where state = 'queued' and queue = 'redis'";
    assert_eq!(sim.db.count(moved).await?, 1);
    Ok(())
}

/// Three resources, one of them `poison`: whatever the schema says against that one.
async fn with_poison() -> Result<TestCatalog> {
    let db = TestCatalog::create().await?;
    for id in ["blog", "poison", "shop"] {
        db.add(id, "acme", "pro").await?;
    }
    Ok(db)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_cannot_be_scheduled_stops_no_other() -> Result<()> {
    let db = with_poison().await?;
    db.execute("alter table lastgood.runs add constraint poison check (resource_id <> 'poison')")
        .await?;
    let now = db.catalog.now().await?;
    let ticked = tick(&db.catalog, &plans(&[("pro", 60, 7)])?, now).await?;
    assert_eq!((ticked.looked_at, ticked.enqueued), (2, 2));
    assert_eq!(ticked.left_out, ["poison"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instant_that_no_promise_can_be_added_to_stops_no_other() -> Result<()> {
    let db = with_poison().await?;
    db.execute("update lastgood.resources set newest_consistent_at = '294276-12-31 23:59:59' where id = 'poison'")
        .await?;
    let now = db.catalog.now().await?;
    let ticked = tick(&db.catalog, &plans(&[("pro", 60, 7)])?, now).await?;
    assert_eq!((ticked.enqueued, ticked.left_out.len()), (3, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_taken_back_keeps_no_other_from_it() -> Result<()> {
    let db = with_poison().await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args, state, attempt, epoch, lease_by, lease_until)
           select 'postgres', 'backup', 'adhoc', id, '{"kind": "backup"}', 'running', 1, 1, 'lost', now() - interval '1 minute'
           from lastgood.resources"#,
    )
    .await?;
    db.execute("alter table lastgood.runs add constraint poison check (resource_id <> 'poison' or state = 'running')")
        .await?;
    let reaper = Store::new(db.pool().clone(), "reaper", Duration::from_secs(1));
    assert_eq!(reaper.reap().await?.len(), 2);
    assert_eq!(reaper.reap().await?.len(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_an_unknown_engine_that_cannot_fail_keeps_no_other_waiting() -> Result<()> {
    let db = with_poison().await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args)
           select 'cassandra', 'backup', 'adhoc', id, '{"kind": "backup"}' from lastgood.resources"#,
    )
    .await?;
    db.execute("alter table lastgood.runs add constraint poison check (resource_id <> 'poison' or state = 'queued')")
        .await?;
    let store = Store::new(db.pool().clone(), "reaper", Duration::from_secs(1));
    let known = ["postgres".to_owned()];
    assert_eq!(store.refuse_unknown(&known).await?.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_cannot_be_removed_keeps_no_other_from_going() -> Result<()> {
    let db = with_poison().await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args, state, finished_at)
           select 'postgres', 'backup', 'adhoc', id, '{"kind": "backup"}', 'succeeded', now() - interval '2 days'
           from lastgood.resources"#,
    )
    .await?;
    db.execute("create table somebodys (run uuid references lastgood.runs (id))")
        .await?;
    db.execute("insert into somebodys select id from lastgood.runs where resource_id = 'poison'")
        .await?;
    let day = Duration::from_hours(24);
    let pruned = db.catalog.prune(day, Bookmark::START, 3).await?;
    assert_eq!((pruned.looked_at, pruned.gone), (3, 2));
    assert!(pruned.next.is_some(), "the next batch begins behind it");
    Ok(())
}

//! A statement over many rows never fails because of one of them: a poison row is skipped and reported, and the others are handled.

use std::time::Duration;

use anyhow::Result;
use chrono::{TimeDelta, Utc};
use lastgood::{
    catalog::Bookmark,
    producer::{
        apply_plans, ask_for_copies, ask_for_removals, ask_for_verifications, mend_future, retain,
        tick,
    },
    queue::Ledger,
};

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
    // With a backlog, the daily run is still waiting when the tier changes back.
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
    // The run is moved as soon as there is a slot for it. Until then it can be claimed.
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

/// Creates three resources, one of them `poison`, against which each test adds a constraint.
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
    let reaper = Ledger::new(db.pool().clone(), "reaper", Duration::from_secs(1));
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
    let ledger = Ledger::new(db.pool().clone(), "reaper", Duration::from_secs(1));
    let known = ["postgres".to_owned()];
    assert_eq!(ledger.refuse_unknown(&known).await?.len(), 2);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_refuses_new_plans_keeps_them_from_no_other() -> Result<()> {
    let db = with_poison().await?;
    let now = db.catalog.now().await?;
    tick(&db.catalog, &plans(&[("pro", 60, 7)])?, now).await?;
    db.execute("alter table lastgood.resources add constraint poison check (id <> 'poison' or cadence_minutes is not null) not valid")
        .await?;
    assert_eq!(
        apply_plans(&db.catalog, &plans(&[("pro", 15, 7)])?).await?,
        2
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_from_the_future_that_cannot_be_mended_keeps_no_other_from_it() -> Result<()> {
    let db = with_poison().await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args, created_at)
           select 'postgres', 'backup', 'adhoc', id, '{"kind": "backup"}', now() + interval '6 hours' from lastgood.resources"#,
    )
    .await?;
    db.execute("update lastgood.resources set next_due_at = now() + interval '6 hours'")
        .await?;
    add_points(&db, -6).await?;
    db.execute(
        "create function lastgood.refuses() returns trigger language plpgsql as
         $$ begin raise check_violation using message = 'poison'; end $$",
    )
    .await?;
    for trigger in [
        "create trigger poison before update on lastgood.runs for each row
         when (new.resource_id = 'poison') execute function lastgood.refuses()",
        "create trigger poison before update on lastgood.resources for each row
         when (new.id = 'poison') execute function lastgood.refuses()",
        "create trigger poison before update on lastgood.restore_points for each row
         when (new.resource_id = 'poison') execute function lastgood.refuses()",
    ] {
        db.execute(trigger).await?;
    }
    let mended = mend_future(&db.catalog, Duration::from_mins(1)).await?;
    assert_eq!((mended.runs, mended.resources, mended.points), (2, 2, 2));
    Ok(())
}

/// Adds a restore point of each resource, this many hours old.
async fn add_points(db: &TestCatalog, hours_ago: i32) -> Result<()> {
    sqlx::query(
        "insert into lastgood.restore_points
             (id, resource_id, consistent_at, created_at, manifest_key, manifest, dump_bytes, stored_bytes)
         select gen_random_uuid(), id, now() - make_interval(hours => $1), now() - make_interval(hours => $1),
             gen_random_uuid() || '.json', '{}', 1, 1
         from lastgood.resources",
    )
    .bind(hours_ago)
    .execute(db.pool())
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_that_cannot_be_asked_for_keeps_no_other_waiting() -> Result<()> {
    let db = with_poison().await?;
    add_points(&db, 720).await?;
    db.execute("update lastgood.resources set newest_consistent_at = now() - interval '30 days'")
        .await?;
    db.execute("alter table lastgood.runs add constraint poison check (resource_id <> 'poison')")
        .await?;
    let stores = ["one".to_owned(), "two".to_owned()];
    assert_eq!(ask_for_copies(&db.catalog, &stores).await?, 4);
    let day = Duration::from_hours(24);
    assert_eq!(ask_for_verifications(&db.catalog, day).await?, 2);
    db.execute("update lastgood.restore_points set expired_at = now(), expired_because = 'age'")
        .await?;
    assert_eq!(ask_for_removals(&db.catalog).await?, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn points_that_cannot_be_let_go_keep_no_other_from_going() -> Result<()> {
    let db = with_poison().await?;
    for days in [90, 60, 1] {
        add_points(&db, 24 * days).await?;
    }
    db.execute("alter table lastgood.restore_points add constraint poison check (resource_id <> 'poison' or expired_at is null)")
        .await?;
    let plans = plans(&[("pro", 60, 7)])?;
    let gone = retain(&db.catalog, &plans, TimeDelta::zero(), Utc::now).await?;
    assert_eq!(gone, 4);
    // The poison resource is looked at again within the hour, and holds up no other until then.
    let later = "select count(*) from lastgood.retention where look_at <= now()";
    assert_eq!(db.count(later).await?, 0);
    Ok(())
}

//! History is removed by age, in batches, and never while it is still needed.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lastgood::catalog::Bookmark;

use crate::{
    database::TestCatalog,
    eventually::{SOON, eventually},
};

const DAY: Duration = Duration::from_hours(24);

async fn kept(db: &TestCatalog) -> Result<Vec<String>> {
    let keys = "select idempotency_key from lastgood.runs order by idempotency_key";
    Ok(sqlx::query_scalar(keys).fetch_all(db.pool()).await?)
}

#[tokio::test]
async fn old_runs_go_and_what_a_restore_point_or_a_slot_needs_stays() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "hobby").await?;
    db.execute("update lastgood.resources set cadence_minutes = 1440, next_due_at = now() + interval '1 hour'")
        .await?;
    db.execute(
        r#"insert into lastgood.runs (idempotency_key, queue, kind, trigger, slot, resource_id, args, state, finished_at, error_kind, error)
           select key, 'postgres', 'backup', trigger, slot, 'shop', '{"kind": "backup"}', state,
               case when state in ('queued') then null else now() - age end, 'dump', 'no'
           from (values
               ('old failed', 'adhoc', null::timestamptz, 'failed', interval '91 days'),
               ('old cancelled', 'adhoc', null, 'cancelled', interval '91 days'),
               ('old with a point', 'adhoc', null, 'succeeded', interval '91 days'),
               ('old scheduled', 'scheduled', now() - interval '91 days', 'succeeded', interval '91 days'),
               ('old of the current slot', 'scheduled', now(), 'succeeded', interval '91 days'),
               ('queued', 'adhoc', null, 'queued', interval '91 days'),
               ('young', 'adhoc', null, 'failed', interval '89 days')
           ) as runs (key, trigger, slot, state, age)"#,
    )
    .await?;
    db.execute(
        "insert into lastgood.restore_points (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
         select id, 'shop', now(), 'key', '{}', 1, 1 from lastgood.runs where idempotency_key = 'old with a point'",
    )
    .await?;
    db.execute(
        "insert into lastgood.attempts (run_id, epoch, attempt, worker, started_at, ended_at, result, dump_bytes, stored_bytes)
         select id, 1, 1, 'w', now(), now(), 'failed', 0, 0 from lastgood.runs",
    )
    .await?;
    let pruned = db.catalog.prune(90 * DAY, Bookmark::START, 100).await?;
    assert_eq!((pruned.looked_at, pruned.gone, pruned.next), (5, 3, None));
    let expected = [
        "old of the current slot",
        "old with a point",
        "queued",
        "young",
    ];
    assert_eq!(kept(&db).await?, expected);
    assert_eq!(db.count("select count(*) from lastgood.attempts").await?, 4);
    Ok(())
}

#[tokio::test]
async fn batches_go_on_where_the_last_one_ended_though_it_removed_nothing() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    // All end at the same instant, as in a set-based statement.
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args, state, finished_at)
           select 'postgres', 'backup', 'adhoc', 'shop', '{"kind": "backup"}', 'succeeded', now() - interval '99 days'
           from generate_series(1, 25)"#,
    )
    .await?;
    db.execute(
        "insert into lastgood.restore_points (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
         select id, 'shop', now(), 'key' || id, '{}', 1, 1 from (select id from lastgood.runs order by id limit 20) as kept",
    )
    .await?;
    let (mut from, mut looked_at, mut gone) = (Bookmark::START, 0, 0);
    for _ in 0..3 {
        let pruned = db.catalog.prune(90 * DAY, from, 10).await?;
        looked_at += pruned.looked_at;
        gone += pruned.gone;
        let Some(next) = pruned.next else { break };
        from = next;
    }
    assert_eq!((looked_at, gone), (25, 5));
    Ok(())
}

#[tokio::test]
async fn what_an_operator_holds_is_not_removed_under_their_hands() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args, state, finished_at, error_kind, error)
           values ('postgres', 'backup', 'adhoc', 'shop', '{"kind": "backup"}', 'failed', now() - interval '99 days', 'dump', 'no')"#,
    )
    .await?;
    let mut held = db.pool().begin().await?;
    sqlx::query("select from lastgood.runs for update")
        .execute(&mut *held)
        .await?;
    assert_eq!(
        db.catalog.prune(90 * DAY, Bookmark::START, 10).await?.gone,
        0
    );
    held.rollback().await?;
    assert_eq!(
        db.catalog.prune(90 * DAY, Bookmark::START, 10).await?.gone,
        1
    );
    Ok(())
}

#[tokio::test]
async fn of_scheduled_runs_only_that_stays_which_keeps_its_slot_from_being_backed_up_again()
-> Result<()> {
    let db = TestCatalog::create().await?;
    // Each could be the backup of the current slot.
    for id in [
        "failed",
        "cancelled",
        "succeeded",
        "of-no-promise",
        "before",
    ] {
        db.add(id, "acme", "hobby").await?;
    }
    db.execute("update lastgood.resources set cadence_minutes = 1440 where id <> 'of-no-promise'")
        .await?;
    db.execute(
        r#"insert into lastgood.runs (idempotency_key, queue, kind, trigger, slot, resource_id, args, state, finished_at, error_kind, error)
           select r.id, 'postgres', 'backup', 'scheduled',
               lastgood.slot_start(1440, r.spread, r.team_spread, now()) - make_interval(secs => case r.id when 'before' then 1 else 0 end),
               r.id, '{"kind": "backup"}', case when r.id in ('failed', 'cancelled') then r.id else 'succeeded' end,
               now() - interval '91 days', 'dump', 'no'
           from lastgood.resources as r"#,
    )
    .await?;
    let pruned = db.catalog.prune(90 * DAY, Bookmark::START, 100).await?;
    assert_eq!((pruned.looked_at, pruned.gone), (5, 4));
    assert_eq!(kept(&db).await?, ["succeeded"]);
    Ok(())
}

#[tokio::test]
async fn what_was_retried_while_history_is_looked_through_stays() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "hobby").await?;
    db.execute("update lastgood.resources set cadence_minutes = 1440")
        .await?;
    db.execute(
        r#"insert into lastgood.runs (idempotency_key, queue, kind, trigger, slot, resource_id, args, state, finished_at, error_kind, error)
           select key, 'postgres', 'backup', trigger, slot, 'shop', '{"kind": "backup"}', state, now() - age, 'dump', 'no'
           from (values
               ('looked at first', 'scheduled', now() - interval '99 days', 'succeeded', interval '99 days'),
               ('retried', 'adhoc', null, 'failed', interval '98 days'),
               ('ended anew', 'adhoc', null, 'failed', interval '97 days'),
               ('old', 'adhoc', null, 'failed', interval '96 days')
           ) as runs (key, trigger, slot, state, age)"#,
    )
    .await?;
    // When the statement calls this function, it has seen all rows and locked none.
    db.execute(
        "create or replace function lastgood.slot_start(cadence_minutes integer, spread integer, team_spread integer, at timestamptz)
         returns timestamptz language plpgsql as 'begin perform pg_advisory_xact_lock(1); return at; end'",
    )
    .await?;
    let mut held = db.pool().begin().await?;
    sqlx::query("select pg_advisory_xact_lock(1)")
        .execute(&mut *held)
        .await?;
    let catalog = db.catalog.clone();
    let pruning = tokio::spawn(async move { catalog.prune(90 * DAY, Bookmark::START, 100).await });
    eventually(SOON, "the look through history is under way", async || {
        let waits = "select count(*) from pg_stat_activity
             where datname = current_database() and wait_event = 'advisory'";
        Ok(db.count(waits).await? == 1)
    })
    .await?;
    db.execute(
        "update lastgood.runs set state = 'queued', finished_at = null where idempotency_key = 'retried'",
    )
    .await?;
    db.execute("update lastgood.runs set finished_at = now() where idempotency_key = 'ended anew'")
        .await?;
    held.rollback().await?;
    let pruned = pruning.await??;
    assert_eq!((pruned.looked_at, pruned.gone), (4, 2));
    assert_eq!(kept(&db).await?, ["ended anew", "retried"]);
    Ok(())
}

#[tokio::test]
async fn consumers_are_forgotten_when_they_are_long_dead_and_hold_nothing() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    db.execute(
        "insert into lastgood.consumers (id, host, pid, version, queues, slots, capabilities, seen_at)
         select id, 'h', 1, '0', array['postgres'], 1, '[]', now() - age
         from (values ('dead', interval '8 days'), ('holds', interval '8 days'), ('late', interval '6 days')) as c (id, age)",
    )
    .await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args, state, attempt, epoch, lease_by, lease_until)
           values ('postgres', 'backup', 'adhoc', 'shop', '{"kind": "backup"}', 'running', 1, 1, 'holds', now())"#,
    )
    .await?;
    assert_eq!(db.catalog.forget_consumers(7 * DAY).await?, 1);
    let left: Vec<String> = sqlx::query_scalar("select id from lastgood.consumers order by id")
        .fetch_all(db.pool())
        .await
        .context("consumers")?;
    assert_eq!(left, ["holds", "late"]);
    Ok(())
}

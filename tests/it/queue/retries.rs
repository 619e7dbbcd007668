//! Which retries are refused, which are accepted, and what becomes of the run.

use anyhow::Result;
use lastgood::{
    catalog::{FailedFilter, Mode, Order, Refusal},
    run::RunState,
};
use lastgood_jobs::attempt::RunId;

use super::{
    claims_by_hand::Claim,
    workers::{epoch, with_a_shop},
};
use crate::{
    database::TestCatalog,
    eventually::{SOON, within},
};

fn order() -> Order {
    Order::new("olga", Some("the disk was full"))
}

/// Inserts a run with a kind and a state and, if it is scheduled, its slot in hours. Returns its id.
async fn there_is(
    db: &TestCatalog,
    resource: &str,
    kind: &str,
    state: &str,
    slot: Option<i32>,
) -> Result<RunId> {
    let id = sqlx::query_scalar(
        "insert into lastgood.runs
             (queue, kind, trigger, resource_id, slot, args, state, attempt, epoch, lease_by, lease_until, finished_at, error_kind, error)
         select 'postgres', $2,
             case when $4 is not null then 'scheduled' when $2 in ('copy', 'verify', 'expire') then 'upkeep' else 'adhoc' end,
             $1, timestamptz '2031-03-05' + make_interval(hours => $4), jsonb_build_object('kind', $2), $3, n, n,
             case when $3 = 'running' then 'w' end, case when $3 = 'running' then now() end,
             case when $3 not in ('queued', 'running') then now() end,
             case when $3 = 'failed' then 'dump' end, case when $3 = 'failed' then 'it did not work' end
         from (select case when $3 = 'queued' then 0 else 5 end as n) as attempts
         returning id",
    )
    .bind(resource)
    .bind(kind)
    .bind(state)
    .bind(slot)
    .fetch_one(db.pool())
    .await?;
    Ok(id)
}

/// Does the same from the table's words: `slot HOURS STATE` is a scheduled backup.
async fn there_is_as_said(db: &TestCatalog, resource: &str, said: &str) -> Result<RunId> {
    match said.split(' ').collect::<Vec<_>>().as_slice() {
        ["slot", hours, state] => {
            there_is(db, resource, "backup", state, Some(hours.parse()?)).await
        }
        [kind, state] => there_is(db, resource, kind, state, None).await,
        _ => anyhow::bail!("{said}"),
    }
}

/// Returns the table's word for a refusal.
fn word(refused: Option<&Refusal>, other: Option<RunId>) -> String {
    match refused {
        None => "taken".to_owned(),
        Some(Refusal::Superseded { by, state }) if Some(*by) == other => {
            format!("superseded by what is {state}")
        }
        Some(Refusal::UnderWay(kind)) => format!("a {kind} is under way"),
        Some(Refusal::ResourcePaused) => "paused".to_owned(),
        Some(Refusal::ResourceRemoved) => "removed".to_owned(),
        Some(Refusal::NotRetryable(state)) => format!("is {state}"),
        Some(other) => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_retry_is_refused_where_it_would_do_nothing_or_undo_what_happened_since() -> Result<()> {
    // The run, another run of its resource, the resource's status, and the outcome of the retry.
    let table = [
        ("slot 0 failed", "", "active", "taken"),
        ("slot 0 cancelled", "", "active", "taken"),
        (
            "slot 0 failed",
            "slot 0 queued",
            "active",
            "superseded by what is queued",
        ),
        (
            "slot 0 failed",
            "slot 0 running",
            "active",
            "superseded by what is running",
        ),
        (
            "slot 0 failed",
            "slot 0 succeeded",
            "active",
            "superseded by what is succeeded",
        ),
        (
            "slot 0 failed",
            "slot 1 queued",
            "active",
            "superseded by what is queued",
        ),
        (
            "slot 0 failed",
            "slot 1 running",
            "active",
            "superseded by what is running",
        ),
        (
            "slot 0 failed",
            "slot 1 succeeded",
            "active",
            "superseded by what is succeeded",
        ),
        ("slot 0 failed", "slot 1 failed", "active", "taken"),
        ("slot 0 failed", "slot 1 cancelled", "active", "taken"),
        ("slot 0 failed", "slot -1 succeeded", "active", "taken"),
        // The schema allows one live scheduled run of a resource, whatever its slot.
        (
            "slot 0 failed",
            "slot -1 running",
            "active",
            "a backup is under way",
        ),
        // Ad-hoc backups neither block scheduled ones nor are blocked by them.
        ("slot 0 failed", "backup running", "active", "taken"),
        ("backup failed", "slot 0 succeeded", "active", "taken"),
        ("backup failed", "backup queued", "active", "taken"),
        // Two restores of one resource would fight over its name.
        (
            "restore failed",
            "restore queued",
            "active",
            "a restore is under way",
        ),
        (
            "restore failed",
            "restore running",
            "active",
            "a restore is under way",
        ),
        ("restore failed", "restore succeeded", "active", "taken"),
        ("slot 0 failed", "", "paused", "paused"),
        ("slot 0 failed", "", "removed", "removed"),
        ("backup failed", "", "paused", "taken"),
        ("backup failed", "", "removed", "removed"),
        ("restore failed", "", "removed", "taken"),
        ("backup queued", "", "active", "is queued"),
        ("backup running", "", "active", "is running"),
        ("backup succeeded", "", "active", "is succeeded"),
    ];
    let db = TestCatalog::create().await?;
    for (i, (run, beside, status, expected)) in table.into_iter().enumerate() {
        let (resource, case) = (format!("r{i}"), format!("{run} beside {beside}, {status}"));
        db.add(&resource, "acme", "pro").await?;
        let id = there_is_as_said(&db, &resource, run).await?;
        let other = match beside {
            "" => None,
            beside => Some(there_is_as_said(&db, &resource, beside).await?),
        };
        sqlx::query("update lastgood.resources set status = $2 where id = $1")
            .bind(&resource)
            .bind(status)
            .execute(db.pool())
            .await?;
        let was = db.catalog.run(id).await?.state;
        let becomes = match expected {
            "taken" => RunState::Queued,
            _ => was,
        };
        // A rehearsal reports what would be done, and does nothing.
        for (mode, stored) in [(Mode::Rehearsal, was), (Mode::Real, becomes)] {
            let answer = db.catalog.retry_run(id, &order(), mode).await?;
            assert_eq!(word(answer.refused.as_ref(), other), expected, "{case}");
            assert_eq!((answer.was, answer.state), (was, becomes), "{case}");
            assert_eq!(db.catalog.run(id).await?.state, stored, "{case}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_retry_of_a_restore_is_refused_when_what_it_would_restore_from_has_expired() -> Result<()>
{
    let db = with_a_shop().await?;
    let point = there_is(&db, "shop", "backup", "succeeded", None).await?;
    sqlx::query(
        "insert into lastgood.restore_points (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
         values ($1, 'shop', now(), 'key', '{}', 1, 1)",
    )
    .bind(point)
    .execute(db.pool())
    .await?;
    let restore = there_is(&db, "shop", "restore", "failed", None).await?;
    sqlx::query(
        "update lastgood.runs set args = args || jsonb_build_object('point', $1) where id = $2",
    )
    .bind(point)
    .bind(restore)
    .execute(db.pool())
    .await?;
    let rehearsed = db
        .catalog
        .retry_run(restore, &order(), Mode::Rehearsal)
        .await?;
    assert_eq!(rehearsed.refused, None);
    db.execute(
        "update lastgood.restore_points set expired_at = now(), expired_because = 'too old'",
    )
    .await?;
    let answer = db.catalog.retry_run(restore, &order(), Mode::Real).await?;
    assert_eq!(answer.refused, Some(Refusal::PointExpired(point.0)));
    Ok(())
}

#[tokio::test]
async fn a_retry_in_bulk_takes_what_failed_and_neither_a_cancelled_run_nor_a_drop() -> Result<()> {
    let db = with_a_shop().await?;
    let mut failed = Vec::new();
    for kind in [
        "backup",
        "copy",
        "verify",
        "expire",
        "restore",
        "drop_replaced",
    ] {
        for state in ["failed", "cancelled", "succeeded", "queued"] {
            let id = there_is(&db, "shop", kind, state, None).await?;
            if state == "failed" && !matches!(kind, "restore" | "drop_replaced") {
                failed.push(id);
            }
        }
    }
    assert_eq!(
        db.catalog.failed_runs(&FailedFilter::default()).await?,
        failed
    );
    Ok(())
}

#[tokio::test]
async fn a_run_that_is_retried_may_be_claimed_at_once_and_consumers_are_told() -> Result<()> {
    let db = with_a_shop().await?;
    let id = there_is(&db, "shop", "backup", "failed", None).await?;
    // As if the run had been cancelled during its back-off.
    db.execute("update lastgood.runs set run_at = now() + interval '1 day'")
        .await?;
    let mut heard = sqlx::postgres::PgListener::connect_with(db.pool()).await?;
    heard.listen("lastgood_runs").await?;
    let retried_after = db.catalog.now().await?;
    db.catalog.retry_run(id, &order(), Mode::Rehearsal).await?;
    db.execute("select pg_notify('lastgood_runs', 'after the rehearsal')")
        .await?;
    db.catalog.retry_run(id, &order(), Mode::Real).await?;
    for expected in ["after the rehearsal", "postgres"] {
        let told = within(SOON, expected, heard.recv()).await??;
        assert_eq!(told.payload(), expected);
    }
    let run = db.catalog.run(id).await?;
    assert_eq!((run.attempt, run.finished_at), (0, None));
    assert!(run.runnable_at >= retried_after && run.runnable_at <= db.catalog.now().await?);
    assert_eq!(epoch(&db, id).await?, 6, "fenced against the old attempts");
    assert_eq!(Claim::default().runs(&db).await?, [id]);
    Ok(())
}

//! What an operator's retry refuses and what it takes, and what it makes of a run that it takes.

use anyhow::{Context as _, Result};
use lastgood::catalog::{FailedFilter, Mode, Order, Refusal, ResourceStatus};
use uuid::Uuid;

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

/// What the table says of a run: kind, trigger, slot in hours from now (of what is scheduled), state.
type Is = (&'static str, &'static str, i32, &'static str);

/// A run that is in a state already; returns its id.
async fn there_is(db: &TestCatalog, resource: &str, is: Is) -> Result<Uuid> {
    let (kind, trigger, slot, state) = is;
    let id = sqlx::query_scalar(
        "insert into lastgood.runs
             (queue, kind, trigger, resource_id, slot, args, state, attempt, epoch, lease_by, lease_until, finished_at, error_kind, error)
         select 'postgres', $2, $3, $1, case when $3 = 'scheduled' then timestamptz '2031-03-05' + make_interval(hours => $4) end,
             jsonb_build_object('kind', $2), $5, n, n, case when $5 = 'running' then 'w' end,
             case when $5 = 'running' then now() end, case when $5 not in ('queued', 'running') then now() end,
             case when $5 = 'failed' then 'dump' end, case when $5 = 'failed' then 'it did not work' end
         from (select case when $5 = 'queued' then 0 else 5 end as n) as attempts
         returning id",
    )
    .bind(resource)
    .bind(kind)
    .bind(trigger)
    .bind(slot)
    .bind(state)
    .fetch_one(db.pool())
    .await?;
    Ok(id)
}

/// What the table expects.
enum Expected {
    Taken,
    /// By the other run, which is in this state.
    Superseded(&'static str),
    Refused(Refusal),
}

#[tokio::test]
async fn a_retry_is_refused_where_it_would_do_nothing_or_undo_what_happened_since() -> Result<()> {
    use Expected::{Refused, Superseded, Taken};
    const SLOT: Is = ("backup", "scheduled", 0, "failed");
    const ADHOC: Is = ("backup", "adhoc", 0, "failed");
    const RESTORE: Is = ("restore", "adhoc", 0, "failed");

    let under_way = || Refused(Refusal::UnderWay("restore".to_owned()));
    let not_active =
        |status: ResourceStatus| Refused(Refusal::NotActive(status.as_str().to_owned()));
    let has_state = |state: &str| Refused(Refusal::NotRetryable(state.to_owned()));
    // The run, another run of the resource, the resource's status, and what becomes of the retry.
    let table: Vec<(Is, Option<Is>, ResourceStatus, Expected)> = vec![
        (SLOT, None, ResourceStatus::Active, Taken),
        (
            ("backup", "scheduled", 0, "cancelled"),
            None,
            ResourceStatus::Active,
            Taken,
        ),
        // Of the same slot, of a later one, of an earlier one.
        (
            SLOT,
            Some(("backup", "scheduled", 0, "queued")),
            ResourceStatus::Active,
            Superseded("queued"),
        ),
        (
            SLOT,
            Some(("backup", "scheduled", 0, "running")),
            ResourceStatus::Active,
            Superseded("running"),
        ),
        (
            SLOT,
            Some(("backup", "scheduled", 0, "succeeded")),
            ResourceStatus::Active,
            Superseded("succeeded"),
        ),
        (
            SLOT,
            Some(("backup", "scheduled", 1, "queued")),
            ResourceStatus::Active,
            Superseded("queued"),
        ),
        (
            SLOT,
            Some(("backup", "scheduled", 1, "running")),
            ResourceStatus::Active,
            Superseded("running"),
        ),
        (
            SLOT,
            Some(("backup", "scheduled", 1, "succeeded")),
            ResourceStatus::Active,
            Superseded("succeeded"),
        ),
        (
            SLOT,
            Some(("backup", "scheduled", 1, "failed")),
            ResourceStatus::Active,
            Taken,
        ),
        (
            SLOT,
            Some(("backup", "scheduled", 1, "cancelled")),
            ResourceStatus::Active,
            Taken,
        ),
        (
            SLOT,
            Some(("backup", "scheduled", -1, "succeeded")),
            ResourceStatus::Active,
            Taken,
        ),
        // One live schedule of a resource, says the schema, whatever its slot.
        (
            SLOT,
            Some(("backup", "scheduled", -1, "running")),
            ResourceStatus::Active,
            Refused(Refusal::UnderWay("backup".to_owned())),
        ),
        // An ad-hoc backup is neither in the way of one nor kept back by one.
        (
            SLOT,
            Some(("backup", "adhoc", 0, "running")),
            ResourceStatus::Active,
            Taken,
        ),
        (
            ADHOC,
            Some(("backup", "scheduled", 0, "succeeded")),
            ResourceStatus::Active,
            Taken,
        ),
        (
            ADHOC,
            Some(("backup", "adhoc", 0, "queued")),
            ResourceStatus::Active,
            Taken,
        ),
        // Two restores of one resource would fight over its name.
        (
            RESTORE,
            Some(("restore", "adhoc", 0, "queued")),
            ResourceStatus::Active,
            under_way(),
        ),
        (
            RESTORE,
            Some(("restore", "adhoc", 0, "running")),
            ResourceStatus::Active,
            under_way(),
        ),
        (
            RESTORE,
            Some(("restore", "adhoc", 0, "succeeded")),
            ResourceStatus::Active,
            Taken,
        ),
        // What the resource's status forbids.
        (
            SLOT,
            None,
            ResourceStatus::Paused,
            not_active(ResourceStatus::Paused),
        ),
        (
            SLOT,
            None,
            ResourceStatus::Removed,
            not_active(ResourceStatus::Removed),
        ),
        (ADHOC, None, ResourceStatus::Paused, Taken),
        (
            ADHOC,
            None,
            ResourceStatus::Removed,
            not_active(ResourceStatus::Removed),
        ),
        (RESTORE, None, ResourceStatus::Removed, Taken),
        // What has not ended, or has ended well.
        (
            ("backup", "adhoc", 0, "queued"),
            None,
            ResourceStatus::Active,
            has_state("queued"),
        ),
        (
            ("backup", "adhoc", 0, "running"),
            None,
            ResourceStatus::Active,
            has_state("running"),
        ),
        (
            ("backup", "adhoc", 0, "succeeded"),
            None,
            ResourceStatus::Active,
            has_state("succeeded"),
        ),
    ];
    let db = TestCatalog::create().await?;
    for (i, (is, other, status, expected)) in table.into_iter().enumerate() {
        let resource = format!("r{i}");
        let case = format!("{is:?} beside {other:?}, {status:?}");
        db.add(&resource, "acme", "pro").await?;
        let id = there_is(&db, &resource, is).await?;
        let other_id = match other {
            Some(other) => Some(there_is(&db, &resource, other).await?),
            None => None,
        };
        if status != ResourceStatus::Active {
            db.catalog.set_resource_status(&resource, status).await?;
        }
        let refused = match expected {
            Taken => None,
            Refused(refusal) => Some(refusal),
            Superseded(state) => Some(Refusal::Superseded {
                by: other_id.context("no other")?,
                state: state.to_owned(),
            }),
        };
        // What a rehearsal says is what would be done, and is not done.
        for mode in [Mode::Rehearsal, Mode::Real] {
            let answer = db.catalog.retry_run(id, &order(), mode).await?;
            assert_eq!(answer.refused, refused, "{case}");
            let state = if refused.is_none() { "queued" } else { is.3 };
            assert_eq!((answer.was.as_str(), answer.state.as_str()), (is.3, state));
            let stored = if mode == Mode::Real { state } else { is.3 };
            assert_eq!(db.catalog.run(id).await?.state, stored, "{case}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_retry_of_a_restore_is_refused_when_what_it_would_restore_from_has_expired() -> Result<()>
{
    let db = with_a_shop().await?;
    let point = there_is(&db, "shop", ("backup", "adhoc", 0, "succeeded")).await?;
    sqlx::query(
        "insert into lastgood.restore_points (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
         values ($1, 'shop', now(), 'key', '{}', 1, 1)",
    )
    .bind(point)
    .execute(db.pool())
    .await?;
    let restore = there_is(&db, "shop", ("restore", "adhoc", 0, "failed")).await?;
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
    assert_eq!(answer.refused, Some(Refusal::PointExpired(point)));
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
        let trigger = if matches!(kind, "copy" | "verify" | "expire") {
            "upkeep"
        } else {
            "adhoc"
        };
        for state in ["failed", "cancelled", "succeeded", "queued"] {
            let id = there_is(&db, "shop", (kind, trigger, 0, state)).await?;
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
    let id = there_is(&db, "shop", ("backup", "adhoc", 0, "failed")).await?;
    // As a run that was cancelled while it waited out its back-off.
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
    assert!(run.run_at >= retried_after && run.run_at <= db.catalog.now().await?);
    assert_eq!(epoch(&db, id).await?, 6, "fenced against the old attempts");
    assert_eq!(Claim::default().runs(&db).await?, [id]);
    Ok(())
}

//! Retries failed and cancelled runs on an operator's order.

use lastgood_jobs::attempt::RunId;
use sqlx::PgConnection;

use super::{
    Catalog, CatalogError, FailedFilter, Mode, Order, Ordered, Refusal,
    runs::{protect, run_not_found},
};
use crate::{
    nouns::ResourceStatus,
    run::{RunKind, RunState, Trigger},
};

impl Catalog {
    /// Puts a failed or cancelled run back into the queue with all its attempts.
    ///
    /// Its epoch rises, which fences out a worker that still executes an earlier attempt. A retry that would do nothing, or undo what
    /// happened since, is refused; see [`Refusal`].
    pub async fn retry_run(
        &self,
        id: RunId,
        order: &Order,
        mode: Mode,
    ) -> Result<Ordered, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let run = lock(&mut transaction, id).await?;
        let refused = match refusal(&mut transaction, &run).await? {
            Some(refusal) => Some(refusal),
            None => requeue(&mut transaction, &run).await?,
        };
        let answer = Ordered {
            id,
            resource_id: run.resource_id,
            kind: run.kind,
            state: match refused {
                None => RunState::Queued,
                Some(_) => run.state,
            },
            was: run.state,
            refused,
        };
        Ok(answer.conclude(transaction, "retry", order, mode).await?)
    }

    /// Returns the failed runs that a retry in bulk covers, oldest first: backups and upkeep, but of each resource's scheduled backups only
    /// the newest. A restore overwrites what was written since, so it is retried by its id alone.
    pub async fn failed_runs(&self, filter: &FailedFilter) -> Result<Vec<RunId>, CatalogError> {
        let ids = sqlx::query_scalar!(
            "select run.id from lastgood.runs as run join lastgood.resources as r on r.id = run.resource_id
             where run.finished_at >= coalesce($4::timestamptz, '-infinity') and run.state = 'failed'
                 and run.kind not in ('restore', 'drop_replaced')
                 and ($1::text is null or run.queue = $1) and ($2::text is null or r.tier = $2)
                 and ($3::text is null or r.team = $3) and ($5::text is null or run.error_kind = $5)
                 and (run.slot is null or not exists (
                     select from lastgood.runs as newer
                     where newer.resource_id = run.resource_id and newer.kind = 'backup' and newer.state = 'failed'
                         and newer.slot > run.slot
                 ))
             order by run.finished_at, run.id",
            filter.engine,
            filter.tier,
            filter.team,
            filter.since,
            filter.error_kind,
        )
        .fetch_all(self.pool())
        .await?;
        Ok(ids)
    }
}

/// A run, locked together with its resource.
struct Locked {
    id: RunId,
    resource_id: String,
    kind: RunKind,
    trigger: Trigger,
    state: RunState,
    args: serde_json::Value,
    resource_status: ResourceStatus,
}

/// Locks the resource before the run, the same order as in a tick.
async fn lock(connection: &mut PgConnection, id: RunId) -> Result<Locked, CatalogError> {
    let status = sqlx::query_scalar!(
        "select status from lastgood.resources
         where id = (select resource_id from lastgood.runs where id = $1) for no key update",
        id.0
    )
    .fetch_optional(&mut *connection)
    .await?
    .ok_or_else(|| run_not_found(id))?;
    let row = sqlx::query!(
        "select resource_id, kind, trigger, state, args from lastgood.runs where id = $1 for update",
        id.0
    )
    .fetch_optional(connection)
    .await?
    .ok_or_else(|| run_not_found(id))?;
    Ok(Locked {
        id,
        resource_id: row.resource_id,
        kind: row.kind,
        trigger: row.trigger,
        state: row.state,
        args: row.args,
        resource_status: status,
    })
}

async fn refusal(
    connection: &mut PgConnection,
    run: &Locked,
) -> Result<Option<Refusal>, CatalogError> {
    match run.state {
        RunState::Failed | RunState::Cancelled => {}
        RunState::Queued | RunState::Running | RunState::Succeeded => {
            return Ok(Some(Refusal::NotRetryable(run.state)));
        }
    }
    match (run.kind, run.trigger, run.resource_status) {
        (RunKind::Backup, _, ResourceStatus::Removed) => Ok(Some(Refusal::ResourceRemoved)),
        (RunKind::Backup, Trigger::Scheduled, ResourceStatus::Paused) => {
            Ok(Some(Refusal::ResourcePaused))
        }
        (RunKind::Backup, Trigger::Scheduled, ResourceStatus::Active) => {
            newer(connection, run.id).await
        }
        (RunKind::Restore, _, _) => expired(connection, run).await,
        (RunKind::Backup, Trigger::Adhoc | Trigger::Upkeep, _)
        | (
            RunKind::DropReplaced
            | RunKind::Copy
            | RunKind::Verify
            | RunKind::Expire
            | RunKind::Drill,
            _,
            _,
        ) => Ok(None),
    }
}

/// Looks for a scheduled backup of the same slot or a later one: a slot can have only one, and a later one has done this run's work.
async fn newer(connection: &mut PgConnection, id: RunId) -> Result<Option<Refusal>, CatalogError> {
    let row = sqlx::query!(
        "select other.id, other.state
         from lastgood.runs as run join lastgood.runs as other on other.resource_id = run.resource_id
         where run.id = $1 and other.id <> run.id and other.slot >= run.slot
             and other.kind = 'backup' and other.trigger = 'scheduled'
             and other.state in ('queued', 'running', 'succeeded')
         order by other.slot desc limit 1",
        id.0
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Refusal::Superseded {
        by: row.id,
        state: row.state,
    }))
}

/// Protects the point of a restore from retention, as enqueueing the restore did at first.
async fn expired(
    connection: &mut PgConnection,
    run: &Locked,
) -> Result<Option<Refusal>, CatalogError> {
    let point = run.args.get("point").and_then(serde_json::Value::as_str);
    let Some(point) = point.and_then(|point| point.parse().ok()) else {
        return Ok(None);
    };
    match protect(connection, point).await {
        Ok(()) => Ok(None),
        Err(CatalogError::PointExpired(point)) => Ok(Some(Refusal::PointExpired(point))),
        Err(error) => Err(error),
    }
}

async fn requeue(
    connection: &mut PgConnection,
    run: &Locked,
) -> Result<Option<Refusal>, CatalogError> {
    let requeued = sqlx::query!(
        "with requeued as (
             update lastgood.runs
             set state = 'queued', attempt = 0, epoch = epoch + 1, run_at = now(), finished_at = null
             where id = $1
             returning queue
         )
         select pg_notify('lastgood_runs', queue) from requeued",
        run.id.0
    )
    .fetch_one(connection)
    .await;
    match requeued {
        Ok(_) => Ok(None),
        Err(error) if is_unique_violation(&error) => Ok(Some(Refusal::UnderWay(run.kind))),
        Err(error) => Err(error.into()),
    }
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

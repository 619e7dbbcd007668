//! Runs as callers see them: enqueued, looked up, listed. Claiming and finishing is the queue's business.

use chrono::{DateTime, Utc};
use lastgood_jobs::{attempt::RunId, job::Job};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Audit, Catalog, CatalogError, Order, audit::record_by, wait_briefly};
use crate::{
    nouns::Run,
    run::{RunKind, RunState, Trigger},
};

/// A run that somebody asks for.
pub struct NewRun<'a> {
    /// The resource.
    pub resource_id: &'a str,
    /// The resource's engine: the queue.
    pub queue: &'a str,
    /// What to do.
    pub job: &'a Job,
    /// Makes a repeated request the same request.
    pub idempotency_key: Option<&'a str>,
    /// What the caller said, where a repeated request is told from another one by it and not by the job.
    pub asked: Option<&'a serde_json::Value>,
}

/// The run that the first request with a key made.
#[derive(Debug, Clone)]
pub struct FirstRun {
    /// Its id.
    pub id: RunId,
    /// Its job, as stored.
    pub args: serde_json::Value,
    /// What the caller said.
    pub asked: Option<serde_json::Value>,
}

impl FirstRun {
    fn answers(self, new: &NewRun<'_>, args: &serde_json::Value) -> Result<Enqueued, CatalogError> {
        let is_same = match (&self.asked, new.asked) {
            (Some(first), Some(again)) => first == again,
            (Some(_), None) | (None, Some(_) | None) => self.args == *args,
        };
        if is_same {
            Ok(Enqueued::Duplicate(self.id))
        } else {
            Err(CatalogError::KeyReused)
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// A new run.
    New(RunId),
    /// The run that the first request with this key made.
    Duplicate(RunId),
}

impl Enqueued {
    /// Returns the run's id.
    #[must_use]
    pub fn id(self) -> RunId {
        match self {
            Self::New(id) | Self::Duplicate(id) => id,
        }
    }
}

/// Which runs to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Of one resource.
    pub resource_id: Option<String>,
    /// In one state.
    pub state: Option<RunState>,
    /// Of one kind.
    pub kind: Option<RunKind>,
    /// Of one team's resources.
    pub team: Option<String>,
    /// Of one engine.
    pub engine: Option<String>,
    /// Created at or after this instant.
    pub since: Option<DateTime<Utc>>,
    /// Created before this instant.
    pub before: Option<DateTime<Utc>>,
    /// At most this many.
    pub limit: i64,
}

impl Catalog {
    /// Enqueues a job that somebody asked for, and records by whose order. The same idempotency key returns the first run; with another
    /// job, an error.
    pub async fn enqueue(&self, new: &NewRun<'_>, order: &Order) -> Result<Enqueued, CatalogError> {
        let kind = RunKind::of(new.job);
        let args =
            serde_json::to_value(new.job).map_err(|error| sqlx::Error::Encode(error.into()))?;
        if let (Some(key), Job::Restore(_)) = (new.idempotency_key, new.job)
            && let Some(first) = self.run_with_key(new.resource_id, key).await?
        {
            // What was asked for before was answered before, whatever has become of the point.
            return first.answers(new, &args);
        }
        let mut transaction = self.pool().begin().await?;
        // A service's transaction may hold the key.
        wait_briefly(&mut transaction).await?;
        if let Job::Restore(restore) = new.job {
            protect(&mut transaction, restore.point).await?;
        }
        let inserted = sqlx::query_scalar!(
            "insert into lastgood.runs (queue, kind, trigger, resource_id, priority, args, idempotency_key, asked)
             values ($1, $2, $7, $3, lastgood.priority($2, $7), $4, $5, $6)
             on conflict do nothing returning id",
            new.queue,
            kind.as_str(),
            new.resource_id,
            args,
            new.idempotency_key,
            new.asked,
            Trigger::Adhoc.as_str(),
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(id) = inserted {
            let entry = Audit {
                action: kind.as_str(),
                resource_id: Some(new.resource_id),
                point_id: None,
                detail: json!({ "run": id, "args": args }),
            };
            record_by(&mut transaction, order.by(), &entry).await?;
        }
        transaction.commit().await?;
        if let Some(id) = inserted {
            return Ok(Enqueued::New(id));
        }
        let Some(key) = new.idempotency_key else {
            return Err(CatalogError::RestoreUnderWay(new.resource_id.to_owned()));
        };
        match self.run_with_key(new.resource_id, key).await? {
            Some(first) => first.answers(new, &args),
            None => Err(CatalogError::RestoreUnderWay(new.resource_id.to_owned())),
        }
    }

    /// Returns the run that a request with this key made, and what it asked for.
    pub async fn run_with_key(
        &self,
        resource_id: &str,
        key: &str,
    ) -> Result<Option<FirstRun>, CatalogError> {
        let row = sqlx::query_as!(
            FirstRun,
            "select id, args, asked from lastgood.runs where resource_id = $1 and idempotency_key = $2",
            resource_id,
            key
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row)
    }

    /// Returns one run.
    pub async fn run(&self, id: RunId) -> Result<Run, CatalogError> {
        sqlx::query_as!(
            Run,
            "select id, resource_id as resource, queue as engine, kind, trigger, state, attempt, max_attempts, slot as slot_at,
                 run_at as runnable_at, lease_by as consumer, lease_until as lease_expires_at, error_kind, error, result as report,
                 dump_bytes, stored_bytes, created_at, started_at, finished_at
             from lastgood.runs where id = $1",
            id.0
        )
        .fetch_optional(self.pool())
        .await?
        .ok_or_else(|| run_not_found(id))
    }

    /// Returns runs, newest first.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        // A plan made for any filter uses the index of none.
        sqlx::query("set local plan_cache_mode = force_custom_plan")
            .execute(&mut *transaction)
            .await?;
        let rows = if filter.resource_id.is_some() || filter.team.is_some() {
            sqlx::query_file_as!(
                Run,
                "src/catalog/runs_of_owners.sql",
                filter.resource_id,
                filter.state.map(RunState::as_str),
                filter.kind.map(RunKind::as_str),
                filter.limit,
                filter.before,
                filter.team,
                filter.engine,
                filter.since
            )
            .fetch_all(&mut *transaction)
            .await?
        } else {
            sqlx::query_file_as!(
                Run,
                "src/catalog/runs.sql",
                filter.state.map(RunState::as_str),
                filter.kind.map(RunKind::as_str),
                filter.limit,
                filter.before,
                filter.engine,
                filter.since
            )
            .fetch_all(&mut *transaction)
            .await?
        };
        transaction.commit().await?;
        Ok(rows)
    }
}

/// Makes sure that a point is not let go before the run that restores from it is there to be seen, and refuses it if it has
/// been. A point that is not there is for the run to say.
pub(super) async fn protect(
    connection: &mut PgConnection,
    point: Uuid,
) -> Result<(), CatalogError> {
    let expired = sqlx::query_scalar!(
        r#"select expired_at is not null as "expired!" from lastgood.restore_points where id = $1 for share"#,
        point
    )
    .fetch_optional(connection)
    .await?;
    match expired {
        Some(true) => Err(CatalogError::PointExpired(point)),
        Some(false) | None => Ok(()),
    }
}

pub(super) fn run_not_found(id: RunId) -> CatalogError {
    CatalogError::not_found("run", &id, "run list")
}

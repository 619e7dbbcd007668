//! The ledger of runs: the statements of the protocol, each fenced by the attempt's epoch and the random id that its claim drew.

mod finish;
mod lease;
mod reap;

use std::{future::Future, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use lastgood_jobs::attempt::{Attempt, AttemptId, Epoch, RunId};
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection, postgres::types::PgInterval};

pub(super) use self::lease::Renewal;
pub use self::{lease::LeaseHandle, reap::Reaped};
use super::{Lane, ends::Ends};
use crate::run::Priority;

/// A database that does not answer within this time counts as down; the statement is tried again.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The queue's table, as seen by one worker process.
#[derive(Clone)]
pub struct Ledger {
    pool: PgPool,
    worker: Arc<str>,
    lease: Duration,
    /// The name of the store that backups are written to.
    primary: Arc<str>,
    limits: Limits,
    ends: Ends,
}

/// Limits, across all consumers, on runs that could crowd out the rest.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Runs of one team in one queue. Its restores and its upkeep are counted
    /// separately. `None`: half of the queue's live slots, but at least two.
    pub team_slots: Option<u32>,
    /// Dumps that read from one server.
    pub server_slots: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            team_slots: None,
            server_slots: 2,
        }
    }
}

/// A claimed row whose payload is not decoded yet.
pub struct Claimed {
    /// The run.
    pub id: RunId,
    /// Its resource.
    pub resource_id: String,
    pub(super) queue: String,
    pub(super) priority: Priority,
    /// The stored text: a newer lastgood may have written a kind that this build does not know.
    pub(super) kind: String,
    pub(super) slot: Option<DateTime<Utc>>,
    pub(super) attempt: i32,
    pub(super) epoch: Epoch,
    pub(super) attempt_id: AttemptId,
    pub(super) created_at: DateTime<Utc>,
    pub(super) args: serde_json::Value,
}

impl Claimed {
    /// Returns the attempt that the claim made.
    #[must_use]
    pub fn as_attempt(&self) -> Attempt {
        Attempt {
            run: self.id,
            epoch: self.epoch,
            id: self.attempt_id,
            created_at: self.created_at,
        }
    }
}

impl Ledger {
    /// Returns the ledger of `worker`, a name that is unique per process start. Its claims hold leases of length `lease`.
    pub fn new(pool: PgPool, worker: impl Into<Arc<str>>, lease: Duration) -> Self {
        Self {
            pool,
            worker: worker.into(),
            lease,
            primary: crate::stores::PRIMARY.into(),
            limits: Limits::default(),
            ends: Ends::default(),
        }
    }

    /// Returns the same ledger, with these limits on its claims.
    #[must_use]
    pub fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Returns the same ledger, which records backups as being in the store `primary`.
    #[must_use]
    pub fn storing_in(self, primary: &str) -> Self {
        Self {
            primary: primary.into(),
            ..self
        }
    }

    /// Returns how long a lease lasts without renewal.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Returns the worker's name.
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// Returns a connection from the pool that has just answered.
    pub async fn connection(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        answered(self.pool.acquire()).await
    }

    /// Claims runs in one statement for these lanes, given as queue, free slots and lane. The claimed attempts get the ids in `attempts`.
    pub async fn claim(
        &self,
        connection: &mut PgConnection,
        lanes: &[(&str, usize, Lane)],
        attempts: &[AttemptId],
    ) -> sqlx::Result<Vec<Claimed>> {
        let queues: Vec<_> = lanes
            .iter()
            .map(|(queue, ..)| (*queue).to_owned())
            .collect();
        let slots: Vec<_> = lanes
            .iter()
            .map(|(_, slots, _)| i64::try_from(*slots).unwrap_or(i64::MAX))
            .collect();
        let (lowest, highest): (Vec<_>, Vec<_>) = lanes
            .iter()
            .map(|(.., lane)| lane.priorities())
            .map(|(lowest, highest)| (lowest.0, highest.0))
            .unzip();
        let claim = sqlx::query_file_as!(
            Claimed,
            "src/queue/claim.sql",
            &queues,
            &slots,
            &lowest,
            &highest,
            &*self.worker,
            interval(self.lease),
            self.limits.team_slots.map(integer),
            integer(self.limits.server_slots),
            attempts as &[AttemptId],
        )
        .fetch_all(connection);
        answered(claim).await
    }

    /// Gives back, unspent, those of these attempts that were made by a claim whose answer was lost. Returns how many there were.
    pub(super) async fn give_back(&self, attempts: &[AttemptId]) -> sqlx::Result<u64> {
        let giving = sqlx::query!(
            "with given as (
                 update lastgood.runs
                 set state = 'queued', attempt = attempt - 1, epoch = epoch + 1, lease_by = null, lease_until = null
                 where state = 'running' and attempt_id = any ($1) and lease_by = $2
                 returning queue
             )
             select pg_notify('lastgood_runs', queue) from given",
            attempts as &[AttemptId],
            &*self.worker,
        )
        .fetch_all(&self.pool);
        Ok(answered(giving).await?.len() as u64)
    }

    /// Gives a run back without spending the attempt.
    pub(super) async fn release(&self, attempt: Attempt) {
        let release = sqlx::query!(
            "with released as (
                 update lastgood.runs
                 set state = 'queued', attempt = attempt - 1, epoch = epoch + 1, lease_by = null, lease_until = null
                 where id = $1 and epoch = $2 and attempt_id = $3 and state = 'running'
                 returning queue
             )
             select pg_notify('lastgood_runs', queue) from released",
            attempt.run.0,
            attempt.epoch.0,
            attempt.id.0,
        )
        .fetch_optional(&self.pool);
        if let Err(error) = answered(release).await {
            tracing::warn!(run.id = %attempt.run, run.epoch = attempt.epoch.0, %error, "cannot give a run back, the reaper will take it");
        }
    }

    /// Returns those of these attempts that no longer own their run.
    pub(super) async fn over(&self, attempts: &[Attempt]) -> sqlx::Result<Vec<Attempt>> {
        let (ids, of_attempts): (Vec<_>, Vec<_>) = attempts
            .iter()
            .map(|attempt| (attempt.run, attempt.id))
            .unzip();
        let over = sqlx::query_scalar!(
            r#"select mine.attempt_id as "attempt_id!: AttemptId"
               from unnest($1::uuid[], $2::uuid[]) as mine (id, attempt_id)
               left join lastgood.runs as run on run.id = mine.id
               where run.attempt_id is distinct from mine.attempt_id or run.state <> 'running'"#,
            &ids as &[RunId],
            &of_attempts as &[AttemptId]
        )
        .fetch_all(&self.pool);
        let over = answered(over).await?;
        let is_over = |attempt: &&Attempt| over.contains(&attempt.id);
        Ok(attempts.iter().filter(is_over).copied().collect())
    }

    /// Returns whether an operator's order cancelled the attempt; `false` if the catalog does not answer.
    pub(super) async fn was_cancelled(&self, attempt: Attempt) -> bool {
        let cancelled = sqlx::query_scalar!(
            r#"select exists (
                   select from lastgood.attempts
                   where run_id = $1 and epoch = $2 and attempt_id = $3 and result = 'cancelled'
               ) as "cancelled!""#,
            attempt.run.0,
            attempt.epoch.0,
            attempt.id.0,
        )
        .fetch_one(&self.pool);
        answered(cancelled).await.unwrap_or(false)
    }
}

async fn answered<T>(statement: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    tokio::time::timeout(ANSWER_WITHIN, statement)
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}

pub(super) fn bigint(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn integer(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

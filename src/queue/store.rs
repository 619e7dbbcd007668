//! The statements of the protocol, each fenced by the attempt: its epoch, and the random id that its claim drew.

use std::{future::Future, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures::{FutureExt, future::BoxFuture};
use lastgood_jobs::{
    backup::RestorePoint,
    error::{ErrorKind, chain},
    job::Attempt,
    worker::{Lease, Progress},
};
use sqlx::{PgPool, postgres::types::PgInterval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Failure, Lane, Outcome,
    ends::{End, EndPoint, Ends, finish},
    proof,
};
use crate::catalog::{CatalogError, ended, is_refused, leave_out};

/// A database that does not answer in this time is treated as down; the statement is tried again.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The queue's table, as one worker process sees it.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
    worker: Arc<str>,
    lease: Duration,
    /// The store that backups go to.
    primary: Arc<str>,
    limits: Limits,
    ends: Ends,
}

/// How much may run at once, over all consumers, of what could crowd out the rest.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Runs of one team in one queue; its restores are counted apart. `None`: half of the live slots of the queue, two at least.
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

/// A row that was claimed, its payload still undecoded.
pub(super) struct Claimed {
    pub(super) id: Uuid,
    pub(super) queue: String,
    pub(super) priority: i16,
    pub(super) resource_id: String,
    pub(super) kind: String,
    pub(super) slot: Option<DateTime<Utc>>,
    pub(super) attempt: i32,
    pub(super) epoch: i64,
    pub(super) attempt_id: Uuid,
    pub(super) created_at: DateTime<Utc>,
    pub(super) args: serde_json::Value,
}

impl Claimed {
    pub(super) fn as_attempt(&self) -> Attempt {
        Attempt {
            run_id: self.id,
            epoch: self.epoch,
            attempt_id: self.attempt_id,
            created_at: self.created_at,
        }
    }
}

/// A run that the reaper took from a lost worker, or that no worker could ever take.
#[derive(Debug)]
pub struct Reaped {
    /// Its id.
    pub id: Uuid,
    /// Its queue.
    pub queue: String,
    /// Its kind.
    pub kind: String,
    /// `queued`, or `failed` where its attempts are spent.
    pub state: String,
}

/// How a renewal went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    Extended,
    /// The row is another attempt's, or nobody's: this one is over.
    Lost,
}

impl Store {
    /// Returns the store for `worker`, a name unique per process start; its claims hold leases of `lease`.
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

    /// Returns the same, whose claims hold to these limits.
    #[must_use]
    pub fn within(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Returns the same, whose backups are recorded as being in the store of this name.
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

    /// Claims for these lanes, given by queue and free slots, in one statement; the claimed attempts get these ids.
    pub(super) async fn claim(
        &self,
        lanes: &[(&str, usize, Lane)],
        attempts: &[Uuid],
    ) -> sqlx::Result<Vec<Claimed>> {
        let queues: Vec<_> = lanes
            .iter()
            .map(|(queue, ..)| (*queue).to_owned())
            .collect();
        let slots: Vec<_> = lanes
            .iter()
            .map(|(_, slots, _)| i64::try_from(*slots).unwrap_or(i64::MAX))
            .collect();
        let (lowest, highest): (Vec<_>, Vec<_>) =
            lanes.iter().map(|(.., lane)| lane.priorities()).unzip();
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
            attempts,
        )
        .fetch_all(&self.pool);
        answered(claim).await
    }

    /// Gives back, unspent, those of these attempts that a claim made whose answer was lost; returns how many there were.
    pub(super) async fn give_back(&self, attempts: &[Uuid]) -> sqlx::Result<u64> {
        let giving = sqlx::query!(
            "with given as (
                 update lastgood.runs
                 set state = 'queued', attempt = attempt - 1, epoch = epoch + 1, lease_by = null, lease_until = null
                 where state = 'running' and attempt_id = any ($1) and lease_by = $2
                 returning queue
             )
             select pg_notify('lastgood_runs', queue) from given",
            attempts,
            &*self.worker,
        )
        .fetch_all(&self.pool);
        Ok(answered(giving).await?.len() as u64)
    }

    pub(super) async fn renew(
        &self,
        attempt: Attempt,
        (dump_bytes, stored_bytes): (u64, u64),
    ) -> sqlx::Result<Renewal> {
        let renewal = sqlx::query!(
            "update lastgood.runs set lease_until = now() + $3, dump_bytes = $4, stored_bytes = $5
             where id = $1 and epoch = $2 and attempt_id = $6 and state = 'running'",
            attempt.run_id,
            attempt.epoch,
            interval(self.lease),
            bigint(dump_bytes),
            bigint(stored_bytes),
            attempt.attempt_id,
        )
        .execute(&self.pool);
        Ok(match answered(renewal).await?.rows_affected() {
            0 => Renewal::Lost,
            _ => Renewal::Extended,
        })
    }

    /// Writes the outcome where the run is still this attempt's and returns the state the run is in now.
    ///
    /// Tries until the database answers (harmless, because of the fence) or `stop` is cancelled. `None`: the run is no
    /// longer ours, or nobody answered; then the reaper decides.
    pub(super) async fn finish(
        &self,
        attempt: Attempt,
        mut outcome: &Result<Outcome, Failure>,
        moved: (u64, u64),
        stop: &CancellationToken,
    ) -> Option<String> {
        // Holds the failure that takes the place of an outcome that the schema refuses.
        let mut refused;
        let mut wait = Duration::from_millis(100);
        loop {
            let tried = match outcome {
                Ok(outcome) => self.finish_succeeded(attempt, outcome, moved).await,
                Err(failure) if failure.is_outage => self.give_up(attempt, failure).await,
                Err(failure) => self.finish_failed(attempt, failure, moved).await,
            };
            match tried {
                Ok(state) => return state,
                // What the schema refuses now it refuses for ever: the run must not hold its slot for that.
                Err(error) if is_refused(&error) => {
                    tracing::error!(run.id = %attempt.run_id, run.epoch = attempt.epoch, %error, "the catalog refuses the outcome of a run");
                    refused = Err(Failure::permanent(
                        ErrorKind::Internal,
                        format!("the catalog refuses the outcome: {error}"),
                    ));
                    outcome = &refused;
                }
                Err(error) => {
                    tracing::warn!(run.id = %attempt.run_id, run.epoch = attempt.epoch, %error, "cannot record the outcome of a run, trying again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(5)),
                () = stop.cancelled() => return None,
            }
        }
    }

    async fn finish_succeeded(
        &self,
        attempt: Attempt,
        outcome: &Outcome,
        (dump_bytes, stored_bytes): (u64, u64),
    ) -> sqlx::Result<Option<String>> {
        let (point, report) = match outcome {
            Outcome::RestorePoint(point) => (Some(EndPoint::of(point)?), None),
            Outcome::Report(report)
            | Outcome::Proof { report, .. }
            | Outcome::Salvaged { report, .. } => (None, Some(report.clone())),
        };
        let end = End {
            attempt,
            report,
            point,
            dump_bytes,
            stored_bytes,
        };
        let recording = async {
            // With what ends at the same time: one statement is a transaction of its own, and one round trip instead of three.
            if let Outcome::RestorePoint(_) | Outcome::Report(_) = outcome {
                return self.ends.record(end, &self.pool, &self.primary).await;
            }
            let mut transaction = self.pool.begin().await?;
            let done = finish(&[end], &mut *transaction, &self.primary).await?;
            let finished = done.contains(&attempt.attempt_id);
            match outcome {
                Outcome::Proof { point, stores, .. } if finished => {
                    proof::acquit(&mut transaction, *point, stores).await?;
                }
                Outcome::Salvaged { lacking, .. } if finished => {
                    proof::forget(&mut transaction, lacking).await?;
                }
                Outcome::RestorePoint(_)
                | Outcome::Report(_)
                | Outcome::Proof { .. }
                | Outcome::Salvaged { .. } => {}
            }
            transaction.commit().await?;
            Ok(finished)
        };
        let finished = answered(recording).await?;
        Ok(finished.then(|| "succeeded".to_owned()))
    }

    /// Puts a run back that could not go on while the catalog was away: the attempt is not spent, and the next comes a little later.
    async fn give_up(&self, attempt: Attempt, failure: &Failure) -> sqlx::Result<Option<String>> {
        let giving_up = sqlx::query_scalar!(
            "update lastgood.runs
             set state = 'queued', attempt = attempt - 1, epoch = epoch + 1, lease_by = null, lease_until = null,
                 run_at = now() + interval '5 s' * (0.75 + random() / 2), error_kind = $4, error = $5
             where id = $1 and epoch = $2 and attempt_id = $3 and state = 'running'
             returning state",
            attempt.run_id,
            attempt.epoch,
            attempt.attempt_id,
            failure.kind,
            without_nul(&failure.message),
        )
        .fetch_optional(&self.pool);
        answered(giving_up).await
    }

    async fn finish_failed(
        &self,
        attempt: Attempt,
        failure: &Failure,
        (dump_bytes, stored_bytes): (u64, u64),
    ) -> sqlx::Result<Option<String>> {
        let finish = sqlx::query_file_scalar!(
            "src/queue/finish_failed.sql",
            attempt.run_id,
            attempt.epoch,
            failure.kind,
            without_nul(&failure.message),
            failure.permanent,
            failure.tool_words.as_deref().map(without_nul),
            bigint(dump_bytes),
            bigint(stored_bytes),
            attempt.attempt_id,
        );
        let recording = async {
            let mut transaction = self.pool.begin().await?;
            let state = finish.fetch_optional(&mut *transaction).await?;
            if let (Some(_), Some(condemned)) = (&state, failure.condemned) {
                proof::condemn(
                    &mut transaction,
                    condemned,
                    attempt.run_id,
                    &failure.message,
                )
                .await?;
            }
            if let (Some(_), Some(lacking)) = (&state, &failure.lacking) {
                proof::forget(&mut transaction, lacking).await?;
            }
            transaction.commit().await?;
            Ok(state)
        };
        answered(recording).await
    }

    /// Gives a run back unharmed: the attempt is not spent.
    pub(super) async fn release(&self, attempt: Attempt) {
        let release = sqlx::query!(
            "with released as (
                 update lastgood.runs
                 set state = 'queued', attempt = attempt - 1, epoch = epoch + 1, lease_by = null, lease_until = null
                 where id = $1 and epoch = $2 and attempt_id = $3 and state = 'running'
                 returning queue
             )
             select pg_notify('lastgood_runs', queue) from released",
            attempt.run_id,
            attempt.epoch,
            attempt.attempt_id,
        )
        .fetch_optional(&self.pool);
        if let Err(error) = answered(release).await {
            tracing::warn!(run.id = %attempt.run_id, run.epoch = attempt.epoch, %error, "cannot give a run back, the reaper will take it");
        }
    }

    /// Returns those of these attempts that are over.
    pub(super) async fn over(&self, attempts: &[Attempt]) -> sqlx::Result<Vec<Attempt>> {
        let (ids, of_attempts): (Vec<_>, Vec<_>) = attempts
            .iter()
            .map(|attempt| (attempt.run_id, attempt.attempt_id))
            .unzip();
        let over = sqlx::query_scalar!(
            r#"select mine.attempt_id as "attempt_id!"
               from unnest($1::uuid[], $2::uuid[]) as mine (id, attempt_id)
               left join lastgood.runs as run on run.id = mine.id
               where run.attempt_id is distinct from mine.attempt_id or run.state <> 'running'"#,
            &ids,
            &of_attempts
        )
        .fetch_all(&self.pool);
        let over = answered(over).await?;
        let is_over = |attempt: &&Attempt| over.contains(&attempt.attempt_id);
        Ok(attempts.iter().filter(is_over).copied().collect())
    }

    /// Returns whether the attempt was ended by an operator's order. `false` where nobody answers.
    pub(super) async fn was_cancelled(&self, attempt: Attempt) -> bool {
        let cancelled = sqlx::query_scalar!(
            r#"select exists (
                   select from lastgood.attempts
                   where run_id = $1 and epoch = $2 and attempt_id = $3 and result = 'cancelled'
               ) as "cancelled!""#,
            attempt.run_id,
            attempt.epoch,
            attempt.attempt_id,
        )
        .fetch_one(&self.pool);
        answered(cancelled).await.unwrap_or(false)
    }

    /// Records the restore point of a run that was cancelled too late: its manifest is written.
    pub(super) async fn record_late(
        &self,
        attempt: Attempt,
        point: &RestorePoint,
    ) -> sqlx::Result<bool> {
        let manifest = serde_json::to_value(&point.manifest)
            .map_err(|error| sqlx::Error::Encode(error.into()))?;
        let recording = sqlx::query_file_scalar!(
            "src/queue/late_point.sql",
            attempt.run_id,
            attempt.epoch,
            point.manifest.consistent_at,
            point.manifest_key,
            manifest,
            bigint(point.manifest.dump.size_bytes),
            bigint(point.manifest.archive.size_bytes),
            &*self.primary,
            attempt.attempt_id,
        )
        .fetch_one(&self.pool);
        Ok(answered(recording).await? == 1)
    }

    /// Records what a run did that was cancelled too late: its database is exchanged, say.
    pub(super) async fn record_late_report(
        &self,
        attempt: Attempt,
        report: &serde_json::Value,
    ) -> sqlx::Result<bool> {
        let recording = sqlx::query!(
            "update lastgood.runs set result = $3
             where id = $1 and epoch = $2::bigint + 1 and attempt_id = $4 and state = 'cancelled'",
            attempt.run_id,
            attempt.epoch,
            report,
            attempt.attempt_id,
        )
        .execute(&self.pool);
        Ok(answered(recording).await?.rows_affected() == 1)
    }

    /// Takes back the runs whose lease ran out, unless the catalog itself started less than one lease ago.
    ///
    /// Where the catalog refuses that for some run, the others are taken back all the same.
    pub async fn reap(&self) -> Result<Vec<Reaped>, CatalogError> {
        match self.reap_those(None).await {
            Err(error) if error.is_of_a_row() => {
                let lost = sqlx::query_scalar!(
                    "select id from lastgood.runs where state = 'running' and lease_until < now() order by lease_until limit 1000"
                )
                .fetch_all(&self.pool)
                .await?;
                let taken = leave_out(lost, |ids| self.reap_those(Some(ids)).boxed()).await?;
                Ok(told("reap", taken))
            }
            reaped => reaped,
        }
    }

    async fn reap_those(&self, runs: Option<Vec<Uuid>>) -> Result<Vec<Reaped>, CatalogError> {
        let lease = interval(self.lease);
        let reaping = async {
            let mut transaction = self.pool.begin().await?;
            let reaped = sqlx::query_file_as!(Reaped, "src/queue/reap.sql", lease, runs.as_deref())
                .fetch_all(&mut *transaction)
                .await;
            ended(transaction, reaped).await
        };
        Ok(answered(reaping).await?)
    }

    /// Fails the runs of engines that are not `known` and that no live consumer serves: they would wait for ever.
    pub async fn refuse_unknown(&self, known: &[String]) -> Result<Vec<Reaped>, CatalogError> {
        match self.refuse_those(known, None).await {
            Err(error) if error.is_of_a_row() => {
                let waiting = sqlx::query_scalar!(
                    "select id from lastgood.runs where state = 'queued' and queue <> all ($1) order by created_at limit 1000",
                    known
                )
                .fetch_all(&self.pool)
                .await?;
                let refused = |ids| self.refuse_those(known, Some(ids)).boxed();
                Ok(told("refuse_unknown", leave_out(waiting, refused).await?))
            }
            refused => refused,
        }
    }

    async fn refuse_those(
        &self,
        known: &[String],
        runs: Option<Vec<Uuid>>,
    ) -> Result<Vec<Reaped>, CatalogError> {
        let refusing = async {
            let mut transaction = self.pool.begin().await?;
            let refused = sqlx::query_file_as!(
                Reaped,
                "src/queue/refuse_unknown.sql",
                known,
                runs.as_deref()
            )
            .fetch_all(&mut *transaction)
            .await;
            ended(transaction, refused).await
        };
        Ok(answered(refusing).await?)
    }

    /// Extends the lease, and with that proves it. While the catalog does not answer it is asked again, for the length of
    /// a lease: hours of work must not be lost to one broken connection.
    async fn prove(&self, attempt: Attempt, progress: (u64, u64)) -> bool {
        let deadline = tokio::time::Instant::now() + self.lease.max(ANSWER_WITHIN);
        let mut wait = Duration::from_millis(100);
        loop {
            match self.renew(attempt, progress).await {
                Ok(renewal) => return renewal == Renewal::Extended,
                Err(error) => {
                    tracing::warn!(run.id = %attempt.run_id, run.epoch = attempt.epoch, %error, "cannot prove the lease, trying again");
                }
            }
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }
}

impl Store {
    /// Writes down which database an attempt is about to close, where the attempt still has its run.
    async fn note_closing(&self, attempt: Attempt, database: &str) -> bool {
        let noting = sqlx::query!(
            "insert into lastgood.closed_databases (run_id, resource_id, database)
             select id, resource_id, $4 from lastgood.runs
             where id = $1 and epoch = $2 and attempt_id = $3 and state = 'running'
             on conflict (run_id) do update set database = excluded.database, closed_at = excluded.closed_at, tried_at = null, error = null",
            attempt.run_id,
            attempt.epoch,
            attempt.attempt_id,
            database
        )
        .execute(&self.pool);
        match answered(noting).await {
            Ok(noted) => noted.rows_affected() == 1,
            Err(error) => {
                tracing::warn!(run.id = %attempt.run_id, %error, "cannot record that a database is about to be closed: it is left as it is");
                false
            }
        }
    }

    /// Strikes that out. A row that stays makes somebody look, who finds the database open.
    async fn note_open(&self, id: Uuid) {
        let noting = sqlx::query!(
            "delete from lastgood.closed_databases where run_id = $1",
            id
        )
        .execute(&self.pool);
        if let Err(error) = answered(noting).await {
            tracing::warn!(run.id = %id, %error, "cannot record that a database is open again");
        }
    }
}

/// One attempt's claim on its run.
#[derive(Clone)]
pub struct LeaseHandle {
    pub(super) store: Store,
    pub(super) attempt: Attempt,
    pub(super) progress: Arc<Progress>,
}

impl Lease for LeaseHandle {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        self.store
            .prove(self.attempt, self.progress.so_far())
            .boxed()
    }

    fn will_close<'a>(&'a self, database: &'a str) -> BoxFuture<'a, bool> {
        self.store.note_closing(self.attempt, database).boxed()
    }

    fn is_open(&self) -> BoxFuture<'_, ()> {
        self.store.note_open(self.attempt.run_id).boxed()
    }
}

/// Tells of the runs that the catalog refuses to change, and returns the others.
fn told(
    statement: &'static str,
    (done, left_out): (Vec<Vec<Reaped>>, Vec<(Uuid, CatalogError)>),
) -> Vec<Reaped> {
    crate::metrics::rows_left_out(statement, left_out.len() as u64);
    for (run, error) in left_out {
        tracing::error!(run.id = %run, error = chain(&error), "the catalog refuses to change this run: it stays as it is, see `lastgood run show`");
    }
    done.into_iter().flatten().collect()
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

/// PostgreSQL's text cannot hold a NUL; a tool's stderr can.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

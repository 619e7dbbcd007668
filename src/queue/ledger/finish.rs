//! Records an attempt's end: the fenced finish, and what a run did although it was cancelled.

use std::time::Duration;

use lastgood_jobs::{attempt::Attempt, backup::RestorePoint, error::ErrorKind};
use sqlx::error::DatabaseError;
use tokio_util::sync::CancellationToken;

use super::{
    super::{
        Failure, Outcome, drilled,
        ends::{End, EndPoint, finish},
        proof,
    },
    Ledger, answered, bigint,
};
use crate::{catalog::is_refused, proof::NewProof, run::RunState};

impl Ledger {
    /// Writes the outcome if the run is still this attempt's, and returns the run's new state.
    ///
    /// Retries until the database answers (harmless, because of the fence) or `stop` is cancelled. `None`: the run is no longer this
    /// attempt's, or the database did not answer; then the reaper decides.
    pub async fn finish(
        &self,
        attempt: Attempt,
        mut outcome: &Result<Outcome, Failure>,
        moved: (u64, u64),
        stop: &CancellationToken,
    ) -> Option<RunState> {
        // Holds the failure that replaces an outcome that the schema refuses.
        let mut refused;
        let mut proof = proof_of(outcome).cloned();
        let mut wait = Duration::from_millis(100);
        loop {
            let tried = match outcome {
                Ok(outcome) => {
                    self.finish_succeeded(attempt, outcome, proof.as_ref(), moved)
                        .await
                }
                Err(failure) if failure.is_outage => self.give_up(attempt, failure).await,
                Err(failure) => {
                    self.finish_failed(attempt, failure, proof.as_ref(), moved)
                        .await
                }
            };
            match tried {
                Ok(state) => return state,
                // A ledger that somebody broke must not turn a database that was restored into a failure.
                Err(error) if proof.is_some() && (is_refused(&error) || is_wrong(&error)) => {
                    tracing::error!(run.id = %attempt.run, run.epoch = attempt.epoch.0, %error, "the catalog refuses the outcome of a run with its proof, trying without: see `lastgood proof check`");
                    proof = None;
                }
                // The schema will refuse the same outcome for ever, and the run must not hold its slot that long.
                Err(error) if is_refused(&error) => {
                    tracing::error!(run.id = %attempt.run, run.epoch = attempt.epoch.0, %error, "the catalog refuses the outcome of a run");
                    refused = Err(Failure::permanent(
                        ErrorKind::Internal,
                        format!("the catalog refuses the outcome: {error}"),
                    ));
                    outcome = &refused;
                }
                Err(error) => {
                    tracing::warn!(run.id = %attempt.run, run.epoch = attempt.epoch.0, %error, "cannot record the outcome of a run, trying again");
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
        proof: Option<&NewProof>,
        (dump_bytes, stored_bytes): (u64, u64),
    ) -> sqlx::Result<Option<RunState>> {
        let (point, report) = match outcome {
            Outcome::RestorePoint(point) => (Some(EndPoint::of(point)?), None),
            Outcome::Report(report)
            | Outcome::Proof { report, .. }
            | Outcome::Unproven { report, .. }
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
            // Batched with other ends: one statement is a transaction of its own, and takes one round trip instead of three.
            if let Outcome::RestorePoint(_) | Outcome::Report(_) = outcome {
                return self.ends.record(end, &self.pool, &self.primary).await;
            }
            let mut transaction = self.pool.begin().await?;
            let done = finish(&[end], &mut *transaction, &self.primary).await?;
            let finished = done.contains(&attempt.id);
            let mut counts = finished;
            match outcome {
                Outcome::Proof {
                    point,
                    stores,
                    proof,
                    ..
                } if finished => {
                    counts = proof::acquit(&mut transaction, *point, stores, proof.kind).await?;
                }
                Outcome::Salvaged { lacking, .. } if finished => {
                    proof::forget(&mut transaction, lacking).await?;
                }
                Outcome::RestorePoint(_)
                | Outcome::Report(_)
                | Outcome::Proof { .. }
                | Outcome::Unproven { .. }
                | Outcome::Salvaged { .. } => {}
            }
            // Also where the ledger refuses the proof, which must not silence what was found.
            if let (true, Some(found)) = (counts, outcome.proof()) {
                drilled::note(&mut transaction, attempt, &self.worker, found).await?;
            }
            if let (true, Some(proof)) = (counts, proof) {
                proof::enter(&mut transaction, attempt, &self.worker, proof).await?;
            }
            transaction.commit().await?;
            Ok(finished)
        };
        let finished = answered(recording).await?;
        Ok(finished.then_some(RunState::Succeeded))
    }

    /// Puts back a run that could not continue because the catalog was unreachable.
    /// The attempt is not spent, and the next begins a few seconds later.
    async fn give_up(&self, attempt: Attempt, failure: &Failure) -> sqlx::Result<Option<RunState>> {
        let giving_up = sqlx::query_scalar!(
            "update lastgood.runs
             set state = 'queued', attempt = attempt - 1, epoch = epoch + 1, lease_by = null, lease_until = null,
                 run_at = now() + interval '5 s' * (0.75 + random() / 2), error_kind = $4, error = $5
             where id = $1 and epoch = $2 and attempt_id = $3 and state = 'running'
             returning state",
            attempt.run.0,
            attempt.epoch.0,
            attempt.id.0,
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
        proof: Option<&NewProof>,
        (dump_bytes, stored_bytes): (u64, u64),
    ) -> sqlx::Result<Option<RunState>> {
        let finish = sqlx::query_file_scalar!(
            "src/queue/finish_failed.sql",
            attempt.run.0,
            attempt.epoch.0,
            failure.kind,
            without_nul(&failure.message),
            failure.permanent,
            failure.tool_words.as_deref().map(without_nul),
            bigint(dump_bytes),
            bigint(stored_bytes),
            attempt.id.0,
        );
        let recording = async {
            let mut transaction = self.pool.begin().await?;
            let state = finish.fetch_optional(&mut *transaction).await?;
            if let (Some(_), Some(condemned)) = (&state, failure.condemned) {
                proof::condemn(&mut transaction, condemned, attempt.run, &failure.message).await?;
            }
            if let (Some(_), Some(lacking)) = (&state, &failure.lacking) {
                proof::forget(&mut transaction, lacking).await?;
            }
            if let (Some(_), Some(proof)) = (&state, proof) {
                proof::enter(&mut transaction, attempt, &self.worker, proof).await?;
            }
            transaction.commit().await?;
            Ok(state)
        };
        answered(recording).await
    }

    /// Records the restore point of a run that was cancelled after its manifest was written.
    pub(in crate::queue) async fn record_late(
        &self,
        attempt: Attempt,
        point: &RestorePoint,
    ) -> sqlx::Result<bool> {
        let manifest = serde_json::to_value(&point.manifest)
            .map_err(|error| sqlx::Error::Encode(error.into()))?;
        let recording = sqlx::query_file_scalar!(
            "src/queue/late_point.sql",
            attempt.run.0,
            attempt.epoch.0,
            point.manifest.consistent_at,
            point.manifest_key,
            manifest,
            bigint(point.manifest.dump.size_bytes),
            bigint(point.manifest.archive.size_bytes),
            &*self.primary,
            attempt.id.0,
        )
        .fetch_one(&self.pool);
        Ok(answered(recording).await? == 1)
    }

    /// Records the report of a run that was cancelled too late, for example after its database was exchanged.
    pub(in crate::queue) async fn record_late_report(
        &self,
        attempt: Attempt,
        report: &serde_json::Value,
    ) -> sqlx::Result<bool> {
        let recording = sqlx::query!(
            "update lastgood.runs set result = $3
             where id = $1 and epoch = $2::bigint + 1 and attempt_id = $4 and state = 'cancelled'",
            attempt.run.0,
            attempt.epoch.0,
            report,
            attempt.id.0,
        )
        .execute(&self.pool);
        Ok(answered(recording).await?.rows_affected() == 1)
    }
}

/// Returns what the ledger is to record of an attempt's end.
fn proof_of(outcome: &Result<Outcome, Failure>) -> Option<&NewProof> {
    match outcome {
        Ok(outcome) => outcome.proof(),
        Err(failure) => failure.proof.as_deref(),
    }
}

/// Returns whether the server refused the statement itself, for want of a right or of what it names: SQLSTATE class 42.
fn is_wrong(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code.starts_with("42"))
}

/// Replaces NULs, which a tool's stderr can hold and PostgreSQL's text cannot.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

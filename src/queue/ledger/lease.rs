//! One attempt's claim on its run: renews it, proves it, and records the databases that the attempt closes.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use lastgood_jobs::{
    attempt::{Attempt, RunId},
    worker::{Lease, Progress},
};

use super::{ANSWER_WITHIN, Ledger, answered, bigint, interval};

/// One attempt's claim on its run.
#[derive(Clone)]
pub struct LeaseHandle {
    pub(in crate::queue) ledger: Ledger,
    pub(in crate::queue) attempt: Attempt,
    pub(in crate::queue) progress: Arc<Progress>,
}

impl LeaseHandle {
    /// Returns the name of the worker that executes the attempt.
    #[must_use]
    pub fn worker(&self) -> &str {
        self.ledger.worker()
    }
}

impl Lease for LeaseHandle {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        self.ledger
            .prove(self.attempt, self.progress.so_far())
            .boxed()
    }

    fn will_close<'a>(&'a self, database: &'a str) -> BoxFuture<'a, bool> {
        self.ledger.note_closing(self.attempt, database).boxed()
    }

    fn is_open(&self) -> BoxFuture<'_, ()> {
        self.ledger.note_open(self.attempt.run).boxed()
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(in crate::queue) enum Renewal {
    Extended,
    /// The row belongs to another attempt or to none: this attempt is over.
    Lost,
}

impl Ledger {
    pub(in crate::queue) async fn renew(
        &self,
        attempt: Attempt,
        (dump_bytes, stored_bytes): (u64, u64),
    ) -> sqlx::Result<Renewal> {
        let renewal = sqlx::query!(
            "update lastgood.runs set lease_until = now() + $3, dump_bytes = $4, stored_bytes = $5
             where id = $1 and epoch = $2 and attempt_id = $6 and state = 'running'",
            attempt.run.0,
            attempt.epoch.0,
            interval(self.lease),
            bigint(dump_bytes),
            bigint(stored_bytes),
            attempt.id.0,
        )
        .execute(&self.pool);
        Ok(match answered(renewal).await?.rows_affected() {
            0 => Renewal::Lost,
            _ => Renewal::Extended,
        })
    }

    /// Extends the lease, which proves it. If the catalog does not answer, tries again for the length of a lease (10 s at least): hours of
    /// work must not be lost to one broken connection.
    async fn prove(&self, attempt: Attempt, progress: (u64, u64)) -> bool {
        let deadline = tokio::time::Instant::now() + self.lease.max(ANSWER_WITHIN);
        let mut wait = Duration::from_millis(100);
        loop {
            match self.renew(attempt, progress).await {
                Ok(renewal) => return renewal == Renewal::Extended,
                Err(error) => {
                    tracing::warn!(run.id = %attempt.run, run.epoch = attempt.epoch.0, %error, "cannot prove the lease, trying again");
                }
            }
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(2));
        }
    }

    /// Records which database an attempt is about to close. Returns `false` if the attempt no longer has its run, or in doubt.
    async fn note_closing(&self, attempt: Attempt, database: &str) -> bool {
        let noting = sqlx::query!(
            "insert into lastgood.closed_databases (run_id, resource_id, database)
             select id, resource_id, $4 from lastgood.runs
             where id = $1 and epoch = $2 and attempt_id = $3 and state = 'running'
             on conflict (run_id) do update set database = excluded.database, closed_at = excluded.closed_at, tried_at = null, error = null",
            attempt.run.0,
            attempt.epoch.0,
            attempt.id.0,
            database
        )
        .execute(&self.pool);
        match answered(noting).await {
            Ok(noted) => noted.rows_affected() == 1,
            Err(error) => {
                tracing::warn!(run.id = %attempt.run, %error, "cannot record that a database is about to be closed: it is left as it is");
                false
            }
        }
    }

    /// Removes that record. If this fails, a consumer looks at the database later and finds it open.
    async fn note_open(&self, id: RunId) {
        let noting = sqlx::query!(
            "delete from lastgood.closed_databases where run_id = $1",
            id.0
        )
        .execute(&self.pool);
        if let Err(error) = answered(noting).await {
            tracing::warn!(run.id = %id, %error, "cannot record that a database is open again");
        }
    }
}

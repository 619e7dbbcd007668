//! Takes back or fails the runs that no worker will end: those whose lease ran out, and those of engines that nobody serves.

use futures::FutureExt as _;
use lastgood_jobs::{attempt::RunId, error::chain};

use super::{Ledger, answered, interval};
use crate::{
    catalog::{CatalogError, ended, leave_out},
    metrics,
    run::{RunKind, RunState},
};

/// A run that was taken back from a lost worker, or that no worker could ever claim.
#[derive(Debug)]
pub struct Reaped {
    /// Its id.
    pub id: RunId,
    /// Its queue.
    pub queue: String,
    /// What it does.
    pub kind: RunKind,
    /// `queued`, or `failed` if its attempts are spent or its engine is unknown.
    pub state: RunState,
}

impl Ledger {
    /// Takes back the runs whose lease ran out, unless the catalog itself started less than one lease ago.
    ///
    /// If the catalog refuses to take back some run, the others are taken back all the same.
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

    async fn reap_those(&self, runs: Option<Vec<RunId>>) -> Result<Vec<Reaped>, CatalogError> {
        let lease = interval(self.lease);
        let reaping = async {
            let mut transaction = self.pool.begin().await?;
            let reaped = sqlx::query_file_as!(
                Reaped,
                "src/queue/reap.sql",
                lease,
                runs.as_deref() as Option<&[RunId]>
            )
            .fetch_all(&mut *transaction)
            .await;
            ended(transaction, reaped).await
        };
        Ok(answered(reaping).await?)
    }

    /// Fails the queued runs of engines that are not in `known` and that no live consumer serves: they would wait for ever.
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
        runs: Option<Vec<RunId>>,
    ) -> Result<Vec<Reaped>, CatalogError> {
        let refusing = async {
            let mut transaction = self.pool.begin().await?;
            let refused = sqlx::query_file_as!(
                Reaped,
                "src/queue/refuse_unknown.sql",
                known,
                runs.as_deref() as Option<&[RunId]>
            )
            .fetch_all(&mut *transaction)
            .await;
            ended(transaction, refused).await
        };
        Ok(answered(refusing).await?)
    }
}

/// Logs the runs that the catalog refuses to change, and returns the others.
fn told(
    statement: &'static str,
    (done, left_out): (Vec<Vec<Reaped>>, Vec<(RunId, CatalogError)>),
) -> Vec<Reaped> {
    metrics::rows_left_out(statement, left_out.len() as u64);
    for (run, error) in left_out {
        tracing::error!(run.id = %run, error = chain(&error), "the catalog refuses to change this run: it stays as it is, see `lastgood run show`");
    }
    done.into_iter().flatten().collect()
}

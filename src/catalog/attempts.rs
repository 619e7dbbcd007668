//! Attempts: what each execution of a run did, and which runs are being executed now.

use lastgood_jobs::attempt::RunId;

use super::{Catalog, CatalogError};
use crate::nouns::{Attempt, RunningRun};

impl Catalog {
    /// Returns a run's ended attempts, oldest first.
    pub async fn attempts(&self, run: RunId) -> Result<Vec<Attempt>, CatalogError> {
        let rows = sqlx::query_as!(
            Attempt,
            "select epoch, attempt, worker as consumer, started_at, ended_at as finished_at, result, error_kind, error, tool_words,
                 dump_bytes, stored_bytes
             from lastgood.attempts where run_id = $1 order by epoch, started_at",
            run.0
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns the runs being executed now, longest-running first.
    pub async fn running(&self) -> Result<Vec<RunningRun>, CatalogError> {
        let rows = sqlx::query_as!(
            RunningRun,
            r#"select id, resource_id as resource, queue as engine, kind, lease_by as "consumer!", attempt, started_at as "started_at!",
                 floor(extract(epoch from clock_timestamp() - started_at))::bigint as "running_seconds!", dump_bytes, stored_bytes
               from lastgood.runs where state = 'running' order by started_at, id"#
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }
}

//! Attempts: what each execution of a run did, and which runs are being executed now.

use chrono::{DateTime, Utc};
use lastgood_jobs::attempt::{Epoch, RunId};

use super::{Catalog, CatalogError};
use crate::run::{AttemptResult, RunKind};

/// One execution of a run that has ended.
#[derive(Debug, Clone)]
pub struct AttemptRow {
    /// Its fencing token.
    pub epoch: Epoch,
    /// Which attempt it was. After an operator's retry, attempts count from 1 again.
    pub attempt: i32,
    /// Who executed it.
    pub worker: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// How it ended.
    pub result: AttemptResult,
    /// The kind of its error.
    pub error_kind: Option<String>,
    /// Its error.
    pub error: Option<String>,
    /// What the tool itself said, without secrets.
    pub tool_words: Option<String>,
    /// Bytes of the dump.
    pub dump_bytes: i64,
    /// Bytes of the archive.
    pub stored_bytes: i64,
}

/// A run that is being executed.
#[derive(Debug, Clone)]
pub struct RunningRow {
    /// Its id.
    pub id: RunId,
    /// Its resource.
    pub resource_id: String,
    /// Its engine.
    pub engine: String,
    /// What it does.
    pub kind: RunKind,
    /// Who executes it.
    pub worker: String,
    /// Which attempt this is.
    pub attempt: i32,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
    /// How long it has been running, in whole seconds, by the catalog's clock.
    pub seconds: i64,
    /// Bytes of the dump so far, as of the last renewal of the lease.
    pub dump_bytes: i64,
    /// Bytes of the archive so far.
    pub stored_bytes: i64,
}

impl Catalog {
    /// Returns a run's ended attempts, oldest first.
    pub async fn attempts(&self, run: RunId) -> Result<Vec<AttemptRow>, CatalogError> {
        let rows = sqlx::query_as!(
            AttemptRow,
            "select epoch, attempt, worker, started_at, ended_at, result, error_kind, error, tool_words, dump_bytes, stored_bytes
             from lastgood.attempts where run_id = $1 order by epoch, started_at",
            run.0
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns the runs being executed now, longest-running first.
    pub async fn running(&self) -> Result<Vec<RunningRow>, CatalogError> {
        let rows = sqlx::query_as!(
            RunningRow,
            r#"select id, resource_id, queue as engine, kind, lease_by as "worker!", attempt, started_at as "started_at!",
                 floor(extract(epoch from clock_timestamp() - started_at))::bigint as "seconds!", dump_bytes, stored_bytes
               from lastgood.runs where state = 'running' order by started_at, id"#
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }
}

//! How many runs are waiting, running and failed in each queue.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Catalog, CatalogError};

/// Figures of one queue.
#[derive(Debug, Clone, Serialize)]
pub struct QueueFigures {
    /// The engine it serves.
    pub engine: String,
    /// Queued runs whose time has come. A pause or a limit may still hold them back.
    pub runnable: i64,
    /// Queued runs whose time has not come: they wait for their next attempt.
    pub waiting: i64,
    /// Runs that are being executed.
    pub running: i64,
    /// Runs that failed for good in the last 24 hours.
    pub failed: i64,
    /// Since when the oldest runnable run has been waiting.
    pub oldest_runnable_at: Option<DateTime<Utc>>,
}

impl Catalog {
    /// Returns how many runs wait, run and failed in the last 24 hours, by queue.
    pub async fn queue_figures(&self) -> Result<Vec<QueueFigures>, CatalogError> {
        let queues = sqlx::query_file_as!(QueueFigures, "src/catalog/queue_stats.sql")
            .fetch_all(self.pool())
            .await?;
        Ok(queues)
    }
}

//! What waits, runs and failed, by queue.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Catalog, CatalogError, Pause};

/// The whole queue in figures.
#[derive(Debug, Clone, Serialize)]
pub struct QueueStats {
    /// As of when, by the catalog's clock.
    pub at: DateTime<Utc>,
    /// Each queue that has anything to tell.
    pub queues: Vec<QueueFigures>,
    /// The pauses in force.
    pub pauses: Vec<Pause>,
}

/// One queue in figures.
#[derive(Debug, Clone, Serialize)]
pub struct QueueFigures {
    /// Its engine.
    pub engine: String,
    /// Runs that may be claimed now, as far as their time goes: a pause or a limit may hold them back.
    pub runnable: i64,
    /// Runs whose time has not come: they wait for their next attempt.
    pub waiting: i64,
    /// Runs that are being executed.
    pub running: i64,
    /// Runs that failed for good in the last 24 hours.
    pub failed: i64,
    /// Since when the oldest runnable one waits.
    pub oldest_runnable_at: Option<DateTime<Utc>>,
}

impl Catalog {
    /// Returns what waits, runs and failed lately, by queue, and the pauses.
    pub async fn queue_stats(&self) -> Result<QueueStats, CatalogError> {
        let queues = sqlx::query_file_as!(QueueFigures, "src/catalog/queue_stats.sql")
            .fetch_all(self.pool())
            .await?;
        Ok(QueueStats {
            at: self.now().await?,
            queues,
            pauses: self.pauses().await?,
        })
    }
}

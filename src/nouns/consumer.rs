//! A consumer: a process that claims runs and executes them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::catalog::{ConsumerRow, ConsumerState};

/// A process that claims runs and executes them.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Consumer {
    /// Its id: machine, process and a random word.
    pub id: String,
    /// The version of lastgood that it runs.
    pub version: String,
    /// The engines that it serves.
    pub engines: Vec<String>,
    /// How many runs of each engine it executes at once.
    pub slots: i32,
    /// What it is doing. One that was asked to drain counts as draining from then on.
    pub state: ConsumerState,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When it was last seen.
    pub seen_at: DateTime<Utc>,
    /// When an operator asked it to drain and end.
    pub drain_requested_at: Option<DateTime<Utc>>,
}

impl From<ConsumerRow> for Consumer {
    fn from(row: ConsumerRow) -> Self {
        Self {
            // The consumer itself reports it with its next heartbeat only.
            state: match (row.state, row.drain_requested_at) {
                (ConsumerState::Running, Some(_)) => ConsumerState::Draining,
                (state, _) => state,
            },
            id: row.id,
            version: row.version,
            engines: row.queues,
            slots: row.slots,
            started_at: row.started_at,
            seen_at: row.seen_at,
            drain_requested_at: row.drain_requested_at,
        }
    }
}

//! A consumer: a process that claims runs and executes them.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::closed_set::closed_set;

closed_set!(
    /// What a consumer is doing.
    ConsumerState, "state of a consumer" {
        /// It claims runs.
        Running,
        /// It claims no more runs, and ends when its last one has ended.
        Draining,
        /// It has ended.
        Stopped,
    }
);

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

impl Consumer {
    /// Returns whether it takes new runs. A draining consumer is alive but takes none.
    #[must_use]
    pub fn takes_new(&self) -> bool {
        self.state == ConsumerState::Running
    }
}

//! A pause: runs that no consumer claims for now.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::RunningRun;

/// A pause in force. It has no id: what it covers says which one it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pause {
    /// The engine it covers; null: all.
    pub engine: Option<String>,
    /// The tier it covers; null: all.
    pub tier: Option<String>,
    /// The team it covers; null: all.
    pub team: Option<String>,
    /// The reason that was given for it.
    pub reason: String,
    /// Who ordered it.
    pub by: String,
    /// When it began.
    pub created_at: DateTime<Utc>,
}

/// A pause, and what it costs in exposure.
#[derive(Debug, Clone, Serialize)]
pub struct PauseCost {
    /// The pause.
    #[serde(flatten)]
    pub pause: Pause,
    /// How many protected resources it covers.
    pub resources: i64,
    /// Of these, those whose promise has broken since the pause began.
    pub broken: i64,
    /// Of these, those whose promise breaks within the next hour.
    pub breaking: i64,
    /// When the next promise breaks.
    pub next_break_at: Option<DateTime<Utc>>,
}

/// What a drain has reached.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Drained {
    /// Whether everything is paused and nothing is running any more.
    pub is_drained: bool,
    /// Whether everything is paused. Somebody may have resumed it in the meantime.
    pub is_paused: bool,
    /// The runs that are still running.
    pub running: Vec<RunningRun>,
}

//! What the API answers, as far as this client reads it. Fields that it does not know are left alone.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use uuid::Uuid;

/// One job in the queue.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Run {
    /// Its id.
    pub id: Uuid,
    /// Its resource.
    pub resource: String,
    /// What it does: `backup`, `restore`.
    pub kind: String,
    /// How far it is.
    pub state: RunState,
    /// Attempts begun.
    pub attempt: i32,
    /// Attempts allowed.
    pub max_attempts: i32,
    /// The last error; kept while a later attempt is under way.
    pub error: Option<String>,
    /// Bytes of the dump so far.
    pub dump_bytes: i64,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It waits for a consumer, or for its next attempt.
    Queued,
    /// It is being executed.
    Running,
    /// Its effects are there.
    Succeeded,
    /// It has failed for good.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
}

impl RunState {
    /// Returns whether it will change no more.
    #[must_use]
    pub fn has_ended(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// A restore that is queued.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Restoring {
    /// The run that does it.
    pub run: Run,
    /// The restore point it is made from.
    pub point: Uuid,
    /// The instant it brings back; `None`: the restore point has been removed since an earlier request.
    pub consistent_at: Option<DateTime<Utc>>,
}

/// An archive that a restore is made from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct RestorePoint {
    /// Its id.
    pub id: Uuid,
    /// The instant that a restore brings back.
    pub consistent_at: DateTime<Utc>,
    /// Whether a restore may be made from it without further words.
    pub usable: bool,
    /// When all of it was last read back and found whole.
    pub verified_at: Option<DateTime<Utc>>,
}

/// What may be promised now.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// As of when.
    pub at: DateTime<Utc>,
    /// Each tier.
    pub tiers: Vec<TierCapabilities>,
}

/// What one tier is promised, and what of it is available now.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct TierCapabilities {
    /// The tier.
    pub tier: String,
    /// The most data that may be lost, in minutes; 0 promises nothing.
    pub rpo_minutes: i32,
    /// How many days restore points are kept.
    pub retention_days: i32,
    /// Each engine.
    pub engines: Vec<EngineCapabilities>,
}

/// What is available for one engine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct EngineCapabilities {
    /// The engine.
    pub engine: String,
    /// Backups as often as the cadence says.
    pub backup: Availability,
    /// Restores.
    pub restore: Availability,
    /// Reading restore points back.
    pub verification: Availability,
}

/// Whether something is available now.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Availability {
    /// Whether it is.
    pub available: bool,
    /// Why not.
    pub reason: Option<String>,
}

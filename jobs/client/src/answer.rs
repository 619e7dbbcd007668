//! The API's answers, as far as this client reads them. It ignores fields that it does not know.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use uuid::Uuid;

/// One job in the queue.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Run {
    /// The run's id.
    pub id: Uuid,
    /// The resource that it belongs to.
    pub resource: String,
    /// What it does: `backup` or `restore`, for example.
    pub kind: String,
    /// Its state.
    pub state: RunState,
    /// How many attempts have begun.
    pub attempt: i32,
    /// How many attempts are allowed.
    pub max_attempts: i32,
    /// The last attempt's error. It stays while a later attempt is running.
    pub error: Option<String>,
    /// The size of the dump so far.
    pub dump_bytes: i64,
    /// When the run ended; `None` while it has not.
    pub finished_at: Option<DateTime<Utc>>,
}

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// It waits for a consumer, or for its next attempt.
    Queued,
    /// A consumer is executing it.
    Running,
    /// It succeeded, and its effects are in place.
    Succeeded,
    /// It failed permanently.
    Failed,
    /// It was cancelled.
    Cancelled,
}

impl RunState {
    /// Returns whether the run has ended: succeeded, failed or cancelled.
    #[must_use]
    pub fn has_ended(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// A queued restore.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Restoring {
    /// The run that executes it.
    #[serde(flatten)]
    pub run: Run,
    /// The restore point that it restores.
    pub point: Uuid,
    /// The instant that the restore brings the data back to. `None` if the restore point has been removed since an
    /// earlier request.
    pub consistent_at: Option<DateTime<Utc>>,
}

/// What a drill, a verification or a restore has shown about a restore point.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Proof {
    /// Its place in the ledger, from 1.
    pub number: i64,
    /// Its id.
    pub id: Uuid,
    /// When it was recorded.
    pub recorded_at: DateTime<Utc>,
    /// What made it: `drill`, `verification` or `restore`.
    pub kind: String,
    /// What it says.
    pub outcome: ProofOutcome,
    /// Why the point was not proven.
    pub because: Option<String>,
    /// The same in a stable word.
    pub because_kind: Option<String>,
    /// The resource.
    pub resource: String,
    /// The restore point.
    pub point: Uuid,
    /// The instant that a restore of the point brings back.
    pub consistent_at: Option<DateTime<Utc>>,
}

/// What a proof says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProofOutcome {
    /// The restore point did what it is for.
    Proven,
    /// It was restored, and something came back otherwise than it was dumped.
    Differs,
    /// It could not be restored, or read.
    Failed,
    /// Nobody could try: it is neither proven nor failed.
    NotPossible,
}

/// A restore point: an archive with its manifest.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct RestorePoint {
    /// The restore point's id.
    pub id: Uuid,
    /// The instant that a restore brings the data back to.
    pub consistent_at: DateTime<Utc>,
    /// Whether a restore may use it unasked: it is not suspect, quarantined or expired.
    pub is_trusted: bool,
    /// When the whole archive was last read back and found intact.
    pub verified_at: Option<DateTime<Utc>>,
}

/// What may be promised now, tier by tier.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// The time of this answer.
    pub at: DateTime<Utc>,
    /// One entry per tier.
    pub tiers: Vec<TierCapabilities>,
}

/// What one tier is promised, and how much of it is available now.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct TierCapabilities {
    /// The tier's name.
    pub id: String,
    /// The most data that may be lost (RPO), in minutes; 0 means that nothing is promised.
    pub rpo_minutes: i32,
    /// How many days restore points are kept.
    pub retention_days: i32,
    /// One entry per engine.
    pub engines: Vec<EngineCapabilities>,
}

/// What is available for one engine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct EngineCapabilities {
    /// The engine's name.
    pub engine: String,
    /// Backups, at the tier's cadence.
    pub backup: Availability,
    /// Restores.
    pub restore: Availability,
    /// Verification: reading restore points back.
    pub verification: Availability,
    /// Proof by drills.
    pub proof: Availability,
}

/// Whether something is available now.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Availability {
    /// Whether it is available.
    pub is_available: bool,
    /// Why it is not available.
    pub because: Option<String>,
}

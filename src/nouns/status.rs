//! What needs attention, as `status` shows it.

use chrono::{DateTime, Utc};
use lastgood_jobs::attempt::RunId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::run::{RunKind, RunState};

/// A tier that resources have but the plans do not define.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct UnknownTier {
    /// Its name.
    pub id: String,
    /// How many active resources have it. They are not backed up.
    pub resources: i64,
}

/// Resources that are not backed up although their tier is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Suspended {
    /// How many are paused.
    pub paused: i64,
    /// How many are active, but have a retention of their own of 0 or less.
    pub vetoed: i64,
}

/// How many runs of one queue are in one state.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct QueueDepth {
    /// The queue, which is the engine.
    pub engine: String,
    /// `queued` or `running`.
    pub state: RunState,
    /// How many runs.
    pub runs: i64,
    /// For how many seconds the oldest run could have been claimed. Upkeep, which waits by design, and paused runs do not count. 0 if
    /// there is none, and for running runs.
    pub oldest_seconds: f64,
}

/// A run that is stuck: it should have been claimed, or taken back, by now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StuckRun {
    /// Its id.
    pub id: Uuid,
    /// Its resource.
    pub resource: String,
    /// Its engine.
    pub engine: String,
    /// What it does.
    pub kind: RunKind,
    /// `queued`: it could be claimed, but no consumer claims it. `running`: its lease has expired, but no producer has taken it back.
    pub state: RunState,
    /// Since when.
    pub stuck_at: DateTime<Utc>,
}

/// A database that takes no connections because of a restore.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ClosedDatabase {
    /// The resource whose database it is.
    pub resource: String,
    /// Its name.
    pub database: String,
    /// The restore that closed it.
    #[schema(value_type = Uuid)]
    pub run: RunId,
    /// When it was closed.
    pub closed_at: DateTime<Utc>,
    /// Why it could not be reopened; null if no consumer has tried yet.
    pub error: Option<String>,
}

/// A promise that is held strictly, and that no cadence keeps.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct InfeasiblePromise {
    /// The resource.
    pub resource: String,
    /// Its owner.
    pub team: String,
    /// Its tier.
    pub tier: String,
    /// Its engine.
    pub engine: String,
    /// The RPO that it is promised, in minutes.
    pub rpo_minutes: i32,
    /// What one of its backups takes, with its wait and a tick of the producer.
    pub takes_seconds: i32,
    /// The shortest RPO that could be kept as things are, in minutes; null if none can.
    pub feasible_rpo_minutes: Option<i64>,
    /// The longest that a backup may take for the RPO to hold; null if the RPO is too short for any.
    pub feasible_takes_seconds: Option<i64>,
    /// Both in words.
    pub infeasible_because: String,
    /// How many backups this was decided from.
    pub backups: i32,
    /// When it was decided.
    pub decided_at: DateTime<Utc>,
}

/// A suspect restore point.
#[derive(Debug, Clone, Serialize)]
pub struct SuspectPoint {
    /// Its id.
    pub id: Uuid,
    /// Its resource.
    pub resource: String,
    /// The instant that it would bring back.
    pub consistent_at: DateTime<Utc>,
    /// The reasons, in the manifest's words.
    pub suspected_of: Vec<String>,
    /// What was observed, for an operator to read.
    pub suspected_because: String,
    /// Whether its resource has no newer point to count on.
    pub is_newest: bool,
}

/// A quarantined restore point.
#[derive(Debug, Clone, Serialize)]
pub struct QuarantinedPoint {
    /// Its id.
    pub id: Uuid,
    /// Its resource.
    pub resource: String,
    /// The instant that it would bring back.
    pub consistent_at: DateTime<Utc>,
    /// When it was quarantined.
    pub quarantined_at: DateTime<Utc>,
    /// Why it is quarantined.
    pub quarantined_because: String,
}

/// A fault that live consumers see in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreFault {
    /// The store's name.
    pub store: String,
    /// The fault, in the words of one of these consumers.
    pub failed_because: String,
    /// How many consumers see it.
    pub consumers: i64,
    /// Since when the first of them has seen it.
    pub failed_at: DateTime<Utc>,
}

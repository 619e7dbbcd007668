//! A run: one job in the queue, and its history.

use chrono::{DateTime, Utc};
use lastgood_jobs::attempt::{Epoch, RunId};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::run::{AttemptResult, RunKind, RunState, Trigger};

/// One job in the queue, and its history.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Run {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: RunId,
    /// Its resource.
    pub resource: String,
    /// Its engine, which is its queue.
    pub engine: String,
    /// What it does.
    pub kind: RunKind,
    /// What triggered it.
    pub trigger: Trigger,
    /// Its state.
    pub state: RunState,
    /// Attempts begun.
    pub attempt: i32,
    /// Attempts allowed.
    pub max_attempts: i32,
    /// The slot that a scheduled backup covers, named by the time at which it begins.
    pub slot_at: Option<DateTime<Utc>>,
    /// From when on it may be claimed.
    pub runnable_at: DateTime<Utc>,
    /// The consumer that executes it.
    pub consumer: Option<String>,
    /// Until when the consumer holds it, unless it renews its lease.
    pub lease_expires_at: Option<DateTime<Utc>>,
    /// The kind of the last error.
    pub error_kind: Option<String>,
    /// The last error. It is kept while a later attempt is under way.
    pub error: Option<String>,
    /// What it did, if it makes no restore point.
    pub report: Option<serde_json::Value>,
    /// Bytes of the dump so far.
    pub dump_bytes: i64,
    /// Bytes of the archive so far.
    pub stored_bytes: i64,
    /// When it was queued.
    pub created_at: DateTime<Utc>,
    /// When its last attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

/// One execution of a run that has ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Attempt {
    /// The number of the claim: it orders attempts.
    #[schema(value_type = i64)]
    pub epoch: Epoch,
    /// Which attempt it was. After an operator's retry, attempts count from 1 again.
    pub attempt: i32,
    /// The consumer that executed it.
    pub consumer: String,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
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

/// A run with every attempt that has ended.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RunAndAttempts {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// Its attempts that have ended, in order.
    pub attempts: Vec<Attempt>,
}

/// The run of a restore, and what it restores.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Restoring {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// The restore point that it restores.
    pub point: Uuid,
    /// The instant that it brings back; null if the restore point was removed after an earlier request with the same key.
    pub consistent_at: Option<DateTime<Utc>>,
}

/// A run, and what an order about it did.
#[derive(Debug, Clone, Serialize)]
pub struct OrderedRun {
    /// The run as it is now; in a rehearsal, with the state that it would have.
    #[serde(flatten)]
    pub run: Run,
    /// Its state before the order.
    pub was: RunState,
    /// Why nothing was changed; null: the order was carried out.
    pub refused_because: Option<String>,
}

/// A run that is being executed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RunningRun {
    /// Its id.
    #[schema(value_type = Uuid)]
    pub id: RunId,
    /// Its resource.
    pub resource: String,
    /// Its engine.
    pub engine: String,
    /// What it does.
    pub kind: RunKind,
    /// The consumer that executes it.
    pub consumer: String,
    /// Which attempt this is.
    pub attempt: i32,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
    /// How long it has been running, in whole seconds, by the catalog's clock.
    pub running_seconds: i64,
    /// Bytes of the dump so far, as of the last renewal of the lease.
    pub dump_bytes: i64,
    /// Bytes of the archive so far.
    pub stored_bytes: i64,
}

//! The queue's protocol: how a run is claimed, kept, finished and taken back, so that its effects happen once.
//!
//! `runs` is both the queue and the history. A *claim* takes runnable rows, raises their `attempt` and `epoch` and sets a
//! lease. A heartbeat *renews* the lease while the handler works. A *finish* writes the outcome only where the attempt id that the
//! claim drew still matches, so that a stale worker can neither publish a restore point nor overwrite a result. The *reaper* takes back what
//! nobody renews. Delivery is at least once; effects are exactly once, because publishing is fenced.
//!
//! apalis is the worker runtime; [`Runs`] is its backend over our table, [`Supervise`] the backend's own layer.

mod backend;
mod claim_loop;
mod claims;
mod ends;
mod listen;
mod orders;
mod proof;
mod store;
mod supervise;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use lastgood_jobs::{
    backup::RestorePoint,
    error::{ErrorKind, JobError, told},
    job::Attempt,
    worker::Progress,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use backend::Runs;
pub use claims::Claims;
pub use listen::{Wakers, listen};
pub use orders::{InFlight, watch};
pub use store::{LeaseHandle, Limits, Reaped, Store};
pub use supervise::Supervise;

/// One queue as one consumer process works on it.
#[derive(Clone)]
pub struct Queue {
    /// The statements, and who this worker is.
    pub store: Store,
    /// The queue's stored name.
    pub name: Arc<str>,
    /// Which of its runs are claimed.
    pub lane: Lane,
    /// Free slots: a permit is taken before the claim and held to the fenced finish.
    pub slots: Arc<Semaphore>,
    /// Who claims, for this queue and the others of the process.
    pub claims: Claims,
    /// How often to look when nothing wakes us: the guarantee behind the hint.
    pub poll: Duration,
    /// The longest an attempt may take.
    pub timeout: Duration,
    /// Cancelled when a drain has run out of time: handlers are stopped and their leases given back.
    pub give_back: CancellationToken,
    /// What this process executes now, so that it can be ended by an order.
    pub in_flight: InFlight,
}

/// Which runs of a queue are claimed. They are told apart by their priority, as the index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// All of them.
    Whole,
    /// Backups, and what somebody waits for: everything from priority 0.
    Promised,
    /// Upkeep: copies, verifications and removals, below priority 0. It has slots of its own, so that however many there are, and
    /// however long they take, no backup waits for one.
    Upkeep,
}

impl Lane {
    /// Returns the lowest and the highest priority.
    fn priorities(self) -> (i16, i16) {
        match self {
            Self::Whole => (i16::MIN, i16::MAX),
            Self::Promised => (0, i16::MAX),
            Self::Upkeep => (i16::MIN, -1),
        }
    }

    fn has(self, priority: i16) -> bool {
        let (lowest, highest) = self.priorities();
        (lowest..=highest).contains(&priority)
    }
}

/// A claimed run: what a handler receives.
pub struct Run<A> {
    /// Its id.
    pub id: Uuid,
    /// The resource it is about.
    pub resource_id: String,
    /// Its stored kind, a metric label.
    pub kind: String,
    /// The cadence window it covers, if it was scheduled.
    pub slot: Option<DateTime<Utc>>,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// Rises with every claim of the run.
    pub epoch: i64,
    /// The fencing token of this attempt: random, drawn by its claim.
    pub attempt_id: Uuid,
    /// When it was enqueued.
    pub created_at: DateTime<Utc>,
    /// The decoded payload.
    pub args: A,
    /// Counted by the handler, stored with each renewal.
    pub progress: Arc<Progress>,
    /// Proof of ownership.
    pub lease: LeaseHandle,
    permit: Option<OwnedSemaphorePermit>,
}

impl<A> Run<A> {
    /// Returns the identity that every artefact of this attempt carries.
    pub fn as_attempt(&self) -> Attempt {
        Attempt {
            run_id: self.id,
            epoch: self.epoch,
            attempt_id: self.attempt_id,
            created_at: self.created_at,
        }
    }
}

/// What a run that succeeded leaves behind.
#[derive(Debug)]
pub enum Outcome {
    /// A restore point, recorded in the fenced finish.
    RestorePoint(Box<RestorePoint>),
    /// A report for the run's history.
    Report(serde_json::Value),
    /// A report, and the restore point that was read to its last byte for it and found whole.
    Proof {
        /// The restore point.
        point: Uuid,
        /// The stores that it was read from, by name.
        stores: Vec<String>,
        /// What was done.
        report: serde_json::Value,
    },
    /// A report of what was done from one store, after others could not give the restore point.
    Salvaged {
        /// Those others.
        lacking: Lacking,
        /// What was done.
        report: serde_json::Value,
    },
}

/// Why an attempt failed, as it is stored.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The family: a metric label.
    pub kind: &'static str,
    /// The whole story on one line, without secrets.
    pub message: String,
    /// Whether another attempt is pointless.
    pub permanent: bool,
    /// The restore point that can never be read again: quarantined in the fenced finish.
    pub condemned: Option<Condemned>,
    /// The stores that turned out to lack a restore point that another one holds.
    pub lacking: Option<Lacking>,
    /// What the tool itself said, without secrets, where one ran.
    pub tool_words: Option<Box<str>>,
    /// Whether it was the catalog that was away: then the run goes back to the queue, and no attempt is spent.
    pub is_outage: bool,
}

/// Stores that lack a restore point, or hold it damaged, while another one holds it whole: they get it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// The restore point.
    pub point: Uuid,
    /// The stores, by name; may be none.
    pub stores: Vec<String>,
}

/// A restore point that is to be quarantined, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condemned {
    /// No store has its bytes: a backup may have to take its place.
    Damaged(Uuid),
    /// Its key was shredded: somebody wanted that.
    Shredded(Uuid),
}

impl Condemned {
    /// Returns the restore point.
    #[must_use]
    pub fn point(self) -> Uuid {
        match self {
            Self::Damaged(point) | Self::Shredded(point) => point,
        }
    }
}

impl Failure {
    /// Returns a failure that another attempt cannot mend.
    pub fn permanent(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind: kind.as_str(),
            message: told(message.into()),
            permanent: true,
            condemned: None,
            lacking: None,
            tool_words: None,
            is_outage: false,
        }
    }

    /// Returns a failure to reach the catalog: no attempt is spent.
    pub fn outage(message: impl Into<String>) -> Self {
        Self {
            is_outage: true,
            ..Self::retryable(ErrorKind::Internal, message)
        }
    }

    /// Returns a failure that may pass.
    pub fn retryable(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind: kind.as_str(),
            message: told(message.into()),
            permanent: false,
            condemned: None,
            lacking: None,
            tool_words: None,
            is_outage: false,
        }
    }
}

/// Returns what went wrong, and the command that helps: there is a catalog for it to ask.
fn advised(error: &JobError) -> String {
    let report = error.report();
    if let JobError::Damaged { .. } = error {
        return format!("{report}; `lastgood backup list` shows the others");
    }
    if let JobError::StoreChanged { .. } = error {
        return format!("{report}; `lastgood store list` shows which store is meant");
    }
    report
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        Self {
            kind: error.kind().as_str(),
            message: advised(&error),
            permanent: error.is_permanent(),
            condemned: None,
            lacking: None,
            tool_words: error.tool_words().map(Into::into),
            // Where the run is still the attempt's when it is recorded, the catalog could not say so when it was asked.
            is_outage: error.kind() == ErrorKind::LeaseLost,
        }
    }
}

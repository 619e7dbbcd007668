//! The queue's protocol: how a run is claimed, kept, finished and taken back, so that its effects happen once.
//!
//! `runs` is both the queue and the history. A *claim* takes runnable rows, raises their `attempt` and `epoch`, draws a random attempt id
//! and sets a lease. A heartbeat *renews* the lease while the handler works. A *finish* writes the outcome only where the attempt id still
//! matches, so that a stale worker can neither publish a restore point nor overwrite a result. The *reaper* takes back runs whose lease
//! nobody renews. Delivery is at least once; effects are exactly once, because publishing is fenced.
//!
//! apalis is the worker runtime. [`Runs`] is its backend over the `runs` table, [`Supervise`] the backend's own layer.

mod backend;
mod claim_loop;
mod claims;
mod drilled;
mod ends;
mod gathering;
mod ledger;
mod listen;
mod orders;
mod proof;
mod supervise;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use lastgood_jobs::{
    attempt::{Attempt, AttemptId, Epoch, RunId},
    backup::RestorePoint,
    error::{ErrorKind, JobError, told},
    worker::Progress,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use backend::Runs;
pub use claims::Claims;
pub use ledger::{Claimed, LeaseHandle, Ledger, Limits, Reaped};
pub use listen::{Wakers, listen};
pub use orders::{InFlight, watch};
pub use supervise::Supervise;

use crate::{
    proof::NewProof,
    run::{Priority, RunKind},
};

/// One queue, as one consumer process works on it.
#[derive(Clone)]
pub struct Queue {
    /// Runs the queue's statements, in this worker's name.
    pub ledger: Ledger,
    /// The queue's stored name.
    pub name: Arc<str>,
    /// Which of the queue's runs are claimed.
    pub lane: Lane,
    /// The slots. A permit is taken before the claim and held until the fenced finish.
    pub slots: Arc<Semaphore>,
    /// The task that claims for this queue and the process's other queues.
    pub claims: Claims,
    /// How often to look when no notification arrives. Notifications are a hint; this poll is the guarantee.
    pub poll: Duration,
    /// The longest that an attempt may take.
    pub timeout: Duration,
    /// Cancelled when a drain has run out of time: handlers are stopped and their leases given back.
    pub give_back: CancellationToken,
    /// The runs that this process executes now, so that an order can stop them.
    pub in_flight: InFlight,
}

/// Which runs of a queue are claimed. Lanes differ by priority, as the index does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// All runs.
    Whole,
    /// Backups, and runs that somebody waits for: priority 0 and above.
    Promised,
    /// Upkeep: copies, verifications and removals, below priority 0. It has its own slots, so that no backup waits for upkeep, however many
    /// runs there are and however long they take.
    Upkeep,
    /// Drills: below all upkeep. They have their own slots, because each starts a server and may take as long as a restore.
    Drills,
}

impl Lane {
    /// Returns the lowest and the highest priority of the lane.
    fn priorities(self) -> (Priority, Priority) {
        match self {
            Self::Whole => (Priority::LOWEST, Priority::HIGHEST),
            Self::Promised => (Priority::PROMISED, Priority::HIGHEST),
            Self::Upkeep => (Priority::UPKEEP_LOWEST, Priority::UPKEEP),
            Self::Drills => (Priority::LOWEST, Priority::DRILL),
        }
    }

    fn has(self, priority: Priority) -> bool {
        let (lowest, highest) = self.priorities();
        (lowest..=highest).contains(&priority)
    }
}

/// A claimed run, as a handler receives it.
pub struct Run<A> {
    /// Its id.
    pub id: RunId,
    /// The resource it is about.
    pub resource_id: String,
    /// What it does.
    pub kind: RunKind,
    /// The cadence window it covers, if it was scheduled.
    pub slot: Option<DateTime<Utc>>,
    /// The number of this attempt, from 1.
    pub attempt: i32,
    /// Rises with every claim of the run.
    pub epoch: Epoch,
    /// The fencing token of this attempt: a random id that its claim drew.
    pub attempt_id: AttemptId,
    /// When it was enqueued.
    pub created_at: DateTime<Utc>,
    /// The decoded payload.
    pub args: A,
    /// Bytes moved so far. The handler counts them; each renewal stores them.
    pub progress: Arc<Progress>,
    /// Proves and checks that this attempt still owns the run.
    pub lease: LeaseHandle,
    permit: Option<OwnedSemaphorePermit>,
}

impl<A> Run<A> {
    /// Returns the attempt's identity, which all its artefacts carry.
    pub fn as_attempt(&self) -> Attempt {
        Attempt {
            run: self.id,
            epoch: self.epoch,
            id: self.attempt_id,
            created_at: self.created_at,
        }
    }
}

/// The result of a run that succeeded.
#[derive(Debug)]
pub enum Outcome {
    /// A restore point, recorded in the fenced finish.
    RestorePoint(Box<RestorePoint>),
    /// A report for the run's history.
    Report(serde_json::Value),
    /// A report on a restore point that was read to its last byte and found intact.
    Proof {
        /// The restore point.
        point: Uuid,
        /// The stores that it was read from, by name.
        stores: Vec<String>,
        /// The report.
        report: serde_json::Value,
        /// What the ledger records.
        proof: Box<NewProof>,
    },
    /// A report of a drill that did not prove a restore point. The run did what it was for.
    Unproven {
        /// The report.
        report: serde_json::Value,
        /// What the ledger records.
        proof: Box<NewProof>,
    },
    /// A report of work done from one store after other stores could not provide the restore point.
    Salvaged {
        /// The stores that could not.
        lacking: Lacking,
        /// The report.
        report: serde_json::Value,
        /// What the ledger records, if the work proved something.
        proof: Option<Box<NewProof>>,
    },
}

impl Outcome {
    /// Returns the proof that the fenced finish appends to the ledger.
    #[must_use]
    pub fn proof(&self) -> Option<&NewProof> {
        match self {
            Self::RestorePoint(_) | Self::Report(_) => None,
            Self::Proof { proof, .. } | Self::Unproven { proof, .. } => Some(proof),
            Self::Salvaged { proof, .. } => proof.as_deref(),
        }
    }
}

/// Why an attempt failed, as it is stored.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The error's family, a metric label.
    pub kind: &'static str,
    /// The whole error on one line, without secrets.
    pub message: String,
    /// Whether another attempt is pointless.
    pub permanent: bool,
    /// A restore point that can never be read again; the fenced finish quarantines it.
    pub condemned: Option<Condemned>,
    /// The stores found to lack a restore point that another store holds.
    pub lacking: Option<Box<Lacking>>,
    /// What it showed about a restore point; the fenced finish appends it to the ledger.
    pub proof: Option<Box<NewProof>>,
    /// What the tool itself printed, without secrets; `None` if no tool ran.
    pub tool_words: Option<Box<str>>,
    /// Whether the run goes back to the queue and no attempt is spent: the catalog was unreachable, or another consumer has to execute it.
    pub is_outage: bool,
}

/// Stores that lack a restore point or hold it damaged, while another store holds it intact. It is copied to them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacking {
    /// The restore point.
    pub point: Uuid,
    /// The names of the stores; may be empty.
    pub stores: Vec<String>,
}

/// A restore point to be quarantined, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condemned {
    /// No store holds it intact, so a new backup may have to replace it.
    Damaged(Uuid),
    /// Its key was shredded on purpose.
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
    /// Returns a failure that another attempt cannot fix.
    pub fn permanent(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind: kind.as_str(),
            message: told(message.into()),
            permanent: true,
            condemned: None,
            lacking: None,
            proof: None,
            tool_words: None,
            is_outage: false,
        }
    }

    /// Returns a failure to reach the catalog, which spends no attempt.
    pub fn outage(message: impl Into<String>) -> Self {
        Self {
            is_outage: true,
            ..Self::retryable(ErrorKind::Internal, message)
        }
    }

    /// Returns a refusal to execute a run that another consumer has to execute. No attempt is spent.
    pub fn handed_on(message: impl Into<String>) -> Self {
        Self::outage(message)
    }

    /// Returns a failure after which another attempt may succeed.
    pub fn retryable(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind: kind.as_str(),
            message: told(message.into()),
            permanent: false,
            condemned: None,
            lacking: None,
            proof: None,
            tool_words: None,
            is_outage: false,
        }
    }
}

/// Returns the error's report and the command that helps, which needs the catalog.
fn advised(error: &JobError) -> String {
    let report = error.report();
    if let JobError::Damaged { .. } = error {
        return format!("{report}; `lastgood point list` shows the others");
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
            proof: None,
            tool_words: error.tool_words().map(Into::into),
            // The attempt could not ask the catalog about its lease. If the run is still this attempt's when the failure is recorded, the
            // catalog was merely unreachable.
            is_outage: error.kind() == ErrorKind::LeaseLost,
        }
    }
}

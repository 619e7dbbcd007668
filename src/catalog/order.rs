//! An operator's order: who gave it and why, whether it is a rehearsal, and what it did.

use std::fmt;

use chrono::{DateTime, Utc};
use lastgood_jobs::{attempt::RunId, printable::steers};
use serde_json::json;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::{self, Audit};
use crate::run::{RunKind, RunState};

/// How many characters of a name or reason are kept.
const CHARS_KEPT: usize = 1000;

/// Who gives an order, and why. It is recorded in the same transaction as its effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    by: String,
    reason: Option<String>,
}

impl Order {
    /// Returns an order given by `by`: a user, or a token's name. Neither text may hold a secret.
    #[must_use]
    pub fn new(by: &str, reason: Option<&str>) -> Self {
        Self {
            by: kept(by),
            reason: reason.map(kept).filter(|reason| !reason.is_empty()),
        }
    }

    /// Returns an order given by the user who runs this process.
    #[must_use]
    pub fn of_this_user(reason: Option<&str>) -> Self {
        Self::new(&audit::actor(), reason)
    }

    /// Returns who gives the order.
    #[must_use]
    pub fn by(&self) -> &str {
        &self.by
    }

    /// Returns the reason, if one was given.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "by {}: {reason}", self.by),
            None => write!(f, "by {}", self.by),
        }
    }
}

/// Returns text fit for a log and a table: one line of bounded length, without the NUL that PostgreSQL's text cannot hold.
fn kept(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| if steers(c) { ' ' } else { c })
        .take(CHARS_KEPT)
        .collect()
}

/// Whether to carry an order out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Carry it out.
    Real,
    /// Try everything and roll it back, to learn what it would do.
    Rehearsal,
}

/// The outcome of an order about one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// The run.
    pub id: RunId,
    /// Its resource.
    pub resource_id: String,
    /// What it does.
    pub kind: RunKind,
    /// Its state before the order.
    pub was: RunState,
    /// Its state after the order; in a rehearsal, the state that it would have.
    pub state: RunState,
    /// Why nothing was changed; `None`: the order was carried out.
    pub refused: Option<Refusal>,
}

impl Ordered {
    /// Commits what the order did together with its audit record. Rolls back a rehearsal or a refused order instead.
    pub(super) async fn conclude(
        self,
        mut transaction: Transaction<'_, Postgres>,
        action: &str,
        order: &Order,
        mode: Mode,
    ) -> sqlx::Result<Self> {
        // A refusal by the schema has already aborted the transaction.
        if mode == Mode::Rehearsal || self.refused.is_some() {
            transaction.rollback().await?;
            return Ok(self);
        }
        let entry = Audit {
            action,
            resource_id: Some(&self.resource_id),
            point_id: None,
            detail: json!({ "run": self.id, "was": self.was, "reason": order.reason() }),
        };
        audit::record_by(&mut transaction, order.by(), &entry).await?;
        transaction.commit().await?;
        Ok(self)
    }
}

/// Why an order about a run is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Only failed and cancelled runs can be retried.
    #[error("the run's state is {0}: only a failed or cancelled run can be retried")]
    NotRetryable(RunState),
    /// Only a run that has not ended can be cancelled.
    #[error("the run has already ended ({0}): there is nothing to cancel")]
    HasEnded(RunState),
    /// A newer scheduled backup makes this run needless.
    #[error(
        "run {by} is a newer scheduled backup of the same resource ({state}): this one would add nothing; `lastgood backup now` makes \
         one more"
    )]
    Superseded {
        /// The newer run.
        by: RunId,
        /// Its state.
        state: RunState,
    },
    /// Another run of the same kind is queued or running.
    #[error(
        "another {0} of the same resource or restore point is queued or running: wait for it, or cancel it first"
    )]
    UnderWay(RunKind),
    /// The resource is paused, so it takes no scheduled backups.
    #[error(
        "its resource is paused: run `lastgood resource resume` first, or `lastgood backup now`"
    )]
    ResourcePaused,
    /// The resource was removed, so it takes no backups any more.
    #[error("its resource was removed and is no longer backed up")]
    ResourceRemoved,
    /// The restore point that the run would restore has expired.
    #[error("restore point {0} has expired: restore from another, see `lastgood point list`")]
    PointExpired(Uuid),
}

/// Which failed runs to retry.
#[derive(Debug, Clone, Default)]
pub struct FailedFilter {
    /// Those of one engine.
    pub engine: Option<String>,
    /// Those of resources on one tier.
    pub tier: Option<String>,
    /// Those of one team's resources.
    pub team: Option<String>,
    /// Those that failed at or after this instant.
    pub since: Option<DateTime<Utc>>,
    /// Those with an error of this kind.
    pub error_kind: Option<String>,
}

//! An operator's order: who gives it and why, whether it is meant, and what became of it.

use std::fmt;

use chrono::{DateTime, Utc};
use lastgood_jobs::printable::steers;
use serde::{Serialize, Serializer};
use serde_json::json;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::audit::{self, Audit};

/// The longest name and reason that are kept.
const CHARS_KEPT: usize = 1000;

/// Who gives an order, and why. Recorded with what it changed, in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    by: String,
    because: Option<String>,
}

impl Order {
    /// Returns an order of `by`: a user, or a token's name. Neither text may hold a secret.
    #[must_use]
    pub fn new(by: &str, because: Option<&str>) -> Self {
        Self {
            by: kept(by),
            because: because.map(kept).filter(|because| !because.is_empty()),
        }
    }

    /// Returns an order of the user who runs this process.
    #[must_use]
    pub fn of_this_user(because: Option<&str>) -> Self {
        Self::new(&audit::actor(), because)
    }

    /// Returns who gives it.
    #[must_use]
    pub fn by(&self) -> &str {
        &self.by
    }

    /// Returns why, if that was said.
    #[must_use]
    pub fn because(&self) -> Option<&str> {
        self.because.as_deref()
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.because {
            Some(because) => write!(f, "by {}: {because}", self.by),
            None => write!(f, "by {}", self.by),
        }
    }
}

/// What is for a log and a table is one line of a bounded length, and has no NUL, which PostgreSQL's text cannot hold.
fn kept(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| if steers(c) { ' ' } else { c })
        .take(CHARS_KEPT)
        .collect()
}

/// Whether an order is to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    Real,
    /// It is not: everything is tried and taken back, to learn what would become of it.
    Rehearsal,
}

/// What became of an order about one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ordered {
    /// The run.
    pub id: Uuid,
    /// Its resource.
    pub resource_id: String,
    /// Its kind.
    pub kind: String,
    /// The state it was in.
    pub was: String,
    /// The state it is in now, or would be.
    pub state: String,
    /// Why nothing was changed; `None`: it was.
    pub refused: Option<Refusal>,
}

impl Ordered {
    /// Keeps what the order did, with its record; or takes it back, where it was a rehearsal or was refused.
    pub(super) async fn conclude(
        self,
        mut transaction: Transaction<'_, Postgres>,
        action: &str,
        order: &Order,
        mode: Mode,
    ) -> sqlx::Result<Self> {
        // A refusal by the schema has ended the transaction: there is nothing in it to keep.
        if mode == Mode::Rehearsal || self.refused.is_some() {
            transaction.rollback().await?;
            return Ok(self);
        }
        let entry = Audit {
            action,
            resource_id: Some(&self.resource_id),
            point_id: None,
            detail: json!({ "run": self.id, "was": self.was, "because": order.because() }),
        };
        audit::record_by(&mut transaction, order.by(), &entry).await?;
        transaction.commit().await?;
        Ok(self)
    }
}

/// Why an order about a run is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Only what failed or was cancelled can be tried again.
    #[error("the run is {0}: only one that failed or was cancelled can be tried again")]
    NotRetryable(String),
    /// Only what has not ended can be cancelled.
    #[error("the run has ended, it is {0}: there is nothing to cancel")]
    HasEnded(String),
    /// A later backup made it needless.
    #[error(
        "run {by} is a newer scheduled backup of the same resource, and is {state}: this one would add nothing; for one more, \
         `lastgood backup now`"
    )]
    Superseded {
        /// The newer one.
        by: Uuid,
        /// Its state.
        state: String,
    },
    /// Another run of its kind is queued or running.
    #[error(
        "another {0} of the same resource or restore point is queued or running: wait for it, or cancel it first"
    )]
    UnderWay(String),
    /// Its resource takes no scheduled backups.
    #[error("its resource is paused: `lastgood resource resume` first, or `lastgood backup now`")]
    ResourcePaused,
    /// Its resource takes no backups any more.
    #[error("its resource was removed: nothing of it is backed up")]
    ResourceRemoved,
    /// What it would restore from is gone.
    #[error("restore point {0} has expired: restore from another, see `lastgood backup list`")]
    PointExpired(Uuid),
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which runs that failed are to be tried again.
#[derive(Debug, Clone, Default)]
pub struct FailedFilter {
    /// Of one engine.
    pub engine: Option<String>,
    /// Of resources on one tier.
    pub tier: Option<String>,
    /// Of one team's resources.
    pub team: Option<String>,
    /// That failed since.
    pub since: Option<DateTime<Utc>>,
    /// With an error of this kind.
    pub error_kind: Option<String>,
}

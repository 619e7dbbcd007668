//! Which execution of which run makes something: the identity that everything it makes carries.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of a run, which is also the id of the restore point that it makes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct RunId(pub Uuid);

/// Rises with every claim of a run, and so gives the claims' order. Not unique: a catalog that lost commits repeats
/// epochs.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Epoch(pub i64);

/// The fencing token of an attempt: drawn at random by the claim, and never drawn again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct AttemptId(pub Uuid);

/// One execution of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The run.
    pub run: RunId,
    /// Which claim of the run made this attempt.
    pub epoch: Epoch,
    /// What tells it from any other attempt at the run.
    pub id: AttemptId,
    /// When the run was enqueued. Part of the storage key, and the same for every attempt.
    pub created_at: DateTime<Utc>,
}

impl Epoch {
    /// Returns whether an earlier claim of the run may have left something behind.
    #[must_use]
    pub fn has_predecessor(self) -> bool {
        self.0 > 1
    }
}

impl FromStr for RunId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

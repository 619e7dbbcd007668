//! A resource: one protected database.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{closed_set::closed_set, proof::ProofOutcome, rto::Rto};

closed_set!(
    /// Whether a resource is backed up.
    ResourceStatus, "status of a resource" {
        /// It is backed up as its tier says.
        Active,
        /// It is not backed up for now: its promise is suspended.
        Paused,
        /// It is never backed up again; its restore points stay until they expire.
        Removed,
    }
);

/// One protected database.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Resource {
    /// Its id, which is never reused.
    pub id: String,
    /// Its owner.
    pub team: String,
    /// Its tier.
    pub tier: String,
    /// Its engine.
    pub engine: String,
    /// Whether it is backed up.
    pub status: ResourceStatus,
    /// Overrides the tier's retention; 0 or less vetoes backups.
    pub retention_days: Option<i32>,
    /// `env:NAME` or `file:/path`, or `sealed` if a URL is stored, which is never shown; null if there is none.
    pub connection: Option<String>,
    /// The number of the master key that the URL is sealed under; null if none is stored.
    pub sealed_under: Option<i32>,
    /// Whether that key is here, or with a live consumer, so that the URL can be opened; null if none is stored.
    pub is_openable: Option<bool>,
    /// MongoDB's options.
    pub options: serde_json::Value,
    /// What the plans here promise for it, in words.
    pub promise: String,
    /// How often it is backed up, as the producer last applied it; null if it is not.
    pub cadence_minutes: Option<i32>,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// The newest instant that it can be restored to.
    pub newest_consistent_at: Option<DateTime<Utc>>,
    /// When its next backup is due; null if it is not backed up.
    pub next_due_at: Option<DateTime<Utc>>,
    /// How many scheduled backups have failed in a row.
    pub failures_in_a_row: i32,
    /// When the last drill of one of its restore points ended.
    pub drilled_at: Option<DateTime<Utc>>,
    /// What that drill found.
    pub drill_outcome: Option<ProofOutcome>,
    /// Why that drill proved nothing.
    pub drill_because: Option<String>,
    /// When a drill last proved that one of its restore points can be restored.
    pub proven_at: Option<DateTime<Utc>>,
    /// How many seconds the last restore took, a drill's or a real one.
    pub restore_seconds: Option<f64>,
    /// When that was.
    pub restore_measured_at: Option<DateTime<Utc>>,
    /// How that compares with the tier's `rto_minutes`; null if the tier promises none.
    pub rto: Option<Rto>,
}

impl Resource {
    /// Returns what is wrong with its URL and what to do about it, if it cannot be opened.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        let (number, is_openable) = self.sealed_under.zip(self.is_openable)?;
        (!is_openable).then(|| {
            format!(
                "sealed under master key {number}, which nobody has: set it again with `lastgood resource set {} --url-stdin`",
                self.id
            )
        })
    }
}

//! A restore point: an archive whose manifest exists.

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::standing::{Marks, Standing};

/// A restore point: an archive whose manifest exists, from which a resource can be restored.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Point {
    /// Its id: that of the run that made it.
    pub id: Uuid,
    /// Its resource.
    pub resource: String,
    /// The instant that a restore brings back.
    pub consistent_at: DateTime<Utc>,
    /// How consistent the data is, in the manifest's words; `none`: others wrote to the server while it was read.
    pub consistency: Option<String>,
    /// The stores that hold it.
    pub stores: Vec<String>,
    /// Where its manifest is in a store.
    pub manifest_key: String,
    /// Bytes before compression.
    pub dump_bytes: i64,
    /// Bytes in a store.
    pub stored_bytes: i64,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
    /// Whether it is trusted: neither suspect, nor quarantined, nor expired. A restore takes the newest that is.
    pub is_trusted: bool,
    /// When it was last read back in full and found intact.
    pub verified_at: Option<DateTime<Utc>>,
    /// When it was quarantined, because it was found damaged or missing.
    pub quarantined_at: Option<DateTime<Utc>>,
    /// What was found.
    pub quarantined_because: Option<String>,
    /// Since when it has been suspect. A restore uses it only if told to, and it does not count towards exposure.
    pub suspected_at: Option<DateTime<Utc>>,
    /// Why it is suspect, in the manifest's words: `unfinished_restore`, `shrunk`, `from_the_future`. They stay after it is confirmed.
    pub suspected_of: Option<Vec<String>>,
    /// The same for a person to read.
    pub suspected_because: Option<String>,
    /// When somebody confirmed that it can be trusted.
    pub confirmed_at: Option<DateTime<Utc>>,
    /// The reason that was given for it.
    pub confirmed_reason: Option<String>,
    /// When it expired.
    pub expired_at: Option<DateTime<Utc>>,
    /// When an operator pinned it.
    pub pinned_at: Option<DateTime<Utc>>,
    /// When it was put on legal hold.
    pub held_at: Option<DateTime<Utc>>,
}

/// A restore point and its manifest.
#[derive(Debug, Clone, Serialize)]
pub struct PointAndManifest {
    /// The point.
    #[serde(flatten)]
    pub point: Point,
    /// Its manifest, as it lies in the stores.
    pub manifest: serde_json::Value,
}

impl Point {
    /// Returns what the point may be used for.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing::of(Marks {
            suspected_at: self.suspected_at,
            quarantined_at: self.quarantined_at,
            expired_at: self.expired_at,
        })
    }
}

//! An entry of the audit log.

use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

/// An action that cannot be undone, or that let data out.
#[derive(Debug, Clone, Serialize)]
pub struct AuditEntry {
    /// When it was recorded, by the catalog's clock.
    pub recorded_at: DateTime<Utc>,
    /// Who did it: a user, `token:NAME`, or a service.
    pub by: String,
    /// What was done, in one word.
    pub action: String,
    /// The resource it was done to.
    pub resource: Option<String>,
    /// The restore point it was done to.
    pub point: Option<Uuid>,
    /// Further details, as they were recorded.
    pub detail: serde_json::Value,
}

//! A store, as the catalog and the configuration know it.

use serde::Serialize;
use uuid::Uuid;

/// A store that is configured here, on record, or both.
#[derive(Debug, Clone, Serialize)]
pub struct Store {
    /// Its name in the catalog and in the stores file.
    pub id: String,
    /// What it is for.
    pub role: Role,
    /// How many restore points are on record in it.
    pub points: i64,
    /// The id in its identity object; null if the store was never written to.
    pub identity: Option<Uuid>,
    /// Whether it was seen to refuse overwriting an object; null if the store was never written to.
    pub is_write_once: Option<bool>,
}

/// What a store is for, by the configuration here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// It takes the backups.
    Primary,
    /// It gets copies.
    Mirror,
    /// It is on record only.
    NotConfigured,
}

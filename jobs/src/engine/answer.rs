//! What every engine returns: a dump in an archive, or the result of a restore.

use chrono::{DateTime, Utc};

use crate::{
    archive::Measured,
    contents::{self, Recorded},
    manifest::{Consistency, Details, Suspicion},
    storage::Unpublished,
};

/// A whole dump in a stored archive that nothing refers to yet.
pub(crate) struct Dumped {
    /// The format's name in manifests.
    pub(crate) format: &'static str,
    pub(crate) consistent_at: DateTime<Utc>,
    pub(crate) consistency: Consistency,
    pub(crate) dump: Measured,
    pub(crate) archive: Measured,
    /// What it holds, item by item.
    pub(crate) items: contents::Contents,
    /// The list of these, as it stands in the archive.
    pub(crate) recorded: Option<Recorded>,
    pub(crate) object: Unpublished,
    pub(crate) server_version: String,
    pub(crate) tool_version: String,
    pub(crate) details: Details,
    /// What was unusual but not a failure.
    pub(crate) warnings: Vec<String>,
    /// Why nobody should rely on it.
    pub(crate) suspicions: Vec<Suspicion>,
}

/// The result of a restore.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    /// The database that holds the data now.
    pub database: String,
    /// The database that was replaced and kept, if any.
    pub kept: Option<String>,
    /// What was restored.
    #[serde(flatten)]
    pub contents: Contents,
    /// The size of the dump in bytes.
    pub dump_bytes: u64,
    /// What else the reader should know.
    pub notes: Vec<String>,
}

/// What was restored, in the engine's own terms.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Contents {
    /// PostgreSQL.
    Postgres {
        /// Tables.
        tables: u64,
    },
    /// MongoDB.
    Mongodb {
        /// Collections, views and time series.
        collections: u64,
        /// Documents.
        documents: u64,
        /// Indexes, including those on `_id`.
        indexes: u64,
    },
    /// Redis and Valkey.
    Redis {
        /// Keys written.
        keys: u64,
        /// Keys left out, because they had already expired.
        expired_keys: u64,
        /// Keys removed, because the backup does not have them.
        removed_keys: u64,
        /// Function libraries.
        functions: u64,
    },
}

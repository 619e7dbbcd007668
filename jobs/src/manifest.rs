//! The JSON that describes one archive: written last, it *is* the restore point.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::resource::{Engine, ResourceId, TeamId, Tier};

/// The value of `format` in every manifest.
pub const FORMAT: &str = "lastgood-manifest";
/// The version that this build writes. Other versions are refused when read.
pub const VERSION: u32 = 1;

/// A restore point's description. Holds no secret and no customer data but the names of its extensions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// The restore point's id: the run that made it.
    pub run_id: Uuid,
    /// The attempt that made it.
    pub epoch: i64,
    /// Which resource this is a copy of.
    pub resource_id: ResourceId,
    /// Its owner at that time.
    pub team: TeamId,
    /// Its tier at that time.
    pub tier: Tier,
    /// Its engine.
    pub engine: Engine,
    /// The instant the snapshot was taken: what a restore brings back. UTC.
    pub consistent_at: DateTime<Utc>,
    /// What the dump promises about that instant.
    pub consistency: Consistency,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
    /// When the last byte of the archive was stored.
    pub finished_at: DateTime<Utc>,
    /// `lastgood` and its version.
    pub made_by: String,
    /// The stored object.
    pub archive: Stored,
    /// The engine's own stream inside it.
    pub dump: Dump,
    /// The customer's server at dump time, e.g. `PostgreSQL 18.6`.
    pub server_version: String,
    /// The tool that made the dump, e.g. `pg_dump (PostgreSQL) 18.6`.
    pub tool_version: String,
    /// What the engine records besides.
    pub details: Details,
    /// Things that were odd yet no failure, e.g. a dump half the size of the last.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// What a dump promises about `consistent_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// Every byte is of that one instant.
    Snapshot,
}

/// The archive as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its key in the store.
    pub key: String,
    /// Its size.
    pub size_bytes: u64,
    /// BLAKE3 of the stored bytes, 64 lower-case hex digits: what `b3sum` prints.
    pub blake3: String,
    /// How it is compressed: `zstd`.
    pub compression: String,
}

/// The dump inside the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// The engine's own name for the format: `pg_dump custom`.
    pub format: String,
    /// Its size before compression.
    pub size_bytes: u64,
    /// BLAKE3 of the dump before compression.
    pub blake3: String,
}

/// What an engine records besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Details {
    /// PostgreSQL and pgvector.
    Postgres {
        /// The database's name.
        database: String,
        /// The server's major version: the oldest that can take this dump back.
        server_major: u32,
        /// Tables in the dump.
        tables: u64,
        /// Extensions and their versions.
        extensions: BTreeMap<String, String>,
        /// `encoding`, `collate`, `ctype` and the like, to create the database again where it is gone.
        properties: BTreeMap<String, String>,
    },
}

//! The JSON that describes one archive. It is written last: writing it makes the restore point.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    attempt::{AttemptId, Epoch, RunId},
    contents::Recorded,
    key::Recipient,
    names::{Engine, ResourceId, TeamId, Tier},
    object_key::ObjectKey,
};

/// The value of `format` in every manifest.
pub const FORMAT: &str = "lastgood-manifest";
/// The version that this build writes. Other versions are refused when read.
pub const VERSION: u32 = 1;

/// A restore point's description. Holds no secret, and no customer data except the names of extensions, databases and
/// collections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: String,
    /// Always [`VERSION`].
    pub version: u32,
    /// The restore point's id, which is the id of the run that made it.
    pub run_id: RunId,
    /// The epoch of the attempt that made it.
    pub epoch: Epoch,
    /// The random id that the attempt's claim drew; absent in manifests of builds that drew none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_id: Option<AttemptId>,
    /// The installation of lastgood that made it; absent in manifests of builds that had no identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<Uuid>,
    /// The resource that was backed up.
    pub resource_id: ResourceId,
    /// The resource's team at that time.
    pub team: TeamId,
    /// The resource's tier at that time.
    pub tier: Tier,
    /// The resource's engine.
    pub engine: Engine,
    /// The instant of the snapshot, which a restore brings the data back to. UTC.
    pub consistent_at: DateTime<Utc>,
    /// What the dump promises about that instant.
    pub consistency: Consistency,
    /// When the attempt began.
    pub started_at: DateTime<Utc>,
    /// When the last byte of the archive had been stored.
    pub finished_at: DateTime<Utc>,
    /// `lastgood` and its version.
    pub made_by: String,
    /// The archive in the store.
    pub archive: Stored,
    /// The engine's native stream inside the archive.
    pub dump: Dump,
    /// The customer's server at the time of the dump, e.g. `PostgreSQL 18.6`.
    pub server_version: String,
    /// The tool that made the dump, e.g. `pg_dump (PostgreSQL) 18.6`.
    pub tool_version: String,
    /// What the dump holds, of which the archive has the list; absent in manifests of builds that recorded none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Recorded>,
    /// What else the engine records.
    pub details: Details,
    /// Oddities that did not fail the dump, e.g. a collection that was skipped.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Why the restore point should not be used by default or relied on; empty for an ordinary one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspicions: Vec<Suspicion>,
}

/// One reason why a restore point is suspect.
///
/// A suspect restore point can be restored by name. It is never the default, counts towards no promise, and never makes
/// retention remove an older one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// The kind of suspicion.
    pub reason: Suspect,
    /// What was seen, for a person.
    pub because: String,
}

impl Suspicion {
    /// Returns a suspicion; `because` says what was seen.
    pub fn new(reason: Suspect, because: impl Into<String>) -> Self {
        Self {
            reason,
            because: because.into(),
        }
    }
}

/// Why a restore point is suspect. Stored names are permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspect {
    /// The database held a restore that had not finished.
    UnfinishedRestore,
    /// The dump is less than half the size of the last one.
    Shrunk,
    /// The restore point is dated later than the catalog's clock, because a clock was ahead or somebody changed the
    /// date.
    FromTheFuture,
}

impl Suspect {
    /// Returns the stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnfinishedRestore => "unfinished_restore",
            Self::Shrunk => "shrunk",
            Self::FromTheFuture => "from_the_future",
        }
    }
}

/// What a dump promises about `consistent_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consistency {
    /// All data is of that one instant.
    Snapshot,
    /// The data was read piece by piece while others wrote. No part is older than `consistent_at`; nothing more is
    /// promised.
    None,
}

/// The archive as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The object's key in the store.
    pub key: ObjectKey,
    /// The object's size.
    pub size_bytes: u64,
    /// BLAKE3 of the stored bytes as 64 lower-case hex digits, as `b3sum` prints it.
    pub blake3: String,
    /// How the dump is compressed.
    pub compression: Compression,
    /// How the archive is encrypted; absent if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
}

/// How an archive is encrypted: enough to find the key, without any secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// The encryption format.
    pub scheme: Scheme,
    /// The id of the key whose identity opens the archive.
    pub key: Uuid,
    /// The key's public half.
    pub recipient: Recipient,
}

/// A format of compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// One zstd frame, behind which a skippable frame may hold the list of the dump's contents.
    Zstd,
}

/// A format of encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// age, version 1, with one X25519 recipient.
    Age,
}

/// The dump inside the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// The engine's own name for the format, e.g. `pg_dump custom`.
    pub format: String,
    /// The dump's size before compression.
    pub size_bytes: u64,
    /// BLAKE3 of the dump before compression.
    pub blake3: String,
}

/// What an engine records in addition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum Details {
    /// `PostgreSQL` and pgvector.
    Postgres {
        /// The database's name.
        database: String,
        /// The server's major version. Older servers cannot restore this dump.
        server_major: u32,
        /// How many tables the dump has.
        tables: u64,
        /// Extensions and their versions.
        extensions: BTreeMap<String, String>,
        /// `encoding`, `collate`, `ctype` and the like, for creating the database again if it is gone.
        properties: BTreeMap<String, String>,
        /// Whether the URL's role is a superuser. A restore through the same URL needs leave.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        superuser: bool,
    },
    /// MongoDB.
    Mongodb {
        /// The database, or `None` for the whole deployment.
        database: Option<String>,
        /// How many namespaces the dump has, views and time series included.
        collections: u64,
        /// How many documents the dump has.
        documents: u64,
        /// Whether the dump includes users and roles.
        users_and_roles: bool,
        /// How many oplog entries a restore replays over the documents to reach one instant. Absent if the documents
        /// are already of one instant, or if no such instant exists.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        oplog_entries: Option<u64>,
        /// The collections that may not be of the same instant as all others.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exceptions: Vec<String>,
    },
    /// Redis and Valkey.
    Redis {
        /// The number in the RDB file's header.
        rdb_version: u32,
        /// Keys by database number, which is a string in JSON.
        keys: BTreeMap<String, u64>,
        /// How many function libraries the dump has.
        functions: u64,
        /// How the server was read.
        read_by: RedisRead,
    },
}

/// How a Redis or Valkey server was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedisRead {
    /// By replication: the server's own snapshot.
    Replication,
    /// Key by key, from a server that refuses replicas.
    Scan,
}

impl Manifest {
    /// Returns the JSON to store, indented and with a final newline, so that `cat` shows it well.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads a stored manifest. Checks format and version first, because other versions may have other fields.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, ManifestError> {
        let head: Head = serde_json::from_slice(json)?;
        if head.format != FORMAT {
            return Err(ManifestError::Format);
        }
        if head.version != VERSION {
            return Err(ManifestError::Version(head.version));
        }
        Ok(serde_json::from_slice(json)?)
    }
}

/// Why this build cannot read a manifest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("it is not a lastgood manifest")]
    Format,
    #[error("it has version {0}, and this build reads version {VERSION}")]
    Version(u32),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

#[cfg(test)]
pub(crate) mod tests {
    use chrono::TimeZone as _;

    use super::*;

    pub(crate) fn example() -> Manifest {
        let at = |second| Utc.with_ymd_and_hms(2026, 3, 4, 5, 6, second).unwrap();
        Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            run_id: RunId(Uuid::from_u128(7)),
            epoch: Epoch(2),
            attempt_id: None,
            installation: None,
            resource_id: "db-1".parse().unwrap(),
            team: "acme".parse().unwrap(),
            tier: "pro".parse().unwrap(),
            engine: Engine::Vector,
            consistent_at: at(8),
            consistency: Consistency::Snapshot,
            started_at: at(7),
            finished_at: at(9),
            made_by: "lastgood 0.1.0".to_owned(),
            archive: Stored {
                key: "v1/acme/db-1/2026/03/04/050607Z-x-e2.pgdump.zst"
                    .parse()
                    .unwrap(),
                size_bytes: 1000,
                blake3: blake3::hash(b"stored").to_hex().to_string(),
                compression: Compression::Zstd,
                encryption: None,
            },
            dump: Dump {
                format: "pg_dump custom".to_owned(),
                size_bytes: 5000,
                blake3: blake3::hash(b"raw").to_hex().to_string(),
            },
            server_version: "PostgreSQL 18.6".to_owned(),
            tool_version: "pg_dump (PostgreSQL) 18.6".to_owned(),
            contents: None,
            details: Details::Postgres {
                database: "app".to_owned(),
                server_major: 18,
                tables: 3,
                extensions: BTreeMap::from([("vector".to_owned(), "0.8.6".to_owned())]),
                properties: BTreeMap::from([("encoding".to_owned(), "UTF8".to_owned())]),
                superuser: false,
            },
            warnings: Vec::new(),
            suspicions: Vec::new(),
        }
    }

    #[test]
    fn the_stored_form_is_permanent() -> anyhow::Result<()> {
        let json = example().to_json()?;
        assert_eq!(Manifest::from_json(&json)?, example());
        insta::assert_snapshot!(String::from_utf8(json)?);
        Ok(())
    }

    #[test]
    fn what_tells_of_encryption_is_permanent() -> anyhow::Result<()> {
        let mut manifest = example();
        manifest.archive.encryption = Some(Encryption {
            scheme: Scheme::Age,
            key: Uuid::from_u128(9),
            recipient: "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa".parse()?,
        });
        let json = manifest.to_json()?;
        assert_eq!(Manifest::from_json(&json)?, manifest);
        let archive = serde_json::to_string_pretty(&manifest.archive)?;
        insta::assert_snapshot!(archive);
        let other = String::from_utf8(json)?.replace("\"age\"", "\"rot13\"");
        assert!(Manifest::from_json(other.as_bytes()).is_err());
        Ok(())
    }

    #[rstest::rstest]
    #[case::mongodb(Engine::Mongodb, Details::Mongodb {
        database: Some("app".to_owned()),
        collections: 3,
        documents: 40,
        users_and_roles: false,
        oplog_entries: None,
        exceptions: Vec::new(),
    })]
    #[case::redis(Engine::Redis, Details::Redis {
        rdb_version: 11,
        keys: BTreeMap::from([("0".to_owned(), 40), ("3".to_owned(), 1)]),
        functions: 1,
        read_by: RedisRead::Replication,
    })]
    fn the_details_of_each_engine_are_permanent(
        #[case] engine: Engine,
        #[case] details: Details,
    ) -> anyhow::Result<()> {
        let manifest = Manifest {
            engine,
            details,
            consistency: Consistency::None,
            ..example()
        };
        let json = manifest.to_json()?;
        assert_eq!(Manifest::from_json(&json)?, manifest);
        let details = serde_json::to_string_pretty(&manifest.details)?;
        insta::assert_snapshot!(format!("details_{engine}"), details);
        Ok(())
    }

    #[test]
    fn what_makes_a_point_suspect_is_permanent() -> anyhow::Result<()> {
        let manifest = Manifest {
            attempt_id: Some(AttemptId(Uuid::from_u128(11))),
            installation: Some(Uuid::from_u128(12)),
            suspicions: vec![
                Suspicion::new(Suspect::UnfinishedRestore, "a restore mark was found"),
                Suspicion::new(Suspect::Shrunk, "10 bytes after 100"),
                Suspicion::new(Suspect::FromTheFuture, "it is dated 2099"),
            ],
            ..example()
        };
        let json = manifest.to_json()?;
        assert_eq!(Manifest::from_json(&json)?, manifest);
        insta::assert_snapshot!(String::from_utf8(json)?);
        Ok(())
    }

    #[test]
    fn other_files_are_refused() {
        let why = |json: &str| {
            Manifest::from_json(json.as_bytes())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            why(r#"{"format":"x","version":1}"#),
            "it is not a lastgood manifest"
        );
        assert_eq!(
            why(r#"{"format":"lastgood-manifest","version":2}"#),
            "it has version 2, and this build reads version 1"
        );
        assert!(why("{").contains("EOF"));
        let json = String::from_utf8(example().to_json().unwrap()).unwrap();
        let of_tomorrow = json.replace(r#""zstd""#, r#""brotli""#);
        assert!(why(&of_tomorrow).contains("unknown variant `brotli`, expected `zstd`"));
    }
}

//! The JSON that describes one archive: written last, it *is* the restore point.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    key::Recipient,
    resource::{Engine, ResourceId, TeamId, Tier},
    storage::ObjectKey,
};

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
    /// The random id that its claim drew; absent in manifests of builds that drew none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_id: Option<Uuid>,
    /// Which installation of lastgood made it; absent in manifests of builds that had no identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installation: Option<Uuid>,
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
    /// Things that were odd yet no failure, e.g. a collection that was skipped.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Why nobody should restore from it by default, or count on it; empty for an ordinary restore point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspicions: Vec<Suspicion>,
}

/// One reason why a restore point is suspect: it exists and can be restored from by name, but is never the default, counts for no
/// promise, and is never why retention removes an older one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// The kind of reason.
    pub reason: Suspect,
    /// What was seen, for a person.
    pub because: String,
}

impl Suspicion {
    /// Returns a suspicion: `because` says what was seen.
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
    /// The dump has less than half of the bytes of the last one.
    Shrunk,
    /// It is dated later than the catalog's clock: by a clock that was ahead, or by hand.
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
    /// Every byte is of that one instant.
    Snapshot,
    /// The bytes were read one after another while others wrote: none is older than `consistent_at`, no more is promised.
    None,
}

/// The archive as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its key in the store.
    pub key: ObjectKey,
    /// Its size.
    pub size_bytes: u64,
    /// BLAKE3 of the stored bytes, 64 lower-case hex digits: what `b3sum` prints.
    pub blake3: String,
    /// How it is compressed: `zstd`.
    pub compression: String,
    /// How it is encrypted; absent where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
}

/// How an archive is encrypted: enough to find the key, and nothing of it that is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// The format.
    pub scheme: Scheme,
    /// The id of the key whose identity opens it.
    pub key: Uuid,
    /// That key's public half.
    pub recipient: Recipient,
}

/// A format of encrypted archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// age, version 1, with one X25519 recipient.
    Age,
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
    /// `PostgreSQL` and pgvector.
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
    /// MongoDB.
    Mongodb {
        /// The database, or `None` for the whole deployment.
        database: Option<String>,
        /// The namespaces in the dump, views and time-series included.
        collections: u64,
        /// The documents in the dump.
        documents: u64,
        /// Whether users and roles are in it.
        users_and_roles: bool,
        /// How many entries of the oplog a restore replays over the documents to bring back one instant; absent where the
        /// documents are of one instant by themselves, or of none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        oplog_entries: Option<u64>,
        /// The collections that may not be of the instant that all others are of.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        exceptions: Vec<String>,
    },
    /// Redis and Valkey.
    Redis {
        /// The number in the RDB file's header.
        rdb_version: u32,
        /// Keys by database number, which JSON makes a text.
        keys: BTreeMap<String, u64>,
        /// Function libraries.
        functions: u64,
        /// How it was read.
        read_by: RedisRead,
    },
}

/// How a Redis or Valkey server was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RedisRead {
    /// As a replica: the server's own snapshot.
    Replication,
    /// Key by key: what a server allows that refuses replicas.
    Scan,
}

impl Manifest {
    /// Returns the JSON to store: indented, with a newline at its end, for a human with `cat`.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads a stored manifest. Asks for format and version first: another version may have other fields.
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

/// Why bytes are no manifest of this build.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("it is not a lastgood manifest")]
    Format,
    #[error("it is of version {0}, and this build reads version {VERSION}")]
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
            run_id: Uuid::from_u128(7),
            epoch: 2,
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
                compression: "zstd".to_owned(),
                encryption: None,
            },
            dump: Dump {
                format: "pg_dump custom".to_owned(),
                size_bytes: 5000,
                blake3: blake3::hash(b"raw").to_hex().to_string(),
            },
            server_version: "PostgreSQL 18.6".to_owned(),
            tool_version: "pg_dump (PostgreSQL) 18.6".to_owned(),
            details: Details::Postgres {
                database: "app".to_owned(),
                server_major: 18,
                tables: 3,
                extensions: BTreeMap::from([("vector".to_owned(), "0.8.6".to_owned())]),
                properties: BTreeMap::from([("encoding".to_owned(), "UTF8".to_owned())]),
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
            attempt_id: Some(Uuid::from_u128(11)),
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
            "it is of version 2, and this build reads version 1"
        );
        assert!(why("{").contains("EOF"));
    }
}

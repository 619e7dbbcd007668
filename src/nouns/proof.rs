//! A proof: a row of the ledger.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::proof::{ProofKind, ProofOutcome};

/// What a drill, a verification or a restore has shown about a restore point.
///
/// `hash` is the SHA-256 of `previous_hash` and of all fields but these two, as docs/reference/proofs.md specifies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// Its place in the chain, from 1, without gaps.
    pub number: i64,
    /// The version of what is hashed.
    pub version: i16,
    /// Its id.
    pub id: Uuid,
    /// When it was recorded, to the microsecond.
    #[serde(with = "micros")]
    pub recorded_at: DateTime<Utc>,
    /// What made it.
    pub kind: ProofKind,
    /// What it says.
    pub outcome: ProofOutcome,
    /// Why the point was not proven.
    pub because: Option<String>,
    /// The same in a stable word, e.g. `damaged`, `no_server`.
    pub because_kind: Option<String>,
    /// The resource.
    pub resource: String,
    /// Its team at the time.
    pub team: String,
    /// Its tier at the time.
    pub tier: String,
    /// Its engine.
    pub engine: String,
    /// The restore point.
    pub point: Uuid,
    /// The instant that a restore of the point brings back; null, as are the archive's facts, if the point was no longer on record.
    #[serde(with = "micros::optional")]
    pub consistent_at: Option<DateTime<Utc>>,
    /// The BLAKE3 of the archive, in lowercase hex.
    pub archive_blake3: Option<String>,
    /// Bytes of the archive.
    pub archive_bytes: Option<i64>,
    /// Bytes of the dump.
    pub dump_bytes: Option<i64>,
    /// The run.
    pub run: Uuid,
    /// The attempt at it, which has no other proof.
    pub attempt_id: Uuid,
    /// The consumer that executed it.
    pub consumer: String,
    /// How many seconds each phase took.
    #[schema(value_type = Object)]
    pub seconds: serde_json::Value,
    /// What was compared, or read.
    #[schema(value_type = Object)]
    pub compared: serde_json::Value,
    /// The hash of the proof before, in lowercase hex; zeroes in the first.
    pub previous_hash: String,
    /// Its own hash.
    pub hash: String,
}

/// Instants to the microsecond, always with six digits: they are hashed as they are written.
mod micros {
    use chrono::{DateTime, SecondsFormat, Utc};
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        at: &DateTime<Utc>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&at.to_rfc3339_opts(SecondsFormat::Micros, true))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<DateTime<Utc>, D::Error> {
        DateTime::deserialize(deserializer)
    }

    pub(super) mod optional {
        use chrono::{DateTime, Utc};
        use serde::{Deserialize as _, Deserializer, Serializer};

        #[expect(clippy::ref_option, reason = "serde gives a reference")]
        pub(in super::super) fn serialize<S: Serializer>(
            at: &Option<DateTime<Utc>>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match at {
                Some(at) => super::serialize(at, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<DateTime<Utc>>, D::Error> {
            Option::deserialize(deserializer)
        }
    }
}

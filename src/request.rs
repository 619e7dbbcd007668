//! What may be requested. The command line and the HTTP API both come through here, so that they cannot differ.

mod drill;
mod registry;
mod restore;
mod shown;

use chrono::{DateTime, SecondsFormat, Utc};
use lastgood_jobs::{
    error::JobError,
    resource::{Engine, NameError, ResourceId, UnsupportedEngine},
};
use uuid::Uuid;

use crate::{catalog::CatalogError, master::MasterKeyError, secret::SecretError};

pub use drill::drill;
pub use registry::{OptionsChange, Promise, changed_options, promise, seal, stored_options};
pub use restore::{RestoreRequest, RestoreWhere, Restoring, restore};
pub use shown::Shown;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The catalog refused it.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A secret cannot be read, sealed or opened.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The URL does not fit the engine. The error does not show it.
    #[error(transparent)]
    Url(JobError),
    /// The catalog holds an engine that this build does not support.
    #[error(transparent)]
    Engine(#[from] UnsupportedEngine),
    /// A name is malformed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The master key here is not the one that seals the catalog.
    #[error(transparent)]
    MasterKey(MasterKeyError),
    /// The engine does not have this option.
    #[error("--read-preference, --users-and-roles and --shard are for MongoDB only, not for {0}")]
    NoOptions(Engine),
    /// This build does not understand the stored options.
    #[error("this build does not understand the stored options of {0}")]
    StoredOptions(String, #[source] serde_json::Error),
    /// Only `PostgreSQL` has ownership and grants to leave out.
    #[error("--no-owner and --no-acl are for PostgreSQL only, not for {0}")]
    NoOwners(Engine),
    /// Only `PostgreSQL` has superusers, tablespaces and logical replication.
    #[error("--{} is for PostgreSQL only, not for {engine}", word.replace('_', "-"))]
    PostgresOnly {
        /// The option as the API spells it.
        word: &'static str,
        /// The resource's engine.
        engine: Engine,
    },
    /// The target is one of the server's own databases.
    #[error("database {0:?} is the server's own: give --into the name of an empty database")]
    ServersOwn(String),
    /// Only Redis merges.
    #[error(
        "--merge is for Redis only: a restore in place of {0} replaces what the backup holds and leaves the rest as it is"
    )]
    NoMerge(Engine),
    /// The id to overwrite is missing or wrong; it is the word that cannot be typed by accident.
    #[error("--in-place replaces what is there: repeat the id with --overwrite {0}")]
    NotOverwritten(ResourceId),
    /// A backup of Redis covers a whole server, so a database's name is no target.
    #[error(
        "a backup of Redis covers a whole server: give --into env:NAME or file:/path with another server's URL"
    )]
    WholeServer,
    /// The restore point is of another resource.
    #[error(
        "restore point {point} belongs to {owner}, not to {resource}: see `lastgood point list {resource}`"
    )]
    OtherPoint {
        /// The point.
        point: Uuid,
        /// The resource that the point is of.
        owner: String,
        /// The resource that was to be restored.
        resource: ResourceId,
    },
    /// The restore point has expired.
    #[error(
        "restore point {point} has expired and is being removed: see `lastgood point list {resource}`"
    )]
    Expired {
        /// The point.
        point: Uuid,
        /// Its resource.
        resource: ResourceId,
    },
    /// The restore point was found damaged.
    #[error(
        "restore point {point} was found damaged ({because}): take another, see `lastgood point list {resource}`; if the store has \
         been repaired, `lastgood verify --point {point}` acquits it; --even-quarantined tries it anyway"
    )]
    Damaged {
        /// The point.
        point: Uuid,
        /// Its resource.
        resource: ResourceId,
        /// What is wrong with it, in printable characters.
        because: String,
    },
    /// The restore point is suspect: it was probably not made from the customer's data.
    #[error(
        "restore point {point} is suspect ({because}): take another, see `lastgood point list {resource}`; if you have checked \
         that it is right, run `lastgood point confirm {point} --reason …`; --even-suspect restores from it anyway"
    )]
    Suspect {
        /// The point.
        point: Uuid,
        /// Its resource.
        resource: ResourceId,
        /// Why it is suspect, in printable characters.
        because: String,
    },
    /// The resource has no usable restore point at or before the instant.
    #[error("{resource} has no restore point at or before {}: see `lastgood point list {resource}`", at.format("%Y-%m-%d %H:%M:%SZ"))]
    NothingBefore {
        /// The resource.
        resource: ResourceId,
        /// The instant.
        at: DateTime<Utc>,
    },
    /// The resource has no usable restore point.
    #[error(
        "{0} has no restore point that can be trusted, or was never backed up: see `lastgood point list {0}`; to restore from a suspect \
         one, give its id and --even-suspect"
    )]
    NothingUsable(ResourceId),
    /// The newest point is encrypted to a key that is not on record here. An older one is never taken in its place unasked.
    #[error(
        "the newest restore point of {resource}, of {newest}, is encrypted to a key that was shredded or is not on record here: \
         `lastgood key recover` brings keys back from their escrows; {}",
        way_out(*.opens)
    )]
    NoKey {
        /// The resource.
        resource: ResourceId,
        /// The instant of the newest point.
        newest: DateTime<Utc>,
        /// The instant of the newest point that can be opened.
        opens: Option<DateTime<Utc>>,
    },
}

impl From<MasterKeyError> for RequestError {
    fn from(error: MasterKeyError) -> Self {
        match error {
            MasterKeyError::Catalog(error) => Self::Catalog(error),
            MasterKeyError::Secret(error) => Self::Secret(error),
            MasterKeyError::Stranger { .. }
            | MasterKeyError::Replaced { .. }
            | MasterKeyError::NotYet { .. } => Self::MasterKey(error),
        }
    }
}

fn way_out(opens: Option<DateTime<Utc>>) -> String {
    match opens {
        Some(at) => format!(
            "or take the newest that can be opened: `--at {}`",
            at.to_rfc3339_opts(SecondsFormat::Micros, true)
        ),
        None => "no other can be opened without one".to_owned(),
    }
}

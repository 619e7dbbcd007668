//! What may be asked for, whoever asks: the command line and the HTTP API come through here, so that they cannot differ.

mod registry;
mod restore;

use chrono::{DateTime, SecondsFormat, Utc};
use lastgood_jobs::{
    error::JobError,
    resource::{Engine, NameError, ResourceId, UnsupportedEngine},
};
use uuid::Uuid;

use crate::{catalog::CatalogError, master::MasterKeyError, secret::SecretError};

pub use registry::{Promise, changed_options, promise, seal, stored_options};
pub use restore::{RestoreRequest, RestoreWhere, Restoring, restore};

/// Why a request cannot be granted.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The catalog has something against it.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A connection cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A URL is none of its engine's. The error does not show it.
    #[error(transparent)]
    Url(JobError),
    /// The catalog holds an engine that this build does not know.
    #[error(transparent)]
    Engine(#[from] UnsupportedEngine),
    /// The catalog holds a name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The master key here is not the one that seals the catalog.
    #[error(transparent)]
    MasterKey(MasterKeyError),
    /// An option that the engine does not have.
    #[error("--read-preference and --users-and-roles are MongoDB's: {0} has neither")]
    NoOptions(Engine),
    /// Options that this build does not understand.
    #[error("the stored options of {0} are not understood")]
    StoredOptions(String, #[source] serde_json::Error),
    /// Ownership and grants are `PostgreSQL`'s.
    #[error("--no-owner and --no-acl are PostgreSQL's: {0} has neither")]
    NoOwners(Engine),
    /// Superusers, tablespaces and logical replication are `PostgreSQL`'s.
    #[error("--{} is PostgreSQL's: {engine} has no use for it", word.replace('_', "-"))]
    PostgresOnly {
        /// What was said, as the API spells it.
        word: &'static str,
        /// The resource's engine.
        engine: Engine,
    },
    /// Nobody restores into what belongs to the server itself.
    #[error("database {0:?} is the server's own: give --into the name of an empty database")]
    ServersOwn(String),
    /// Merging is Redis's.
    #[error(
        "--merge is Redis's: in place, {0} replaces what the backup has and leaves the rest as it is"
    )]
    NoMerge(Engine),
    /// The word that cannot be typed by accident is missing.
    #[error("--in-place replaces what is there: repeat the id with --overwrite {0}")]
    NotOverwritten(ResourceId),
    /// A backup of Redis is of a whole server.
    #[error(
        "a backup of Redis is of a whole server: give --into env:NAME or file:/path of another server's URL"
    )]
    WholeServer,
    /// A point of another resource.
    #[error(
        "restore point {point} is of {owner}, not of {resource}: see `lastgood backup list {resource}`"
    )]
    OtherPoint {
        /// The point.
        point: Uuid,
        /// Whose it is.
        owner: String,
        /// Whose it was taken for.
        resource: ResourceId,
    },
    /// Retention has let it go.
    #[error(
        "restore point {point} has expired and is being removed: see `lastgood backup list {resource}`"
    )]
    Expired {
        /// The point.
        point: Uuid,
        /// Its resource.
        resource: ResourceId,
    },
    /// It was found damaged.
    #[error(
        "restore point {point} was found damaged ({because}): take another, see `lastgood backup list {resource}`; if the store has \
         been mended, `lastgood verify --point {point}` acquits it, or --even-quarantined tries it"
    )]
    Damaged {
        /// The point.
        point: Uuid,
        /// Its resource.
        resource: ResourceId,
        /// What is wrong with it, in printable characters.
        because: String,
    },
    /// It was made from what was probably not the customer's data.
    #[error(
        "restore point {point} is suspect ({because}): take another, see `lastgood backup list {resource}`; if somebody has looked and \
         it is right, `lastgood backup confirm {point} --because …`; --even-suspect restores from it all the same"
    )]
    Suspect {
        /// The point.
        point: Uuid,
        /// Its resource.
        resource: ResourceId,
        /// What speaks against it, in printable characters.
        because: String,
    },
    /// There is nothing as old.
    #[error("{resource} has no restore point at or before {}: see `lastgood backup list {resource}`", at.format("%Y-%m-%d %H:%M:%SZ"))]
    NothingBefore {
        /// The resource.
        resource: ResourceId,
        /// The instant.
        at: DateTime<Utc>,
    },
    /// There is nothing.
    #[error(
        "{0} has no restore point that can be trusted: it was never backed up, or see `lastgood backup list {0}`; one that is suspect is \
         restored from by its id and with --even-suspect"
    )]
    NothingUsable(ResourceId),
    /// The newest is encrypted to a key that nobody has. An older one is not taken in its place unasked.
    #[error(
        "the newest restore point of {resource}, of {newest}, is encrypted to a key that is not on record here, or was shredded: \
         `lastgood key recover` brings keys back from their escrows; {}",
        way_out(*.opens)
    )]
    NoKey {
        /// The resource.
        resource: ResourceId,
        /// The instant of the newest point.
        newest: DateTime<Utc>,
        /// The instant of the newest one that opens.
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
            "or take the newest that opens: `--at {}`",
            at.to_rfc3339_opts(SecondsFormat::Micros, true)
        ),
        None => "no other opens without one".to_owned(),
    }
}

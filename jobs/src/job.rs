//! What can be asked for: the typed payload of one run, as it is stored.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::resource::ResourceId;

/// One job. Stored as a JSON object whose `kind` names the variant; the names are permanent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Job {
    /// Make a restore point of the resource.
    Backup {},
    /// Bring the resource back from a restore point.
    Restore(Restore),
    /// Drop a database that a restore replaced and kept.
    DropReplaced(DropReplaced),
    /// Copy a restore point into another store.
    Copy(Copy),
    /// Read a restore point back, all of it.
    Verify(Verify),
    /// Remove a restore point that retention has let go from every store that holds it.
    Expire(Expire),
}

/// Which restore point to copy, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The restore point.
    pub point: Uuid,
    /// The name of the store that is to get it.
    pub store: String,
}

/// Which restore point to read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// The restore point.
    pub point: Uuid,
    /// The name of the store to read it from; `None`: from each that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
}

/// Which restore point to remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expire {
    /// The restore point.
    pub point: Uuid,
}

/// A restore as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of the stored payload, and they go together in every way"
)]
pub struct Restore {
    /// The restore point: the id of the run that made it.
    pub point: Uuid,
    /// Where its data goes.
    pub target: RestoreTarget,
    /// Leave owners out and let everything belong to the connecting role.
    ///
    /// A role that is not a superuser restores so in any case: it could not give ownership away.
    #[serde(default)]
    pub no_owner: bool,
    /// Leave grants out.
    #[serde(default)]
    pub no_acl: bool,
    /// Restore although the role is a superuser, as which the customer's own functions would run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_superuser: bool,
    /// Put everything where the database's default is, whatever tablespaces the dump names. PostgreSQL only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_tablespaces: bool,
    /// Swap although logical replication stays with the replaced database. PostgreSQL only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_replication: bool,
    /// A database that is named must belong to whoever the resource's own belongs to. PostgreSQL: its owner; MongoDB: the URL's user
    /// may write to its own databases alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_owner: bool,
}

/// Where a restore writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case", deny_unknown_fields)]
pub enum RestoreTarget {
    /// A fresh database that then swaps names with the resource's own, which is kept aside. PostgreSQL only.
    Swap {},
    /// The resource's own database (MongoDB) or server (Redis), which must be empty.
    Own {},
    /// An empty database that exists already, on the resource's server, by name.
    Database {
        /// Its name.
        name: String,
    },
    /// An empty database that exists already, anywhere, behind a secret reference
    /// (`env:NAME` or `file:/path`) that the worker resolves.
    Reference {
        /// The reference; never a URL.
        reference: String,
    },
    /// The resource's own database or server, over what is there.
    InPlace {
        /// Repeats the resource's id: a word that cannot be typed by accident.
        overwrite: ResourceId,
        /// Keep the keys that the backup does not have. Redis only; elsewhere it is refused.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        merge: bool,
    },
}

/// Which kept database to drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropReplaced {
    /// Its whole name, `…__before_restore_…`.
    pub database: String,
}

/// One execution of a run: the identity that every artefact of it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The run; also the id of the restore point that it makes.
    pub run_id: Uuid,
    /// Rises with every claim of the run: whose turn it is, in order. Not unique: a catalog that lost commits counts once more.
    pub epoch: i64,
    /// The fencing token: random, drawn by the claim, never drawn again.
    pub attempt_id: Uuid,
    /// When the run was enqueued: part of the storage key, the same for each attempt.
    pub created_at: DateTime<Utc>,
}

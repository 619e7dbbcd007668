//! What a run can be asked to do: its typed payload, as it is stored.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::names::ResourceId;

/// One job. Stored as a JSON object whose `kind` names the variant; the names are permanent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Job {
    /// Makes a restore point of the resource.
    Backup {},
    /// Restores the resource from a restore point.
    Restore(Restore),
    /// Drops a database that a restore replaced and kept.
    DropReplaced(DropReplaced),
    /// Copies a restore point into another store.
    Copy(Copy),
    /// Reads a whole restore point back.
    Verify(Verify),
    /// Removes a restore point that retention let go, from every store that holds it.
    Expire(Expire),
    /// Restores a restore point into a server of its own, and compares it with what was dumped.
    Drill(Drill),
}

/// Which restore point to copy, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// The restore point.
    pub point: Uuid,
    /// The name of the store to copy it to.
    pub store: String,
}

/// Which restore point to read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// The restore point.
    pub point: Uuid,
    /// The name of the store to read it from. `None` means every store that holds it.
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

/// Which restore point to drill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// The restore point.
    pub point: Uuid,
}

/// A restore, as it was requested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of the stored payload, and they go together in every way"
)]
pub struct Restore {
    /// The restore point's id, which is the id of the run that made it.
    pub point: Uuid,
    /// Where to restore it.
    pub target: RestoreTarget,
    /// Leave owners out, so that everything belongs to the connecting role.
    ///
    /// A role that is not a superuser always restores this way, because it could not give ownership away.
    #[serde(default)]
    pub no_owner: bool,
    /// Leave grants out.
    #[serde(default)]
    pub no_acl: bool,
    /// Restore even though the role is a superuser, which then runs the customer's own functions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub as_superuser: bool,
    /// Put everything into the database's default tablespace, whatever tablespaces the dump names. PostgreSQL only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_tablespaces: bool,
    /// Swap even though logical replication stays with the replaced database. PostgreSQL only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_replication: bool,
    /// Require that a database given by name belongs to the owner of the resource's own. PostgreSQL: the owner is the
    /// same; MongoDB: the URL's user may write to its own databases only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_owner: bool,
}

/// Where a restore writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "snake_case", deny_unknown_fields)]
pub enum RestoreTarget {
    /// A fresh database that swaps names with the resource's own, which is kept aside. PostgreSQL only.
    Swap {},
    /// The resource's own database (MongoDB) or server (Redis), which must be empty.
    Own {},
    /// An existing, empty database on the resource's server.
    Database {
        /// Its name.
        name: String,
    },
    /// An existing, empty database anywhere, behind a secret reference (`env:NAME` or `file:/path`) that the worker
    /// resolves.
    Reference {
        /// The reference; never a URL.
        reference: String,
    },
    /// The resource's own database or server, over its contents.
    InPlace {
        /// Repeats the resource's id, which cannot be typed by accident.
        overwrite: ResourceId,
        /// Keep keys that the backup does not have. Redis only; refused for other engines.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        merge: bool,
    },
}

/// The kept database to drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropReplaced {
    /// Its full name, `…__before_restore_…`.
    pub database: String,
}

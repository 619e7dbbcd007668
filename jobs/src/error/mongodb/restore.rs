//! What can go wrong with a restore of MongoDB only.

use crate::error::{ErrorKind, JobError, MongodbError, ServerFault};

/// A failure that only the restore of this engine knows.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFault {
    /// The archive's oplog has an entry that does not fit the data.
    #[error("the archive's oplog has an entry that cannot be replayed: {why}")]
    OplogEntry {
        /// What is wrong with it.
        why: String,
    },
    /// The archive's description of a collection cannot be read.
    #[error(
        "the archive's description of the options and indexes of {namespace} cannot be read: {why}"
    )]
    BadMetadata {
        /// The collection.
        namespace: String,
        /// What is wrong.
        why: String,
    },
    /// The name is longer than any server allows, perhaps because its database has a longer name now.
    #[error(
        "{namespace:?} is too long: a database's name may have at most 63 bytes, and together with a collection's name 255"
    )]
    NameTooLong {
        /// The database and the collection.
        namespace: String,
    },
    /// The database is the server's own, or its name is one that no server accepts.
    #[error(
        "{database:?} is not a database to restore into: name one of yours, without / \\ . $ \" and spaces; admin, config \
         and local are the server's own"
    )]
    NoTarget {
        /// The name.
        database: String,
    },
    /// The database may belong to another team.
    #[error(
        "the URL's user may write to every database, so lastgood cannot tell whether {database:?} is this team's: give the \
         resource a URL whose user may write only to its own databases, or restore with a token that is not bound to a \
         team"
    )]
    OthersPerhaps {
        /// Its name.
        database: String,
    },
    /// The archive has several databases, and all would be restored into one.
    #[error("the archive holds the databases {found}: they cannot all be restored into {target:?}")]
    ManyDatabases {
        /// Their names.
        found: String,
        /// The database that they should go into.
        target: String,
    },
    /// The backup is of a whole deployment, and the URL names one database.
    #[error(
        "the backup is of a whole deployment, but the target's URL names the database {target:?}: leave it out, and append \
         ?authSource=… if the user is defined in it"
    )]
    WholeDeployment {
        /// The database in the URL.
        target: String,
    },
    /// The server does not create a collection or view with its original options.
    #[error("the target's server refuses to create {namespace} with its original options")]
    CreationRefused {
        /// The collection or view.
        namespace: String,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// The server did not take some documents.
    #[error("the target's server refused documents of {namespace}")]
    DocumentsRefused {
        /// Their collection.
        namespace: String,
        /// What the server said about the first of them.
        #[source]
        source: ServerFault,
    },
    /// A collection has fewer documents than were sent, and the server gave no reason.
    #[error(
        "{namespace} has {found} of its {expected} documents: do not use it; restore once more"
    )]
    CountDiffers {
        /// The collection.
        namespace: String,
        /// How many there should be.
        expected: u64,
        /// How many the server confirmed.
        found: u64,
    },
    /// The mark of this restore is gone, or another restore's mark stands in its place.
    #[error(
        "something else took {database:?} over while it was being filled: find out what else restores there; once that has \
         ended, drop what this restore left in it, lastgood_restore.mark included, and restore once more"
    )]
    TakenOver {
        /// The database that had the mark.
        database: String,
    },
    /// The server refuses an index that the data needs.
    #[error(
        "the target's server refuses the unique index {index:?} of {namespace}: without it nothing keeps duplicates out, \
         so nothing was restored"
    )]
    IndexRefused {
        /// Its collection.
        namespace: String,
        /// The index's name.
        index: String,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// A restore in place stopped while collections were taking their places.
    #[error(
        "the restore stopped halfway: these are restored: {new}; these are not, and any that could not be renamed may be \
         missing: {old}; restore once more"
    )]
    HalfReplaced {
        /// Namespaces that match the backup.
        new: String,
        /// Namespaces that do not.
        old: String,
        /// What stopped it.
        #[source]
        source: Box<JobError>,
    },
}

impl RestoreFault {
    /// Returns the family of the failure.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NoTarget { .. }
            | Self::OthersPerhaps { .. }
            | Self::WholeDeployment { .. }
            | Self::ManyDatabases { .. } => ErrorKind::Config,
            Self::OplogEntry { .. } | Self::BadMetadata { .. } => ErrorKind::Corrupt,
            Self::NameTooLong { .. }
            | Self::CreationRefused { .. }
            | Self::TakenOver { .. }
            | Self::IndexRefused { .. } => ErrorKind::Target,
            Self::DocumentsRefused { .. }
            | Self::CountDiffers { .. }
            | Self::HalfReplaced { .. } => ErrorKind::Restore,
        }
    }

    /// Returns whether no retry can succeed before somebody changes something.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::OplogEntry { .. }
            | Self::BadMetadata { .. }
            | Self::NameTooLong { .. }
            | Self::NoTarget { .. }
            | Self::OthersPerhaps { .. }
            | Self::ManyDatabases { .. }
            | Self::WholeDeployment { .. }
            | Self::TakenOver { .. }
            | Self::IndexRefused { .. } => true,
            // A document that is too large or breaks a rule will be refused again. A duplicate or an existing
            // collection may not be: a batch that a dead attempt sent may arrive after the next attempt has begun.
            Self::DocumentsRefused { source, .. } => {
                matches!(source.code(), Some("10334" | "121" | "2"))
            }
            Self::CreationRefused { source, .. } => source.code() != Some("48"),
            Self::CountDiffers { .. } | Self::HalfReplaced { .. } => false,
        }
    }
}

impl From<RestoreFault> for JobError {
    fn from(fault: RestoreFault) -> Self {
        MongodbError::from(fault).into()
    }
}

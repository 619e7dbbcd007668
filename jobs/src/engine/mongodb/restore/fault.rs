//! What can go wrong with a restore and nowhere else.

use crate::{
    engine::mongodb::MongodbError,
    error::{ErrorKind, JobError, ServerFault},
};

/// A failure that only a restore knows.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFault {
    /// An entry of the archive's oplog that does not fit what is there.
    #[error("the archive's oplog has an entry that cannot be replayed: {why}")]
    OplogEntry {
        /// What is wrong with it.
        why: String,
    },
    /// What an archive says of a collection cannot be read.
    #[error(
        "what the archive says of the options and indexes of {namespace} cannot be read: {why}"
    )]
    BadMetadata {
        /// Which collection.
        namespace: String,
        /// What is wrong.
        why: String,
    },
    /// A name that no server takes, perhaps because its database has a longer name now.
    #[error(
        "{namespace:?} is too long: a database's name has 63 bytes at most, and a database's and a collection's together 255"
    )]
    NameTooLong {
        /// The database and the collection.
        namespace: String,
    },
    /// A name of the server's own, or one that no server takes.
    #[error(
        "{database:?} is no database to restore into: name one of yours, without / \\ . $ \" and spaces; admin, config and \
         local are the server's own"
    )]
    NoTarget {
        /// The name.
        database: String,
    },
    /// A database that may be another team's.
    #[error(
        "the URL's user may write to every database, so that nothing tells whether {database:?} is this team's: give the resource a \
         URL whose user may write to its own databases alone, or let somebody restore whose token is bound to no team"
    )]
    OthersPerhaps {
        /// Its name.
        database: String,
    },
    /// Several databases that would all become one.
    #[error("the archive holds the databases {found}: they cannot all be restored into {target:?}")]
    ManyDatabases {
        /// Their names.
        found: String,
        /// Where they should go.
        target: String,
    },
    /// A backup of a whole deployment, and a URL that names one database.
    #[error(
        "the backup is of a whole deployment, and the target's URL names the database {target:?}: leave it out, and put \
         authSource=… behind a ? if it was the one that knows the user"
    )]
    WholeDeployment {
        /// The database in the URL.
        target: String,
    },
    /// A collection or view that cannot be made as it was.
    #[error("the target's server does not create {namespace} with the options that it had")]
    CreationRefused {
        /// Which one.
        namespace: String,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// Documents that do not get in.
    #[error("the target's server did not take documents of {namespace}")]
    DocumentsRefused {
        /// Of which collection.
        namespace: String,
        /// What the server said of the first.
        #[source]
        source: ServerFault,
    },
    /// Fewer documents than were sent, and no reason given.
    #[error(
        "{namespace} has {found} of its {expected} documents: do not use it; restore once more"
    )]
    CountDiffers {
        /// Which collection.
        namespace: String,
        /// How many there should be.
        expected: u64,
        /// How many the server confirmed.
        found: u64,
    },
    /// A target whose mark is another's now, or gone.
    #[error(
        "something else took {database:?} for its own while it was filled: see what else restores there; when it has ended, \
         drop what this restore has left in it, lastgood_restore.mark included, and restore once more"
    )]
    TakenOver {
        /// The database that had the mark.
        database: String,
    },
    /// An index that the data cannot do without.
    #[error(
        "the target's server refuses the unique index {index:?} of {namespace}: without it nothing keeps doubles out, so \
         nothing was restored"
    )]
    IndexRefused {
        /// Of which collection.
        namespace: String,
        /// Its name.
        index: String,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// A restore in place that stopped while collections took their places.
    #[error(
        "the restore stopped half way: these are restored: {new}; these are not, and those of them that could not be \
         renamed may be missing: {old}; restore once more"
    )]
    HalfReplaced {
        /// Namespaces that are as in the backup.
        new: String,
        /// Namespaces that are not.
        old: String,
        /// What stopped it.
        #[source]
        source: Box<JobError>,
    },
}

impl RestoreFault {
    /// Returns the family.
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

    /// Returns whether another attempt could never do better without somebody changing something first.
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
            // Too large, or against a rule: it will be so the next time. Not so a double, or a collection that is there
            // already: a batch that a dead attempt had sent may arrive after the next one has begun.
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

//! What can go wrong with a dump of MongoDB and nowhere else.

use crate::error::{ErrorKind, ServerFault};

/// A failure that only this engine's dump knows.
#[derive(Debug, thiserror::Error)]
pub enum DumpFault {
    /// A database without collections, which a mistyped name is too.
    #[error(
        "database {database:?} has no collections, which for MongoDB is the same as not to exist: correct the name in the \
         URL, or wait until something is in it"
    )]
    NoCollections {
        /// Its name.
        database: String,
    },
    /// A deployment with nothing but the server's own databases.
    #[error(
        "the deployment has no collections besides the server's own: see that the URL leads to the right one"
    )]
    NoDatabases,
    /// The whole dump took longer than the server remembers.
    #[error(
        "the server no longer has the snapshot that {namespace} was to be read from: raise its \
         minSnapshotHistoryWindowInSeconds (300 by default) above the time that the dump takes, or speed the dump up: a \
         read preference of secondary_preferred, a nearer worker, less in one database"
    )]
    SnapshotTooOld {
        /// Of which collection.
        namespace: String,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// A snapshot that cannot be read, for now.
    #[error(
        "the server cannot read {namespace} from its snapshot: it changes its collections or indexes right now, or \
         replicates too slowly: try again, and where it lasts see what changes them all the time"
    )]
    SnapshotUnavailable {
        /// Of which collection.
        namespace: String,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// A deployment without snapshots, which may have an oplog.
    #[error("{why}")]
    NoSnapshots {
        /// Why it has none.
        why: String,
    },
    /// No oplog that can be read.
    #[error("the oplog cannot be read: {why}")]
    NoOplog {
        /// Why not.
        why: String,
    },
    /// An oplog that is shorter than the dump was long.
    #[error(
        "the server has overwritten entries of its oplog before they were read: enlarge it (replSetResizeOplog), or speed the \
         dump up"
    )]
    OplogRolledOver,
    /// An oplog that no restore could replay.
    #[error("the oplog has an entry that cannot be replayed: {why}")]
    OplogEntry {
        /// What is wrong with it.
        why: String,
    },
    /// A collection that could not be read to its end, again and again.
    #[error(
        "{namespace} was renamed, or the server ended the read, each time that it was read: try again, and where it lasts see \
         what does so all the time"
    )]
    Renamed {
        /// Which collection.
        namespace: String,
    },
    /// A cursor that ended before its data did.
    #[error(
        "{namespace} could not be read to its end: it was dropped or renamed meanwhile, or the server ended the read"
    )]
    CutShort {
        /// Of which collection.
        namespace: String,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// A collection that was empty when its turn came, and gone or another one at the end.
    #[error(
        "{namespace} was dropped or renamed before it was read: try again, and where it lasts see what drops it all the time"
    )]
    Dropped {
        /// Which collection.
        namespace: String,
    },
    /// Users and roles that this role may not read.
    #[error(
        "the role may not read the users and roles in the database admin: grant it the role \"backup\" there, or turn \
         users_and_roles off for this resource"
    )]
    AccountsDenied(#[source] ServerFault),
    /// A time series of a server that is like MongoDB and keeps it in its own way.
    #[error(
        "the time series {namespace} has no buckets on this server, as MongoDB's has: it cannot be dumped"
    )]
    NoBuckets {
        /// Which one.
        namespace: String,
    },
    /// A kind of collection that did not exist when this was written.
    #[error("{namespace} is of a kind that this build does not know: {kind:?}")]
    UnknownKind {
        /// Which one.
        namespace: String,
        /// What the server calls it.
        kind: String,
    },
    /// Options or indexes that no restore could read back.
    #[error(
        "the options or indexes of {namespace} cannot be written so that a restore reads them, nested as they are: {why}"
    )]
    Unreadable {
        /// Which one.
        namespace: String,
        /// What is wrong.
        why: String,
    },
}

impl DumpFault {
    /// Returns the family.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::NoCollections { .. } | Self::NoDatabases => ErrorKind::Config,
            Self::AccountsDenied(_) => ErrorKind::Auth,
            Self::SnapshotTooOld { .. }
            | Self::SnapshotUnavailable { .. }
            | Self::CutShort { .. }
            | Self::Dropped { .. }
            | Self::NoSnapshots { .. }
            | Self::NoOplog { .. }
            | Self::OplogRolledOver
            | Self::OplogEntry { .. }
            | Self::Renamed { .. }
            | Self::NoBuckets { .. }
            | Self::UnknownKind { .. }
            | Self::Unreadable { .. } => ErrorKind::Dump,
        }
    }

    /// Returns whether another attempt could never do better without somebody changing something first.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::NoCollections { .. }
            | Self::NoDatabases
            | Self::AccountsDenied(_)
            | Self::NoBuckets { .. }
            | Self::UnknownKind { .. }
            | Self::Unreadable { .. } => true,
            Self::SnapshotTooOld { .. }
            | Self::SnapshotUnavailable { .. }
            | Self::CutShort { .. }
            | Self::NoSnapshots { .. }
            | Self::NoOplog { .. }
            | Self::OplogRolledOver
            | Self::OplogEntry { .. }
            | Self::Renamed { .. }
            | Self::Dropped { .. } => false,
        }
    }

    /// Returns whether a dump that is not from a snapshot may do better.
    pub(super) fn is_of_snapshot(&self) -> bool {
        match self {
            Self::SnapshotTooOld { .. }
            | Self::SnapshotUnavailable { .. }
            | Self::CutShort { .. }
            | Self::Dropped { .. }
            | Self::NoSnapshots { .. } => true,
            Self::NoCollections { .. }
            | Self::NoDatabases
            | Self::AccountsDenied(_)
            | Self::NoOplog { .. }
            | Self::OplogRolledOver
            | Self::OplogEntry { .. }
            | Self::Renamed { .. }
            | Self::NoBuckets { .. }
            | Self::UnknownKind { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// Returns whether a dump without the oplog may do better.
    pub(super) fn is_of_oplog(&self) -> bool {
        match self {
            Self::NoOplog { .. }
            | Self::OplogRolledOver
            | Self::OplogEntry { .. }
            | Self::Renamed { .. } => true,
            Self::NoCollections { .. }
            | Self::NoDatabases
            | Self::SnapshotTooOld { .. }
            | Self::SnapshotUnavailable { .. }
            | Self::CutShort { .. }
            | Self::Dropped { .. }
            | Self::NoSnapshots { .. }
            | Self::AccountsDenied(_)
            | Self::NoBuckets { .. }
            | Self::UnknownKind { .. }
            | Self::Unreadable { .. } => false,
        }
    }
}

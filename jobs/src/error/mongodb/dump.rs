//! What can go wrong with a dump of MongoDB only.

use crate::error::{ErrorKind, ServerFault};

/// A failure that only the dump of this engine knows.
#[derive(Debug, thiserror::Error)]
pub enum DumpFault {
    /// The database has no collections; a mistyped name looks the same.
    #[error(
        "database {database:?} has no collections, so to MongoDB it does not exist: correct the name in the URL, or wait \
         until it holds data"
    )]
    NoCollections {
        /// Its name.
        database: String,
    },
    /// The deployment has no databases besides the server's own.
    #[error(
        "the deployment has no collections besides the server's own: check that the URL leads to the right one"
    )]
    NoDatabases,
    /// The dump took longer than the server keeps its snapshot history.
    #[error(
        "the server no longer has the snapshot that {namespace} was to be read from: raise its \
         minSnapshotHistoryWindowInSeconds (300 by default) above the time that the dump takes, or speed the dump up with \
         the read preference secondary_preferred, a worker nearby, or smaller databases"
    )]
    SnapshotTooOld {
        /// The collection.
        namespace: String,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// The server cannot read the snapshot for now.
    #[error(
        "the server cannot read {namespace} from its snapshot: its collections or indexes are changing right now, or it \
         replicates too slowly: try again; if that does not help, find out what keeps changing them"
    )]
    SnapshotUnavailable {
        /// The collection.
        namespace: String,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// The deployment offers no snapshots. It may have an oplog.
    #[error("{why}")]
    NoSnapshots {
        /// Why it has none.
        why: String,
    },
    /// The oplog cannot be read.
    #[error("the oplog cannot be read: {why}")]
    NoOplog {
        /// Why it cannot be read.
        why: String,
    },
    /// The oplog does not reach back to the start of the dump.
    #[error(
        "the server overwrote entries of its oplog before lastgood read them: enlarge it (replSetResizeOplog), or speed \
         the dump up"
    )]
    OplogRolledOver,
    /// The oplog has an entry that no restore could replay.
    #[error("the oplog has an entry that cannot be replayed: {why}")]
    OplogEntry {
        /// What is wrong with it.
        why: String,
    },
    /// Every attempt to read a collection ended too early.
    #[error(
        "{namespace} was renamed, or the server ended the read, on every try: try again; if that does not help, find out \
         what keeps doing it"
    )]
    Renamed {
        /// The collection.
        namespace: String,
    },
    /// A cursor ended before its data did.
    #[error(
        "{namespace} could not be read to its end: it was dropped or renamed meanwhile, or the server ended the read"
    )]
    CutShort {
        /// The collection.
        namespace: String,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// A collection was empty when it was read, and was gone or another one at the end.
    #[error(
        "{namespace} was dropped or renamed before it was read: try again; if that does not help, find out what keeps \
         dropping it"
    )]
    Dropped {
        /// The collection.
        namespace: String,
    },
    /// The role may not read users and roles.
    #[error(
        "the role may not read the users and roles in the database admin: grant it the role \"backup\" there, or turn \
         users_and_roles off for this resource"
    )]
    AccountsDenied(#[source] ServerFault),
    /// A time series has no buckets, because a server that is not MongoDB stores it in its own way.
    #[error(
        "the time series {namespace} cannot be dumped: this server does not store it in buckets, as MongoDB does"
    )]
    NoBuckets {
        /// The time series.
        namespace: String,
    },
    /// A collection is of a kind that this build does not know.
    #[error("{namespace} is of a kind that this build does not know: {kind:?}")]
    UnknownKind {
        /// The collection.
        namespace: String,
        /// What the server calls it.
        kind: String,
    },
    /// No restore could read the collection's options or indexes back.
    #[error(
        "the options or indexes of {namespace} are nested too deeply for a restore to read them: {why}"
    )]
    Unreadable {
        /// The collection.
        namespace: String,
        /// What is wrong.
        why: String,
    },
}

impl DumpFault {
    /// Returns the family of the failure.
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

    /// Returns whether no retry can succeed before somebody changes something.
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

    /// Returns whether a dump without a snapshot may succeed.
    pub(crate) fn is_of_snapshot(&self) -> bool {
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

    /// Returns whether a dump without the oplog may succeed.
    pub(crate) fn is_of_oplog(&self) -> bool {
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

//! What can go wrong with Redis and Valkey and nowhere else.

use crate::error::{ErrorKind, JobError, ServerFault};

/// A failure that only this engine knows.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The connection URL does not parse, or asks for what is not supported.
    #[error("the connection URL cannot be used: {why}")]
    Address {
        /// Why. Repeats nothing of the URL but names of parameters.
        why: String,
    },
    /// A file that the URL names cannot be used.
    #[error(
        "the file that the connection URL names as {parameter} cannot be used by this worker: {why}"
    )]
    TlsFile {
        /// The URL's parameter.
        parameter: &'static str,
        /// Why.
        why: String,
    },
    /// A node of a cluster.
    #[error(
        "the server is one node of a cluster, with a part of the keys: one standalone server, or a replica set, is supported"
    )]
    Cluster,
    /// A user that may neither be a replica nor read all keys.
    #[error(
        "the user may not read all data: grant it `+sync +psync +replconf +info`, or where the server takes no replicas \
         `~* +info +select +scan +dump +pttl +pexpiretime +function|list`"
    )]
    NotReadable {
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// More keys than can be told apart.
    #[error(
        "a database has more than {most} keys, too many to be read one by one: let the user replicate, \
         `+sync +psync +replconf`"
    )]
    TooManyKeys {
        /// The most there may be.
        most: usize,
    },
    /// A value that no reply may hold.
    #[error(
        "a value of {bytes} bytes is too large to be read by itself (DUMP): let the user replicate, `+sync +psync +replconf`"
    )]
    ValueTooLarge {
        /// How large the server said it is.
        bytes: usize,
    },
    /// A snapshot that ended too early.
    #[error(
        "the server cut its snapshot off after {received_bytes} bytes: it stopped, could not save, or this replica was \
         too slow for its client-output-buffer-limit: see its log"
    )]
    Cut {
        /// What had come.
        received_bytes: u64,
        /// What happened to the connection.
        #[source]
        source: ServerFault,
    },
    /// A server that has other things to do first.
    #[error(
        "cannot {doing}: the server is not ready for it: see what it waits for; this is tried again"
    )]
    NotReady {
        /// What was being done.
        doing: &'static str,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// A target that follows another server.
    #[error("the target is a replica, which takes no writes: name its primary")]
    TargetIsReplica,
    /// A target with fewer databases than the backup.
    #[error(
        "the backup has keys in {needed} databases, and the target has fewer: start it with `databases {needed}` or more"
    )]
    TooFewDatabases {
        /// How many it takes.
        needed: u64,
        /// What the target said.
        #[source]
        source: ServerFault,
    },
    /// A target that does not know the backup's encoding.
    #[error(
        "the target is {target} and does not take what {dump}: restore into a server of that line, and as new or newer"
    )]
    TargetOlder {
        /// Which server the target is.
        target: String,
        /// Who dumped, in which encoding: `Redis 7.0.15 dumped (RDB version 10)`.
        dump: String,
        /// What the target said.
        #[source]
        source: ServerFault,
    },
    /// A target that knows no functions.
    #[error(
        "the backup has functions, and the target, {target}, knows none: restore into 7.0 or newer"
    )]
    NoFunctions {
        /// Which server the target is.
        target: String,
    },
    /// A target that takes no writes.
    #[error("the target takes no keys: {advice}")]
    CannotWrite {
        /// What to do.
        advice: &'static str,
        /// What the target said.
        #[source]
        source: ServerFault,
    },
    /// A key that the target does not take.
    #[error("the target refused {what}: {advice}")]
    KeyRefused {
        /// `RESTORE of key:1 in database 0`: keys are shortened, and nothing in them breaks a line.
        what: String,
        /// What to do.
        advice: &'static str,
        /// What the target said.
        #[source]
        source: ServerFault,
    },
    /// A target that dropped keys to have memory.
    #[error(
        "the target dropped {evicted} keys during the restore, because its maxmemory is reached: raise it, or take a \
         larger server"
    )]
    Evicted {
        /// How many.
        evicted: u64,
    },
    /// A target that has less than it took.
    #[error(
        "the target took {written} keys and has {found}: see who else writes to it, keep them out, and restore once more"
    )]
    KeysMissing {
        /// How many it has.
        found: u64,
        /// How many it took.
        written: u64,
    },
    /// A restore that failed after its first write.
    #[error(
        "{server} is half restored, with {keys} keys or more of the backup: do not use it; see to the cause, then restore \
         once more, in place where it is a new restore"
    )]
    HalfRestored {
        /// The target's host and port.
        server: String,
        /// Keys that the target has said yes to.
        keys: u64,
        /// Why.
        #[source]
        source: Box<JobError>,
    },
}

impl RedisError {
    /// Returns the family.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. }
            | Self::TlsFile { .. }
            | Self::Cluster
            | Self::TooManyKeys { .. }
            | Self::ValueTooLarge { .. } => ErrorKind::Config,
            Self::NotReadable { .. } => ErrorKind::Auth,
            Self::Cut { .. } => ErrorKind::Dump,
            Self::NotReady { .. } => ErrorKind::Connect,
            Self::TargetIsReplica
            | Self::TooFewDatabases { .. }
            | Self::TargetOlder { .. }
            | Self::NoFunctions { .. }
            | Self::CannotWrite { .. }
            | Self::Evicted { .. } => ErrorKind::Target,
            Self::KeyRefused { .. } | Self::KeysMissing { .. } => ErrorKind::Restore,
            Self::HalfRestored { source, .. } => source.kind(),
        }
    }

    /// Returns whether another attempt could never do better without somebody changing something first.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Address { .. }
            | Self::TlsFile { .. }
            | Self::Cluster
            | Self::NotReadable { .. }
            | Self::TooManyKeys { .. }
            | Self::ValueTooLarge { .. }
            | Self::TargetIsReplica
            | Self::TooFewDatabases { .. }
            | Self::TargetOlder { .. }
            | Self::NoFunctions { .. }
            | Self::Evicted { .. } => true,
            Self::Cut { .. } | Self::NotReady { .. } | Self::KeysMissing { .. } => false,
            Self::CannotWrite { source, .. } | Self::KeyRefused { source, .. } => !may_pass(source),
            Self::HalfRestored { source, .. } => source.is_permanent(),
        }
    }
}

/// Returns whether a server may think otherwise a little later: a disk that was full, a primary that is being elected.
fn may_pass(fault: &ServerFault) -> bool {
    matches!(
        fault.code(),
        Some("MISCONF" | "READONLY" | "NOREPLICAS" | "TRYAGAIN" | "BUSYGROUP")
    )
}

//! What can go wrong with Redis and Valkey only.

use super::{ErrorKind, JobError, ServerFault};

/// A failure that only this engine knows.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The connection URL does not parse, or asks for something that is not supported.
    #[error("the connection URL cannot be used: {why}")]
    Address {
        /// Why. Repeats nothing of the URL but parameters' names.
        why: String,
    },
    /// A file that the URL names cannot be used.
    #[error("this worker cannot use the file that the connection URL names as {parameter}: {why}")]
    TlsFile {
        /// The URL's parameter.
        parameter: &'static str,
        /// Why.
        why: String,
    },
    /// The server is a node of a cluster.
    #[error(
        "the server is one node of a cluster and holds only part of the keys: lastgood supports a standalone server, or a \
         primary with replicas"
    )]
    Cluster,
    /// The user may neither replicate nor read all keys.
    #[error(
        "the user may not read all data: grant it `+sync +psync +replconf +info`, or, where the server accepts no \
         replicas, `~* +info +select +scan +dump +pttl +pexpiretime +function|list`"
    )]
    NotReadable {
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// A database has more keys than the dump can keep apart.
    #[error(
        "a database has more than {most} keys, too many to read one by one: let the user replicate, `+sync +psync \
         +replconf`"
    )]
    TooManyKeys {
        /// The most keys that a database may have.
        most: usize,
    },
    /// A value is larger than a reply may be.
    #[error(
        "a value of {bytes} bytes is too large to read by itself (DUMP): let the user replicate, `+sync +psync +replconf`"
    )]
    ValueTooLarge {
        /// The size that the server announced.
        bytes: usize,
    },
    /// The snapshot ended too early.
    #[error(
        "the server cut its snapshot off after {received_bytes} bytes: it stopped, could not save, or this replica was \
         too slow for its client-output-buffer-limit: see its log"
    )]
    Cut {
        /// How many bytes had arrived.
        received_bytes: u64,
        /// What happened to the connection.
        #[source]
        source: ServerFault,
    },
    /// The server has to do something else first.
    #[error(
        "cannot {doing}: the server is not ready for it: see what it is waiting for; lastgood tries again"
    )]
    NotReady {
        /// What was being done.
        doing: &'static str,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// The server does not have a command.
    #[error(
        "cannot {doing}: the server does not know the command: it was renamed (rename-command), or the provider disables \
         it; enable it, or let the user replicate, `+sync +psync +replconf`"
    )]
    NoSuchCommand {
        /// What was being done.
        doing: &'static str,
        /// What the server said, without the command's arguments.
        #[source]
        source: ServerFault,
    },
    /// The server cannot make a snapshot.
    #[error(
        "the server did not send its snapshot: it could not fork or save, or has no room: see its answer, and its log"
    )]
    NoSnapshot {
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// The server refused, and its answer has no known code.
    #[error("cannot {doing}: the server refuses it: see its answer, and its log")]
    Said {
        /// What was being done.
        doing: &'static str,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// The server does not speak TLS.
    #[error(
        "{server} does not speak TLS: begin the connection URL with redis:// or valkey://, or name the server's TLS port"
    )]
    NoTls {
        /// Its host and port.
        server: String,
    },
    /// The server speaks only TLS.
    #[error("{server} speaks TLS: begin the connection URL with rediss:// or valkeys://")]
    NeedsTls {
        /// Its host and port.
        server: String,
    },
    /// The server's certificate is not accepted.
    #[error(
        "the server's certificate is not accepted: name the authority that signed it with tls-ca-file, or the name that it \
         was issued for with tls-server-name"
    )]
    Certificate {
        /// What is wrong with the certificate.
        #[source]
        source: ServerFault,
    },
    /// The target is a replica.
    #[error("the target is a replica, which takes no writes: name its primary")]
    TargetIsReplica,
    /// The target has fewer databases than the backup.
    #[error(
        "the backup has keys in {needed} databases, and the target has fewer: start it with `databases {needed}` or more"
    )]
    TooFewDatabases {
        /// How many databases the backup needs.
        needed: u64,
        /// What the target said.
        #[source]
        source: ServerFault,
    },
    /// The target does not know the backup's encoding.
    #[error(
        "the target is {target} and does not accept what {dump}: restore into a server of the same kind, of that version \
         or newer"
    )]
    TargetOlder {
        /// Which server the target is.
        target: String,
        /// Which server made the dump, in which encoding: `Redis 7.0.15 dumped (RDB version 10)`.
        dump: String,
        /// What the target said.
        #[source]
        source: ServerFault,
    },
    /// The target does not support functions.
    #[error(
        "the backup has functions, which the target, {target}, does not support: restore into 7.0 or newer"
    )]
    NoFunctions {
        /// Which server the target is.
        target: String,
    },
    /// The target does not support a kind of value.
    #[error("the target, {target}, does not accept {what}: {advice}")]
    TargetLacks {
        /// Which server the target is.
        target: String,
        /// For example `values of the module type vectorset`.
        what: String,
        /// What to do about it.
        advice: &'static str,
        /// What the target said about the shortest such value in the backup.
        #[source]
        source: ServerFault,
    },
    /// The target does not accept the backup's functions.
    #[error(
        "the target, {target}, does not accept the backup's function libraries: restore into a server that runs them, or \
         remove what they conflict with"
    )]
    FunctionsRefused {
        /// Which server the target is.
        target: String,
        /// What the target said.
        #[source]
        source: ServerFault,
    },
    /// The target has too little memory.
    #[error(
        "the target may use {limit_bytes} bytes of memory (maxmemory, policy {policy}), but the backup's server used \
         {needed_bytes} for these keys: raise maxmemory to that or more, or use a larger server"
    )]
    TooLittleMemory {
        /// Its maxmemory.
        limit_bytes: u64,
        /// Its policy once the limit is reached.
        policy: String,
        /// About how many bytes the restore needs.
        needed_bytes: u64,
    },
    /// The target does not accept a value of this length.
    #[error(
        "the backup has a value of {needed_bytes} bytes, but the target's {setting} is {limit_bytes}: raise it (CONFIG \
         SET), or start a server of your own from the RDB file itself"
    )]
    ValueTooLong {
        /// The name of the target's setting.
        setting: &'static str,
        /// The setting's value.
        limit_bytes: u64,
        /// The length of the longest value.
        needed_bytes: u64,
    },
    /// An element is too long for any command.
    #[error(
        "the backup has an element of {argument_bytes} bytes, but a restore over the network writes elements of at most 1 \
         GiB: start a server of your own from the RDB file itself (zstd -d), with the same proto-max-bulk-len"
    )]
    ElementTooLong {
        /// The element's length.
        argument_bytes: u64,
    },
    /// The customer's keys have the names of a restore's mark.
    #[error(
        "the keys {} and {} are taken, and a restore needs one of them to mark the target as half restored: rename one",
        names[0], names[1]
    )]
    MarksTaken {
        /// Their names.
        names: [&'static str; 2],
    },
    /// The target takes no writes.
    #[error("the target accepts no keys: {advice}")]
    CannotWrite {
        /// What to do about it.
        advice: &'static str,
        /// What the target said.
        #[source]
        source: ServerFault,
    },
    /// The target refuses a key.
    #[error("the target refused {what}: {advice}")]
    KeyRefused {
        /// For example `RESTORE of key:1 in database 0`. Keys are shortened, and nothing in them breaks a line.
        what: String,
        /// What to do about it.
        advice: &'static str,
        /// What the target said.
        #[source]
        source: ServerFault,
    },
    /// The target evicted keys to free memory.
    #[error(
        "the target evicted {evicted} keys during the restore, because it reached its maxmemory: raise it, or use a larger \
         server"
    )]
    Evicted {
        /// How many keys it evicted.
        evicted: u64,
    },
    /// The target has fewer keys than it accepted.
    #[error(
        "the target accepted {written} keys but has {found}: find out who else writes to it, keep them out, and restore \
         once more"
    )]
    KeysMissing {
        /// How many keys it has.
        found: u64,
        /// How many keys it accepted.
        written: u64,
    },
    /// The restore failed after its first write.
    #[error(
        "{server} is half restored, with {keys} or more of the backup's keys: do not use it; fix the cause, then restore \
         once more, in place if it is a new restore"
    )]
    HalfRestored {
        /// The target's host and port.
        server: String,
        /// How many keys the target has confirmed.
        keys: u64,
        /// Why.
        #[source]
        source: Box<JobError>,
    },
}

impl RedisError {
    /// Returns the family of the failure.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. }
            | Self::TlsFile { .. }
            | Self::Cluster
            | Self::TooManyKeys { .. }
            | Self::NoSuchCommand { .. }
            | Self::NoTls { .. }
            | Self::NeedsTls { .. }
            | Self::Certificate { .. }
            | Self::ValueTooLarge { .. } => ErrorKind::Config,
            Self::NotReadable { .. } => ErrorKind::Auth,
            Self::Cut { .. } | Self::NoSnapshot { .. } => ErrorKind::Dump,
            Self::NotReady { .. } | Self::Said { .. } => ErrorKind::Connect,
            Self::TargetIsReplica
            | Self::TooFewDatabases { .. }
            | Self::TargetOlder { .. }
            | Self::NoFunctions { .. }
            | Self::TargetLacks { .. }
            | Self::FunctionsRefused { .. }
            | Self::TooLittleMemory { .. }
            | Self::ValueTooLong { .. }
            | Self::ElementTooLong { .. }
            | Self::MarksTaken { .. }
            | Self::CannotWrite { .. }
            | Self::Evicted { .. } => ErrorKind::Target,
            Self::KeyRefused { .. } | Self::KeysMissing { .. } => ErrorKind::Restore,
            Self::HalfRestored { source, .. } => source.kind(),
        }
    }

    /// Returns whether no retry can succeed before somebody changes something.
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
            | Self::NoSuchCommand { .. }
            | Self::NoTls { .. }
            | Self::NeedsTls { .. }
            | Self::Certificate { .. }
            | Self::TooLittleMemory { .. }
            | Self::ValueTooLong { .. }
            | Self::ElementTooLong { .. }
            | Self::MarksTaken { .. }
            | Self::Evicted { .. } => true,
            Self::Cut { .. }
            | Self::NoSnapshot { .. }
            | Self::NotReady { .. }
            | Self::Said { .. }
            | Self::KeysMissing { .. } => false,
            Self::CannotWrite { source, .. }
            | Self::KeyRefused { source, .. }
            | Self::TargetLacks { source, .. }
            | Self::FunctionsRefused { source, .. } => !may_pass(source),
            Self::HalfRestored { source, .. } => source.is_permanent(),
        }
    }
}

/// Returns whether the server may soon answer otherwise: its disk was full, or a primary is being elected.
fn may_pass(fault: &ServerFault) -> bool {
    matches!(
        fault.code(),
        Some("MISCONF" | "READONLY" | "NOREPLICAS" | "TRYAGAIN" | "BUSYGROUP")
    )
}

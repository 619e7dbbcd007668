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
    /// A command that the server does not have.
    #[error(
        "cannot {doing}: the server does not know the command: it was renamed away (rename-command), or the provider leaves it \
         out; bring it back, or let the user replicate, `+sync +psync +replconf`"
    )]
    NoSuchCommand {
        /// What was being done.
        doing: &'static str,
        /// What the server said, without the command's arguments.
        #[source]
        source: ServerFault,
    },
    /// A server that cannot make a snapshot.
    #[error(
        "the server does not give its snapshot: it could not fork or save, or has no room to: see what it says, and its log"
    )]
    NoSnapshot {
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// A server that said no, and has no word for why.
    #[error("cannot {doing}: the server refuses it: see what it says, and its log")]
    Said {
        /// What was being done.
        doing: &'static str,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// A server without TLS.
    #[error(
        "{server} does not speak TLS: begin the connection URL with redis:// or valkey://, or name the server's TLS port"
    )]
    NoTls {
        /// Its host and port.
        server: String,
    },
    /// A server that speaks nothing but TLS.
    #[error("{server} speaks TLS: begin the connection URL with rediss:// or valkeys://")]
    NeedsTls {
        /// Its host and port.
        server: String,
    },
    /// A certificate that proves nothing.
    #[error(
        "the server's certificate is not accepted: name the authority that signed it with tls-ca-file, or the name that it is made \
         out to with tls-server-name"
    )]
    Certificate {
        /// What is wrong with it.
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
    /// A target that does not know a kind of value.
    #[error("the target, {target}, does not take {what}: {advice}")]
    TargetLacks {
        /// Which server the target is.
        target: String,
        /// `values of the module type vectorset`.
        what: String,
        /// What to do.
        advice: &'static str,
        /// What the target said of the shortest such value of the backup.
        #[source]
        source: ServerFault,
    },
    /// A target whose functions are not to be had from the backup.
    #[error(
        "the target, {target}, does not take the backup's function libraries: restore into a server that runs them, or remove \
         what they conflict with"
    )]
    FunctionsRefused {
        /// Which server the target is.
        target: String,
        /// What the target said.
        #[source]
        source: ServerFault,
    },
    /// A target with too little memory.
    #[error(
        "the target may use {limit_bytes} bytes of memory (maxmemory, policy {policy}), and the backup's server used {needed_bytes} for \
         these keys: raise maxmemory to that or more, or take a larger server"
    )]
    TooLittleMemory {
        /// Its maxmemory.
        limit_bytes: u64,
        /// What it does when that is reached.
        policy: String,
        /// What is needed, about.
        needed_bytes: u64,
    },
    /// A target that takes no value of such a length.
    #[error(
        "the backup has a value of {needed_bytes} bytes, and the target's {setting} is {limit_bytes}: raise it (CONFIG SET), or start a \
         server of your own from the RDB file itself"
    )]
    ValueTooLong {
        /// The target's setting.
        setting: &'static str,
        /// What it says.
        limit_bytes: u64,
        /// How long the longest value is.
        needed_bytes: u64,
    },
    /// An element that no command holds.
    #[error(
        "the backup has an element of {argument_bytes} bytes, and a restore over the network writes none over 1 GiB: start a server of \
         your own from the RDB file itself (zstd -d), with the same proto-max-bulk-len"
    )]
    ElementTooLong {
        /// How long it is.
        argument_bytes: u64,
    },
    /// A customer's keys where the mark of a restore should be.
    #[error(
        "the keys {} and {} are taken, and a restore needs one of them to mark the target as half restored: rename one",
        names[0], names[1]
    )]
    MarksTaken {
        /// Their names.
        names: [&'static str; 2],
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

/// Returns whether a server may think otherwise a little later: a disk that was full, a primary that is being elected.
fn may_pass(fault: &ServerFault) -> bool {
    matches!(
        fault.code(),
        Some("MISCONF" | "READONLY" | "NOREPLICAS" | "TRYAGAIN" | "BUSYGROUP")
    )
}

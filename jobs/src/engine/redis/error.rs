//! What can go wrong with Redis and Valkey and nowhere else.

use crate::error::{ErrorKind, ServerFault};

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
}

impl RedisError {
    /// Returns the family.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. }
            | Self::TlsFile { .. }
            | Self::Cluster
            | Self::TooManyKeys { .. } => ErrorKind::Config,
            Self::NotReadable { .. } => ErrorKind::Auth,
            Self::Cut { .. } => ErrorKind::Dump,
            Self::NotReady { .. } => ErrorKind::Connect,
        }
    }

    /// Returns whether another attempt could never do better without somebody changing something first.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Address { .. }
            | Self::TlsFile { .. }
            | Self::Cluster
            | Self::NotReadable { .. }
            | Self::TooManyKeys { .. } => true,
            Self::Cut { .. } | Self::NotReady { .. } => false,
        }
    }
}

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
            Self::Address { .. } | Self::TlsFile { .. } | Self::Cluster => ErrorKind::Config,
            Self::NotReady { .. } => ErrorKind::Connect,
        }
    }

    /// Returns whether another attempt could never do better without somebody changing something first.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Address { .. } | Self::TlsFile { .. } | Self::Cluster => true,
            Self::NotReady { .. } => false,
        }
    }
}

//! What can go wrong with MongoDB only.

mod dump;
mod restore;

pub use self::{dump::DumpFault, restore::RestoreFault};
use super::ErrorKind;

/// A failure that only this engine knows.
#[derive(Debug, thiserror::Error)]
pub enum MongodbError {
    /// The connection URL does not parse, or asks for something that is not supported.
    #[error("the connection URL cannot be used: {why}")]
    Address {
        /// Why. Repeats nothing of the URL but parameters' names.
        why: String,
    },
    /// The server's certificate is not trusted.
    #[error(
        "the server's certificate is not trusted ({why}): name the file of the authority that signed it with tlsCAFile=…, \
         and check that the certificate has the host name in the URL"
    )]
    Certificate {
        /// What is wrong with the certificate.
        why: String,
    },
    /// The replica set does not have the name in the URL.
    #[error(
        "the URL asks for the replica set {asked:?}, but {}: correct replicaSet=… in the URL, or leave it out",
        of_set(found.as_deref())
    )]
    ReplicaSetName {
        /// The name in the URL.
        asked: String,
        /// The name that a server gave; `None` if it is in no replica set.
        found: Option<String>,
    },
    /// The server is older than the driver supports.
    #[error(
        "the server is older than MongoDB 4.4, the oldest that lastgood backs up (it speaks version {wire_version} of the wire \
         protocol): upgrade it"
    )]
    TooOld {
        /// The latest version of the wire protocol that it speaks.
        wire_version: i32,
    },
    /// The URL leads to a router of a sharded cluster.
    #[error(
        "the URL leads to a mongos, and lastgood cannot back up or restore a sharded cluster as a whole: register each shard's \
         replica set with --shard; their backups are not of one instant of the cluster"
    )]
    ShardedCluster,
    /// The server is a shard, and the resource does not say that this is meant.
    #[error(
        "the server is one shard of a cluster: it holds only part of the data, and writes past the cluster's routers can damage \
         the cluster; to back up this shard alone, set --shard for its resource; to restore, use a replica set that belongs to no \
         cluster"
    )]
    Shard,
    /// The server is one of the config servers of a sharded cluster.
    #[error(
        "the server is a config server of a sharded cluster, and lastgood backs up none of those: use mongodump"
    )]
    ConfigServers,
    /// An answer has a length or kind that no MongoDB server sends. It was not read.
    #[error(
        "the server {what}: it is not a MongoDB server, or something answers in its place; check that the URL names yours"
    )]
    Unbelievable {
        /// What it did.
        what: String,
    },
    /// MongoDB's protocol does not allow this answer.
    #[error("cannot {doing}: the server's answer has {what}")]
    OddAnswer {
        /// What was being done.
        doing: &'static str,
        /// What is odd about it.
        what: &'static str,
    },
    /// A failure that only a restore knows.
    #[error(transparent)]
    Restore(#[from] RestoreFault),
    /// A failure that only a dump knows.
    #[error(transparent)]
    Dump(#[from] DumpFault),
}

fn of_set(found: Option<&str>) -> String {
    match found {
        Some(found) => format!("the server belongs to {found:?}"),
        None => "the server belongs to none".to_owned(),
    }
}

impl MongodbError {
    /// Returns the family of the failure.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. }
            | Self::Certificate { .. }
            | Self::ReplicaSetName { .. }
            | Self::TooOld { .. }
            | Self::ShardedCluster
            | Self::Shard
            | Self::ConfigServers
            | Self::Unbelievable { .. } => ErrorKind::Config,
            Self::OddAnswer { .. } => ErrorKind::Internal,
            Self::Restore(fault) => fault.kind(),
            Self::Dump(fault) => fault.kind(),
        }
    }

    /// Returns whether no retry can succeed before somebody changes something.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Address { .. }
            | Self::Certificate { .. }
            | Self::ReplicaSetName { .. }
            | Self::TooOld { .. }
            | Self::ShardedCluster
            | Self::Shard
            | Self::ConfigServers
            | Self::Unbelievable { .. } => true,
            Self::OddAnswer { .. } => false,
            Self::Restore(fault) => fault.is_permanent(),
            Self::Dump(fault) => fault.is_permanent(),
        }
    }
}

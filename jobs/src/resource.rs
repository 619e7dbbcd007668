//! A protected resource: its names, and the connection that reaches it.

use serde::{Deserialize, Serialize};

use crate::engine::address::Address;
pub use crate::names::{Engine, NameError, ResourceId, TeamId, Tier, UnsupportedEngine};

/// One protected database as a job sees it: the catalog's row, with its secret resolved.
#[derive(Debug, Clone)]
pub struct Resource {
    /// The resource's id.
    pub id: ResourceId,
    /// The team that owns it.
    pub team: TeamId,
    /// The tier when the job began. It is recorded in the manifest, and decides nothing.
    pub tier: Tier,
    /// The engine that backs it up.
    pub engine: Engine,
    /// How to reach it, password included.
    pub address: Address,
    /// Further options for its backups.
    pub options: ResourceOptions,
}

/// What a resource's owner can choose about its backups. Stored as a JSON object; the names are permanent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceOptions {
    /// Which member of a replica set is read. MongoDB only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_preference: Option<ReadPreference>,
    /// Whether the backup includes the database's users and roles with their password hashes. MongoDB only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub users_and_roles: bool,
    /// Whether the replica set is one shard of a sharded cluster, to be backed up alone. MongoDB only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shard: bool,
}

/// Which member of a MongoDB replica set a dump reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadPreference {
    /// The primary.
    Primary,
    /// A secondary, or the primary if there is no secondary.
    SecondaryPreferred,
}

//! What registering a resource takes: a checked and sealed connection, the engine's options, and the promise in words.

use std::fmt;

use lastgood_jobs::{
    engine::address::Address,
    resource::{Engine, ReadPreference, ResourceId, ResourceOptions, Tier},
};
use secrecy::SecretString;

use super::RequestError;
use crate::{
    catalog::{Catalog, ResourceRow, StoredConnection},
    master,
    plan::{Cadence, Plans},
    secret::{MasterKeys, SecretError},
};

/// Returns a URL as the catalog stores it: checked, and sealed under the master key that seals this catalog.
///
/// Never seals under another key: the URL might then be impossible to open.
pub async fn seal(
    catalog: &Catalog,
    keys: Option<&MasterKeys>,
    id: &ResourceId,
    engine: Engine,
    url: &SecretString,
) -> Result<StoredConnection, RequestError> {
    Address::parse(engine, url).map_err(RequestError::Url)?;
    let keys = keys.ok_or(SecretError::NoMasterKey)?;
    let sealer = master::sealer(catalog, keys).await?;
    Ok(StoredConnection::Sealed {
        url: sealer.key.seal(id.as_str(), url)?,
        under: sealer.number,
    })
}

/// The options of a resource that are to be set; `None` leaves one as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct OptionsChange {
    /// Which member of a replica set is read.
    pub read_preference: Option<ReadPreference>,
    /// Whether the backup includes users and roles.
    pub users_and_roles: Option<bool>,
    /// Whether the replica set is one shard of a sharded cluster, to be backed up alone.
    pub shard: Option<bool>,
}

impl OptionsChange {
    /// Returns whether any option is to be set.
    #[must_use]
    pub fn is_any(self) -> bool {
        let Self {
            read_preference,
            users_and_roles,
            shard,
        } = self;
        read_preference.is_some() || users_and_roles.is_some() || shard.is_some()
    }
}

/// Returns `before` with the given options changed, or an error if the engine has no options.
pub fn changed_options(
    change: OptionsChange,
    engine: Engine,
    before: ResourceOptions,
) -> Result<ResourceOptions, RequestError> {
    let has_options = match engine {
        Engine::Mongodb => true,
        Engine::Postgres | Engine::Vector | Engine::Redis => false,
    };
    if !has_options && change.is_any() {
        return Err(RequestError::NoOptions(engine));
    }
    Ok(ResourceOptions {
        read_preference: change.read_preference.or(before.read_preference),
        users_and_roles: change.users_and_roles.unwrap_or(before.users_and_roles),
        shard: change.shard.unwrap_or(before.shard),
    })
}

/// Returns the stored options of a resource.
pub fn stored_options(row: &ResourceRow) -> Result<ResourceOptions, RequestError> {
    serde_json::from_value(row.options.clone())
        .map_err(|error| RequestError::StoredOptions(row.id.clone(), error))
}

/// What the plans promise a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promise {
    /// Its tier is not in the plans.
    Unknown(Tier),
    /// Its tier is never backed up.
    Never(Tier),
    /// Its own retention of this many days vetoes backups.
    Vetoed(i32),
    /// It is backed up at this cadence.
    Every(Cadence),
}

/// Returns what the plans in this process promise. The producer goes by its own plans.
#[must_use]
pub fn promise(plans: &Plans, tier: &Tier, retention_days: Option<i32>) -> Promise {
    match plans.get(tier).map(|plan| plan.protection.cadence()) {
        None => Promise::Unknown(tier.clone()),
        Some(None) => Promise::Never(tier.clone()),
        Some(Some(cadence)) => match retention_days {
            Some(days @ ..=0) => Promise::Vetoed(days),
            Some(_) | None => Promise::Every(cadence),
        },
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(tier) => write!(
                f,
                "tier {tier} is not in the plans: NOT backed up until it is added"
            ),
            Self::Never(tier) => write!(f, "tier {tier} is never backed up"),
            Self::Vetoed(0) => f.write_str("retention 0: it is never backed up"),
            Self::Vetoed(days) => write!(
                f,
                "retention {days}, which is less than a day: it is never backed up"
            ),
            Self::Every(cadence) => write!(f, "backed up {cadence}"),
        }
    }
}

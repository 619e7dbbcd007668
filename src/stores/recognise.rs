//! Is a store the one meant, and does it belong to this installation? Its identity object and the catalog's record decide.

use futures::TryStreamExt as _;
use lastgood_jobs::storage::{IDENTITY, Identity};
use uuid::Uuid;

use super::{NamedStore, Unrecognised};
use crate::catalog::{Catalog, CatalogError, Installations, StoreIdentity};

/// Why a store may not be written to.
#[derive(Debug, thiserror::Error)]
pub enum Stranger {
    /// It was made by another installation.
    #[error(
        "it belongs to installation {theirs}, and this catalog is installation {ours}: two installations cannot share a store, or \
         each would take the other's restore points for its own; give this one a directory or a prefix of its own, or, if that \
         installation is lost and this catalog takes its place: `lastgood catalog rebuild --from STORE --adopt-installation {theirs}`"
    )]
    Foreign {
        /// The installation that it belongs to.
        theirs: Uuid,
        /// This catalog's installation.
        ours: Uuid,
    },
    /// It is not the store on record under its name.
    #[error(
        "it is store {found}, and store {meant} is on record under its name: see that the right one is mounted and configured; if \
         this one is to take its place: `lastgood store forget {name} --confirm {name}`"
    )]
    Exchanged {
        /// The store's name.
        name: String,
        /// The id of the store on record.
        meant: Uuid,
        /// The id of the store that was found.
        found: Uuid,
    },
    /// The identity object that it had is missing.
    #[error(
        "it has no {IDENTITY}, and store {meant} is on record under its name: it is not mounted, was emptied, or is another one; if \
         only that object was lost: `lastgood store adopt {name}`"
    )]
    Nameless {
        /// The store's name.
        name: String,
        /// The id of the store on record.
        meant: Uuid,
    },
    /// It holds restore points that this catalog does not know.
    #[error(
        "it holds restore points but has no {IDENTITY}, and this catalog has none on record in it: if the catalog was lost, \
         `lastgood catalog rebuild --from STORE` first; if the store is to be used as it is: `lastgood store adopt {name}`"
    )]
    Unknown {
        /// The store's name.
        name: String,
    },
    /// It is the same place as another store.
    #[error(
        "it is the same place as store {other:?} (id {id}), so a copy there would protect nothing: take one of them out of the stores \
         file; if it was made by copying the other, remove its {IDENTITY}"
    )]
    SamePlace {
        /// The other store's name.
        other: String,
        /// The id of both.
        id: Uuid,
    },
    /// It overwrites objects that must be written once.
    #[error(
        "it overwrites objects that must be written once: it does not support the condition `If-None-Match: *`; two attempts of one run could \
         replace each other's manifest; use another service, or accept that with `write_once: false` in the stores file \
         (LASTGOOD_S3_WRITE_ONCE=false without one), see docs/how-to/stores.md"
    )]
    Overwrites,
}

impl Stranger {
    /// Returns whether it may be the right store without its identity object.
    #[must_use]
    pub fn has_lost_its_identity(&self) -> bool {
        match self {
            Self::Nameless { .. } => true,
            Self::Foreign { .. }
            | Self::Exchanged { .. }
            | Self::Unknown { .. }
            | Self::SamePlace { .. }
            | Self::Overwrites => false,
        }
    }

    /// Returns whether the configuration is at fault, rather than a mount.
    pub(super) fn is_of_the_configuration(&self) -> bool {
        match self {
            Self::Foreign { .. } | Self::SamePlace { .. } | Self::Overwrites => true,
            Self::Exchanged { .. } | Self::Nameless { .. } | Self::Unknown { .. } => false,
        }
    }
}

/// What the catalog knows about stores and installations.
pub(super) struct Known<'a> {
    names: &'a [String],
    installations: Installations,
    stores: Vec<StoreIdentity>,
    with_points: Vec<String>,
}

impl<'a> Known<'a> {
    pub(super) async fn read(catalog: &Catalog, names: &'a [String]) -> Result<Self, CatalogError> {
        let with_points = catalog.unknown_stores(&[]).await?;
        Ok(Self {
            names,
            installations: catalog.installations().await?,
            stores: catalog.store_identities().await?,
            with_points: with_points.into_iter().map(|it| it.store).collect(),
        })
    }

    fn meant_by(&self, name: &str) -> Option<Uuid> {
        let known = self.stores.iter().find(|known| known.name == name);
        known.map(|known| known.store_id)
    }

    /// Returns the name of another configured store that has this id.
    fn namesake(&self, id: Uuid, name: &str) -> Option<&str> {
        let mut others = self.stores.iter();
        let other = others.find(|known| known.store_id == id && known.name != name)?;
        self.names
            .contains(&other.name)
            .then_some(other.name.as_str())
    }
}

/// What a store turned out to be.
pub(super) enum Recognised {
    /// The store with this id: it belongs to this installation and is the one meant.
    Is(Uuid),
    /// A store without an identity, which nobody uses yet.
    Unclaimed,
}

impl From<Stranger> for Unrecognised {
    fn from(why: Stranger) -> Self {
        Self::Stranger(why)
    }
}

/// Identifies a store. With `record`, also claims a store that nobody uses and records the result in the catalog.
pub(super) async fn recognise(
    store: &NamedStore,
    known: &Known<'_>,
    accepts_overwrites: bool,
    record: Option<&Catalog>,
) -> Result<Recognised, Unrecognised> {
    let NamedStore { name, storage, .. } = store;
    let identity = storage.identity().await.map_err(Unrecognised::Away)?;
    let identity = match (identity, record) {
        (Some(identity), _) => identity,
        (None, record) => {
            is_free(store, known).await?;
            if record.is_none() {
                return Ok(Recognised::Unclaimed);
            }
            let claimed = storage.claim(known.installations.own).await;
            claimed.map_err(Unrecognised::Away)?
        }
    };
    is_meant(name, &identity, known)?;
    let Some(catalog) = record else {
        return Ok(Recognised::Is(identity.store));
    };
    let writes_once = storage.writes_once().await.map_err(Unrecognised::Away)?;
    if !writes_once && !accepts_overwrites {
        return Err(Stranger::Overwrites.into());
    }
    let found = StoreIdentity {
        name: name.clone(),
        store_id: identity.store,
        writes_once,
    };
    let is_recorded = catalog.record_store(&found).await;
    if !is_recorded.map_err(Unrecognised::Catalog)? {
        // The store is on record under a name that is no longer configured, or another consumer recorded it a moment ago.
        let now = Known::read(catalog, known.names).await;
        is_meant(name, &identity, &now.map_err(Unrecognised::Catalog)?)?;
        tracing::warn!(
            store = name,
            "this store is on record under another name: rename it in the catalog with `lastgood store rename`"
        );
    }
    Ok(Recognised::Is(identity.store))
}

/// Refuses to claim a store that has been used before.
async fn is_free(store: &NamedStore, known: &Known<'_>) -> Result<(), Unrecognised> {
    let name = store.name.clone();
    if let Some(meant) = known.meant_by(&name) {
        return Err(Stranger::Nameless { name, meant }.into());
    }
    if known.with_points.contains(&name) {
        // From before stores had an identity: its recorded points are this catalog's.
        return Ok(());
    }
    let keys = store.storage.manifest_keys().await;
    let first = keys.map_err(Unrecognised::Away)?.try_next().await;
    match first.map_err(Unrecognised::Away)? {
        Some(_) => Err(Stranger::Unknown { name }.into()),
        None => Ok(()),
    }
}

fn is_meant(name: &str, identity: &Identity, known: &Known<'_>) -> Result<(), Stranger> {
    let found = identity.store;
    if !known.installations.have(identity.installation) {
        return Err(Stranger::Foreign {
            theirs: identity.installation,
            ours: known.installations.own,
        });
    }
    if let Some(meant) = known.meant_by(name).filter(|meant| *meant != found) {
        let name = name.to_owned();
        return Err(Stranger::Exchanged { name, meant, found });
    }
    match known.namesake(found, name) {
        Some(other) => Err(Stranger::SamePlace {
            other: other.to_owned(),
            id: found,
        }),
        None => Ok(()),
    }
}

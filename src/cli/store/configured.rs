//! Which stores are configured here, and which are on record only?

use crate::{
    catalog::{Catalog, CatalogError},
    config::StorageArgs,
    nouns::{Role, Store},
    stores::{self, StoresError},
};

/// The stores that are configured here.
pub(super) struct Configured {
    primary: String,
    mirrors: Vec<String>,
}

impl Configured {
    /// Reads the configuration.
    pub(super) fn read(storage: &StorageArgs) -> Result<Self, StoresError> {
        let (primary, mirrors) = stores::names(storage)?;
        Ok(Self { primary, mirrors })
    }

    fn role(&self, name: &str) -> Role {
        if self.primary == name {
            Role::Primary
        } else if self.mirrors.iter().any(|mirror| mirror == name) {
            Role::Mirror
        } else {
            Role::NotConfigured
        }
    }

    /// Returns whether a store of this name is configured here.
    pub(super) fn has(&self, name: &str) -> bool {
        self.role(name) != Role::NotConfigured
    }

    /// Returns every store: the primary, the mirrors, and those that are on record only.
    pub(super) async fn all(&self, catalog: &Catalog) -> Result<Vec<Store>, CatalogError> {
        let on_record = catalog.unknown_stores(&[]).await?;
        let only_there = on_record.iter().map(|it| &it.store);
        let only_there = only_there.filter(|store| !self.has(store));
        let names = std::iter::once(&self.primary)
            .chain(&self.mirrors)
            .chain(only_there);
        let identities = catalog.store_identities().await?;
        let stores = names.map(|name| {
            let identity = identities.iter().find(|it| it.name == *name);
            let held = on_record.iter().find(|it| it.store == *name);
            Store {
                id: name.clone(),
                role: self.role(name),
                points: held.map_or(0, |it| it.points),
                identity: identity.map(|it| it.store_id),
                is_write_once: identity.map(|it| it.writes_once),
            }
        });
        Ok(stores.collect())
    }

    /// Returns one store as it is now. One that is neither configured nor on record holds nothing.
    pub(super) async fn one(&self, catalog: &Catalog, name: &str) -> Result<Store, CatalogError> {
        let all = self.all(catalog).await?;
        let found = all.into_iter().find(|store| store.id == name);
        Ok(found.unwrap_or_else(|| Store {
            id: name.to_owned(),
            role: Role::NotConfigured,
            points: 0,
            identity: None,
            is_write_once: None,
        }))
    }
}

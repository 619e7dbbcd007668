//! A store, as the catalog and the configuration know it.

use serde::Serialize;
use uuid::Uuid;

use crate::{
    catalog::{Catalog, CatalogError},
    config::StorageArgs,
    stores::{self, StoresError},
};

/// A store that is configured here, on record, or both.
#[derive(Debug, Clone, Serialize)]
pub struct Store {
    /// Its name in the catalog and in the stores file.
    pub id: String,
    /// What it is for.
    pub role: Role,
    /// How many restore points are on record in it.
    pub points: i64,
    /// The id in its identity object; null if the store was never written to.
    pub identity: Option<Uuid>,
    /// Whether it was seen to refuse overwriting an object; null if the store was never written to.
    pub is_write_once: Option<bool>,
}

/// What a store is for, by the configuration here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// It takes the backups.
    Primary,
    /// It gets copies.
    Mirror,
    /// It is on record only.
    NotConfigured,
}

/// The stores that are configured here.
pub struct Configured {
    primary: String,
    mirrors: Vec<String>,
}

impl Configured {
    /// Reads the configuration.
    pub fn read(storage: &StorageArgs) -> Result<Self, StoresError> {
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
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.role(name) != Role::NotConfigured
    }

    /// Returns every store: the primary, the mirrors, and those that are on record only.
    pub async fn all(&self, catalog: &Catalog) -> Result<Vec<Store>, CatalogError> {
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
    pub async fn one(&self, catalog: &Catalog, name: &str) -> Result<Store, CatalogError> {
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

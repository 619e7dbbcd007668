//! Which store lacks a key's escrow that another one has? It is written again: with the catalog gone, a store opens only what it has the
//! escrows for.

use std::collections::BTreeSet;

use lastgood_jobs::{error::chain, escrow};
use uuid::Uuid;

use crate::{
    catalog::{Catalog, CatalogError},
    stores::{NamedStore, Stores},
};

/// A store, and the keys whose escrows it has.
struct Shelf<'a> {
    store: &'a NamedStore,
    has: BTreeSet<Uuid>,
}

/// Looks, writes what is missing and can be had, and tells of what cannot.
pub(super) async fn refill(catalog: &Catalog, stores: &Stores) {
    if let Err(error) = try_refill(catalog, stores).await {
        tracing::warn!(
            error = chain(&error),
            "it could not be seen whether the stores have the keys' escrows"
        );
    }
}

async fn try_refill(catalog: &Catalog, stores: &Stores) -> Result<(), CatalogError> {
    let keys = catalog.keys().await?;
    let living = keys.iter().filter(|key| key.shredded_at.is_none());
    let living: BTreeSet<Uuid> = living.map(|key| key.id).collect();
    if living.is_empty() {
        return Ok(());
    }
    let mut shelves = Vec::new();
    for store in stores.iter() {
        match looked_at(store).await {
            Ok(has) => shelves.push(Shelf { store, has }),
            Err(error) => tracing::warn!(
                store = store.name,
                error = error.report(),
                "the escrows in a store could not be listed"
            ),
        }
    }
    for shelf in &shelves {
        for key in living.difference(&shelf.has) {
            let source = shelves.iter().find(|other| other.has.contains(key));
            if let Some(source) = source {
                copy(catalog, source.store, shelf.store, *key).await?;
            } else {
                tracing::error!(
                    store = shelf.store.name,
                    key = %key,
                    "no store that can be read has the escrow of a key: without the catalog, nothing opens its archives; \
                     `lastgood key escrow --recipient age1…` writes it"
                );
            }
        }
    }
    Ok(())
}

/// Only a store that is the one that is meant has anything to give, or is given anything.
async fn looked_at(store: &NamedStore) -> Result<BTreeSet<Uuid>, lastgood_jobs::error::JobError> {
    store.storage.require().await?;
    Ok(escrow::list(&store.storage).await?.into_iter().collect())
}

async fn copy(
    catalog: &Catalog,
    from: &NamedStore,
    to: &NamedStore,
    key: Uuid,
) -> Result<(), CatalogError> {
    let copied = escrow::refill(&from.storage, &to.storage, key).await;
    // Somebody may have shredded the key meanwhile, and have removed its escrow here before it was written.
    let is_shredded = catalog
        .sealed_key(key)
        .await?
        .is_none_or(|key| key.identity.is_none());
    match copied {
        Ok(_) if is_shredded => {
            if let Err(error) = escrow::remove(&to.storage, key).await {
                tracing::error!(
                    store = to.name,
                    key = %key,
                    error = error.report(),
                    "the escrow of a key that was shredded is in a store: shred it once more"
                );
            }
        }
        Ok(true) => tracing::info!(
            store = to.name,
            from = from.name,
            key = %key,
            "a store lacked the escrow of a key, and has it again"
        ),
        Ok(false) => {}
        Err(error) => tracing::error!(
            store = to.name,
            from = from.name,
            key = %key,
            error = error.report(),
            "a store lacks the escrow of a key, and it could not be written again"
        ),
    }
    Ok(())
}

//! Which store lacks an escrow that another one holds? It is written again, because without the catalog a store opens only the archives
//! whose keys it has escrows for. And which store holds the escrow of a shredded key? It is removed.

use std::collections::BTreeSet;

use lastgood_jobs::{error::chain, escrow, storage::Storage};
use uuid::Uuid;

use crate::{
    catalog::{Catalog, CatalogError},
    stores::{NamedStore, Stores},
};

/// A store, and the keys whose escrows it holds.
struct Shelf<'a> {
    store: &'a NamedStore,
    has: BTreeSet<Uuid>,
}

/// Removes the escrows of shredded keys, writes missing ones that another store has, and logs those that no store has.
pub(super) async fn tidy(catalog: &Catalog, stores: &Stores) {
    if let Err(error) = try_tidy(catalog, stores).await {
        tracing::warn!(
            error = chain(&error),
            "cannot check whether the stores hold the keys' escrows"
        );
    }
}

async fn try_tidy(catalog: &Catalog, stores: &Stores) -> Result<(), CatalogError> {
    let keys = catalog.keys().await?;
    if keys.is_empty() {
        return Ok(());
    }
    let with = |is_shredded: bool| -> BTreeSet<Uuid> {
        let those = keys
            .iter()
            .filter(|key| key.shredded_at.is_some() == is_shredded);
        those.map(|key| key.id).collect()
    };
    let (living, shredded) = (with(false), with(true));
    let mut shelves = Vec::new();
    for store in stores.iter() {
        match looked_at(store).await {
            Ok(has) => shelves.push(Shelf { store, has }),
            Err(error) => tracing::warn!(
                store = store.name,
                error = error.report(),
                "cannot list the escrows in a store"
            ),
        }
    }
    for shelf in &shelves {
        // The process that shredded the key died before it had removed every escrow, or a store that was away brought one back.
        for key in shredded.intersection(&shelf.has) {
            remove(shelf.store, *key).await;
        }
        for key in living.difference(&shelf.has) {
            let sources = shelves.iter().filter(|other| other.has.contains(key));
            let sources: Vec<&NamedStore> = sources.map(|shelf| shelf.store).collect();
            if sources.is_empty() {
                tracing::error!(
                    store = shelf.store.name,
                    key = %key,
                    "no store that can be read holds the escrow of a key: without the catalog, its archives cannot be opened; \
                     `lastgood key escrow --recipient age1…` writes the escrow"
                );
            } else {
                copy(catalog, &sources, shelf.store, *key).await?;
            }
        }
    }
    Ok(())
}

/// Lists the escrows in a store, once it is recognised: no escrow is taken from or written to a store that is not the one meant.
async fn looked_at(store: &NamedStore) -> Result<BTreeSet<Uuid>, lastgood_jobs::error::JobError> {
    store.storage.require().await?;
    Ok(escrow::list(&store.storage).await?.into_iter().collect())
}

async fn copy(
    catalog: &Catalog,
    from: &[&NamedStore],
    to: &NamedStore,
    key: Uuid,
) -> Result<(), CatalogError> {
    let storages: Vec<&Storage> = from.iter().map(|store| &store.storage).collect();
    let from = from.iter().map(|store| store.name.as_str());
    let from = from.collect::<Vec<_>>().join(", ");
    let copied = escrow::refill(&storages, &to.storage, key).await;
    // The key may have been shredded meanwhile, and its escrow removed here before this copy was written.
    let is_shredded = catalog
        .sealed_key(key)
        .await?
        .is_none_or(|key| key.identity.is_none());
    match copied {
        _ if is_shredded => remove(to, key).await,
        Ok(true) => tracing::info!(
            store = to.name,
            from,
            key = %key,
            "wrote the escrow of a key again to a store that lacked it"
        ),
        Ok(false) => {}
        Err(error) => tracing::error!(
            store = to.name,
            from,
            key = %key,
            error = error.report(),
            "cannot write the escrow of a key again to a store that lacks it"
        ),
    }
    Ok(())
}

/// Removes the escrow of a key that was shredded.
async fn remove(store: &NamedStore, key: Uuid) {
    match escrow::remove(&store.storage, key).await {
        Ok(()) => tracing::info!(
            store = store.name,
            key = %key,
            "removed the escrow of a shredded key from a store"
        ),
        Err(error) => tracing::error!(
            store = store.name,
            key = %key,
            error = error.report(),
            "cannot remove the escrow of a shredded key from a store"
        ),
    }
}

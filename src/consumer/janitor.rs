//! What a consumer looks after besides its runs: its stores, and the leftovers of killed processes.

use std::{path::PathBuf, sync::Arc, time::Duration};

use chrono::Utc;
use lastgood_jobs::{drill::Drills, error::chain, scratch};

use super::{escrows, work_dir};
use crate::{
    catalog::{Catalog, answered},
    metrics,
    stores::{self, Compared, NamedStore, Stores},
};

/// How often a consumer checks that its stores are there and still the same.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Removes the private directories of killed processes, with the password files in them, and their scratch servers, once a minute.
pub(super) async fn remove_dead_for_ever(parent: PathBuf, drills: Option<Arc<Drills>>) {
    let mut timer = tokio::time::interval(Duration::from_mins(1));
    loop {
        timer.tick().await;
        if let Err(error) = work_dir::remove_dead(&parent) {
            tracing::warn!(%error, path = %parent.display(), "cannot remove the directories that killed consumers left");
        }
        if let Some(drills) = &drills {
            let dir = &drills.space.dir;
            match scratch::sweep(dir).await {
                Ok(swept) if swept.removed > 0 => {
                    tracing::info!(swept.removed, path = %dir.display(), "removed scratch servers that killed consumers left");
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, path = %dir.display(), "cannot remove the scratch servers that killed consumers left");
                }
            }
        }
    }
}

/// Checks the stores: starts to use one that was mounted late, and reports one that is gone or was exchanged for another.
pub(super) async fn look_for_ever(stores: Stores, catalog: Catalog, consumer: String) {
    let mut timer = tokio::time::interval(LOOK_EVERY);
    let mut told = Vec::new();
    loop {
        timer.tick().await;
        let faults = stores.look(&catalog).await;
        for (store, why) in faults.iter().filter(|fault| !told.contains(*fault)) {
            tracing::error!(
                store,
                error = why,
                "a store cannot be used: runs that need it are tried again"
            );
        }
        let noted = catalog.note_store_faults(&consumer, &faults);
        if let Err(error) = answered(LOOK_EVERY, noted).await {
            tracing::warn!(
                error = chain(&error),
                "cannot record what is wrong with the stores"
            );
        }
        told = faults;
    }
}

/// The janitor, which works at start and then at each interval: removes what killed processes left in the stores, finds points that
/// are missing from them, and writes escrows again that one store has and another lacks.
pub(super) async fn clean_for_ever(
    catalog: Catalog,
    stores: Stores,
    age: Duration,
    every: Duration,
) {
    let mut timer = tokio::time::interval(every);
    loop {
        timer.tick().await;
        for store in stores.iter() {
            sweep(store, age).await;
            // A listing by another consumer is as good as one by this consumer.
            look_for_losses(&catalog, store, every / 2).await;
        }
        escrows::tidy(&catalog, &stores).await;
    }
}

async fn look_for_losses(catalog: &Catalog, store: &NamedStore, not_within: Duration) {
    match stores::compare(catalog, store, not_within).await {
        Ok(Compared::NotDue | Compared::Listed { missing: 0, .. }) => {}
        Ok(Compared::NotListed { because }) => tracing::error!(
            store = store.name,
            error = because,
            "the store cannot be listed: lastgood cannot tell whether its restore points are still there"
        ),
        Ok(Compared::Listed {
            points,
            missing,
            is_mass: true,
            ..
        }) => tracing::error!(
            store = store.name,
            store.points = points,
            store.missing = missing,
            "restore points have disappeared from the store en masse: nothing expires until that is settled, see docs/how-to/emptied-store.md"
        ),
        Ok(Compared::Listed {
            missing,
            quarantined,
            forgotten,
            ..
        }) => tracing::error!(
            store = store.name,
            store.missing = missing,
            points.quarantined = quarantined,
            copies.forgotten = forgotten,
            "restore points are missing from the store"
        ),
        Err(error) => tracing::warn!(
            store = store.name,
            error = chain(&error),
            "cannot compare the store with the catalog"
        ),
    }
}

async fn sweep(store: &NamedStore, age: Duration) {
    match store.storage.sweep(Utc::now() - age).await {
        Ok(swept) => {
            metrics::swept(swept.partial, swept.orphans);
            if swept.partial + swept.orphans > 0 {
                tracing::info!(
                    store = store.name,
                    swept.partial = swept.partial,
                    swept.orphans = swept.orphans,
                    "the janitor removed objects that dead attempts left"
                );
            }
        }
        Err(error) => tracing::warn!(
            store = store.name,
            error = error.report(),
            "the janitor could not sweep the store"
        ),
    }
}

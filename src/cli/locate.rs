//! Which stores have a restore point? Asks the stores themselves, because there may be no catalog.

use lastgood_jobs::{error::JobError, inventory::examine, manifest::Manifest, sought::Sought};

use crate::stores::{NamedStore, Stores};

/// Returns the stores that have both the manifest and its archive, in their order, or an error with each store's fault if none has.
///
/// Does not read the archives. If one turns out to be damaged, the caller tries the next store.
pub(super) async fn locate(
    sought: &Sought<'_>,
    stores: &Stores,
) -> anyhow::Result<Vec<(NamedStore, Manifest)>> {
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for store in stores.iter() {
        match examine(sought, &store.storage).await {
            Ok(manifest) => found.push((store.clone(), manifest)),
            Err(error) => faults.push(fault(store, &error)),
        }
    }
    anyhow::ensure!(!found.is_empty(), "{}", faults.join("; "));
    Ok(found)
}

/// Returns what is wrong with a point in one store.
pub(super) fn fault(store: &NamedStore, error: &JobError) -> String {
    format!("store {}: {}", store.name, error.report())
}

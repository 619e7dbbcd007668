//! Which store has a restore point? Asked of the stores themselves: there may be no catalog that knows.

use lastgood_jobs::{error::JobError, inventory::examine, manifest::Manifest, sought::Sought};

use crate::stores::{NamedStore, Stores};

/// Returns the stores that have a manifest and its archive, in their order; if none has, what is wrong in each.
///
/// Nobody has read the archives: whoever finds one damaged goes on to the next.
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

/// Says what is wrong with a point in one store.
pub(super) fn fault(store: &NamedStore, error: &JobError) -> String {
    format!("store {}: {}", store.name, error.report())
}

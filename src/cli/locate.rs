//! Which store has a restore point? Asked of the stores themselves: there may be no catalog that knows.

use lastgood_jobs::{inventory::examine, manifest::Manifest};

use crate::stores::{NamedStore, Stores};

/// Returns the first store that has a manifest and its archive; if none has, what is wrong in each.
pub(super) async fn locate(
    manifest_key: &str,
    stores: &Stores,
) -> anyhow::Result<(NamedStore, Manifest)> {
    let mut faults = Vec::new();
    for store in stores.iter() {
        match examine(manifest_key, &store.storage).await {
            Ok(manifest) => return Ok((store.clone(), manifest)),
            Err(error) => faults.push(format!("store {}: {}", store.name, error.report())),
        }
    }
    anyhow::bail!("{}", faults.join("; "))
}

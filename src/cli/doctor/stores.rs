//! Does each store work, is it the intended one, and does it have the keys' escrows? Each store is checked separately.

use std::sync::Arc;

use lastgood_jobs::escrow;

use super::{super::output::counted, Args};
use crate::{
    catalog::Catalog,
    nouns::Key,
    stores::{self, Candidate, NamedStore},
};

/// How many keys without an escrow are named.
const KEYS_NAMED: usize = 5;

/// Checks that a store can be written to, read from and removed from, as a backup does.
pub(super) async fn is_usable(store: Candidate) -> anyhow::Result<String> {
    let NamedStore { name, url, storage } = store.open().await?;
    let tried = storage.check().await;
    tried.map_err(|error| anyhow::anyhow!("{name} ({url}): {}", error.report()))?;
    Ok(format!(
        "{name} ({url}): a probe was written, read back and removed, and the store refused to overwrite it"
    ))
}

/// Checks that the store is the one intended by its name.
pub(super) async fn identity(
    store: Candidate,
    args: Arc<Args>,
    catalog: Catalog,
) -> anyhow::Result<String> {
    let store = store.open().await?;
    let name = &store.name;
    let compared = stores::identify(&store, &args.storage, &catalog).await?;
    Ok(match compared {
        Some(id) => format!("{name}: it is {id}, of this installation"),
        None => format!("{name}: it has no identity yet: the first consumer gives it one"),
    })
}

/// Checks that a store has the escrow of every key with a secret, and of no shredded key.
pub(super) async fn escrows(store: Candidate, catalog: Catalog) -> anyhow::Result<String> {
    let name = store.name().to_owned();
    let keys = catalog.keys().await?;
    if keys.is_empty() {
        return Ok(format!("{name}: there is no key"));
    }
    let store = store.open().await?;
    let listed = escrow::list(&store.storage).await;
    let has = listed.map_err(|error| anyhow::anyhow!("{name}: {}", error.report()))?;
    let (shredded, living): (Vec<_>, Vec<_>) =
        keys.iter().partition(|key| key.shredded_at.is_some());
    let left: Vec<_> = shredded
        .into_iter()
        .filter(|key| has.contains(&key.id))
        .collect();
    anyhow::ensure!(
        left.is_empty(),
        "{name}: still has the escrows of shredded keys: {}: consumers remove them within the hour; to do it now, shred those teams' keys again",
        named(&left)
    );
    let all = living.len();
    let missing: Vec<_> = living
        .into_iter()
        .filter(|key| !has.contains(&key.id))
        .collect();
    anyhow::ensure!(
        missing.is_empty(),
        "{name}: lacks the escrows of {} of {all} keys: {}: consumers copy them within the hour if another store has them; otherwise run \
         `lastgood key escrow --recipient age1…`",
        missing.len(),
        named(&missing)
    );
    Ok(format!(
        "{name}: has {}, none missing",
        counted(all, "escrow")
    ))
}

fn named(keys: &[&Key]) -> String {
    let first = keys.iter().take(KEYS_NAMED);
    let mut names: Vec<String> = first.map(|key| key.id.to_string()).collect();
    if keys.len() > KEYS_NAMED {
        names.push(format!("and {} others", keys.len() - KEYS_NAMED));
    }
    names.join(", ")
}

/// Reports the stores that running consumers cannot use. Their machines may have other mounts than this one.
pub(super) async fn faults(catalog: Catalog) -> anyhow::Result<String> {
    let faults = catalog.store_faults().await?;
    let told: Vec<String> = faults
        .iter()
        .map(|it| {
            format!(
                "{} cannot be used by {}: {}",
                it.store,
                counted(it.consumers, "consumer"),
                it.failed_because
            )
        })
        .collect();
    anyhow::ensure!(told.is_empty(), "{}", told.join("; "));
    Ok("no running consumer reports a fault".to_owned())
}

/// Checks that every store with points on record is configured here. Otherwise removals from it would wait forever.
pub(super) async fn names(known: Vec<String>, catalog: Catalog) -> anyhow::Result<String> {
    let unknown = catalog.unknown_stores(&known).await?;
    let told: Vec<String> = unknown
        .iter()
        .map(|it| {
            format!(
                "store {} has {} on record",
                it.store,
                counted(it.points, "restore point")
            )
        })
        .collect();
    anyhow::ensure!(
        told.is_empty(),
        "{}, and is not configured here: removals wait; name the stores file that lists it, or use `lastgood store rename` or `forget`",
        told.join(", ")
    );
    Ok(format!(
        "{} configured, and no other on record",
        known.len()
    ))
}

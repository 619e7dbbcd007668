//! Removes a restore point that has expired.

use lastgood_jobs::{
    error::{ErrorKind, JobError},
    job::{Expire, Job},
    storage::Storage,
};
use serde_json::json;
use uuid::Uuid;

use super::{Shared, handle::READ_WITHIN};
use crate::{
    catalog::answered,
    queue::{Failure, Outcome, Run},
};

/// Removes an expired restore point: from each store first its manifest, then its archive, so that a manifest never lacks its archive, and
/// at last from the catalog.
///
/// Idempotent. It is no failure if the point is kept after all, or already gone, or if a store refuses: the refusal is recorded on
/// the point, and the removal is tried again after a week.
pub(super) async fn expire(
    _run: &Run<Job>,
    job: &Expire,
    shared: &Shared,
) -> Result<Outcome, Failure> {
    let id = job.point;
    let begun = answered(READ_WITHIN, shared.catalog.begin_removal(id)).await?;
    let Some(doomed) = begun else {
        return Ok(Outcome::Report(
            json!({ "point": id, "skipped": "it is kept after all, it is already gone, or removals are suspended: see `lastgood status`" }),
        ));
    };
    let archive_key = doomed.archive_key.ok_or_else(|| {
        let message = format!("the catalog's copy of the manifest of {id} names no archive");
        Failure::permanent(ErrorKind::Config, message)
    })?;
    let stores = reachable(id, shared).await?;
    let mut cleared = Vec::new();
    let mut refusal = None;
    for store in stores {
        match remove(store, &doomed.manifest_key).await? {
            Removed::Gone => cleared.push(store),
            // Nothing is gone yet, so the point may still be kept.
            Removed::Refused(why) if cleared.is_empty() => {
                return refused(id, &why, true, shared).await;
            }
            // What one store refuses keeps no archive in another.
            Removed::Refused(why) => refusal = refusal.or(Some(why)),
        }
    }
    for store in cleared {
        if let Removed::Refused(why) = remove(store, &archive_key).await? {
            refusal = refusal.or(Some(why));
        }
    }
    if let Some(why) = refusal {
        return refused(id, &why, false, shared).await;
    }
    answered(READ_WITHIN, shared.catalog.finish_removal(id)).await?;
    Ok(Outcome::Report(json!({ "point": id, "removed": true })))
}

/// Returns every store. Fails if a copy is on record in a store that this consumer does not know: it would outlive its point unnoticed.
async fn reachable(point: Uuid, shared: &Shared) -> Result<Vec<&Storage>, Failure> {
    let asked = shared.catalog.stores_of(std::slice::from_ref(&point));
    let recorded = answered(READ_WITHIN, asked).await?;
    let mut names = recorded.get(&point).into_iter().flatten();
    if let Some(unknown) = names.find(|name| shared.stores.get(name).is_none()) {
        let message = format!(
            "{point} is also in store {unknown:?}, which this consumer does not know: give every consumer the same stores file"
        );
        return Err(Failure::retryable(ErrorKind::Config, message));
    }
    Ok(shared.stores.iter().map(|store| &store.storage).collect())
}

enum Removed {
    Gone,
    Refused(String),
}

async fn remove(store: &Storage, key: &str) -> Result<Removed, JobError> {
    match store.remove(key).await {
        Ok(()) => Ok(Removed::Gone),
        Err(error @ JobError::StoreRefuses { .. }) => Ok(Removed::Refused(error.report())),
        Err(error) => Err(error),
    }
}

async fn refused(
    point: Uuid,
    why: &str,
    still_whole: bool,
    shared: &Shared,
) -> Result<Outcome, Failure> {
    let refusal = shared.catalog.refuse_removal(point, why, still_whole);
    answered(READ_WITHIN, refusal).await?;
    tracing::warn!(point.id = %point, error = why, "the store refuses to remove an expired restore point: lastgood asks again in a week");
    Ok(Outcome::Report(json!({ "point": point, "refused": why })))
}

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
            json!({ "point": id, "skipped": "it is kept after all, or gone already, or nothing is removed for now: see `lastgood status`" }),
        ));
    };
    let archive_key = doomed.archive_key.ok_or_else(|| {
        let message = format!("the catalog's copy of the manifest of {id} names no archive");
        Failure::permanent(ErrorKind::Config, message)
    })?;
    let stores = reachable(id, shared).await?;
    for (index, store) in stores.iter().enumerate() {
        if let Removed::Refused(why) = remove(store, &doomed.manifest_key).await? {
            // If this is the first store, nothing is gone yet and the point may still be kept.
            return refused(id, &why, index == 0, shared).await;
        }
    }
    for store in stores {
        if let Removed::Refused(why) = remove(store, &archive_key).await? {
            return refused(id, &why, false, shared).await;
        }
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
            "{point} is in store {unknown:?} too, which this consumer does not know: give every consumer the same stores file"
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
    tracing::warn!(point.id = %point, error = why, "the store refuses to remove an expired restore point: asked again in a week");
    Ok(Outcome::Report(json!({ "point": point, "refused": why })))
}

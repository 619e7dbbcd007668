//! Removes a restore point that retention has let go.

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

/// Removes a restore point that retention has let go: from each store its manifest first, then its archive, so that there is
/// never a manifest without an archive; then from the catalog.
///
/// Safe to run twice. A point that somebody keeps after all, or that is gone, is no failure; nor is a store that refuses: that
/// is recorded on the point, and asked again after a week.
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
            // Nothing is gone yet: whoever wants it may still keep it.
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

/// Returns every store. A copy in one that this consumer does not know would outlive its point, and nobody would know of it.
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

/// What a store did about a removal.
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

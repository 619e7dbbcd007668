//! Copies a restore point into another store.

use lastgood_jobs::{
    copy,
    error::{ErrorKind, JobError},
    job::{Copy, Job},
};

use super::{
    Shared, handle,
    holders::holders,
    record::{recorded, sought},
};
use crate::{
    catalog::answered,
    queue::{Failure, Outcome, Run},
};

/// Copies a restore point into another store, from the first that holds it whole.
pub(super) async fn copy(run: &Run<Job>, job: &Copy, shared: &Shared) -> Result<Outcome, Failure> {
    let point = answered(handle::READ_WITHIN, shared.catalog.point(job.point)).await?;
    if point.expired_at.is_some() || point.quarantined_at.is_some() {
        return Ok(Outcome::Report(
            serde_json::json!({ "point": point.id, "skipped": "it is not usable any more" }),
        ));
    }
    let Some(target) = shared.stores.get(&job.store) else {
        // Another consumer may have been told of it already.
        let message = format!(
            "this consumer knows no store called {:?}: give every consumer the same stores file",
            job.store
        );
        return Err(Failure::retryable(ErrorKind::Config, message));
    };
    let worker = handle::worker_in(&target.storage, run, shared);
    let recorded = recorded(&point)?;
    let sought = sought(&point, &recorded);
    let mut failure = None;
    for source in holders(&point, shared).await? {
        if source.name == target.name {
            continue;
        }
        match copy::copy(&sought, &source.storage, &worker).await {
            Ok(copied) => {
                let recorded = shared.catalog.record_copy(point.id, &target.name);
                if !answered(handle::READ_WITHIN, recorded).await? {
                    // Retention was faster, and removed what it knew of.
                    target.storage.remove_point(&point.manifest_key).await?;
                    return Ok(Outcome::Report(
                        serde_json::json!({ "point": point.id, "skipped": "it has expired meanwhile" }),
                    ));
                }
                let report = serde_json::json!({
                    "store": target.name, "from": source.name, "copied": copied,
                });
                return Ok(Outcome::Report(report));
            }
            // Another worker owns the run: nothing more may be written.
            Err(error @ JobError::LeaseLost) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(
                    store = source.name,
                    error = error.report(),
                    "a restore point was not copied from here"
                );
                // The first says most: it is the store where the point was made.
                failure.get_or_insert(error);
            }
        }
    }
    Err(failure.map_or_else(
        || {
            let message = format!("no store that this consumer knows holds {}", point.id);
            Failure::retryable(ErrorKind::Config, message)
        },
        Failure::from,
    ))
}

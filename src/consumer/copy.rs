//! Copies a restore point into another store.

use lastgood_jobs::{
    copy::{self, Copied},
    error::{ErrorKind, JobError},
    job::{Copy, Job},
    worker::Lease as _,
};
use serde_json::json;

use super::{
    Shared, handle,
    holders::holders,
    judge::lacking,
    record::{recorded, sought},
};
use crate::{
    catalog::{PointRow, answered},
    queue::{Failure, Outcome, Run},
    standing::Standing,
    stores::NamedStore,
};

/// Copies a restore point into another store, from the first that holds it whole.
pub(super) async fn copy(run: &Run<Job>, job: &Copy, shared: &Shared) -> Result<Outcome, Failure> {
    let point = answered(handle::READ_WITHIN, shared.catalog.point(job.point)).await?;
    match point.standing() {
        // A suspect point may be confirmed later, and then needs its copies.
        Standing::Trusted | Standing::Suspect => {}
        Standing::Quarantined | Standing::Expired => {
            return Ok(Outcome::Report(
                json!({ "point": point.id, "skipped": "it is no longer usable" }),
            ));
        }
    }
    let Some(target) = shared.stores.get(&job.store) else {
        // Another consumer may know the store already.
        let message = format!(
            "this consumer knows no store called {:?}: give every consumer the same stores file",
            job.store
        );
        return Err(Failure::retryable(ErrorKind::Config, message));
    };
    let recorded = recorded(&point)?;
    let sought = sought(&point, &recorded);
    // A store that was renamed, or that the catalog has forgotten, may already hold the point.
    if copy::is_there(&point.manifest_key, &recorded, &target.storage).await? {
        let report = json!({ "store": target.name, "copied": Copied::AlreadyThere });
        return kept(&point, target, Outcome::Report(report), run, shared).await;
    }
    let worker = handle::worker_in(&target.storage, run, shared);
    let mut faults = Vec::new();
    for source in holders(&point, shared).await?.all() {
        if source.name == target.name {
            continue;
        }
        match copy::copy(&sought, &source.storage, &worker).await {
            Ok(copied) => {
                let report = json!({ "store": target.name, "from": source.name, "copied": copied });
                let lacking = lacking(&faults, &point, shared).await;
                let done = Outcome::Salvaged {
                    lacking,
                    report,
                    proof: None,
                };
                return kept(&point, target, done, run, shared).await;
            }
            // Another worker owns the run: nothing more may be written.
            Err(error @ JobError::LeaseLost) => return Err(error.into()),
            Err(error) => {
                tracing::warn!(
                    store = source.name,
                    error = error.report(),
                    "cannot copy the restore point from this store"
                );
                faults.push((source, error));
            }
        }
    }
    // The first error says most: it comes from the store where the point was made.
    Err(faults.into_iter().next().map_or_else(
        || {
            let message = format!("no store that this consumer knows holds {}", point.id);
            Failure::retryable(ErrorKind::Config, message)
        },
        |(_, error)| error.into(),
    ))
}

/// Records that the store holds the point now. If the point has expired
/// meanwhile, retention did not know of this copy, so it is removed here.
async fn kept(
    point: &PointRow,
    target: &NamedStore,
    done: Outcome,
    run: &Run<Job>,
    shared: &Shared,
) -> Result<Outcome, Failure> {
    let recorded = shared.catalog.record_copy(point.id, &target.name);
    if answered(handle::READ_WITHIN, recorded).await? {
        return Ok(done);
    }
    if run.lease.is_alive().await {
        target.storage.remove_point(&point.manifest_key).await?;
    }
    Ok(Outcome::Report(
        json!({ "point": point.id, "skipped": "it has expired meanwhile" }),
    ))
}

//! Reads a restore point back, all of it, and acquits or condemns it.

use lastgood_jobs::{
    error::JobError,
    job::{Job, Verify},
    manifest::Manifest,
    verify,
};
use serde_json::json;

use super::{
    Shared,
    handle::{READ_WITHIN, worker_in},
    holders::holders,
    judge::judge,
    record::{recorded, sought},
};
use crate::{
    catalog::{PointRow, answered},
    queue::{Failure, Outcome, Run},
};

/// Reads a restore point back, all of it.
pub(super) async fn verify(
    run: &Run<Job>,
    job: &Verify,
    shared: &Shared,
) -> Result<Outcome, Failure> {
    let point = answered(READ_WITHIN, shared.catalog.point(job.point)).await?;
    if point.expired_at.is_some() {
        return Ok(Outcome::Report(
            json!({ "point": point.id, "skipped": "it has expired" }),
        ));
    }
    let recorded = recorded(&point)?;
    let sought = sought(&point, &recorded);
    let mut errors = Vec::new();
    for store in holders(&point, shared).await? {
        let read = async {
            let worker = worker_in(&store.storage, run, shared);
            verify::verify(&sought, &worker).await
        };
        match read.await {
            Ok(_) => return whole(&point, &recorded, &store.name, &errors),
            Err(error) => errors.push(error),
        }
    }
    Err(judge(errors, &point, shared).await)
}

/// Reports what was found whole in `store`, unless a store before it could not give it: then the point is usable, and not
/// proven.
fn whole(
    point: &PointRow,
    recorded: &Manifest,
    store: &str,
    errors: &[JobError],
) -> Result<Outcome, Failure> {
    if let Some(error) = errors.first() {
        let message = format!(
            "{}: but store {store:?} holds the point whole, and restores read it there: nothing was quarantined",
            error.report()
        );
        return Err(Failure {
            permanent: error.is_permanent(),
            ..Failure::retryable(error.kind(), message)
        });
    }
    Ok(Outcome::Proof {
        point: point.id,
        report: json!({
            "point": point.id,
            "verified": "whole",
            "store": store,
            "dump_bytes": recorded.dump.size_bytes,
            "stored_bytes": recorded.archive.size_bytes,
        }),
    })
}

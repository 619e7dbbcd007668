//! Reads a whole restore point back, and acquits or condemns it.

use std::time::Instant;

use lastgood_jobs::{
    error::{ErrorKind, JobError},
    job::{Job, Verify},
    manifest::Manifest,
    sought::Sought,
    verify,
};
use serde_json::json;

use super::{
    Shared,
    handle::{READ_WITHIN, worker_in},
    holders::{Holders, holders},
    judge::{Fault, judge, lacking},
    record::{recorded, sought},
};
use crate::{
    catalog::{PointRow, answered},
    proof::{NewProof, ProofKind},
    queue::{Failure, Outcome, Run},
    standing::Standing,
    stores::NamedStore,
};

/// Reads a whole restore point back: from the store that the job names, or else from each store that should hold it.
///
/// The other stores are tried only if none of these holds it intact: a point is condemned only when no store does. A store that lacks
/// a point that another one holds gets it again.
pub(super) async fn verify(
    run: &Run<Job>,
    job: &Verify,
    shared: &Shared,
) -> Result<Outcome, Failure> {
    let point = answered(READ_WITHIN, shared.catalog.point(job.point)).await?;
    match point.standing() {
        // An intact suspect point has its bytes proven, but stays suspect.
        Standing::Trusted | Standing::Suspect | Standing::Quarantined => {}
        Standing::Expired => {
            return Ok(Outcome::Report(
                json!({ "point": point.id, "skipped": "it has expired" }),
            ));
        }
    }
    let recorded = recorded(&point)?;
    let sought = sought(&point, &recorded);
    let (asked, others) = asked(job, holders(&point, shared).await?, shared)?;
    let (mut whole, mut faults) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for store in asked {
        match read(&sought, store, run, shared).await {
            Ok(()) => whole.push(store.name.clone()),
            Err(error) => faults.push((store, error)),
        }
    }
    if faults.is_empty() {
        let new = NewProof::read_whole(point.id, &whole, began.elapsed());
        return Ok(proof(&point, &recorded, whole, new));
    }
    for store in others {
        if !whole.is_empty() {
            break;
        }
        match read(&sought, store, run, shared).await {
            Ok(()) => whole.push(store.name.clone()),
            Err(error) => faults.push((store, error)),
        }
    }
    match whole.first() {
        Some(store) => Err(held_by(store, &faults, &point, shared).await),
        None => Err(judge(faults, &point, ProofKind::Verification, shared).await),
    }
}

/// Returns the stores to read, and those to try if these fail.
fn asked<'a>(
    job: &Verify,
    holders: Holders<'a>,
    shared: &'a Shared,
) -> Result<(Vec<&'a NamedStore>, Vec<&'a NamedStore>), Failure> {
    let Some(name) = &job.store else {
        return Ok(if holders.recorded.is_empty() {
            let primary = shared.stores.primary();
            let others = holders.all().filter(|store| store.name != primary.name);
            (vec![primary], others.collect())
        } else {
            (holders.recorded, holders.others)
        });
    };
    let store = shared.stores.get(name).ok_or_else(|| {
        let message = format!(
            "this consumer knows no store called {name:?}: give every consumer the same stores file"
        );
        Failure::retryable(ErrorKind::Config, message)
    })?;
    let others = holders.all().filter(|other| other.name != *name);
    Ok((vec![store], others.collect()))
}

async fn read(
    sought: &Sought<'_>,
    store: &NamedStore,
    run: &Run<Job>,
    shared: &Shared,
) -> Result<(), JobError> {
    let worker = worker_in(&store.storage, run, shared);
    verify::verify(sought, &worker).await.map(drop)
}

fn proof(point: &PointRow, recorded: &Manifest, stores: Vec<String>, new: NewProof) -> Outcome {
    Outcome::Proof {
        point: point.id,
        report: json!({
            "point": point.id,
            "verified": "whole",
            "stores": stores,
            "dump_bytes": recorded.dump.size_bytes,
            "stored_bytes": recorded.archive.size_bytes,
        }),
        stores,
        proof: new.into(),
    }
}

/// Returns the failure for a point that some stores lack and `holder` holds intact: it is usable, but not proven where it should be.
async fn held_by(holder: &str, faults: &[Fault<'_>], point: &PointRow, shared: &Shared) -> Failure {
    let Some((store, error)) = faults.first() else {
        return Failure::permanent(ErrorKind::Internal, "no store was at fault");
    };
    let lacking = lacking(faults, point, shared).await;
    let then = if lacking.stores.is_empty() {
        ""
    } else {
        ", and it is copied again"
    };
    let message = format!(
        "store {:?}: {}; store {holder:?} holds the point whole, and restores read it there: nothing was quarantined{then}",
        store.name,
        error.report()
    );
    Failure {
        permanent: error.is_permanent(),
        lacking: Some(lacking.into()),
        ..Failure::retryable(error.kind(), message)
    }
}

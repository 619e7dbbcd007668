//! Restores a restore point into a scratch server, and records what that proves.

use std::time::Duration;

use lastgood_jobs::{
    drill::{Drilled, Drills, Outcome as Found, drill},
    error::ErrorKind,
    job::{Drill, Job},
};
use serde_json::json;

use super::{
    Shared,
    handle::{READ_WITHIN, worker_in},
    holders::holders,
    judge::{is_shredded, judge},
    record::{recorded, sought},
};
use crate::{
    catalog::{PointRow, answered},
    proof::{Because, NewProof, ProofKind, Verdict},
    queue::{Failure, Outcome, Run},
    standing::Standing,
};

/// Drills a restore point, from the first store that can provide it.
///
/// A consumer that has found the point wanting hands it on: another one must agree before it is quarantined.
pub(super) async fn run_drill(
    run: &Run<Job>,
    job: &Drill,
    shared: &Shared,
) -> Result<Outcome, Failure> {
    let Some(drills) = &shared.drills else {
        let message = "this consumer runs no drills (--drill-slots 0)";
        return Err(Failure::retryable(ErrorKind::Config, message));
    };
    let point = answered(READ_WITHIN, shared.catalog.point(job.point)).await?;
    match point.standing() {
        Standing::Trusted | Standing::Suspect | Standing::Quarantined => {}
        Standing::Expired => {
            let report = json!({ "point": point.id, "skipped": "it has expired" });
            return Ok(Outcome::Report(report));
        }
    }
    let recorded = recorded(&point)?;
    let engine = recorded.engine.as_str();
    let doubting = shared
        .catalog
        .drill_doubt(point.id, engine, run.lease.worker());
    let doubt = answered(READ_WITHIN, doubting).await?;
    if doubt.is_mine && doubt.others > 0 {
        let message = "this consumer found the point wanting itself: another one has to look";
        return Err(Failure::handed_on(message));
    }
    if doubt.is_mine {
        let skipped = "this consumer found the point wanting before, and no other runs drills";
        let report = json!({ "point": point.id, "skipped": skipped });
        return Ok(Outcome::Report(report));
    }
    let sought = sought(&point, &recorded);
    let mut faults = Vec::new();
    for store in holders(&point, shared).await?.all() {
        let worker = worker_in(&store.storage, run, shared);
        match Box::pin(drill(run.as_attempt(), &sought, drills, &worker)).await {
            Ok(drilled) => return Ok(outcome(&point, &store.name, &drilled)),
            Err(error) if error.is_of_the_store() || is_shredded(&error) => {
                faults.push((store, error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(judge(faults, &point, ProofKind::Drill, shared).await)
}

fn outcome(point: &PointRow, store: &str, drilled: &Drilled) -> Outcome {
    let because =
        |kind: &'static str| Because::new(kind, drilled.outcome.because().unwrap_or_default());
    let verdict = match &drilled.outcome {
        Found::Proven => Verdict::Proven,
        Found::Differs { .. } => Verdict::Differs(because("differs")),
        Found::Failed { .. } => Verdict::Failed(because("not_restored")),
        Found::NotPossible { reason, .. } => Verdict::NotPossible(because(reason.as_str())),
    };
    let seconds = drilled.seconds;
    let report = json!({
        "point": point.id,
        "store": store,
        "drill": drilled.outcome.as_str(),
        "because": drilled.outcome.because(),
        "server": drilled.server,
        "seconds": seconds,
        "items": drilled.comparison.as_ref().map(|it| it.compared.values().sum::<u64>()),
        "records": drilled.comparison.as_ref().map(|it| it.records),
        "differing": drilled.comparison.as_ref().map(|it| it.differing),
        "left_out": drilled.comparison.as_ref().map(|it| it.left_out_items),
        "dump_bytes": drilled.dump_bytes,
        "notes": drilled.notes,
    });
    let mut proof = NewProof::new(ProofKind::Drill, point.id, verdict)
        .taking("verify", took(seconds.verify))
        .taking("start", took(seconds.start))
        .taking("restore", took(seconds.restore))
        .taking("check", took(seconds.check));
    if let Some(comparison) = &drilled.comparison {
        proof = proof.comparing(comparison);
    }
    match drilled.outcome {
        Found::Proven => Outcome::Proof {
            point: point.id,
            stores: vec![store.to_owned()],
            report,
            proof: proof.into(),
        },
        Found::Differs { .. } | Found::Failed { .. } | Found::NotPossible { .. } => {
            Outcome::Unproven {
                report,
                proof: proof.into(),
            }
        }
    }
}

fn took(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// Returns whether this consumer can drill anything of an engine.
pub(super) fn drills_engine(
    drills: Option<&Drills>,
    engine: lastgood_jobs::resource::Engine,
) -> bool {
    drills.is_some_and(|drills| drills.programs.has(engine))
}

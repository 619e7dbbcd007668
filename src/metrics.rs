//! Every metric there is: its name, its help and its labels, primed at zero so that "never" is visible.

mod budget;
mod described;
mod drills;
mod holds;
#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::{DateTime, Utc};
use lastgood_jobs::{manifest::Manifest, resource::Engine};
use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

pub use self::{budget::burns, holds::infeasible};

use self::described::{
    API_REQUESTS, API_SECONDS, AWAITING_REMOVAL, BROKEN, CLOCK_SKEW, CLOSED_DATABASES, COALESCED,
    DUMP_BYTES, ENQUEUED, EXPIRED, EXPOSURE, FUTURE_ROWS, LAST_OBSERVED, LAST_TICK, LEFT_OUT,
    LIVE_CONSUMERS, MISSING_COPIES, MISSING_POINTS, NEVER_BACKED_UP, OF_NO_INSTANT, OLDEST_NEVER,
    OLDEST_RUNNABLE, OVERDUE, PAUSES, PLANS_FALLBACK, PLANS_RELOAD_FAILED, PROMISED, PROTECTED,
    PRUNED, QUARANTINED, QUEUE_RUNS, REAPED, REAPED_RUNS, REFUSED_REMOVALS, RUN_SECONDS, RUNS,
    STORED_BYTES, SUSPECT, SUSPECT_NEWEST, SUSPENDED, SWEPT, TICK_SECONDS, TICKS, UNKNOWN_TIER,
    UNLISTED, UNUSABLE, VANISHED, VERIFICATIONS,
};
pub use self::drills::{drilled, unproven};
use crate::{
    catalog::{MissingCopies, ProofCount, Removals, StoreListing, SuspectCount, TierExposure},
    nouns::{QueueDepth, StoreFault, UnknownTier},
    plan::Plans,
    run::{RunKind, RunState},
};

/// What stands for every engine, and every kind of run, that this build does not know: a name that somebody made up is no label.
const UNKNOWN: &str = "unknown";
/// The statements that leave rows out.
const BATCHED: [&str; 16] = [
    "tick",
    "apply_plans",
    "future_points",
    "future_resources",
    "future_runs",
    "reap",
    "refuse_unknown",
    "prune",
    "rebuild",
    "retain",
    "hold",
    "verify",
    "drill",
    "copy",
    "expire",
    "promise",
];
/// Where rows from the future are mended.
const FUTURE_TABLES: [&str; 4] = ["restore_points", "resources", "runs", "processes"];
const QUANTILES: [&str; 4] = ["0.5", "0.9", "0.99", "1"];

/// How an attempt ended, as the label `result` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunResult {
    /// Its effects are recorded.
    Succeeded,
    /// For good.
    Failed,
    /// Back in the queue after a back-off.
    Retried,
    /// Another worker owns the run.
    LeaseLost,
    /// A drain ran out of time.
    GivenBack,
    /// An operator ordered it.
    Cancelled,
}

impl RunResult {
    const ALL: [Self; 6] = [
        Self::Succeeded,
        Self::Failed,
        Self::Retried,
        Self::LeaseLost,
        Self::GivenBack,
        Self::Cancelled,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Retried => "retried",
            Self::LeaseLost => "lease_lost",
            Self::GivenBack => "given_back",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What a reading of a restore point showed, as the label `result` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Every byte of it is right.
    Whole,
    /// It is damaged, and quarantined.
    Damaged,
}

impl Proof {
    const ALL: [Self; 2] = [Self::Whole, Self::Damaged];

    fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Damaged => "damaged",
        }
    }
}

/// Installs the recorder for this process and returns what renders it.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Full(RUN_SECONDS.to_owned()),
            &[
                0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0,
            ],
        )?
        .set_buckets_for_metric(
            Matcher::Full(TICK_SECONDS.to_owned()),
            &[0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0],
        )?
        .set_buckets_for_metric(
            Matcher::Full(API_SECONDS.to_owned()),
            &[0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0],
        )?
        .install_recorder()?;
    described::introduce();
    Ok(handle)
}

/// Shows the consumer's series at zero.
pub fn prime_consumer() {
    for engine in Engine::ALL {
        for kind in RunKind::ALL {
            for result in RunResult::ALL {
                counter!(RUNS, "engine" => engine.as_str(), "kind" => kind.as_str(), "result" => result.as_str()).absolute(0);
            }
        }
        counter!(DUMP_BYTES, "engine" => engine.as_str()).absolute(0);
        counter!(STORED_BYTES, "engine" => engine.as_str()).absolute(0);
    }
    for engine in Engine::ALL {
        for proof in Proof::ALL {
            counter!(VERIFICATIONS, "engine" => engine.as_str(), "result" => proof.as_str())
                .absolute(0);
        }
    }
    drills::prime();
    for what in ["partial", "orphan"] {
        counter!(SWEPT, "what" => what).absolute(0);
    }
    gauge!(CLOCK_SKEW).set(0.0);
}

/// Shows the producer's series at zero.
pub fn prime_producer() {
    for result in ["succeeded", "failed"] {
        counter!(TICKS, "result" => result).absolute(0);
    }
    counter!(ENQUEUED).absolute(0);
    counter!(COALESCED).absolute(0);
    for statement in BATCHED {
        counter!(LEFT_OUT, "statement" => statement).absolute(0);
    }
    for table in FUTURE_TABLES {
        counter!(FUTURE_ROWS, "table" => table).absolute(0);
    }
    gauge!(LAST_TICK).set(0.0);
    gauge!(LAST_OBSERVED).set(0.0);
    gauge!(PLANS_FALLBACK).set(0.0);
    gauge!(PLANS_RELOAD_FAILED).set(0.0);
    gauge!(UNKNOWN_TIER).set(0.0);
    for engine in Engine::ALL {
        for state in ["queued", "failed"] {
            counter!(REAPED, "engine" => engine.as_str(), "state" => state).absolute(0);
        }
    }
    for kind in RunKind::ALL.iter().copied().map(RunKind::as_str) {
        for engine in Engine::ALL {
            for state in ["queued", "failed"] {
                counter!(REAPED_RUNS, "engine" => engine.as_str(), "kind" => kind, "state" => state)
                    .absolute(0);
            }
        }
        counter!(REAPED_RUNS, "engine" => UNKNOWN, "kind" => kind, "state" => "failed").absolute(0);
    }
    counter!(PRUNED).absolute(0);
    pauses(0);
    counter!(EXPIRED).absolute(0);
    gauge!(AWAITING_REMOVAL).set(0.0);
    gauge!(REFUSED_REMOVALS).set(0.0);
    queue_depths(&[]);
    live_consumers(&[]);
    proofs(&[]);
    suspects(&[]);
}

/// Shows the API's series at zero, for each method and route.
pub fn prime_api(operations: &[(&'static str, String)]) {
    for (method, route) in operations {
        for result in ["done", "refused", "failed"] {
            counter!(API_REQUESTS, "method" => *method, "route" => route.clone(), "result" => result)
                .absolute(0);
        }
    }
}

/// Counts a request to the API that was answered.
pub fn api_answered(method: &str, route: &str, status: u16, took: Duration) {
    let result = match status {
        ..400 => "done",
        400..500 => "refused",
        500.. => "failed",
    };
    let labels = [
        ("method", method.to_owned()),
        ("route", route.to_owned()),
        ("result", result.to_owned()),
    ];
    counter!(API_REQUESTS, &labels).increment(1);
    histogram!(API_SECONDS, "route" => route.to_owned()).record(took);
}

/// Shows the stores' series at zero.
pub fn prime_copies<'a>(stores: impl Iterator<Item = &'a String>) {
    for store in stores {
        gauge!(MISSING_COPIES, "store" => store.clone()).set(0.0);
        for gauge in [MISSING_POINTS, VANISHED, UNLISTED, UNUSABLE] {
            gauge!(gauge, "store" => store.clone()).set(0.0);
        }
    }
}

/// Shows how many points each store lacks.
pub fn missing_copies(missing: &[MissingCopies]) {
    for store in missing {
        gauge!(MISSING_COPIES, "store" => store.store.clone()).set(float(store.points));
    }
}

/// Shows what each store lacked when it was last listed.
pub fn listings(listings: &[StoreListing]) {
    let flag = |on: bool| if on { 1.0 } else { 0.0 };
    for it in listings {
        let store = || it.store.clone();
        gauge!(MISSING_POINTS, "store" => store()).set(float(it.missing - it.accepted));
        gauge!(VANISHED, "store" => store()).set(flag(it.vanished_at.is_some()));
        gauge!(UNLISTED, "store" => store()).set(flag(it.failed_at.is_some()));
    }
}

/// Shows how many running consumers cannot use each store; one that all can use is shown at zero.
pub fn store_faults<'a>(stores: impl Iterator<Item = &'a String>, faults: &[StoreFault]) {
    for store in stores {
        let found = faults.iter().find(|fault| fault.store == *store);
        gauge!(UNUSABLE, "store" => store.clone())
            .set(found.map_or(0.0, |fault| float(fault.consumers)));
    }
}

/// Counts an attempt that ended.
///
/// `kind`: `None` where this build does not know it.
pub fn run_ended(engine: &str, kind: Option<RunKind>, result: RunResult, took: Duration) {
    let labels = [
        ("engine", engine.to_owned()),
        ("kind", kind.map_or(UNKNOWN, RunKind::as_str).to_owned()),
        ("result", result.as_str().to_owned()),
    ];
    counter!(RUNS, &labels).increment(1);
    histogram!(RUN_SECONDS, &labels).record(took);
}

/// Counts a recorded restore point's bytes.
pub fn restore_point_made(engine: &str, manifest: &Manifest) {
    counter!(DUMP_BYTES, "engine" => engine.to_owned()).increment(manifest.dump.size_bytes);
    counter!(STORED_BYTES, "engine" => engine.to_owned()).increment(manifest.archive.size_bytes);
}

/// Counts a restore point that was read to its last byte.
pub fn verified(engine: &str, proof: Proof) {
    counter!(VERIFICATIONS, "engine" => engine.to_owned(), "result" => proof.as_str()).increment(1);
}

/// Shows how many restore points are damaged, and how many unproven for too long; an engine without any is shown at zero.
pub fn proofs(counts: &[ProofCount]) {
    for engine in Engine::ALL {
        let found = counts.iter().find(|count| count.engine == engine.as_str());
        gauge!(QUARANTINED, "engine" => engine.as_str())
            .set(found.map_or(0.0, |count| float(count.quarantined)));
        gauge!(OVERDUE, "engine" => engine.as_str())
            .set(found.map_or(0.0, |count| float(count.overdue)));
    }
}

/// Shows how many restore points promise less than they should; an engine without any is shown at zero.
pub fn suspects(counts: &[SuspectCount]) {
    for engine in Engine::ALL {
        let found = counts.iter().find(|count| count.engine == engine.as_str());
        let count = |of: fn(&SuspectCount) -> i64| found.map_or(0.0, |count| float(of(count)));
        gauge!(SUSPECT, "engine" => engine.as_str()).set(count(|it| it.points));
        gauge!(SUSPECT_NEWEST, "engine" => engine.as_str()).set(count(|it| it.resources));
        gauge!(OF_NO_INSTANT, "engine" => engine.as_str()).set(count(|it| it.of_no_instant));
    }
}

/// Counts a tick that succeeded.
pub fn ticked(took: Duration, enqueued: u64, coalesced: u64, at: DateTime<Utc>) {
    counter!(TICKS, "result" => "succeeded").increment(1);
    histogram!(TICK_SECONDS).record(took);
    counter!(ENQUEUED).increment(enqueued);
    counter!(COALESCED).increment(coalesced);
    gauge!(LAST_TICK).set(float(at.timestamp()));
}

/// Shows when everything was last measured.
pub fn observed(at: DateTime<Utc>) {
    gauge!(LAST_OBSERVED).set(float(at.timestamp()));
}

/// Counts a tick that failed.
pub fn tick_failed() {
    counter!(TICKS, "result" => "failed").increment(1);
}

/// Counts a lease taken back, and the run: nobody else counts it where that was its end.
pub fn reaped(engine: &str, kind: RunKind, state: RunState) {
    let (engine, kind, state) = (known(engine), kind.as_str(), state.as_str());
    counter!(REAPED, "engine" => engine, "state" => state).increment(1);
    counter!(REAPED_RUNS, "engine" => engine, "kind" => kind, "state" => state).increment(1);
}

/// Counts a run that failed because no build knows its engine.
pub fn refused_unknown(kind: RunKind) {
    counter!(REAPED_RUNS, "engine" => UNKNOWN, "kind" => kind.as_str(), "state" => "failed")
        .increment(1);
}

/// Counts rows that a batched statement left out.
pub fn rows_left_out(statement: &'static str, rows: u64) {
    counter!(LEFT_OUT, "statement" => statement).increment(rows);
}

/// Counts rows from the future that were mended.
pub fn future_rows(table: &'static str, rows: u64) {
    counter!(FUTURE_ROWS, "table" => table).increment(rows);
}

fn known(queue: &str) -> &'static str {
    Engine::ALL
        .into_iter()
        .find(|engine| engine.as_str() == queue)
        .map_or(UNKNOWN, Engine::as_str)
}

/// Shows whether the built-in plans are in force.
pub fn plans_fallback(in_force: bool) {
    gauge!(PLANS_FALLBACK).set(if in_force { 1.0 } else { 0.0 });
}

/// Shows whether the plans file is not what is in force.
pub fn plans_reload_failed(is_so: bool) {
    gauge!(PLANS_RELOAD_FAILED).set(if is_so { 1.0 } else { 0.0 });
}

/// Shows how many resources no plan covers.
pub fn unknown_tiers(tiers: &[UnknownTier]) {
    gauge!(UNKNOWN_TIER).set(float(tiers.iter().map(|tier| tier.resources).sum()));
}

/// Shows each queue's depth; an empty one is shown at zero.
pub fn queue_depths(depths: &[QueueDepth]) {
    for engine in Engine::ALL {
        for state in [RunState::Queued, RunState::Running] {
            let depth = depths
                .iter()
                .find(|depth| depth.engine == engine.as_str() && depth.state == state);
            gauge!(QUEUE_RUNS, "engine" => engine.as_str(), "state" => state.as_str())
                .set(depth.map_or(0.0, |depth| float(depth.runs)));
            if state == RunState::Queued {
                gauge!(OLDEST_RUNNABLE, "engine" => engine.as_str())
                    .set(depth.map_or(0.0, |depth| depth.oldest_seconds));
            }
        }
    }
}

/// Shows how many customers' databases a restore has left closed.
pub fn closed_databases(count: usize) {
    gauge!(CLOSED_DATABASES).set(float(i64::try_from(count).unwrap_or(i64::MAX)));
}

/// Shows how many pauses are in force.
pub fn pauses(count: usize) {
    gauge!(PAUSES).set(float(i64::try_from(count).unwrap_or(i64::MAX)));
}

/// Counts runs whose history was removed.
pub fn pruned(runs: u64) {
    counter!(PRUNED).increment(runs);
}

/// Shows exposure for each paid tier; one without resources is shown at zero.
pub fn exposures(paid: &[String], exposures: &[TierExposure]) {
    for tier in paid {
        let found = exposures.iter().find(|exposure| exposure.tier == *tier);
        for (index, quantile) in QUANTILES.into_iter().enumerate() {
            let seconds = found.and_then(|exposure| exposure.quantiles.get(index).copied());
            gauge!(EXPOSURE, "tier" => tier.clone(), "quantile" => quantile)
                .set(seconds.unwrap_or(0.0));
        }
        let count =
            |of: fn(&TierExposure) -> i64| found.map_or(0.0, |exposure| float(of(exposure)));
        gauge!(PROTECTED, "tier" => tier.clone()).set(count(|exposure| exposure.resources));
        gauge!(NEVER_BACKED_UP, "tier" => tier.clone())
            .set(count(|exposure| exposure.never_backed_up));
        gauge!(OLDEST_NEVER, "tier" => tier.clone())
            .set(found.map_or(0.0, |exposure| exposure.oldest_never_seconds));
        gauge!(BROKEN, "tier" => tier.clone()).set(count(|exposure| exposure.broken));
    }
}

/// Shows how many resources of each paid tier are suspended; a tier without any is shown at zero.
pub fn suspended(paid: &[String], counts: &[(String, i64)]) {
    for tier in paid {
        let found = counts.iter().find(|(name, _)| name == tier);
        gauge!(SUSPENDED, "tier" => tier.clone())
            .set(found.map_or(0.0, |(_, count)| float(*count)));
    }
}

/// Shows what each paid tier promises; a tier of `before` that promises nothing now is shown at zero.
pub fn promises(before: &[String], plans: &Plans) {
    let show = |tier: &str, late: f64, broken: f64| {
        for (limit, seconds) in [("late", late), ("broken", broken)] {
            gauge!(PROMISED, "tier" => tier.to_owned(), "limit" => limit).set(seconds);
        }
    };
    let is_paid = |tier: &String| plans.paid().any(|(plan, _)| plan.tier.as_str() == tier);
    for tier in before.iter().filter(|tier| !is_paid(tier)) {
        show(tier, 0.0, 0.0);
    }
    for (plan, _) in plans.paid() {
        let late = plan.rpo.as_delta().as_seconds_f64();
        show(plan.tier.as_str(), late, plan.allowed().as_seconds_f64());
    }
}

/// Shows how many consumers take new runs of each engine.
pub fn live_consumers(queues_of_each: &[Vec<String>]) {
    for engine in Engine::ALL {
        let alive = queues_of_each
            .iter()
            .filter(|queues| queues.iter().any(|queue| queue == engine.as_str()))
            .count();
        gauge!(LIVE_CONSUMERS, "engine" => engine.as_str())
            .set(float(i64::try_from(alive).unwrap_or(i64::MAX)));
    }
}

/// Counts restore points that were let go.
pub fn expired(points: u64) {
    counter!(EXPIRED).increment(points);
}

/// Shows what waits for its removal.
pub fn removals(removals: &Removals) {
    gauge!(AWAITING_REMOVAL).set(float(removals.awaiting));
    gauge!(REFUSED_REMOVALS).set(float(removals.refused));
}

/// Shows how far this process's clock is ahead of the catalog's.
pub fn clock_skew(seconds: f64) {
    gauge!(CLOCK_SKEW).set(seconds);
}

/// Counts what the janitor removed.
pub fn swept(partial: u64, orphans: u64) {
    counter!(SWEPT, "what" => "partial").increment(partial);
    counter!(SWEPT, "what" => "orphan").increment(orphans);
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; counts stay far below 2^52"
)]
fn float(count: i64) -> f64 {
    count as f64
}

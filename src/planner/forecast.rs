//! What the planner answers, in the shape that `--json` prints. docs/reference/planner.md describes it.

use serde::Serialize;

/// What a fleet needs in the next year, and which promises will break.
#[derive(Debug, Clone, Serialize)]
pub struct Forecast {
    /// The resources that the plans back up.
    pub resources: usize,
    /// Active resources on tiers that the plans do not name.
    pub unplanned: usize,
    /// Each engine now.
    pub engines: Vec<EngineNow>,
    /// One simulated day now, and one after each of the next twelve months of 30 days.
    pub months: Vec<Month>,
    /// Which promises will not be kept: now, in 30 and in 90 days.
    pub promises: Vec<Outlook>,
    /// What has no backup on record, and was assumed to be typical of its tier.
    pub without_history: WithoutHistory,
}

/// One engine now.
#[derive(Debug, Clone, Serialize)]
pub struct EngineNow {
    /// Its name.
    pub engine: &'static str,
    /// Its resources.
    pub resources: usize,
    /// How many runs the fleet executes at once.
    pub slots: u32,
    /// How long backups wait.
    pub wait_seconds: Waits,
    /// What each hour of the day needs, in UTC.
    pub hours: Vec<Hour>,
}

/// How long backups wait for a slot, in seconds, from the tick that enqueued them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Waits {
    /// Half of them at most.
    pub p50: u32,
    /// 95 of 100 at most.
    pub p95: u32,
    /// 99 of 100 at most.
    pub p99: u32,
}

/// What one hour needs if nothing has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Hour {
    /// The hour in UTC, from 0.
    pub hour: usize,
    /// Slots in use, on average.
    pub busy_slots: f64,
    /// The most backups at once.
    pub peak_slots: u32,
}

/// The fleet after some months.
#[derive(Debug, Clone, Serialize)]
pub struct Month {
    /// How many days from now.
    pub days: u32,
    /// Each engine's waits.
    pub engines: Vec<EngineThen>,
    /// How many promises are not kept.
    pub broken: usize,
    /// What all kept restore points occupy in one store.
    pub stored_bytes: u64,
    /// What that costs in a month, at the given price.
    pub cost_per_month: Option<f64>,
}

/// One engine after some months.
#[derive(Debug, Clone, Serialize)]
pub struct EngineThen {
    /// Its name.
    pub engine: &'static str,
    /// How long backups wait.
    pub wait_seconds: Waits,
    /// Slots in use in the busiest hour, on average.
    pub busiest_hour_slots: f64,
}

/// Which promises will not be kept at some time.
#[derive(Debug, Clone, Serialize)]
pub struct Outlook {
    /// In how many days.
    pub days: u32,
    /// How many.
    pub broken: usize,
    /// How many if everything grows as little as the trends allow, in 95 of 100 cases.
    pub broken_at_least: usize,
    /// How many if everything grows as much.
    pub broken_at_most: usize,
    /// Those that are missed by most; no more than were asked for.
    pub resources: Vec<BrokenPromise>,
}

/// A promise that will not be kept.
#[derive(Debug, Clone, Serialize)]
pub struct BrokenPromise {
    /// The resource.
    pub resource: String,
    /// Its owner.
    pub team: String,
    /// Its tier.
    pub tier: String,
    /// Its engine.
    pub engine: &'static str,
    /// Its RPO.
    pub rpo_minutes: i32,
    /// The longest exposure of the simulated day.
    pub exposure_seconds: i64,
    /// What 99 of 100 of its backups take at most then.
    pub takes_seconds: Range,
    /// Whether nothing is known of its backups, so that these are its tier's medians.
    pub is_assumed: bool,
    /// Why it is not kept.
    pub broken_because: String,
}

/// A figure in the future, and between what it lies in 95 of 100 cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The estimate.
    pub estimate: i64,
    /// The lower end.
    pub low: i64,
    /// The upper end.
    pub high: i64,
}

/// Resources without a backup on record.
#[derive(Debug, Clone, Serialize)]
pub struct WithoutHistory {
    /// How many.
    pub resources: usize,
    /// How many of these are left out: no resource at all has a history to go by.
    pub left_out: usize,
    /// Some of them, in the order of their ids.
    pub named: Vec<Assumed>,
}

/// What was assumed of a resource.
#[derive(Debug, Clone, Serialize)]
pub struct Assumed {
    /// The resource.
    pub resource: String,
    /// Its tier.
    pub tier: String,
    /// How long its backups take, by the median of its tier and engine, or of its engine, or of all; null if nothing is known of any.
    pub takes_seconds: Option<i64>,
    /// What one of them occupies.
    pub stored_bytes: Option<u64>,
}

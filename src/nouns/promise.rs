//! A kept promise: for how long it was kept, late and broken, and what is left of its error budget.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use utoipa::ToSchema;

/// How a promise was kept over some days.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct KeptPromise {
    /// The tier.
    pub tier: String,
    /// The team; null in sums over all teams.
    pub team: Option<String>,
    /// The resource; null in sums over several.
    pub resource: Option<String>,
    /// The most resources that it was given to on one day.
    pub resources: i64,
    /// For how long something was promised, all resources together, without what was paused.
    pub promised_seconds: i64,
    /// For how much of it the exposure was longer than the RPO.
    pub late_seconds: i64,
    /// For how much of that it was longer than the RPO and its tolerance.
    pub broken_seconds: i64,
    /// For how long it was paused by an operator or suspended: neither kept nor broken.
    pub paused_seconds: i64,
    /// For how much of the promised time no producer was alive. It excuses nothing.
    pub down_seconds: i64,
    /// The longest exposure.
    pub worst_exposure_seconds: i64,
    /// In how many percent of the promised time the promise was not broken; null if nothing was promised.
    pub attained_percent: Option<f64>,
    /// The tier's objective, in percent; null if it has none.
    pub objective_percent: Option<f64>,
    /// Whether the objective was attained; null without an objective, or if nothing was promised.
    pub is_attained: Option<bool>,
    /// For how long the objective lets the promise be broken; null if the tier has none.
    pub budget_seconds: Option<i64>,
    /// What is left of that; negative if more is spent than there was.
    pub budget_left_seconds: Option<i64>,
    /// How many times as fast as the objective allows the budget was spent: 1 spends it exactly; null without an objective.
    pub burn_rate: Option<f64>,
}

/// A time in which a promise was broken without a break.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct BrokenTime {
    /// When the exposure passed the RPO and its tolerance.
    pub broken_at: DateTime<Utc>,
    /// When that ended, or the instant up to which was looked.
    pub ended_at: DateTime<Utc>,
    /// The longest exposure in it.
    pub worst_exposure_seconds: i64,
}

/// How the promises were kept, from the first day to the last, both in UTC and both included.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct PromiseReport {
    /// The time of this answer, by the catalog's clock.
    pub at: DateTime<Utc>,
    /// The first day.
    pub from: NaiveDate,
    /// The last day.
    pub to: NaiveDate,
    /// Up to when these days are counted; null if none of them is.
    pub counted_until: Option<DateTime<Utc>>,
    /// By tier, the one that was broken for the largest share first.
    pub tiers: Vec<KeptPromise>,
    /// By team and tier, in the same order.
    pub teams: Vec<KeptPromise>,
    /// The resources that were broken for longest; if one was asked for, that one.
    pub resources: Vec<KeptPromise>,
    /// When the promise of the one resource that was asked for was broken, as far as the facts are still on record: 7 days back. Null if
    /// none was asked for.
    pub breaches: Option<Vec<BrokenTime>>,
}

/// How the promises to one team were kept in a month, for the team to keep.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PromiseStatement {
    /// The version of this form.
    pub version: u32,
    /// The team.
    pub team: String,
    /// The month in UTC: `2026-11`.
    pub month: String,
    /// When the statement was made, by the catalog's clock.
    pub at: DateTime<Utc>,
    /// How many days the month has.
    pub days: i64,
    /// How many of them are counted for good. The rest is missing, or counted so far.
    pub counted_days: i64,
    /// Whether all of them are.
    pub is_complete: bool,
    /// By tier.
    pub tiers: Vec<KeptPromise>,
    /// The resources whose promise was broken, for longest first.
    pub broken: Vec<KeptPromise>,
}

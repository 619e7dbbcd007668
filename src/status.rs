//! Exposure against the promise, per tier and per resource, for the command line and the HTTP API.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    catalog::{Catalog, CatalogError, ResourceExposure},
    nouns::{InfeasiblePromise, Suspended},
    plan::{Hold, Plan, Plans},
    rto::{Rto, rto},
    schedule::{Exposure, Verdict, exposure, verdict},
};

/// How long a run may wait, or go without renewing its lease, before it is reported as stuck.
pub const PATIENCE_SECONDS: f64 = 300.0;

/// Exposure at one instant, of one team's resources or of all.
pub struct Exposed {
    /// The tiers that are backed up and have resources, the one furthest over its RPO first.
    pub tiers: Vec<TierStatus>,
    /// Resources, starting with those that have used up most of what their tier allows.
    pub resources: Vec<ResourcePromise>,
    /// Promises that are held strictly, and that no cadence keeps, those that lack most first.
    pub infeasible: Vec<InfeasiblePromise>,
    /// Resources that are not protected although their tier is.
    pub suspended: Suspended,
}

/// A tier's exposure against its promise.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TierStatus {
    /// The tier's name.
    pub id: String,
    /// The most data that may be lost, in minutes.
    pub rpo_minutes: i32,
    /// How closely that is held.
    pub hold: Hold,
    /// Its active resources.
    pub resources: i64,
    /// Those with no restore point at all.
    pub never_backed_up: i64,
    /// Those whose exposure has passed the RPO and its tolerance.
    pub broken: i64,
    /// Those whose RPO no cadence holds to the minute; 0 where it is not held strictly.
    pub infeasible: i64,
    /// The longest exposure.
    pub worst_exposure_seconds: i64,
}

/// A resource's exposure against its promise.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ResourcePromise {
    /// Its id.
    pub id: String,
    /// Its owner.
    pub team: String,
    /// Its tier.
    pub tier: String,
    /// Its engine.
    pub engine: String,
    /// `kept`, `late` or `broken`.
    pub promise: &'static str,
    /// How many seconds of data a failure now would lose, counted from its registration if it was never backed up.
    pub exposure_seconds: i64,
    /// The newest restorable instant; null if it was never backed up.
    pub newest_consistent_at: Option<DateTime<Utc>>,
    /// When it is due next.
    pub next_due_at: Option<DateTime<Utc>>,
    /// How many scheduled backups have failed in a row.
    pub failures_in_a_row: i32,
    /// How consistent its newest restore point is, in the manifest's words; `none`: others wrote to the server while it was read.
    pub consistency: Option<String>,
    /// Why a newer restore point is suspect, and so does not count, in the manifest's words; null if there is none.
    pub suspected_of: Option<Vec<String>>,
    /// When a drill last proved that one of its restore points can be restored.
    pub proven_at: Option<DateTime<Utc>>,
    /// How many seconds the last restore took, a drill's or a real one.
    pub restore_seconds: Option<f64>,
    /// How that compares with the tier's `rto_minutes`; null if the tier promises none.
    pub rto: Option<Rto>,
}

/// Returns the exposure at `at` of one team's resources, or of all.
pub async fn exposed(
    catalog: &Catalog,
    plans: &Plans,
    team: Option<&str>,
    at: DateTime<Utc>,
    limit: i64,
) -> Result<Exposed, CatalogError> {
    let (paid, allowed) = paid(plans);
    let infeasible = catalog.infeasible_by_tier(plans, team).await?;
    let mut tiers: Vec<_> = catalog
        .tier_exposures(&paid, &allowed, team)
        .await?
        .into_iter()
        .map(|found| TierStatus {
            rpo_minutes: plan_of(plans, &found.tier).map_or(0, |plan| plan.rpo.minutes()),
            hold: plan_of(plans, &found.tier).map_or_else(Hold::default, |plan| plan.hold),
            infeasible: infeasible
                .iter()
                .find(|(tier, _)| *tier == found.tier)
                .map_or(0, |(_, resources)| *resources),
            worst_exposure_seconds: found.worst_seconds,
            id: found.tier,
            resources: found.resources,
            never_backed_up: found.never_backed_up,
            broken: found.broken,
        })
        .collect();
    tiers.sort_by_key(|tier| std::cmp::Reverse(tier.over()));
    let resources = catalog
        .exposures(&paid, &allowed, team, limit)
        .await?
        .into_iter()
        .filter_map(|row| resource(row, plans, at))
        .collect();
    Ok(Exposed {
        tiers,
        resources,
        infeasible: catalog.infeasible(plans, team, limit).await?,
        suspended: catalog.suspended(&paid, team).await?,
    })
}

/// Returns the tiers that are backed up, and the seconds of exposure that each allows (RPO plus tolerance).
#[must_use]
pub fn paid(plans: &Plans) -> (Vec<String>, Vec<f64>) {
    plans
        .paid()
        .map(|(plan, _)| (plan.tier.to_string(), plan.allowed().as_seconds_f64()))
        .unzip()
}

impl TierStatus {
    /// Returns by how many seconds the worst exposure exceeds the RPO. Tiers are sorted by it.
    fn over(&self) -> i64 {
        self.worst_exposure_seconds - i64::from(self.rpo_minutes) * 60
    }
}

impl ResourcePromise {
    /// Returns whether the newest restore point is not of a single instant: its manifest's consistency is `none`.
    #[must_use]
    pub fn is_of_no_instant(&self) -> bool {
        self.consistency.as_deref() == Some("none")
    }

    /// Returns the exposure.
    #[must_use]
    pub fn exposed(&self) -> Exposure {
        let age = TimeDelta::seconds(self.exposure_seconds);
        match self.newest_consistent_at {
            None => Exposure::Never(age),
            Some(_) => Exposure::Age(age),
        }
    }
}

fn plan_of<'a>(plans: &'a Plans, tier: &str) -> Option<&'a Plan> {
    plans.iter().find(|plan| plan.tier.as_str() == tier)
}

fn resource(row: ResourceExposure, plans: &Plans, at: DateTime<Utc>) -> Option<ResourcePromise> {
    let plan = plan_of(plans, &row.tier)?;
    let exposed = exposure(at, row.newest_consistent_at, row.created_at);
    let promise = match verdict(plan, exposed)? {
        Verdict::Kept => "kept",
        Verdict::Late => "late",
        Verdict::Broken => "broken",
    };
    Some(ResourcePromise {
        promise,
        exposure_seconds: exposed.age().num_seconds(),
        id: row.id,
        team: row.team,
        tier: row.tier,
        engine: row.engine,
        newest_consistent_at: row.newest_consistent_at,
        next_due_at: row.next_due_at,
        failures_in_a_row: row.failures_in_a_row,
        consistency: row.consistency,
        suspected_of: row.suspected_of,
        proven_at: row.proven_at,
        rto: rto(plan.rto_minutes, row.restore_seconds),
        restore_seconds: row.restore_seconds,
    })
}

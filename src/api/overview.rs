//! What lastgood promises, what it keeps, and which consumers are alive.

use std::sync::Arc;

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use lastgood_jobs::engine::Capability;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api, InForce,
    access::{Anybody, Reader},
    problem::Problem,
    read::{Asked, limit},
};
use crate::{
    capabilities::{self, Alive, LiveConsumer, Scheduling, TierCapabilities},
    nouns::{
        ClosedDatabase, Consumer, InfeasiblePromise, Pause, QueueDepth, StuckRun, Suspended, Tier,
        UnknownTier, tiers,
    },
    status::{PATIENCE_SECONDS, ResourcePromise, TierStatus, exposed},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(status))
        .routes(routes!(plans))
        .routes(routes!(capabilities))
        .routes(routes!(consumers))
}

/// Exposure against the promise.
#[derive(Debug, Serialize, ToSchema)]
struct Status {
    /// The time of this answer, by the catalog's clock.
    at: DateTime<Utc>,
    /// `file`, or `built_in` while the plans file is missing or broken.
    plans: &'static str,
    /// Tiers, the one furthest over its RPO first.
    tiers: Vec<TierStatus>,
    /// Resources, the most exposed first.
    resources: Vec<ResourcePromise>,
    /// Promises that are held strictly, and that no cadence keeps, those that lack most first.
    infeasible: Vec<InfeasiblePromise>,
    /// Resources that are not backed up although their tier is.
    suspended: Suspended,
    /// Databases that a restore has left closed to connections. A consumer will reopen them.
    closed_databases: Vec<ClosedDatabase>,
    /// What concerns all teams; null for a token that is bound to a team.
    platform: Option<Platform>,
}

/// What concerns all teams.
#[derive(Debug, Serialize, ToSchema)]
struct Platform {
    /// Tiers that resources have but the plans do not define. These resources are not backed up.
    unknown_tiers: Vec<UnknownTier>,
    /// How many runs are queued and running.
    queue: Vec<QueueDepth>,
    /// The pauses in force.
    pauses: Vec<Pause>,
    /// Runs that are stuck.
    stuck: Vec<StuckRun>,
    /// How many consumers are alive and take new runs. Draining ones do not count.
    live_consumers: usize,
    /// Whether a producer is ticking, so that backups are scheduled.
    is_scheduling: bool,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HowMany {
    /// How many resources to list at most; 50 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// Show exposure against the promise, worst first
///
/// A token that is bound to a team sees only its team's resources.
#[utoipa::path(
    get, path = "/status", tag = "overview", operation_id = "status", security(("token" = ["read"])), params(HowMany),
    responses((status = 200, description = "The status", body = Status))
)]
async fn status(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Asked(how_many): Asked<HowMany>,
) -> Result<Json<Status>, Problem> {
    let limit = limit(how_many.limit)?;
    let in_force = api.in_force();
    let at = api.catalog.now().await?;
    let exposed = exposed(&api.catalog, &in_force.plans, caller.team(), at, limit).await?;
    Ok(Json(Status {
        at,
        plans: in_force.source.into(),
        tiers: exposed.tiers,
        resources: exposed.resources,
        infeasible: exposed.infeasible,
        suspended: exposed.suspended,
        closed_databases: api.catalog.closed_databases(caller.team()).await?,
        platform: match caller.team() {
            None => Some(platform(&api, &in_force).await?),
            Some(_) => None,
        },
    }))
}

async fn platform(api: &Api, in_force: &InForce) -> Result<Platform, Problem> {
    let known: Vec<_> = in_force
        .plans
        .iter()
        .map(|plan| plan.tier.to_string())
        .collect();
    let live = api.catalog.live_consumers().await?;
    Ok(Platform {
        unknown_tiers: api.catalog.unknown_tiers(&known).await?,
        queue: api.catalog.queue_depths().await?,
        pauses: api.catalog.pauses().await?,
        stuck: api.catalog.stuck_runs(PATIENCE_SECONDS).await?,
        live_consumers: live.iter().filter(|it| it.takes_new()).count(),
        is_scheduling: api.catalog.scheduling().await?.is_alive(),
    })
}

/// Show the plans, with each tier's cadence
#[utoipa::path(
    get, path = "/plans", tag = "overview", operation_id = "list_plans", security(("token" = ["read"])),
    responses((status = 200, description = "The plans, in the order of the file", body = Vec<Tier>))
)]
async fn plans(_: Reader, State(api): State<Arc<Api>>) -> Json<Vec<Tier>> {
    Json(tiers(&api.in_force().plans))
}

/// What can be promised now.
#[derive(Debug, Serialize, ToSchema)]
struct Capabilities {
    /// The time of this answer, by the catalog's clock.
    at: DateTime<Utc>,
    /// `file`, or `built_in` while the plans file is missing or broken.
    plans: &'static str,
    /// Each tier, in the order of the plans.
    tiers: Vec<TierCapabilities>,
}

/// Show what can be promised now
///
/// Says for each tier and engine whether backup, restore and verification are available now, and why not. This is computed from the plans
/// and from the consumers and producers that are alive, so a website may quote it. With `lastgood api --public-capabilities`, no token is
/// needed.
#[utoipa::path(
    get, path = "/capabilities", tag = "overview", operation_id = "capabilities", security(("token" = ["read"])),
    responses((status = 200, description = "What is available", body = Capabilities))
)]
async fn capabilities(
    _: Anybody,
    State(api): State<Arc<Api>>,
) -> Result<Json<Capabilities>, Problem> {
    let in_force = api.in_force();
    let live = api.catalog.live_capabilities().await?;
    let consumers = live.into_iter().map(|(queues, stored)| LiveConsumer {
        queues,
        capabilities: understood(stored),
    });
    let producers = api.catalog.scheduling().await?;
    let alive = Alive {
        consumers: consumers.collect(),
        scheduling: if !producers.is_alive() {
            Scheduling::Nobody
        } else if producers.differs_from(&in_force.plans) {
            Scheduling::OtherPlans
        } else {
            Scheduling::ThesePlans
        },
        is_verifying: producers.is_verifying(),
        pauses: api.catalog.pauses().await?,
    };
    Ok(Json(Capabilities {
        at: api.catalog.now().await?,
        plans: in_force.source.into(),
        tiers: capabilities::capabilities(&in_force.plans, &alive),
    }))
}

/// Returns the capabilities that this version understands. A consumer of another version may report engines that it does not.
fn understood(stored: serde_json::Value) -> Vec<Capability> {
    let serde_json::Value::Array(each) = stored else {
        return Vec::new();
    };
    let each = each.into_iter();
    each.filter_map(|one| serde_json::from_value(one).ok())
        .collect()
}

/// List the consumers that are alive
///
/// Not for a token that is bound to a team.
#[utoipa::path(
    get, path = "/consumers", tag = "overview", operation_id = "list_consumers", security(("token" = ["read"])),
    responses((status = 200, description = "The consumers", body = Vec<Consumer>))
)]
async fn consumers(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
) -> Result<Json<Vec<Consumer>>, Problem> {
    caller.speaks_for_all()?;
    Ok(Json(api.catalog.live_consumers().await?))
}

impl Api {
    pub(super) fn in_force(&self) -> InForce {
        self.plans.borrow().clone()
    }
}

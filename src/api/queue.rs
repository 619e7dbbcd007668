//! Pausing, resuming and draining the queue.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    access::{Administrator, Reader},
    problem::{Kind, Problem},
    read::{Asked, Optional, plain},
};
use crate::catalog::{Pause, Paused, RunningRun, Scope};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(pauses, pause, resume))
        .routes(routes!(drain))
}

/// List the pauses in force, the oldest first
///
/// A token that is bound to a team sees those of its team alone.
#[utoipa::path(
    get, path = "/queue/pauses", tag = "queue", operation_id = "list_pauses", security(("token" = ["read"])),
    responses((status = 200, description = "The pauses", body = Vec<Pause>))
)]
async fn pauses(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
) -> Result<Json<Vec<Pause>>, Problem> {
    let mut pauses = api.catalog.pauses().await?;
    pauses.retain(|pause| caller.team().is_none() || pause.team.as_deref() == caller.team());
    Ok(Json(pauses))
}

/// What to pause; what is left out covers any. A token that is bound to a team must name it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct PauseBody {
    /// One engine.
    engine: Option<String>,
    /// One tier.
    tier: Option<String>,
    /// One team.
    team: Option<String>,
    /// Why, for the audit log and for whoever wonders.
    because: Option<String>,
}

/// Pause claims
///
/// Nothing that is covered is claimed until it is resumed. What runs goes on, and what is due is still recorded; the exposure grows.
#[utoipa::path(
    post, path = "/queue/pauses", tag = "queue", operation_id = "pause", security(("token" = ["admin"])),
    request_body = Option<PauseBody>,
    responses(
        (status = 201, description = "It is paused", body = Pause),
        (status = 200, description = "It was paused already", body = Pause),
    )
)]
async fn pause(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Optional(body): Optional<PauseBody>,
) -> Result<impl IntoResponse, Problem> {
    if let Some(because) = &body.because {
        plain("because", because)?;
    }
    let order = caller.order(body.because.as_deref());
    let scope = scope(body.engine, body.tier, body.team)
        .map_err(|detail| Problem::new(Kind::NotAccepted, detail))?;
    if scope.team.as_deref() != caller.team() {
        caller.speaks_for_all()?;
    }
    Ok(match api.catalog.pause(&scope, &order).await? {
        Paused::New(pause) => (StatusCode::CREATED, Json(pause)),
        Paused::Already(pause) => (StatusCode::OK, Json(pause)),
    })
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// The engine that it covers.
    engine: Option<String>,
    /// The tier that it covers.
    tier: Option<String>,
    /// The team that it covers.
    team: Option<String>,
}

/// End a pause: the one that covers exactly this
#[utoipa::path(
    delete, path = "/queue/pauses", tag = "queue", operation_id = "resume", security(("token" = ["admin"])), params(Which),
    responses(
        (status = 200, description = "The pause that was ended", body = Pause),
        (status = 404, description = "There is no such pause"),
    )
)]
async fn resume(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Asked(which): Asked<Which>,
) -> Result<Json<Pause>, Problem> {
    let scope = scope(which.engine, which.tier, which.team)
        .map_err(|detail| Problem::new(Kind::BadRequest, detail))?;
    let nothing = || {
        Problem::new(
            Kind::NotFound,
            "there is no pause of exactly this that this token may see: see GET /api/v1/queue/pauses",
        )
    };
    if caller.team().is_some() && scope.team.as_deref() != caller.team() {
        return Err(nothing());
    }
    let ended = api.catalog.resume(&scope, &caller.order(None)).await?;
    ended.map(Json).ok_or_else(nothing)
}

/// What is still to be waited for.
#[derive(Debug, Serialize, ToSchema)]
struct Drained {
    /// Whether nothing runs.
    drained: bool,
    /// What still runs.
    still_running: Vec<RunningRun>,
}

/// Pause everything, and say what still runs
///
/// Ask again until nothing does. Everything stays paused until `DELETE /queue/pauses` without a query.
#[utoipa::path(
    post, path = "/queue/drain", tag = "queue", operation_id = "drain", security(("token" = ["admin"])),
    request_body = Option<super::runs::Because>,
    responses((status = 200, description = "What still runs", body = Drained))
)]
async fn drain(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Optional(body): Optional<super::runs::Because>,
) -> Result<Json<Drained>, Problem> {
    caller.speaks_for_all()?;
    let order = caller.order(Some(body.checked()?.unwrap_or("drain")));
    api.catalog.pause(&Scope::default(), &order).await?;
    let still_running = api.catalog.running().await?;
    Ok(Json(Drained {
        drained: still_running.is_empty(),
        still_running,
    }))
}

/// Returns the scope, or an error if a name is malformed or the engine unknown.
fn scope(
    engine: Option<String>,
    tier: Option<String>,
    team: Option<String>,
) -> Result<Scope, String> {
    use lastgood_jobs::resource::{Engine, TeamId, Tier};
    if let Some(engine) = &engine {
        engine
            .parse::<Engine>()
            .map_err(|error| error.to_string())?;
    }
    if let Some(tier) = &tier {
        tier.parse::<Tier>().map_err(|error| error.to_string())?;
    }
    if let Some(team) = &team {
        team.parse::<TeamId>().map_err(|error| error.to_string())?;
    }
    Ok(Scope { engine, tier, team })
}

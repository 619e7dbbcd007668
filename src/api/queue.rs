//! Pausing, resuming and draining the queue.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    access::{Administrator, Reader},
    problem::{Kind, Problem},
    read::{Asked, Body, Optional, plain},
};
use crate::{
    catalog::{Paused, Scope},
    nouns::{Drained, Pause},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(pauses, pause, resume))
        .routes(routes!(drain))
}

/// List the pauses in force, oldest first
///
/// A token that is bound to a team sees only its team's pauses.
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

/// What to pause. A field that is left out covers all. A token that is bound to a team must name its team.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PauseBody {
    /// One engine.
    engine: Option<String>,
    /// One tier.
    tier: Option<String>,
    /// One team.
    team: Option<String>,
    /// The reason, shown to anybody who finds it paused and kept in the audit log.
    #[schema(
        min_length = 1,
        max_length = 1000,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$"
    )]
    reason: String,
}

/// Pause claims
///
/// Consumers claim no run that the pause covers until it ends. Running runs continue, and due backups are still queued. Exposure grows.
#[utoipa::path(
    post, path = "/queue/pauses", tag = "queue", operation_id = "pause", security(("token" = ["admin"])),
    request_body = PauseBody,
    responses(
        (status = 201, description = "The new pause", body = Pause),
        (status = 200, description = "The pause that was already in force", body = Pause),
    )
)]
async fn pause(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Body(body): Body<PauseBody>,
) -> Result<impl IntoResponse, Problem> {
    plain("reason", &body.reason)?;
    let order = caller.order(Some(&body.reason));
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
struct Covered {
    /// The engine that the pause covers.
    engine: Option<String>,
    /// The tier that the pause covers.
    tier: Option<String>,
    /// The team that the pause covers.
    team: Option<String>,
}

/// End the pause that covers exactly this engine, tier and team
#[utoipa::path(
    delete, path = "/queue/pauses", tag = "queue", operation_id = "resume", security(("token" = ["admin"])), params(Covered),
    responses(
        (status = 200, description = "The pause that was ended", body = Pause),
        (status = 404, description = "There is no such pause"),
    )
)]
async fn resume(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Asked(which): Asked<Covered>,
) -> Result<Json<Pause>, Problem> {
    let scope = scope(which.engine, which.tier, which.team)
        .map_err(|detail| Problem::new(Kind::BadRequest, detail))?;
    let nothing = || {
        Problem::new(
            Kind::NotFound,
            "there is no pause that covers exactly this and that this token may see: see GET /api/v1/queue/pauses",
        )
    };
    if caller.team().is_some() && scope.team.as_deref() != caller.team() {
        return Err(nothing());
    }
    let ended = api.catalog.resume(&scope, &caller.order(None)).await?;
    Ok(Json(ended.ok_or_else(nothing)?))
}

/// Pause everything, and show what is still running
///
/// Repeat it until `is_drained` is true. Everything stays paused until `DELETE /queue/pauses` without a query.
#[utoipa::path(
    post, path = "/queue/drain", tag = "queue", operation_id = "drain", security(("token" = ["admin"])),
    request_body = Option<super::runs::Reason>,
    responses((status = 200, description = "What is still running", body = Drained))
)]
async fn drain(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Optional(body): Optional<super::runs::Reason>,
) -> Result<Json<Drained>, Problem> {
    caller.speaks_for_all()?;
    let order = caller.order(Some(body.checked()?.unwrap_or("drain")));
    api.catalog.pause(&Scope::default(), &order).await?;
    Ok(Json(api.catalog.drained().await?))
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

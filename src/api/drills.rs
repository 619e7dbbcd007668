//! Drills: proofs that a restore point can be restored.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header::LOCATION},
    response::IntoResponse,
};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Api,
    access::Enqueuer,
    problem::Problem,
    read::{Named, Optional},
};
use crate::{nouns::Run, request::drill};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(prove))
}

/// Which restore point to drill. By default, the newest trusted one.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct DrillRequest {
    /// This restore point.
    point: Option<Uuid>,
}

/// Prove a restore point by a drill
///
/// A consumer restores it into a server of its own and compares it with what was dumped; the resource's own server takes no part. A
/// resource has one drill at a time: while one waits or runs, a request answers 200 with that one.
#[utoipa::path(
    post, path = "/resources/{id}/drills", tag = "proofs", operation_id = "drill", security(("token" = ["enqueue"])),
    params(("id" = String, Path, description = "The resource's id")),
    request_body = Option<DrillRequest>,
    responses(
        (status = 202, description = "The drill is queued", body = Run, headers(("location" = String, description = "The run"))),
        (status = 200, description = "A drill of the resource waits or runs already", body = Run, headers(("location" = String, description = "The run"))),
        (status = 409, description = "There is no usable restore point, or the one that was named has expired"),
    )
)]
async fn prove(
    Enqueuer(caller): Enqueuer,
    State(api): State<Arc<Api>>,
    Named(id): Named,
    Optional(body): Optional<DrillRequest>,
) -> Result<impl IntoResponse, Problem> {
    let resource = caller.resource(&api, &id).await?;
    let named = resource
        .id
        .parse()
        .map_err(crate::request::RequestError::from)?;
    let turn = api.asks.acquire().await;
    let asked = drill(&api.catalog, &named, body.point).await?;
    drop(turn);
    let run = api.catalog.run(asked.run).await?;
    let status = if asked.is_new {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    Ok((
        status,
        [(LOCATION, format!("/api/v1/runs/{}", run.id))],
        Json(run),
    ))
}

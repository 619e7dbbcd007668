//! Ad-hoc backups and restore points.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::IntoResponse,
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Api,
    access::{Administrator, Enqueuer, Reader},
    problem::{Kind, Problem},
    read::{Asked, Body, Named, Optional, idempotency_key, instant, limit, plain},
};
use crate::{
    catalog::{AdhocBackup, Enqueued, LimitOf, PointFilter},
    nouns::{Point, Run},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(back_up))
        .routes(routes!(restore_points))
        .routes(routes!(confirm))
}

/// An ad-hoc backup takes no options: leave the body out, or send `{}`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct BackupRequest {}

/// Make a backup now, outside the schedule
///
/// A repeated request with the same `Idempotency-Key` answers 200 with the first request's run. Reusing a key for another request on the
/// same resource answers 409.
#[utoipa::path(
    post, path = "/resources/{id}/backups", tag = "backups", operation_id = "back_up", security(("token" = ["enqueue"])),
    params(
        ("id" = String, Path, description = "The resource's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to repeat the request: a UUID, for example", min_length = 1, max_length = 255),
    ),
    request_body = Option<BackupRequest>,
    responses(
        (status = 202, description = "The backup is queued", body = Run, headers(("location" = String, description = "The run"))),
        (status = 200, description = "An earlier request with this key queued it", body = Run, headers(("location" = String, description = "The run"))),
        (status = 409, description = "The resource was removed, or the key was used for another request"),
        (status = 429, description = "The limit of ad-hoc backups in an hour is reached"),
    )
)]
async fn back_up(
    Enqueuer(caller): Enqueuer,
    State(api): State<Arc<Api>>,
    Named(id): Named,
    headers: HeaderMap,
    Optional(BackupRequest {}): Optional<BackupRequest>,
) -> Result<impl IntoResponse, Problem> {
    let key = idempotency_key(&headers)?;
    let resource = caller.resource(&api, &id).await?;
    let turn = api.asks.acquire().await;
    let asked = api
        .catalog
        .ask_for_backup(
            &resource.id,
            &resource.team,
            key.as_deref(),
            &caller.order(None),
        )
        .await?;
    drop(turn);
    match asked {
        AdhocBackup::Run(enqueued) => accepted(&api, enqueued).await,
        AdhocBackup::Limited {
            of,
            retry_after_seconds,
        } => {
            let whose = match of {
                LimitOf::Resource => format!("resource {:?} has", resource.id),
                LimitOf::Team => format!("team {:?} has", resource.team),
            };
            let detail = format!(
                "{whose} reached the limit of ad-hoc backups in an hour: try again in {retry_after_seconds} s; `lastgood limits set` changes the limit"
            );
            Err(Problem::new(Kind::Limited, detail).after(retry_after_seconds))
        }
    }
}

async fn accepted(
    api: &Api,
    enqueued: Enqueued,
) -> Result<(StatusCode, [(axum::http::HeaderName, String); 1], Json<Run>), Problem> {
    let run = api.catalog.run(enqueued.id()).await?;
    Ok((
        status(enqueued),
        [(LOCATION, format!("/api/v1/runs/{}", run.id))],
        Json(run),
    ))
}

/// Returns 202 for a new run, 200 for one that an earlier request had queued.
pub(super) fn status(enqueued: Enqueued) -> StatusCode {
    match enqueued {
        Enqueued::New(_) => StatusCode::ACCEPTED,
        Enqueued::Duplicate(_) => StatusCode::OK,
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListPoints {
    /// Only restore points from before this instant: the `consistent_at` of the last one on the previous page.
    before: Option<DateTime<Utc>>,
    /// How many to list at most; 50 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// List a resource's restore points, newest first
#[utoipa::path(
    get, path = "/resources/{id}/restore-points", tag = "backups", operation_id = "list_restore_points", security(("token" = ["read"])),
    params(("id" = String, Path, description = "The resource's id"), ListPoints),
    responses((status = 200, description = "The restore points", body = Vec<Point>))
)]
async fn restore_points(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Named(id): Named,
    Asked(which): Asked<ListPoints>,
) -> Result<Json<Vec<Point>>, Problem> {
    let (before, limit) = (instant("before", which.before)?, limit(which.limit)?);
    let resource = caller.resource(&api, &id).await?;
    let filter = PointFilter {
        resource_id: Some(resource.id),
        team: None,
        before,
        limit,
    };
    let points = api.catalog.points(&filter).await?;
    Ok(Json(api.catalog.with_stores(points).await?))
}

/// Why a suspect restore point can be trusted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Confirmation {
    /// Who checked what, for the record.
    #[schema(
        min_length = 1,
        max_length = 1000,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$"
    )]
    reason: String,
}

/// Trust a suspect restore point
///
/// From then on it is treated like any other: restores may choose it by default, it counts towards exposure, and older ones may expire
/// because of it. The audit log records the confirmation.
#[utoipa::path(
    post, path = "/restore-points/{id}/confirm", tag = "backups", operation_id = "confirm_restore_point", security(("token" = ["admin"])),
    params(("id" = Uuid, Path, description = "The restore point's id")),
    request_body = Confirmation,
    responses(
        (status = 200, description = "The restore point, now trusted", body = Point),
        (status = 409, description = "The restore point is not suspect"),
    )
)]
async fn confirm(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Named(id): Named,
    Body(body): Body<Confirmation>,
) -> Result<Json<Point>, Problem> {
    plain("reason", &body.reason)?;
    let nothing = || Problem::no_such("restore point", &id);
    let point = api
        .catalog
        .point(Uuid::try_parse(&id).map_err(|_| nothing())?)
        .await?;
    let owner = api.catalog.resource(&point.resource_id).await?;
    if !caller.sees(&owner.team) {
        return Err(nothing());
    }
    let order = caller.order(Some(&body.reason));
    api.catalog.confirm(point.id, &body.reason, &order).await?;
    Ok(Json(api.catalog.shown_point(point.id).await?.point))
}

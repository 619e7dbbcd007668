//! Ad-hoc backups and restore points.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header::LOCATION},
    response::IntoResponse,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Api,
    access::{Administrator, Enqueuer, Reader},
    problem::{Kind, Problem},
    read::{Asked, Body, Named, Optional, idempotency_key, instant, limit, plain},
    runs::Run,
};
use crate::{
    catalog::{AdhocBackup, Enqueued, LimitOf, PointFilter, PointRow},
    standing::Standing,
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
        Json(run.into()),
    ))
}

/// Returns 202 for a new run, 200 for one that an earlier request had queued.
pub(super) fn status(enqueued: Enqueued) -> StatusCode {
    match enqueued {
        Enqueued::New(_) => StatusCode::ACCEPTED,
        Enqueued::Duplicate(_) => StatusCode::OK,
    }
}

/// An archive whose manifest exists, from which a resource can be restored.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct RestorePoint {
    /// Its id: the run that made it.
    id: Uuid,
    /// Its resource.
    resource: String,
    /// The instant that a restore brings back.
    consistent_at: DateTime<Utc>,
    /// How consistent the data is, in the manifest's words; `none`: others wrote to the server while it was read.
    consistency: Option<String>,
    /// Bytes before compression.
    dump_bytes: i64,
    /// Bytes in the store.
    stored_bytes: i64,
    /// When it was recorded.
    created_at: DateTime<Utc>,
    /// Whether it is trusted: neither suspect, nor found damaged, nor expired.
    usable: bool,
    /// When it was last read back in full and found intact.
    verified_at: Option<DateTime<Utc>>,
    /// When it was found damaged.
    quarantined_at: Option<DateTime<Utc>>,
    /// Since when it has been suspect. A restore uses it only if told to, and it does not count towards exposure.
    suspected_at: Option<DateTime<Utc>>,
    /// Why it is suspect, in the manifest's words: `unfinished_restore`, `shrunk`, `from_the_future`. They stay after it is confirmed.
    suspected_of: Option<Vec<String>>,
    /// The reason in plain words.
    suspected_because: Option<String>,
    /// When somebody confirmed that it can be trusted.
    confirmed_at: Option<DateTime<Utc>>,
    /// When it expired.
    expired_at: Option<DateTime<Utc>>,
    /// When an operator pinned it.
    pinned_at: Option<DateTime<Utc>>,
    /// When it was put on legal hold.
    held_at: Option<DateTime<Utc>>,
}

impl From<PointRow> for RestorePoint {
    fn from(row: PointRow) -> Self {
        let consistency = row
            .manifest
            .get("consistency")
            .and_then(serde_json::Value::as_str);
        Self {
            usable: match row.standing() {
                Standing::Trusted => true,
                Standing::Suspect | Standing::Quarantined | Standing::Expired => false,
            },
            consistency: consistency.map(str::to_owned),
            id: row.id,
            resource: row.resource_id,
            consistent_at: row.consistent_at,
            dump_bytes: row.dump_bytes,
            stored_bytes: row.stored_bytes,
            created_at: row.created_at,
            verified_at: row.verified_at,
            quarantined_at: row.quarantined_at,
            suspected_at: row.suspected_at,
            suspected_of: row.suspected_of,
            suspected_because: row.suspected_because,
            confirmed_at: row.confirmed_at,
            expired_at: row.expired_at,
            pinned_at: row.pinned_at,
            held_at: row.held_at,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Only restore points from before this instant: the `consistent_at` of the last one on the previous page.
    before: Option<DateTime<Utc>>,
    /// How many to list at most; 50 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// List a resource's restore points, newest first
#[utoipa::path(
    get, path = "/resources/{id}/restore-points", tag = "backups", operation_id = "list_restore_points", security(("token" = ["read"])),
    params(("id" = String, Path, description = "The resource's id"), Which),
    responses((status = 200, description = "The restore points", body = Vec<RestorePoint>))
)]
async fn restore_points(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Named(id): Named,
    Asked(which): Asked<Which>,
) -> Result<Json<Vec<RestorePoint>>, Problem> {
    let (before, limit) = (instant("before", which.before)?, limit(which.limit)?);
    let resource = caller.resource(&api, &id).await?;
    let filter = PointFilter {
        resource_id: Some(resource.id),
        team: None,
        before,
        limit,
    };
    let points = api.catalog.points(&filter).await?;
    Ok(Json(points.into_iter().map(RestorePoint::from).collect()))
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
        (status = 200, description = "The restore point, now trusted", body = RestorePoint),
        (status = 409, description = "The restore point is not suspect"),
    )
)]
async fn confirm(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Named(id): Named,
    Body(body): Body<Confirmation>,
) -> Result<Json<RestorePoint>, Problem> {
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
    Ok(Json(api.catalog.point(point.id).await?.into()))
}

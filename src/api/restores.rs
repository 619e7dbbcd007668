//! Restores: from the newest point, from an instant, or from a named point.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header::LOCATION},
    response::IntoResponse,
};
use chrono::{DateTime, Utc};
use lastgood_jobs::resource::ResourceId;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Api,
    access::Restorer,
    backups::status,
    problem::{Kind, Problem},
    read::{Named, Optional, idempotency_key, instant, plain},
};
use crate::{
    nouns::Restoring,
    request::{RestoreRequest, RestoreWhere, restore},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(bring_back))
}

/// What to restore, and where to. By default, the newest trusted restore point, without overwriting existing data.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the body")]
struct RestoreBody {
    /// The newest trusted restore point at or before this instant. Not together with `point`.
    at: Option<DateTime<Utc>>,
    /// This restore point. Not together with `at`.
    point: Option<Uuid>,
    /// Try `point` although it was found damaged: its hash is verified before anything is changed.
    even_quarantined: bool,
    /// Restore from `point` although it is suspect: it was probably not made from the customer's data.
    even_suspect: bool,
    /// Restore into another, empty database: its name on the resource's server, or `env:NAME` or `file:/path` of its URL, as consumers see
    /// it. A token that is bound to a team must give a name, of a database with the same owner as the resource's own. If left out,
    /// PostgreSQL restores into a fresh database, which swaps names with the resource's own; the replaced one is kept. MongoDB and Redis
    /// restore into the resource's own database, which must be empty.
    #[schema(min_length = 1, max_length = 1000)]
    into: Option<String>,
    /// Restore over existing data. It must repeat the resource's id, so that it is not sent by accident. Not together with `into`.
    overwrite: Option<String>,
    /// Redis, with `overwrite`: keep the keys that the backup does not have.
    merge: bool,
    /// PostgreSQL: leave out owners.
    no_owner: bool,
    /// PostgreSQL: leave out grants.
    no_acl: bool,
    /// PostgreSQL: restore although the URL's role is a superuser, with whose rights the database's own functions would run. Not for a token
    /// that is bound to a team.
    as_superuser: bool,
    /// PostgreSQL: leave out tablespaces. Everything goes into the database's default one.
    no_tablespaces: bool,
    /// PostgreSQL: replace a database that has logical replication, which stays with the replaced one.
    break_replication: bool,
}

/// Restore a resource
///
/// A repeated request with the same `Idempotency-Key` answers 200 with the first request's run. Reusing a key with another body answers
/// 409.
#[utoipa::path(
    post, path = "/resources/{id}/restores", tag = "restores", operation_id = "restore", security(("token" = ["restore"])),
    params(
        ("id" = String, Path, description = "The resource's id"),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to repeat the request: a UUID, for example", min_length = 1, max_length = 255),
    ),
    request_body = Option<RestoreBody>,
    responses(
        (status = 202, description = "The restore is queued", body = Restoring, headers(("location" = String, description = "The run"))),
        (status = 200, description = "An earlier request with this key queued it", body = Restoring, headers(("location" = String, description = "The run"))),
        (status = 409, description = "There is no usable restore point, another restore is under way, or the key was used for another request"),
    )
)]
async fn bring_back(
    Restorer(caller): Restorer,
    State(api): State<Arc<Api>>,
    Named(id): Named,
    headers: HeaderMap,
    Optional(body): Optional<RestoreBody>,
) -> Result<impl IntoResponse, Problem> {
    let key = idempotency_key(&headers)?;
    let resource = caller.resource(&api, &id).await?;
    let request = RestoreRequest {
        to: body.to()?,
        at: instant("at", body.at)?,
        point: body.point,
        even_quarantined: body.even_quarantined,
        even_suspect: body.even_suspect,
        no_owner: body.no_owner,
        no_acl: body.no_acl,
        as_superuser: body.as_superuser,
        no_tablespaces: body.no_tablespaces,
        break_replication: body.break_replication,
        of_owner: caller.speaks_for_all().is_err(),
        idempotency_key: key,
    };
    if let RestoreWhere::Into(into) = &request.to
        && (into.starts_with("env:") || into.starts_with("file:"))
    {
        // A reference names a secret on the consumers' machines, which may be another team's.
        caller.speaks_for_all()?;
    }
    if request.as_superuser {
        // A superuser's restore runs the database's own functions with every right on the server, other teams' databases included.
        caller.speaks_for_all()?;
    }
    let turn = api.asks.acquire().await;
    let restoring = restore(&api.catalog, &resource, &request, &caller.order(None)).await?;
    drop(turn);
    let run = api.catalog.run(restoring.enqueued.id()).await?;
    Ok((
        status(restoring.enqueued),
        [(LOCATION, format!("/api/v1/runs/{}", run.id))],
        Json(Restoring {
            run,
            point: restoring.point,
            consistent_at: restoring.consistent_at,
        }),
    ))
}

impl RestoreBody {
    fn to(&self) -> Result<RestoreWhere, Problem> {
        let refused = |detail: &str| Err(Problem::new(Kind::NotAccepted, detail));
        match (&self.into, &self.overwrite) {
            _ if self.at.is_some() && self.point.is_some() => {
                refused("give `at` or `point`, not both")
            }
            _ if self.even_quarantined && self.point.is_none() => {
                refused("`even_quarantined` needs `point`")
            }
            _ if self.even_suspect && self.point.is_none() => {
                refused("`even_suspect` needs `point`")
            }
            (Some(_), Some(_)) => refused("give `into` or `overwrite`, not both"),
            (_, None) if self.merge => refused("`merge` needs `overwrite`"),
            (Some(into), None) => {
                plain("into", into)?;
                Ok(RestoreWhere::Into(into.clone()))
            }
            // An overwrite that is not a resource id cannot match the resource's own.
            (None, Some(overwrite)) => Ok(RestoreWhere::InPlace {
                overwrite: overwrite.parse::<ResourceId>().ok(),
                merge: self.merge,
            }),
            (None, None) => Ok(RestoreWhere::Own),
        }
    }
}

//! Listing, showing, changing and removing resources. A URL goes in and never comes out.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use lastgood_jobs::resource::{Engine, ReadPreference, ResourceId, Tier};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    access::{Administrator, Reader},
    connection::Given,
    problem::{Kind, Problem},
    put,
    read::{Asked, Body, Named, limit, retention},
};
use crate::{
    catalog::{
        CatalogError, OwnRetention, ResourceChange, ResourceFilter, ResourceRow, ResourceStatus,
    },
    request,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, put::put, patch, remove))
}

/// One protected database.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Resource {
    /// Its id.
    id: String,
    /// Its owner.
    team: String,
    /// Its tier.
    tier: String,
    /// Its engine.
    engine: String,
    /// Whether it is backed up.
    status: ResourceStatus,
    /// Overrides the tier's retention; 0 or less vetoes backups.
    retention_days: Option<i32>,
    /// `env:NAME` or `file:/path`, or `sealed` if a URL is stored, which is never shown; null if there is none.
    connection: Option<String>,
    /// MongoDB's options.
    options: serde_json::Value,
    /// What the plans promise for it, in words.
    promise: String,
    /// When it was registered.
    created_at: DateTime<Utc>,
    /// The newest instant that it can be restored to.
    newest_consistent_at: Option<DateTime<Utc>>,
    /// When its next backup is due; null if it is not backed up.
    next_due_at: Option<DateTime<Utc>>,
    /// How many scheduled backups have failed in a row.
    failures_in_a_row: i32,
}

impl Resource {
    pub(super) fn of(row: ResourceRow, api: &Api) -> Self {
        let promise = row.tier.parse::<Tier>().map_or_else(
            |error| error.to_string(),
            |tier| {
                request::promise(&api.plans.borrow().plans, &tier, row.retention_days).to_string()
            },
        );
        Self {
            promise,
            connection: row
                .connection_ref
                .or_else(|| row.is_sealed.then(|| "sealed".to_owned())),
            id: row.id,
            team: row.team,
            tier: row.tier,
            engine: row.engine,
            status: row.status,
            retention_days: row.retention_days,
            options: row.options,
            created_at: row.created_at,
            newest_consistent_at: row.newest_consistent_at,
            next_due_at: row.next_due_at,
            failures_in_a_row: row.failures_in_a_row,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Only this team's resources.
    team: Option<String>,
    /// Include removed resources.
    removed: Option<bool>,
    /// Only resources whose id comes after this one: the last id on the previous page.
    after: Option<String>,
    /// How many to list at most; 50 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// List resources, ordered by id
#[utoipa::path(
    get, path = "/resources", tag = "resources", operation_id = "list_resources", security(("token" = ["read"])), params(Which),
    responses((status = 200, description = "The resources", body = Vec<Resource>))
)]
async fn list(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Asked(which): Asked<Which>,
) -> Result<Json<Vec<Resource>>, Problem> {
    let limit = limit(which.limit)?;
    let named = |name: &str, text: &Option<String>| match text {
        Some(text) if text.parse::<ResourceId>().is_err() => Err(Problem::new(
            Kind::BadRequest,
            format!("`{name}` is not a valid name: use letters, digits, `.`, `_` and `-`"),
        )),
        _ => Ok(()),
    };
    named("team", &which.team)?;
    named("after", &which.after)?;
    if which.team.as_deref().is_some_and(|team| !caller.sees(team)) {
        return Ok(Json(Vec::new()));
    }
    let filter = ResourceFilter {
        team: caller.team().map(str::to_owned).or(which.team),
        with_removed: which.removed.unwrap_or(false),
        after: which.after,
        limit,
    };
    let rows = api.catalog.resources(&filter).await?;
    Ok(Json(
        rows.into_iter()
            .map(|row| Resource::of(row, &api))
            .collect(),
    ))
}

/// Show one resource
#[utoipa::path(
    get, path = "/resources/{id}", tag = "resources", operation_id = "show_resource", security(("token" = ["read"])),
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The resource", body = Resource))
)]
async fn show(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Named(id): Named,
) -> Result<Json<Resource>, Problem> {
    let row = caller.resource(&api, &id).await?;
    Ok(Json(Resource::of(row, &api)))
}

/// What to change. A field that is left out keeps its value.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::option_option,
    reason = "a field may be absent, null or given, which are three things"
)]
struct ChangeBody {
    /// Its tier in the plans.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length = 128)]
    tier: Option<Tier>,
    /// Overrides the tier's retention; null: the tier's again.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<i32>, minimum = 0)]
    retention_days: Option<Option<i32>>,
    /// `paused`: not backed up until it is `active` again.
    #[serde(default)]
    status: Option<StatusName>,
    /// Its new URL, password included: after a password rotation, for example.
    #[serde(default, deserialize_with = "secret")]
    #[schema(value_type = Option<String>, write_only)]
    url: Option<SecretString>,
    /// Instead of `url`: `env:NAME` or `file:/path`, as consumers see it. Not for a token that is bound to a team.
    #[serde(default)]
    connection: Option<String>,
    /// MongoDB: the member to read.
    #[serde(default)]
    #[schema(value_type = Option<ReadPreferenceName>)]
    read_preference: Option<ReadPreference>,
    /// MongoDB: also back up the database's users and roles.
    #[serde(default)]
    users_and_roles: Option<bool>,
}

/// Whether a resource is backed up.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum StatusName {
    Active,
    Paused,
}

/// A database engine.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Engine)]
#[expect(
    dead_code,
    reason = "the document is all that it is for: the enum itself belongs to `jobs`"
)]
pub(super) enum EngineName {
    Postgres,
    Vector,
    Mongodb,
    Redis,
}

/// Which member of a replica set to read.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ReadPreference)]
#[expect(
    dead_code,
    reason = "the document is all that it is for: the enum itself belongs to `jobs`"
)]
pub(super) enum ReadPreferenceName {
    Primary,
    SecondaryPreferred,
}

pub(super) fn secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

/// Distinguishes a field that is null from one that is absent.
#[expect(
    clippy::option_option,
    reason = "a field may be absent, null or given, which are three things"
)]
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i32>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Change a resource: its tier, retention, status, connection or options
#[utoipa::path(
    patch, path = "/resources/{id}", tag = "resources", operation_id = "change_resource", security(("token" = ["admin"])),
    params(("id" = String, Path, description = "Its id")),
    request_body = ChangeBody,
    responses(
        (status = 200, description = "The resource, changed", body = Resource),
        (status = 409, description = "The resource was removed, or has no connection and so cannot be active"),
    )
)]
async fn patch(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Named(id): Named,
    Body(body): Body<ChangeBody>,
) -> Result<Json<Resource>, Problem> {
    let row = caller.resource(&api, &id).await?;
    if row.status == ResourceStatus::Removed {
        return Err(CatalogError::Removed(row.id).into());
    }
    let engine: Engine = row.engine.parse().map_err(request::RequestError::from)?;
    let id: ResourceId = row.id.parse().map_err(request::RequestError::from)?;
    let options = if body.read_preference.is_some() || body.users_and_roles.is_some() {
        let before = request::stored_options(&row)?;
        Some(request::changed_options(
            body.read_preference,
            body.users_and_roles,
            engine,
            before,
        )?)
    } else {
        None
    };
    let given = Given {
        url: body.url.as_ref(),
        reference: body.connection.as_deref(),
    };
    let change = ResourceChange {
        connection: given.stored(&caller, &api, &id, engine).await?,
        tier: body.tier,
        retention: match body.retention_days {
            None => OwnRetention::Same,
            Some(days) => retention(days)?.map_or(OwnRetention::OfTier, OwnRetention::Days),
        },
        options,
    };
    let status = body.status.map(|status| match status {
        StatusName::Active => ResourceStatus::Active,
        StatusName::Paused => ResourceStatus::Paused,
    });
    api.catalog
        .alter_resource(id.as_str(), &change, status, &caller.order(None))
        .await?;
    let row = api.catalog.resource(id.as_str()).await?;
    Ok(Json(Resource::of(row, &api)))
}

/// Stop protecting a resource permanently
///
/// Idempotent. Its restore points stay until they expire.
#[utoipa::path(
    delete, path = "/resources/{id}", tag = "resources", operation_id = "remove_resource", security(("token" = ["admin"])),
    params(("id" = String, Path, description = "Its id")),
    responses((status = 204, description = "The resource is removed"))
)]
async fn remove(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Named(id): Named,
) -> Result<StatusCode, Problem> {
    let row = caller.resource(&api, &id).await?;
    if row.status != ResourceStatus::Removed {
        api.catalog
            .remove_resource(&row.id, &caller.order(None))
            .await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

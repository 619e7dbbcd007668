//! Listing, showing, changing and removing resources. A URL goes in and never comes out.

use std::sync::Arc;

use axum::{Json, extract::State};
use lastgood_jobs::resource::{Engine, ReadPreference, ResourceId, Tier};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
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
    catalog::{CatalogError, OwnRetention, ResourceChange, ResourceFilter},
    nouns::{Resource, ResourceStatus},
    plan::Plans,
    request::{self, OptionsChange},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, put::put, patch, remove))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListResources {
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
    get, path = "/resources", tag = "resources", operation_id = "list_resources", security(("token" = ["read"])), params(ListResources),
    responses((status = 200, description = "The resources", body = Vec<Resource>))
)]
async fn list(
    Reader(caller): Reader,
    State(api): State<Arc<Api>>,
    Asked(which): Asked<ListResources>,
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
    let plans = api.in_force().plans;
    Ok(Json(api.shown(&plans).all(rows).await?))
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
    let plans = api.in_force().plans;
    Ok(Json(api.shown(&plans).of(row).await?))
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
    /// MongoDB: back up and restore this one shard of a sharded cluster.
    #[serde(default)]
    shard: Option<bool>,
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
    let options = OptionsChange {
        read_preference: body.read_preference,
        users_and_roles: body.users_and_roles,
        shard: body.shard,
    };
    let options = if options.is_any() {
        let before = request::stored_options(&row)?;
        Some(request::changed_options(options, engine, before)?)
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
    Ok(Json(api.resource(id.as_str()).await?))
}

/// Stop protecting a resource permanently
///
/// Idempotent. Its restore points stay until they expire.
#[utoipa::path(
    delete, path = "/resources/{id}", tag = "resources", operation_id = "remove_resource", security(("token" = ["admin"])),
    params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The resource, removed", body = Resource))
)]
async fn remove(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Named(id): Named,
) -> Result<Json<Resource>, Problem> {
    let row = caller.resource(&api, &id).await?;
    if row.status != ResourceStatus::Removed {
        api.catalog
            .remove_resource(&row.id, &caller.order(None))
            .await?;
    }
    Ok(Json(api.resource(&row.id).await?))
}

impl Api {
    fn shown<'a>(&'a self, plans: &'a Plans) -> request::Shown<'a> {
        request::Shown {
            catalog: &self.catalog,
            plans,
            master_keys: self.master_keys.as_ref(),
        }
    }

    /// Returns a resource as it is now.
    pub(super) async fn resource(&self, id: &str) -> Result<Resource, Problem> {
        let plans = self.in_force().plans;
        Ok(self.shown(&plans).one(id).await?)
    }
}

//! Resources: listed, shown, registered, changed, removed. A URL goes in and never comes out.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header::LOCATION},
    response::IntoResponse,
};
use chrono::{DateTime, Utc};
use lastgood_jobs::{
    engine::leans_on_machine,
    resource::{Engine, ReadPreference, ResourceId, ResourceOptions, TeamId, Tier},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    access::{Administrator, Caller, Reader},
    problem::{Kind, Problem},
    read::{Asked, Body, Named, limit},
};
use crate::{
    catalog::{
        CatalogError, NewResource, OwnRetention, ResourceChange, ResourceFilter, ResourceRow,
        ResourceStatus, StoredConnection,
    },
    request,
    secret::Reference,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show, put, patch, remove))
}

/// One protected database.
#[derive(Debug, Serialize, ToSchema)]
struct Resource {
    /// Its id.
    id: String,
    /// Its owner.
    team: String,
    /// Its tier.
    tier: String,
    /// Its engine.
    engine: String,
    /// `active`, `paused` or `removed`.
    status: String,
    /// Overrides the tier's retention; 0 or less vetoes backups.
    retention_days: Option<i32>,
    /// `env:NAME` or `file:/path`, or `sealed` where a URL is kept, which is never shown; absent where there is none.
    connection: Option<String>,
    /// MongoDB's options.
    options: serde_json::Value,
    /// What the plans promise it, in words.
    promise: String,
    /// When it was registered.
    created_at: DateTime<Utc>,
    /// The newest instant that it can be restored to.
    newest_consistent_at: Option<DateTime<Utc>>,
    /// When it is backed up next; absent where it is not.
    next_due_at: Option<DateTime<Utc>>,
    /// Scheduled backups failed in a row.
    failures_in_a_row: i32,
}

impl Resource {
    fn of(row: ResourceRow, api: &Api) -> Self {
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
    /// Only this team's.
    team: Option<String>,
    /// Those that were removed, too.
    removed: Option<bool>,
    /// Only those whose id comes after this one: the last id of the page before.
    after: Option<String>,
    /// At most so many; 50 unless said.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
}

/// List resources, by id
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
            format!("`{name}` is no name: use letters, digits, `.`, `_` and `-`"),
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

/// A resource as it is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewBody {
    /// The team that owns it. It cannot be changed.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length = 128)]
    team: TeamId,
    /// Its tier in the plans.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length = 128)]
    tier: Tier,
    /// Its engine. It cannot be changed.
    #[schema(value_type = EngineName)]
    engine: Engine,
    /// Overrides the tier's retention; 0 or less vetoes backups.
    #[serde(default)]
    retention_days: Option<i32>,
    /// Its URL, password included. It is kept sealed and never shown again. When the resource is there already, leave it out to keep what is.
    #[serde(default, deserialize_with = "secret")]
    #[schema(value_type = Option<String>, write_only, example = "postgresql://user:password@host:5432/database")]
    url: Option<SecretString>,
    /// Instead of `url`: `env:NAME` or `file:/path`, as consumers see it. Not for a token that is bound to a team.
    #[serde(default)]
    connection: Option<String>,
    /// MongoDB: the member to read.
    #[serde(default)]
    #[schema(value_type = Option<ReadPreferenceName>)]
    read_preference: Option<ReadPreference>,
    /// MongoDB: back up users and roles of the database too, their password hashes included.
    #[serde(default)]
    users_and_roles: Option<bool>,
}

/// What is to change; what is left out stays.
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
    /// Overrides the tier's retention; null: the tier's holds again.
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<i32>)]
    retention_days: Option<Option<i32>>,
    /// `paused`: not backed up until it is `active` again.
    #[serde(default)]
    status: Option<StatusName>,
    /// Its URL, password included, after a rotation, say.
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
    /// MongoDB: back up users and roles of the database too.
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

/// An engine, for the document.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = Engine)]
#[expect(
    dead_code,
    reason = "the document is all that it is for: the enum itself belongs to `jobs`"
)]
enum EngineName {
    Postgres,
    Vector,
    Mongodb,
    Redis,
}

/// A member of a replica set, for the document.
#[derive(ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ReadPreference)]
#[expect(
    dead_code,
    reason = "the document is all that it is for: the enum itself belongs to `jobs`"
)]
enum ReadPreferenceName {
    Primary,
    SecondaryPreferred,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

/// Tells null from nothing.
#[expect(
    clippy::option_option,
    reason = "a field may be absent, null or given, which are three things"
)]
fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<i32>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Register a resource, or bring it to what is sent
///
/// Sent twice, it changes nothing the second time. An id is never used twice: one that was removed stays so.
#[utoipa::path(
    put, path = "/resources/{id}", tag = "resources", operation_id = "put_resource", security(("token" = ["admin"])),
    params(("id" = String, Path, description = "Its id, unique for all time: letters, digits, `.`, `_` and `-`")),
    request_body = NewBody,
    responses(
        (status = 201, description = "It is registered", body = Resource, headers(("location" = String, description = "The resource"))),
        (status = 200, description = "It was there, and is now as sent", body = Resource, headers(("location" = String, description = "The resource"))),
        (status = 409, description = "The id is taken: by a resource of another team or engine, or by one that was removed"),
    )
)]
async fn put(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Named(id): Named,
    Body(body): Body<NewBody>,
) -> Result<impl IntoResponse, Problem> {
    let id: ResourceId = id
        .parse()
        .map_err(|error: lastgood_jobs::resource::NameError| {
            Problem::new(Kind::NotAccepted, error.to_string())
        })?;
    if !caller.sees(body.team.as_str()) {
        let detail = format!(
            "this token is bound to another team than {:?}",
            body.team.as_str()
        );
        return Err(Problem::new(Kind::NotAllowed, detail));
    }
    let options = request::changed_options(
        body.read_preference,
        body.users_and_roles,
        body.engine,
        ResourceOptions::default(),
    )?;
    let given = Given {
        url: body.url.as_ref(),
        reference: body.connection.as_deref(),
    };
    let before = found(&api, &id).await?;
    let connection = given.stored(&caller, &api, &id, body.engine).await?;
    let before = match before {
        Some(before) => before,
        None => {
            let new = NewResource {
                connection: connection.clone().ok_or_else(|| {
                    Problem::new(
                        Kind::NotAccepted,
                        "say how it is reached: `url`, or `connection`",
                    )
                })?,
                id: id.clone(),
                team: body.team.clone(),
                tier: body.tier.clone(),
                engine: body.engine.to_string(),
                retention_days: body.retention_days,
                options,
            };
            let order = caller.order(None);
            match api.catalog.register_resource(&new, &order).await {
                Ok(()) => return put_answer(&api, &id, StatusCode::CREATED).await,
                // The same request, at the same time, came first.
                Err(CatalogError::Exists(_)) => api.catalog.resource(id.as_str()).await?,
                Err(error) => return Err(error.into()),
            }
        }
    };
    if before.status == "removed"
        || before.team != body.team.as_str()
        || before.engine != body.engine.as_str()
    {
        let detail = "the id is taken, by a resource of another team or engine or by one that was removed: choose another";
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let wanted = ResourceChange {
        tier: Some(body.tier),
        retention: body
            .retention_days
            .map_or(OwnRetention::OfTier, OwnRetention::Days),
        connection,
        options: Some(options),
    };
    let news = news(&api, &before, given.url, wanted).await?;
    if !news.is_empty() {
        api.catalog
            .alter_resource(id.as_str(), &news, None, &caller.order(None))
            .await?;
    }
    put_answer(&api, &id, StatusCode::OK).await
}

async fn found(api: &Api, id: &ResourceId) -> Result<Option<ResourceRow>, Problem> {
    match api.catalog.resource(id.as_str()).await {
        Ok(row) => Ok(Some(row)),
        Err(CatalogError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn put_answer(
    api: &Api,
    id: &ResourceId,
    status: StatusCode,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Resource>), Problem> {
    let row = api.catalog.resource(id.as_str()).await?;
    let location = [(LOCATION, format!("/api/v1/resources/{id}"))];
    Ok((status, location, Json(Resource::of(row, api))))
}

/// Returns what of `wanted` is not so yet: whoever sends the same every minute neither ends a back-off nor fills the audit log.
async fn news(
    api: &Api,
    before: &ResourceRow,
    url: Option<&SecretString>,
    wanted: ResourceChange,
) -> Result<ResourceChange, Problem> {
    let is_same = match &wanted.connection {
        None => true,
        Some(StoredConnection::Reference(reference)) => {
            before.connection_ref.as_ref() == Some(reference)
        }
        // Sealed twice, one URL looks like two: what is kept is opened to compare it.
        Some(StoredConnection::Sealed(_)) => match (url, &api.master_key) {
            (Some(url), Some(key)) if before.is_sealed => {
                match api.catalog.connection(&before.id).await? {
                    StoredConnection::Sealed(sealed) => key
                        .open(&before.id, &sealed)
                        .is_ok_and(|kept| kept.expose_secret() == url.expose_secret()),
                    StoredConnection::Reference(_) => false,
                }
            }
            _ => false,
        },
    };
    let retention = match before.retention_days {
        None => OwnRetention::OfTier,
        Some(days) => OwnRetention::Days(days),
    };
    let options = request::stored_options(before).ok();
    Ok(ResourceChange {
        tier: wanted.tier.filter(|tier| tier.as_str() != before.tier),
        retention: if wanted.retention == retention {
            OwnRetention::Same
        } else {
            wanted.retention
        },
        connection: wanted.connection.filter(|_| !is_same),
        options: wanted.options.filter(|wanted| Some(*wanted) != options),
    })
}

/// Change a resource: its tier, retention, status, connection or options
#[utoipa::path(
    patch, path = "/resources/{id}", tag = "resources", operation_id = "change_resource", security(("token" = ["admin"])),
    params(("id" = String, Path, description = "Its id")),
    request_body = ChangeBody,
    responses(
        (status = 200, description = "It is changed", body = Resource),
        (status = 409, description = "It was removed, or has no connection to be active with"),
    )
)]
async fn patch(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Named(id): Named,
    Body(body): Body<ChangeBody>,
) -> Result<Json<Resource>, Problem> {
    let row = caller.resource(&api, &id).await?;
    if row.status == "removed" {
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
            Some(None) => OwnRetention::OfTier,
            Some(Some(days)) => OwnRetention::Days(days),
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

/// Stop protecting a resource for good
///
/// Its restore points stay until they expire. Once more is no change.
#[utoipa::path(
    delete, path = "/resources/{id}", tag = "resources", operation_id = "remove_resource", security(("token" = ["admin"])),
    params(("id" = String, Path, description = "Its id")),
    responses((status = 204, description = "It is removed"))
)]
async fn remove(
    Administrator(caller): Administrator,
    State(api): State<Arc<Api>>,
    Named(id): Named,
) -> Result<StatusCode, Problem> {
    let row = caller.resource(&api, &id).await?;
    if row.status != "removed" {
        api.catalog
            .remove_resource(&row.id, &caller.order(None))
            .await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// How a resource is said to be reached.
struct Given<'a> {
    url: Option<&'a SecretString>,
    reference: Option<&'a str>,
}

impl Given<'_> {
    /// Returns what the catalog is to keep, if anything is given.
    async fn stored(
        &self,
        caller: &Caller,
        api: &Api,
        id: &ResourceId,
        engine: Engine,
    ) -> Result<Option<StoredConnection>, Problem> {
        match (self.url, self.reference) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(Problem::new(
                Kind::NotAccepted,
                "give `url` or `connection`, not both",
            )),
            (Some(url), None) => {
                within_network(caller, engine, url)?;
                Ok(Some(
                    request::seal(&api.catalog, api.master_key.as_ref(), id, engine, url).await?,
                ))
            }
            (None, Some(reference)) => {
                // Whoever names a secret of the consumers' may name another team's.
                caller.speaks_for_all()?;
                let reference: Reference = reference.parse()?;
                Ok(Some(StoredConnection::Reference(reference.to_string())))
            }
        }
    }
}

/// Refuses a caller who is bound to a team a URL that leans on the consumers' own machine: there, who asks is the password.
fn within_network(caller: &Caller, engine: Engine, url: &SecretString) -> Result<(), Problem> {
    let Some(team) = caller.team() else {
        return Ok(());
    };
    match leans_on_machine(engine, url).map_err(request::RequestError::Url)? {
        None => Ok(()),
        Some(what) => Err(Problem::new(
            Kind::NotAllowed,
            format!(
                "this token is bound to team {team:?}, and `url` leans on {what} of the consumers: name a host, and no more of their machine, \
                 or use a token that is bound to none"
            ),
        )),
    }
}

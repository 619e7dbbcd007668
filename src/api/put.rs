//! Registers a resource, or brings an existing one to the state that was sent. Idempotent.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header::LOCATION},
    response::IntoResponse,
};
use lastgood_jobs::resource::{Engine, ReadPreference, ResourceId, ResourceOptions, TeamId, Tier};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    Api,
    access::Administrator,
    connection::Given,
    problem::{Kind, Problem},
    read::{Body, Named, retention},
    resources::{EngineName, ReadPreferenceName, secret},
};
use crate::{
    catalog::{
        CatalogError, NewResource, OwnRetention, ResourceChange, ResourceRow, StoredConnection,
    },
    nouns::{Resource, ResourceStatus},
    request::{self, OptionsChange},
};

/// The state that a resource is to have.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBody {
    /// The team that owns it. It cannot be changed.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length = 128)]
    team: TeamId,
    /// Its tier in the plans.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length = 128)]
    tier: Tier,
    /// Its engine. It cannot be changed.
    #[schema(value_type = EngineName)]
    engine: Engine,
    /// Overrides the tier's retention; 0 vetoes backups.
    #[serde(default)]
    #[schema(minimum = 0)]
    retention_days: Option<i32>,
    /// Its URL, password included. It is stored sealed and never shown again. Leave it out to keep the connection of an existing resource.
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
    /// MongoDB: also back up the database's users and roles, including their password hashes.
    #[serde(default)]
    users_and_roles: Option<bool>,
    /// MongoDB: back up and restore this one shard of a sharded cluster.
    #[serde(default)]
    shard: Option<bool>,
}

/// Register a resource, or change it to the state that is sent
///
/// Idempotent. Ids are never reused: the id of a removed resource stays taken.
#[utoipa::path(
    put, path = "/resources/{id}", tag = "resources", operation_id = "put_resource", security(("token" = ["admin"])),
    params(("id" = String, Path, description = "Its id, which is never reused: letters, digits, `.`, `_` and `-`")),
    request_body = NewBody,
    responses(
        (status = 201, description = "The resource was registered", body = Resource, headers(("location" = String, description = "The resource"))),
        (status = 200, description = "The resource existed, and is now as sent", body = Resource, headers(("location" = String, description = "The resource"))),
        (status = 409, description = "The id is taken: by a resource of another team or engine, or by one that was removed"),
        (status = 429, description = "The team has reached the number of resources that its own tokens may register"),
    )
)]
pub(super) async fn put(
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
            "this token is bound to a team other than {:?}: use a token that may act for that team",
            body.team.as_str()
        );
        return Err(Problem::new(Kind::NotAllowed, detail));
    }
    let options = OptionsChange {
        read_preference: body.read_preference,
        users_and_roles: body.users_and_roles,
        shard: body.shard,
    };
    let options = request::changed_options(options, body.engine, ResourceOptions::default())?;
    let given = Given {
        url: body.url.as_ref(),
        reference: body.connection.as_deref(),
    };
    let retention_days = retention(body.retention_days)?;
    let before = found(&api, &id).await?;
    let connection = given.stored(&caller, &api, &id, body.engine).await?;
    let before = if let Some(before) = before {
        before
    } else {
        let new = NewResource {
            connection: connection.clone().ok_or_else(|| {
                Problem::new(
                    Kind::NotAccepted,
                    "a new resource needs a connection: give `url` or `connection`",
                )
            })?,
            id: id.clone(),
            team: body.team.clone(),
            tier: body.tier.clone(),
            engine: body.engine.to_string(),
            retention_days,
            options,
        };
        let order = caller.order(None);
        // A team's own token must not flood the queue: every new resource is due at once.
        let registered = if caller.team().is_some() {
            api.catalog.register_within_quota(&new, &order).await
        } else {
            api.catalog.register_resource(&new, &order).await
        };
        match registered {
            Ok(()) => return put_answer(&api, &id, StatusCode::CREATED).await,
            // The same request, sent at the same time, was faster.
            Err(CatalogError::Exists(_)) => api.catalog.resource(id.as_str()).await?,
            Err(error) => return Err(error.into()),
        }
    };
    if before.status == ResourceStatus::Removed
        || before.team != body.team.as_str()
        || before.engine != body.engine.as_str()
    {
        let detail = "the id is taken, either by a resource of another team or engine or by one that was removed: choose another";
        return Err(Problem::new(Kind::Conflict, detail));
    }
    let wanted = ResourceChange {
        tier: Some(body.tier),
        retention: retention_days.map_or(OwnRetention::OfTier, OwnRetention::Days),
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
    let location = [(LOCATION, format!("/api/v1/resources/{id}"))];
    Ok((status, location, Json(api.resource(id.as_str()).await?)))
}

/// Returns the part of `wanted` that differs from the row, so that a client that sends the same state every minute neither resets a
/// back-off nor fills the audit log.
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
        // Sealing one URL twice gives two ciphertexts, so the stored one is opened and compared.
        Some(StoredConnection::Sealed { .. }) => match (url, &api.master_keys) {
            (Some(url), Some(keys)) if before.is_sealed => {
                match api.catalog.connection(&before.id).await? {
                    StoredConnection::Sealed { url: sealed, .. } => keys
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

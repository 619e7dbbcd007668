//! Enqueues a restore: chooses the point, and the target in the terms of the resource's engine.

use chrono::{DateTime, Utc};
use lastgood_jobs::{
    job::{Job, Restore, RestoreTarget},
    printable::printable,
    resource::{Engine, ResourceId},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::RequestError;
use crate::{
    catalog::{Catalog, CatalogError, Enqueued, NewRun, Order, PointRow, ResourceRow},
    secret::{Reference, SecretError},
    standing::Standing,
};

/// A restore as it was requested.
#[derive(Debug, Clone, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word that somebody says or not, and they go together in every way"
)]
pub struct RestoreRequest {
    /// Restore the newest point at or before this instant.
    pub at: Option<DateTime<Utc>>,
    /// Restore this point.
    pub point: Option<Uuid>,
    /// Try `point` although it was found damaged.
    pub even_quarantined: bool,
    /// Restore from `point` although it is suspect.
    pub even_suspect: bool,
    /// Where to restore to.
    pub to: RestoreWhere,
    /// `PostgreSQL`: leave owners out.
    pub no_owner: bool,
    /// `PostgreSQL`: leave grants out.
    pub no_acl: bool,
    /// `PostgreSQL`: restore although the role is a superuser.
    pub as_superuser: bool,
    /// PostgreSQL: put everything into the database's default tablespace.
    pub no_tablespaces: bool,
    /// PostgreSQL: swap names although logical replication stays with the old database.
    pub break_replication: bool,
    /// `PostgreSQL`: a database named as the target must belong to the owner of the resource's own. Set for callers
    /// who are bound to a team.
    pub of_owner: bool,
    /// Makes a repeated request the same request.
    pub idempotency_key: Option<String>,
}

/// Where to restore to.
#[derive(Debug, Clone, Default)]
pub enum RestoreWhere {
    /// `PostgreSQL`: a fresh database that swaps names with the resource's own. Other engines: the resource's own, which must be empty.
    #[default]
    Own,
    /// An empty database by name, or a reference to its URL.
    Into(String),
    /// Over what is there.
    InPlace {
        /// The resource's id, repeated.
        overwrite: Option<ResourceId>,
        /// Redis: keep the keys that the backup does not have.
        merge: bool,
    },
}

/// A restore that was queued now or by an earlier request.
#[derive(Debug, Clone, Copy)]
pub struct Restoring {
    /// Its run.
    pub enqueued: Enqueued,
    /// The point that the run is made from.
    pub point: Uuid,
    /// The instant that it restores; `None` if the point has been removed since.
    pub consistent_at: Option<DateTime<Utc>>,
}

/// Enqueues a restore and returns it with its restore point. Idempotent under the request's key.
pub async fn restore(
    catalog: &Catalog,
    row: &ResourceRow,
    request: &RestoreRequest,
    order: &Order,
) -> Result<Restoring, RequestError> {
    let resource: ResourceId = row.id.parse()?;
    let engine = row.engine.parse()?;
    let target = target(request, &resource, engine)?;
    let is_named = matches!(target, RestoreTarget::Database { .. });
    let chosen = match first_point(catalog, &resource, request).await? {
        // A repeated request gets the same answer, even if the point is gone or is no longer the newest.
        Some(first) => first,
        None => point(catalog, &resource, request).await?.id,
    };
    let job = Job::Restore(Restore {
        point: chosen,
        target,
        no_owner: request.no_owner,
        no_acl: request.no_acl,
        as_superuser: request.as_superuser,
        no_tablespaces: request.no_tablespaces,
        break_replication: request.break_replication,
        of_owner: request.of_owner && is_named,
    });
    let asked = request.idempotency_key.as_ref().map(|_| request.asked());
    let new = NewRun {
        resource_id: &row.id,
        queue: &row.engine,
        job: &job,
        idempotency_key: request.idempotency_key.as_deref(),
        asked: asked.as_ref(),
    };
    let enqueued = catalog.enqueue(&new, order).await?;
    let point = match enqueued {
        Enqueued::New(_) => chosen,
        // Another request with this key came in between, and the run restores the point that it chose.
        Enqueued::Duplicate(_) => first_point(catalog, &resource, request)
            .await?
            .unwrap_or(chosen),
    };
    let consistent_at = match catalog.point(point).await {
        Ok(point) => Some(point.consistent_at),
        Err(CatalogError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    Ok(Restoring {
        enqueued,
        point,
        consistent_at,
    })
}

/// Returns the point that the first request with this key chose, if there was one.
async fn first_point(
    catalog: &Catalog,
    resource: &ResourceId,
    request: &RestoreRequest,
) -> Result<Option<Uuid>, RequestError> {
    let Some(key) = request.idempotency_key.as_deref() else {
        return Ok(None);
    };
    let Some(first) = catalog.run_with_key(resource.as_str(), key).await? else {
        return Ok(None);
    };
    match serde_json::from_value(first.args) {
        Ok(Job::Restore(first)) if request.point.is_none_or(|point| point == first.point) => {
            Ok(Some(first.point))
        }
        Ok(
            Job::Restore(_)
            | Job::Backup {}
            | Job::DropReplaced(_)
            | Job::Copy(_)
            | Job::Verify(_)
            | Job::Expire(_)
            | Job::Drill(_),
        )
        | Err(_) => Err(CatalogError::KeyReused.into()),
    }
}

impl RestoreRequest {
    /// Returns the request as it was worded, which tells a repeated request from a different one. The point that was
    /// found does not count.
    ///
    /// Stored, so these names are permanent.
    fn asked(&self) -> Value {
        let mut asked = Map::new();
        if let Some(at) = self.at {
            asked.insert("at".to_owned(), json!(at));
        }
        if let Some(point) = self.point {
            asked.insert("point".to_owned(), json!(point));
        }
        let merge = match &self.to {
            RestoreWhere::Own => false,
            RestoreWhere::Into(into) => {
                asked.insert("into".to_owned(), json!(into));
                false
            }
            RestoreWhere::InPlace { overwrite, merge } => {
                asked.insert("overwrite".to_owned(), json!(overwrite));
                *merge
            }
        };
        for (name, is_so) in [
            ("even_quarantined", self.even_quarantined),
            ("merge", merge),
            ("no_owner", self.no_owner),
            ("no_acl", self.no_acl),
        ] {
            asked.insert(name.to_owned(), json!(is_so));
        }
        // Added later, and stored only if true: a request from before they existed must still equal the same request today.
        for (name, is_so) in [
            ("as_superuser", self.as_superuser),
            ("even_suspect", self.even_suspect),
            ("no_tablespaces", self.no_tablespaces),
            ("break_replication", self.break_replication),
        ] {
            if is_so {
                asked.insert(name.to_owned(), json!(true));
            }
        }
        Value::Object(asked)
    }
}

async fn point(
    catalog: &Catalog,
    resource: &ResourceId,
    request: &RestoreRequest,
) -> Result<PointRow, RequestError> {
    let Some(id) = request.point else {
        let found = catalog.newest_point(resource.as_str(), request.at).await?;
        let found = found.ok_or_else(|| match request.at {
            Some(at) => RequestError::NothingBefore {
                resource: resource.clone(),
                at,
            },
            None => RequestError::NothingUsable(resource.clone()),
        })?;
        let opens = catalog
            .newest_that_opens(resource.as_str(), request.at)
            .await?;
        if opens.is_some_and(|opens| opens >= found.consistent_at) {
            return Ok(found);
        }
        return Err(RequestError::NoKey {
            resource: resource.clone(),
            newest: found.consistent_at,
            opens,
        });
    };
    let point = catalog.point(id).await?;
    if point.resource_id != resource.as_str() {
        return Err(RequestError::OtherPoint {
            point: id,
            owner: point.resource_id,
            resource: resource.clone(),
        });
    }
    let suspect = |point: &PointRow| RequestError::Suspect {
        point: id,
        resource: resource.clone(),
        because: because(point.suspected_because.as_deref()),
    };
    match point.standing() {
        Standing::Expired => Err(RequestError::Expired {
            point: id,
            resource: resource.clone(),
        }),
        Standing::Quarantined if !request.even_quarantined => Err(RequestError::Damaged {
            point: id,
            resource: resource.clone(),
            because: because(point.quarantined_because.as_deref()),
        }),
        // A damaged point may be suspect as well.
        Standing::Quarantined | Standing::Suspect
            if point.suspected_at.is_some() && !request.even_suspect =>
        {
            Err(suspect(&point))
        }
        Standing::Trusted | Standing::Quarantined | Standing::Suspect => Ok(point),
    }
}

fn because(why: Option<&str>) -> String {
    printable(why.unwrap_or("no reason given"))
}

/// Returns the target, or an error that says what the engine offers instead.
fn target(
    request: &RestoreRequest,
    resource: &ResourceId,
    engine: Engine,
) -> Result<RestoreTarget, RequestError> {
    let is_postgres = is_postgres(engine);
    if !is_postgres && (request.no_owner || request.no_acl) {
        return Err(RequestError::NoOwners(engine));
    }
    for (word, is_said) in [
        ("as_superuser", request.as_superuser),
        ("no_tablespaces", request.no_tablespaces),
        ("break_replication", request.break_replication),
    ] {
        if !is_postgres && is_said {
            return Err(RequestError::PostgresOnly { word, engine });
        }
    }
    match &request.to {
        RestoreWhere::InPlace { merge: true, .. } if engine != Engine::Redis => {
            Err(RequestError::NoMerge(engine))
        }
        RestoreWhere::InPlace { overwrite, merge } => {
            let overwrite = overwrite.clone().filter(|id| id == resource);
            let overwrite =
                overwrite.ok_or_else(|| RequestError::NotOverwritten(resource.clone()))?;
            Ok(RestoreTarget::InPlace {
                overwrite,
                merge: *merge,
            })
        }
        RestoreWhere::Into(into) => named(into, engine),
        RestoreWhere::Own if is_postgres => Ok(RestoreTarget::Swap {}),
        RestoreWhere::Own => Ok(RestoreTarget::Own {}),
    }
}

fn is_postgres(engine: Engine) -> bool {
    match engine {
        Engine::Postgres | Engine::Vector => true,
        Engine::Mongodb | Engine::Redis => false,
    }
}

/// Returns whether the name is of a database that every server has, as a template or as the default to connect to.
fn is_the_servers_own(database: &str) -> bool {
    matches!(database, "postgres" | "template0" | "template1")
}

fn named(into: &str, engine: Engine) -> Result<RestoreTarget, RequestError> {
    match into.parse::<Reference>() {
        Ok(reference) => Ok(RestoreTarget::Reference {
            reference: reference.to_string(),
        }),
        Err(SecretError::UrlInArgv) => Err(SecretError::UrlInArgv.into()),
        Err(_) if into.starts_with("env:") || into.starts_with("file:") => {
            Err(SecretError::NotAReference.into())
        }
        Err(_) if engine == Engine::Redis => Err(RequestError::WholeServer),
        Err(_) if is_postgres(engine) && is_the_servers_own(into) => {
            Err(RequestError::ServersOwn(into.to_owned()))
        }
        Err(_) => Ok(RestoreTarget::Database {
            name: into.to_owned(),
        }),
    }
}

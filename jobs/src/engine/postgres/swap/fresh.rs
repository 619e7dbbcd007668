//! The fresh database: created like the old one, filled, and dropped unless it takes the old one's place.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use sqlx::PgConnection;

use super::{SESSIONS_END_TIMEOUT, TEMPLATE_OF_ALL, connect_beside, drop_database};
use crate::{
    detached,
    engine::{
        address::postgres::Address,
        postgres::{
            fill::{Target, fill},
            names::identifier,
            properties::{self, Properties},
            restore::Source,
            session::{self, answer, run},
            tablespaces,
        },
    },
    error::{JobError, PostgresError},
    job::Restore,
    worker::Worker,
};

/// The database that this attempt fills. Dropping this value drops the database, unless it has taken the old one's
/// place.
pub(super) struct Fresh {
    pub(super) beside: Address,
    pub(super) name: String,
    pub(super) major: u32,
    pub(super) is_ours: bool,
}

impl Fresh {
    fn address(&self) -> Address {
        self.beside.with_database(&self.name)
    }

    pub(super) async fn remove(mut self) {
        self.is_ours = false;
        drop_fresh(&self.beside, &self.name, self.major).await;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.is_ours {
            let (beside, name, major) = (self.beside.clone(), self.name.clone(), self.major);
            detached::spawn_from_drop(async move { drop_fresh(&beside, &name, major).await });
        }
    }
}

async fn drop_fresh(beside: &Address, name: &str, major: u32) {
    let dropped = async {
        let mut admin = connect_beside(beside).await?;
        let dropped = drop_database(&mut admin, name, major).await;
        session::close(admin).await;
        dropped
    };
    if let Err(error) = dropped.await {
        tracing::warn!(database = %name, error = %error.report(), "a half-restored database could not be dropped; the next attempt drops it");
    }
}

/// Creates the fresh database and fills it.
///
/// Creates it from `template0`, or from `template1` if only that one has an extension which this role may not create.
pub(super) async fn fill_fresh(
    fresh: &Fresh,
    old: Option<&Properties>,
    source: &Source<'_>,
    job: &Restore,
    worker: &Worker,
) -> Result<Vec<String>, JobError> {
    let mut properties = old.unwrap_or(source.properties).clone();
    // An existing database's tablespace belongs to this server, so it is kept.
    if job.no_tablespaces && old.is_none() {
        properties.remove("tablespace");
    }
    create(fresh, &properties, "template0").await?;
    let filled = fill(&fresh.address(), source, Target::Fresh, job, worker).await;
    let Err(JobError::Postgres(PostgresError::ExtensionNeedsSuperuser { extension })) = filled
    else {
        return filled;
    };
    if !template_has(&fresh.beside, &extension).await? {
        return Err(JobError::Postgres(PostgresError::ExtensionNeedsSuperuser {
            extension,
        }));
    }
    drop_fresh(&fresh.beside, &fresh.name, fresh.major).await;
    create(fresh, &properties, TEMPLATE_OF_ALL).await?;
    fill(&fresh.address(), source, Target::Fresh, job, worker).await
}

async fn template_has(beside: &Address, extension: &str) -> Result<bool, JobError> {
    let mut template = match session::connect(&beside.with_database(TEMPLATE_OF_ALL)).await {
        Err(
            JobError::Postgres(
                PostgresError::DatabaseGone { .. } | PostgresError::DatabaseClosed { .. },
            )
            | JobError::Denied { .. },
        ) => return Ok(false),
        connected => connected?,
    };
    let extensions = session::extensions(&mut template).await;
    session::close(template).await;
    Ok(extensions?.contains_key(extension))
}

async fn create(fresh: &Fresh, properties: &Properties, template: &str) -> Result<(), JobError> {
    let mut admin = connect_beside(&fresh.beside).await?;
    let created = create_database(&mut admin, fresh, properties, template).await;
    session::close(admin).await;
    created
}

async fn create_database(
    admin: &mut PgConnection,
    fresh: &Fresh,
    properties: &Properties,
    template: &str,
) -> Result<(), JobError> {
    let mut statement = format!(
        "create database {} template {template}",
        identifier(&fresh.name)
    );
    if let Some(owner) = owner_to_be(admin, properties).await? {
        statement += " owner ";
        statement += &identifier(&owner);
    }
    if let Some(named) = properties::tablespace(properties) {
        tablespaces::make_sure(admin, &BTreeSet::from([named])).await?;
    }
    statement.push_str(&properties::create_options(properties, fresh.major));
    let deadline = Instant::now() + SESSIONS_END_TIMEOUT;
    loop {
        match run(admin, "create a database", statement.clone()).await {
            // Somebody is connected to the template, which never lasts long.
            Err(JobError::Statement { source, .. })
                if source.is_in_use() && Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(JobError::Statement { doing, source }) => {
                return Err(JobError::Postgres(PostgresError::TargetRefused {
                    doing,
                    source,
                }));
            }
            done => return done,
        }
    }
}

/// Returns the owner for the new database, if this role may set it.
async fn owner_to_be(
    admin: &mut PgConnection,
    properties: &Properties,
) -> Result<Option<String>, JobError> {
    let Some(owner) = properties.get("owner") else {
        return Ok(None);
    };
    let question = "select rolname::text from pg_roles where rolname = $1 and pg_has_role(current_user, oid, 'member')";
    let found = sqlx::query_scalar::<_, String>(question)
        .bind(owner)
        .fetch_optional(admin);
    answer("look for the owner", found).await
}

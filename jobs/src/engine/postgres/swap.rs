//! A restore beside the database that is there, which then swaps names with it: old or new, and never half of either.

use std::time::{Duration, Instant};

use chrono::Utc;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    address::Address,
    fill::{Existing, fill},
    likeness,
    names::{self, identifier},
    properties::{self, Properties},
    restore::{Source, alive},
    session::{self, answer, run},
};
use crate::{
    error::{JobError, SqlFault},
    job::{Attempt, Restore},
    manifest::{Details, Manifest},
    restore::Restored,
    worker::Worker,
};

/// Databases to connect to that are nobody's own.
const MAINTENANCE: [&str; 2] = ["postgres", TEMPLATE_OF_ALL];
const TEMPLATE_OF_ALL: &str = "template1";
/// How long sessions that were told to end may take.
const SESSIONS_END_TIMEOUT: Duration = Duration::from_secs(10);

/// Restores into a fresh database and swaps it with the one at `own`, which is kept under another name.
///
/// The kept database takes connections again, so that an operator can look into it.
pub(super) async fn swap(
    attempt: Attempt,
    own: &Address,
    job: &Restore,
    manifest: &Manifest,
    worker: &Worker,
) -> Result<Restored, JobError> {
    let mut admin = connect_beside(own).await?;
    if let Some(kept) = swapped_before(&mut admin, own.database(), attempt.run_id).await? {
        return Ok(done_before(own, kept, manifest));
    }
    let major = session::server_version(&mut admin).await?.major;
    clear_earlier_attempts(&mut admin, own.database(), attempt.run_id, major).await?;
    let source = Source::verify(manifest, worker).await?;
    if major < source.server_major {
        return Err(JobError::TargetOlder {
            target: major,
            dump: source.server_major,
        });
    }
    let old = properties::read(&mut admin, own.database()).await?;
    session::close(admin).await;

    let fresh = Fresh {
        beside: own.clone(),
        name: names::fresh(own.database(), attempt.run_id, attempt.epoch),
        major,
        is_ours: true,
    };
    match fill_fresh(&fresh, old.as_ref(), &source, job, worker).await {
        Ok(notes) => put_in_place(fresh, old, source, notes, attempt.run_id, worker).await,
        Err(error) => {
            fresh.remove().await;
            Err(error)
        }
    }
}

/// Connects to a database on the same server that is not the one at `own`.
pub(super) async fn connect_beside(own: &Address) -> Result<PgConnection, JobError> {
    let [first, second] = MAINTENANCE;
    match session::connect(&own.with_database(first)).await {
        Err(JobError::DatabaseGone { .. } | JobError::Denied { .. }) => {
            session::connect(&own.with_database(second)).await
        }
        connected => connected,
    }
}

/// Drops a database and ends the sessions in it. One that is gone already is no error.
pub(super) async fn drop_database(
    admin: &mut PgConnection,
    name: &str,
    major: u32,
) -> Result<(), JobError> {
    let force = if major >= 13 { " with (force)" } else { "" };
    let statement = format!("drop database if exists {}{force}", identifier(name));
    run(admin, "drop a database", statement).await
}

/// Returns the kept database's name, if an earlier attempt of this run has swapped.
async fn swapped_before(
    admin: &mut PgConnection,
    database: &str,
    run_id: Uuid,
) -> Result<Option<String>, JobError> {
    let names = databases(admin).await?;
    let is_there = names.iter().any(|name| name == database);
    let kept = names
        .into_iter()
        .find(|name| names::is_kept_by(name, database, run_id));
    Ok(kept.filter(|_| is_there))
}

fn done_before(own: &Address, kept: String, manifest: &Manifest) -> Restored {
    let Details::Postgres { tables, .. } = &manifest.details;
    Restored {
        database: own.database().to_owned(),
        kept: Some(kept),
        tables: *tables,
        dump_bytes: manifest.dump.size_bytes,
        notes: vec!["an earlier attempt had done it already".to_owned()],
    }
}

async fn databases(admin: &mut PgConnection) -> Result<Vec<String>, JobError> {
    let question = "select datname::text from pg_database order by datname";
    answer(
        "list the databases",
        sqlx::query_scalar(question).fetch_all(admin),
    )
    .await
}

/// Drops what attempts of this run that died have filled, and opens the database that one of them may have closed.
async fn clear_earlier_attempts(
    admin: &mut PgConnection,
    database: &str,
    run_id: Uuid,
    major: u32,
) -> Result<(), JobError> {
    let names = databases(admin).await?;
    let prefix = names::fresh_prefix(database, run_id);
    let left: Vec<&String> = names
        .iter()
        .filter(|name| name.starts_with(&prefix))
        .collect();
    if !left.is_empty() && names.iter().any(|name| name == database) {
        run(
            admin,
            "let connections in",
            allow_connections(database, true),
        )
        .await?;
    }
    for name in left {
        drop_database(admin, name, major).await?;
    }
    Ok(())
}

fn allow_connections(database: &str, allow: bool) -> String {
    format!(
        "alter database {} with allow_connections {allow}",
        identifier(database)
    )
}

/// The database that this attempt fills. Dropped with this value, until it has taken the old one's place.
struct Fresh {
    beside: Address,
    name: String,
    major: u32,
    is_ours: bool,
}

impl Fresh {
    fn address(&self) -> Address {
        self.beside.with_database(&self.name)
    }

    async fn remove(mut self) {
        self.is_ours = false;
        drop_fresh(&self.beside, &self.name, self.major).await;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.is_ours
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (beside, name, major) = (self.beside.clone(), self.name.clone(), self.major);
            runtime.spawn(async move { drop_fresh(&beside, &name, major).await });
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
        tracing::warn!(database = %name, error = %error.report(), "a half-restored database is left to the next attempt");
    }
}

/// Creates the fresh database and fills it: from the empty template, or from the common one where that alone has an
/// extension which this role may not create.
async fn fill_fresh(
    fresh: &Fresh,
    old: Option<&Properties>,
    source: &Source<'_>,
    job: &Restore,
    worker: &Worker,
) -> Result<Vec<String>, JobError> {
    let properties = old.unwrap_or(source.properties);
    create(fresh, properties, "template0").await?;
    let filled = fill(&fresh.address(), source, Existing::Collides, job, worker).await;
    let Err(JobError::ExtensionNeedsSuperuser { extension }) = filled else {
        return filled;
    };
    if !template_has(&fresh.beside, &extension).await? {
        return Err(JobError::ExtensionNeedsSuperuser { extension });
    }
    drop_fresh(&fresh.beside, &fresh.name, fresh.major).await;
    create(fresh, properties, TEMPLATE_OF_ALL).await?;
    fill(&fresh.address(), source, Existing::Collides, job, worker).await
}

async fn template_has(beside: &Address, extension: &str) -> Result<bool, JobError> {
    let mut template = match session::connect(&beside.with_database(TEMPLATE_OF_ALL)).await {
        Err(JobError::DatabaseGone { .. } | JobError::Denied { .. }) => return Ok(false),
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
    statement.push_str(&properties::create_options(properties, fresh.major));
    let deadline = Instant::now() + SESSIONS_END_TIMEOUT;
    loop {
        match run(admin, "create a database", statement.clone()).await {
            // Somebody is looking into the template; that never takes long.
            Err(JobError::Statement { source, .. })
                if source.is_in_use() && Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(JobError::Statement { doing, source }) => {
                return Err(JobError::TargetRefused { doing, source });
            }
            done => return done,
        }
    }
}

/// Returns the owner to name, if there is one that this role may name.
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

/// Gives the filled database all that the old one has, and then its name.
async fn put_in_place(
    fresh: Fresh,
    old: Option<Properties>,
    source: Source<'_>,
    mut notes: Vec<String>,
    run_id: Uuid,
    worker: &Worker,
) -> Result<Restored, JobError> {
    let database = fresh.beside.database().to_owned();
    let ready = async {
        let mut admin = connect_beside(&fresh.beside).await?;
        if let Some(old) = &old {
            notes.extend(likeness::copy(&mut admin, &database, &fresh.name, old).await?);
        }
        alive(worker).await?;
        Ok(admin)
    };
    let admin = match ready.await {
        Ok(admin) => admin,
        Err(error) => {
            fresh.remove().await;
            return Err(error);
        }
    };
    // In a task of its own: a swap that has begun is not stopped half way.
    let kept = old.map(|_| names::kept(&database, run_id, Utc::now()));
    let swap = tokio::spawn(exchange(admin, fresh, kept));
    let kept = swap
        .await
        .map_err(|_| JobError::Stopped { what: "the swap" })??;
    Ok(source.restored(&database, kept, notes))
}

/// Renames the old database to `kept` and the fresh one to its name. If that fails, the old one is open again.
async fn exchange(
    mut admin: PgConnection,
    fresh: Fresh,
    kept: Option<String>,
) -> Result<Option<String>, JobError> {
    let Some(kept) = kept else {
        let exchanged = run(
            &mut admin,
            "rename the restored database",
            rename(&fresh, None),
        )
        .await;
        return end(admin, fresh, exchanged).await.map(|()| None);
    };
    let exchanged = close_and_rename(&mut admin, &fresh, &kept).await;
    let Err(error) = exchanged else {
        return end(admin, fresh, Ok(())).await.map(|()| Some(kept));
    };
    // The connection may be the reason: a new one tells how far it came.
    session::close(admin).await;
    let mut admin = connect_beside(&fresh.beside).await?;
    if databases(&mut admin).await?.contains(&kept) {
        return end(admin, fresh, Ok(())).await.map(|()| Some(kept));
    }
    run(
        &mut admin,
        "let connections in",
        allow_connections(fresh.beside.database(), true),
    )
    .await?;
    end(admin, fresh, Err(error)).await.map(|()| None)
}

async fn end(
    admin: PgConnection,
    mut fresh: Fresh,
    exchanged: Result<(), JobError>,
) -> Result<(), JobError> {
    session::close(admin).await;
    match exchanged {
        Ok(()) => {
            fresh.is_ours = false;
            Ok(())
        }
        Err(error) => {
            fresh.remove().await;
            Err(error)
        }
    }
}

async fn close_and_rename(
    admin: &mut PgConnection,
    fresh: &Fresh,
    kept: &str,
) -> Result<(), JobError> {
    let database = fresh.beside.database();
    run(
        admin,
        "close the database",
        allow_connections(database, false),
    )
    .await?;
    end_sessions(admin, database).await?;
    match run(
        admin,
        "swap the databases' names",
        rename(fresh, Some(kept)),
    )
    .await
    {
        Err(JobError::Statement { source, .. }) if source.is_in_use() => {
            let sessions = count_sessions(admin, database).await?;
            Err(JobError::TargetInUse {
                database: database.to_owned(),
                sessions,
            })
        }
        Err(JobError::Statement { doing, source }) => {
            Err(JobError::TargetRefused { doing, source })
        }
        done => done,
    }
}

/// Returns the renames as one message, which the server runs as one transaction.
fn rename(fresh: &Fresh, kept: Option<&str>) -> String {
    let database = fresh.beside.database();
    let take = format!(
        "alter database {} rename to {}",
        identifier(&fresh.name),
        identifier(database)
    );
    match kept {
        None => take,
        Some(kept) => format!(
            "alter database {} rename to {}; {take}; {}",
            identifier(database),
            identifier(kept),
            allow_connections(kept, true),
        ),
    }
}

/// Ends every session in the database that this role may end, and waits until they are gone.
async fn end_sessions(admin: &mut PgConnection, database: &str) -> Result<(), JobError> {
    let doing = "end the sessions in the database";
    let deadline = Instant::now() + SESSIONS_END_TIMEOUT;
    loop {
        let question = "select pid from pg_stat_activity where datname = $1";
        let sessions = sqlx::query_scalar::<_, i32>(question).bind(database);
        for pid in answer(doing, sessions.fetch_all(&mut *admin)).await? {
            // One by one: a session that may not be ended must not save the others. It is counted below.
            let ended = sqlx::query("select pg_terminate_backend($1)")
                .bind(pid)
                .execute(&mut *admin);
            match answer(doing, ended).await {
                Ok(_) | Err(JobError::Denied { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let sessions = count_sessions(admin, database).await?;
        if sessions == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(JobError::TargetInUse {
                database: database.to_owned(),
                sessions,
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn count_sessions(admin: &mut PgConnection, database: &str) -> Result<i64, JobError> {
    // Autovacuum makes way by itself.
    let question = "select count(*) from pg_stat_activity \
        where datname = $1 and backend_type is distinct from 'autovacuum worker'";
    let count = sqlx::query_scalar::<_, i64>(question)
        .bind(database)
        .fetch_one(admin);
    answer("count the sessions in the database", count).await
}

impl SqlFault {
    /// Returns whether a database was in use.
    fn is_in_use(&self) -> bool {
        self.code() == Some("55006")
    }
}

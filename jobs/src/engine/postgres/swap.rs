//! A restore beside the database that is there, which then swaps names with it: old or new, and never half of either.

mod exchange;
mod fresh;
mod marker;
mod reopen;

use std::time::Duration;

use chrono::Utc;
use sqlx::PgConnection;
use uuid::Uuid;

use self::{
    exchange::{Exchange, exchange},
    fresh::{Fresh, fill_fresh},
    marker::{end_marked, marker},
    reopen::{left_closed, open},
};
use super::{
    address::Address,
    dumped_facts, likeness,
    names::{self, identifier},
    properties::{self, Properties},
    replication,
    restore::{Source, alive, done_before},
    session::{self, answer, run},
};
use crate::{
    detached,
    error::JobError,
    job::{Attempt, Restore},
    manifest::Manifest,
    resource::Resource,
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
    session::may_run_their_code(&mut admin, job).await?;
    if let Some(kept) = swapped_before(&mut admin, own.database(), attempt.run_id).await? {
        return done_before(own.database(), Some(kept), manifest);
    }
    let major = session::server_version(&mut admin).await?.major;
    clear_earlier_attempts(&mut admin, own.database(), attempt, major).await?;
    // Before anything is filled, and again before it is put in place.
    replication::may_break(&mut admin, own, job).await?;
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
        Ok(notes) => put_in_place(fresh, old, source, notes, attempt.run_id, job, worker).await,
        Err(error) => {
            fresh.remove().await;
            Err(error)
        }
    }
}

/// Opens a database again that the exchange of a run has closed, and that nobody is at work on.
///
/// Where the exchange came to its end after all, there is nothing to open.
pub(crate) async fn reopen_after(
    resource: &Resource,
    database: &str,
    run_id: Uuid,
) -> Result<(), JobError> {
    let own = Address::parse(&resource.url)?.with_database(database);
    let mut admin = connect_beside(&own).await?;
    let opened = async {
        end_marked(&mut admin, &marker(run_id)).await?;
        if swapped_before(&mut admin, database, run_id)
            .await?
            .is_some()
        {
            return Ok(());
        }
        if !databases(&mut admin).await?.iter().any(|it| it == database) {
            return Err(JobError::DatabaseGone {
                database: database.to_owned(),
            });
        }
        open(&mut admin, database).await
    };
    let opened = opened.await;
    session::close(admin).await;
    opened
}

/// Connects to a database on the same server that is not the one at `own`.
pub(super) async fn connect_beside(own: &Address) -> Result<PgConnection, JobError> {
    let [first, second] = MAINTENANCE;
    match session::connect(&own.with_database(first)).await {
        Err(
            JobError::DatabaseGone { .. }
            | JobError::DatabaseClosed { .. }
            | JobError::Denied { .. },
        ) => session::connect(&own.with_database(second)).await,
        connected => connected,
    }
}

/// Drops a database and ends the sessions in it. One that is gone already is no error.
pub(super) async fn drop_database(
    admin: &mut PgConnection,
    name: &str,
    major: u32,
) -> Result<(), JobError> {
    let is_template = "select datistemplate from pg_database where datname = $1";
    let is_template = sqlx::query_scalar::<_, bool>(is_template).bind(name);
    let is_template = is_template.fetch_optional(&mut *admin);
    if answer("look whether it is a template", is_template).await? == Some(true) {
        let statement = format!("alter database {} is_template false", identifier(name));
        run(admin, "drop a template", statement).await?;
    }
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

async fn databases(admin: &mut PgConnection) -> Result<Vec<String>, JobError> {
    let question = "select datname::text from pg_database order by datname";
    answer(
        "list the databases",
        sqlx::query_scalar(question).fetch_all(admin),
    )
    .await
}

/// Opens the database that an earlier attempt of this run may have closed, and drops what such attempts have filled.
async fn clear_earlier_attempts(
    admin: &mut PgConnection,
    database: &str,
    attempt: Attempt,
    major: u32,
) -> Result<(), JobError> {
    // What a dead worker's server still waits to do must not be done under this attempt.
    end_marked(admin, &marker(attempt.run_id)).await?;
    // The first attempt finds only what others have done on purpose.
    if attempt.epoch > 1 && is_closed(admin, database).await? {
        let opened = open(admin, database).await;
        opened.map_err(|error| left_closed(database, error))?;
    }
    let prefix = names::fresh_prefix(database, attempt.run_id);
    for name in databases(admin).await? {
        if name.starts_with(&prefix) {
            drop_database(admin, &name, major).await?;
        }
    }
    Ok(())
}

async fn is_closed(admin: &mut PgConnection, database: &str) -> Result<bool, JobError> {
    let question = "select not datallowconn from pg_database where datname = $1";
    let closed = sqlx::query_scalar::<_, bool>(question).bind(database);
    let closed = answer("look whether it is open", closed.fetch_optional(admin)).await?;
    Ok(closed.unwrap_or(false))
}

/// Gives the filled database all that the old one has, and then its name.
async fn put_in_place(
    fresh: Fresh,
    old: Option<Properties>,
    source: Source<'_>,
    mut notes: Vec<String>,
    run_id: Uuid,
    job: &Restore,
    worker: &Worker,
) -> Result<Restored, JobError> {
    let database = fresh.beside.database().to_owned();
    let ready = async {
        let mut admin = connect_beside(&fresh.beside).await?;
        notes.extend(match &old {
            Some(old) => likeness::copy(&mut admin, &database, &fresh.name, old).await?,
            None => dumped_facts::restore(&mut admin, &fresh.name, &source.entries).await?,
        });
        alive(worker).await?;
        notes.extend(replication::may_break(&mut admin, &fresh.beside, job).await?);
        if worker.progress.may_commit() {
            Ok(admin)
        } else {
            Err(JobError::LeaseLost)
        }
    };
    let admin = match ready.await {
        Ok(admin) => admin,
        Err(error) => {
            fresh.remove().await;
            return Err(error);
        }
    };
    // In a task of its own: a swap that has begun is not stopped half way.
    session::close(admin).await;
    let kept = old.map(|_| names::kept(&database, run_id, Utc::now()));
    let swap = Exchange {
        fresh,
        kept,
        marker: marker(run_id),
        lease: worker.lease.clone(),
    };
    let swap = detached::spawn(exchange(swap));
    let kept = swap
        .await
        .map_err(|_| JobError::Stopped { what: "the swap" })??;
    Ok(source.restored(&database, kept, notes))
}

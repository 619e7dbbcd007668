//! Restores beside the existing database and then swaps the names: the result is the old database or the new one, never
//! a mixture.

mod exchange;
mod fresh;
mod marker;
mod reopen;

use std::time::Duration;

use chrono::Utc;
use sqlx::PgConnection;

use self::{
    exchange::{Exchange, exchange},
    fresh::{Fresh, fill_fresh},
    marker::{end_marked, marker},
    reopen::{left_closed, open},
};
use super::{
    dumped_facts, likeness,
    names::{self, identifier},
    properties::{self, Properties},
    replication,
    restore::{Source, alive, done_before},
    session::{self, answer, run},
};
use crate::{
    attempt::{Attempt, RunId},
    detached,
    engine::{address::postgres::Address, answer::Restored},
    error::{JobError, PostgresError},
    job::Restore,
    manifest::Manifest,
    worker::Worker,
};

/// Databases to connect to that are no customer's.
const MAINTENANCE: [&str; 2] = ["postgres", TEMPLATE_OF_ALL];
const TEMPLATE_OF_ALL: &str = "template1";
/// How long terminated sessions may take to end.
const SESSIONS_END_TIMEOUT: Duration = Duration::from_secs(10);

/// Restores into a fresh database and swaps it with the one at `own`, which is kept under another name.
///
/// The kept database accepts connections again, so that an operator can look into it.
pub(super) async fn swap(
    attempt: Attempt,
    own: &Address,
    job: &Restore,
    manifest: &Manifest,
    worker: &Worker,
) -> Result<Restored, JobError> {
    let mut admin = connect_beside(own).await?;
    session::may_run_their_code(&mut admin, job).await?;
    if let Some(kept) = swapped_before(&mut admin, own.database(), attempt.run).await? {
        return done_before(own.database(), Some(kept), manifest);
    }
    let major = session::server_version(&mut admin).await?.major;
    clear_earlier_attempts(&mut admin, own.database(), attempt, major).await?;
    // Checked before anything is filled, and again before the fresh database is put in place.
    replication::may_break(&mut admin, own, job).await?;
    let source = Source::verify(manifest, worker).await?;
    if major < source.server_major {
        return Err(JobError::Postgres(PostgresError::TargetOlder {
            target: major,
            dump: source.server_major,
        }));
    }
    let old = properties::read(&mut admin, own.database()).await?;
    session::close(admin).await;

    let fresh = Fresh {
        beside: own.clone(),
        name: names::fresh(own.database(), attempt.run, attempt.epoch),
        major,
        is_ours: true,
    };
    match fill_fresh(&fresh, old.as_ref(), &source, job, worker).await {
        Ok(notes) => put_in_place(fresh, old, source, notes, attempt.run, job, worker).await,
        Err(error) => {
            fresh.remove().await;
            Err(error)
        }
    }
}

/// Opens a database that the exchange of a run has closed and that no worker is working on.
///
/// Does nothing if the exchange completed after all.
pub(crate) async fn reopen_after(
    own: &Address,
    database: &str,
    run_id: RunId,
) -> Result<(), JobError> {
    let own = own.with_database(database);
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
            return Err(JobError::Postgres(PostgresError::DatabaseGone {
                database: database.to_owned(),
            }));
        }
        open(&mut admin, database).await
    };
    let opened = opened.await;
    session::close(admin).await;
    opened
}

/// Connects to another database on the same server than the one at `own`.
pub(super) async fn connect_beside(own: &Address) -> Result<PgConnection, JobError> {
    let [first, second] = MAINTENANCE;
    match session::connect(&own.with_database(first)).await {
        Err(
            JobError::Postgres(
                PostgresError::DatabaseGone { .. } | PostgresError::DatabaseClosed { .. },
            )
            | JobError::Denied { .. },
        ) => session::connect(&own.with_database(second)).await,
        connected => connected,
    }
}

/// Drops a database and ends the sessions in it. Succeeds if it does not exist.
pub(super) async fn drop_database(
    admin: &mut PgConnection,
    name: &str,
    major: u32,
) -> Result<(), JobError> {
    let is_template = "select datistemplate from pg_database where datname = $1";
    let is_template = sqlx::query_scalar::<_, bool>(is_template).bind(name);
    let is_template = is_template.fetch_optional(&mut *admin);
    if answer("check whether a database is a template", is_template).await? == Some(true) {
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
    run_id: RunId,
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

/// Opens the database that an earlier attempt of this run may have closed, and drops the databases that such attempts
/// have filled.
async fn clear_earlier_attempts(
    admin: &mut PgConnection,
    database: &str,
    attempt: Attempt,
    major: u32,
) -> Result<(), JobError> {
    // Statements of a dead worker that still wait on the server must not run during this attempt.
    end_marked(admin, &marker(attempt.run)).await?;
    // If the first attempt finds the database closed, somebody closed it on purpose.
    if attempt.epoch.has_predecessor() && is_closed(admin, database).await? {
        let opened = open(admin, database).await;
        opened.map_err(|error| left_closed(database, error))?;
    }
    let prefix = names::fresh_prefix(database, attempt.run);
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
    let closed = answer(
        "check whether the database is open",
        closed.fetch_optional(admin),
    )
    .await?;
    Ok(closed.unwrap_or(false))
}

/// Gives the filled database everything that the old one has, and finally its name.
async fn put_in_place(
    fresh: Fresh,
    old: Option<Properties>,
    source: Source<'_>,
    mut notes: Vec<String>,
    run_id: RunId,
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
    // In a task of its own, so that a swap that has begun is not cancelled half way.
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

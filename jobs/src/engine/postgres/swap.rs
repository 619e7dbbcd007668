//! A restore beside the database that is there, which then swaps names with it: old or new, and never half of either.

mod exchange;
mod fresh;

use std::time::Duration;

use chrono::Utc;
use sqlx::PgConnection;
use uuid::Uuid;

use self::{
    exchange::{allow_connections, exchange},
    fresh::{Fresh, fill_fresh},
};
use super::{
    address::Address,
    likeness,
    names::{self, identifier},
    properties::{self, Properties},
    restore::{Source, alive},
    session::{self, answer, run},
};
use crate::{
    detached,
    error::JobError,
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
    let swap = detached::spawn(exchange(admin, fresh, kept));
    let kept = swap
        .await
        .map_err(|_| JobError::Stopped { what: "the swap" })??;
    Ok(source.restored(&database, kept, notes))
}

//! The exchange of names: a moment without connections, and then the one database or the other.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

use super::{
    SESSIONS_END_TIMEOUT,
    fresh::Fresh,
    reopen::{Came, reopen},
};
use crate::{
    engine::postgres::{
        names::identifier,
        session::{self, allow_connections, answer, run},
    },
    error::JobError,
};

/// Renames the old database to `kept` and the fresh one to its name. If that fails, the old one is opened again.
///
/// What cannot be helped from here is a process that is killed between closing and renaming, or a server that is away
/// for longer than [`reopen`] waits: then the run's next attempt opens the database before anything else, and whoever
/// connects meanwhile gets [`JobError::DatabaseClosed`].
pub(super) async fn exchange(
    mut admin: PgConnection,
    mut fresh: Fresh,
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
    let Err(error) = close_and_rename(&mut admin, &fresh, &kept).await else {
        return end(admin, fresh, Ok(())).await.map(|()| Some(kept));
    };
    session::close(admin).await;
    match reopen(&fresh.beside, &kept).await {
        Ok(Came::ToItsEnd) => {
            fresh.is_ours = false;
            Ok(Some(kept))
        }
        Ok(Came::Nowhere) => {
            fresh.remove().await;
            Err(error)
        }
        Err(left_closed) => {
            tracing::warn!(error = %error.report(), "the swap failed, and its database is still closed");
            Err(left_closed)
        }
    }
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

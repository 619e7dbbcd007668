//! The exchange of the names: a moment without connections, and then one database or the other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::PgConnection;

use super::{
    MAINTENANCE, SESSIONS_END_TIMEOUT,
    fresh::Fresh,
    reopen::{Came, reopen},
};
use crate::{
    engine::postgres::{
        names::identifier,
        session::{self, allow_connections, answer, run},
    },
    error::{JobError, PostgresError},
    worker::Lease,
};

/// How long one try waits for a lock that somebody holds on the database. Meanwhile nobody can connect to it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// For how long the exchange is retried. The database is open between the tries.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE_FIRST: Duration = Duration::from_millis(500);

pub(super) struct Exchange {
    /// The filled database.
    pub(super) fresh: Fresh,
    /// The new name of the old database; `None` if there is none.
    pub(super) kept: Option<String>,
    /// The name of the session that makes the exchange.
    pub(super) marker: String,
    /// Records that the old database will be closed, before it is.
    pub(super) lease: Arc<dyn Lease>,
}

/// How far a failed try got.
enum Failed {
    /// The database was not closed.
    BeforeClosing(JobError),
    /// The database may be closed, and the exchange may even have completed.
    Closed(JobError),
}

impl Failed {
    /// Returns whether the try failed on a lock that somebody holds and may release.
    fn is_of_lock(&self) -> bool {
        let (Self::BeforeClosing(error) | Self::Closed(error)) = self;
        matches!(
            error,
            JobError::Statement { source, .. } | JobError::Postgres(PostgresError::TargetRefused { source, .. }) if source.is_of_lock()
        )
    }
}

/// Renames the old database to `kept` and the fresh one to its name. If that fails, the old one is opened again.
///
/// Before it closes the database, the process records that it will. If it is killed between closing and renaming, the
/// run's next attempt opens the database, or a consumer that reads the record does. Until then, connecting fails with
/// [`PostgresError::DatabaseClosed`].
pub(super) async fn exchange(exchange: Exchange) -> Result<Option<String>, JobError> {
    let Exchange {
        mut fresh,
        kept,
        marker,
        lease,
    } = exchange;
    let deadline = Instant::now() + PATIENCE;
    let mut pause = PAUSE_FIRST;
    loop {
        let failed = match attempt(&fresh, kept.as_deref(), &marker, &*lease).await {
            Ok(()) => {
                fresh.is_ours = false;
                lease.is_open().await;
                return Ok(kept);
            }
            Err(failed) => failed,
        };
        let may_try_again = failed.is_of_lock() && Instant::now() + pause < deadline;
        let error = match (failed, &kept) {
            (Failed::Closed(error), Some(kept)) => match reopen(&fresh.beside, kept, &marker).await
            {
                Ok(Came::ToItsEnd) => {
                    fresh.is_ours = false;
                    lease.is_open().await;
                    return Ok(Some(kept.clone()));
                }
                Ok(Came::Nowhere) => {
                    lease.is_open().await;
                    error
                }
                Err(left_closed) => {
                    tracing::error!(error = %error.report(), "the swap failed, and its database is still closed");
                    return Err(left_closed);
                }
            },
            (Failed::Closed(error) | Failed::BeforeClosing(error), _) => error,
        };
        if !may_try_again {
            fresh.remove().await;
            return Err(error);
        }
        tracing::warn!(database = %fresh.beside.database(), error = %error.report(), "a session holds a lock on the database: it is open again, and lastgood retries the swap");
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// Makes one try, in a session of its own.
async fn attempt(
    fresh: &Fresh,
    kept: Option<&str>,
    marker: &str,
    lease: &dyn Lease,
) -> Result<(), Failed> {
    let mut admin = connect(fresh, marker)
        .await
        .map_err(Failed::BeforeClosing)?;
    let done = match kept {
        None => run(
            &mut admin,
            "rename the restored database",
            rename(fresh, None),
        )
        .await
        .map_err(Failed::BeforeClosing),
        Some(kept) => close_and_rename(&mut admin, fresh, kept, lease).await,
    };
    session::close(admin).await;
    done
}

async fn connect(fresh: &Fresh, marker: &str) -> Result<PgConnection, JobError> {
    let [first, second] = MAINTENANCE.map(|name| fresh.beside.with_database(name));
    match session::connect_named(&first, marker, LOCK_TIMEOUT).await {
        Err(
            JobError::Postgres(
                PostgresError::DatabaseGone { .. } | PostgresError::DatabaseClosed { .. },
            )
            | JobError::Denied { .. },
        ) => session::connect_named(&second, marker, LOCK_TIMEOUT).await,
        connected => connected,
    }
}

async fn close_and_rename(
    admin: &mut PgConnection,
    fresh: &Fresh,
    kept: &str,
    lease: &dyn Lease,
) -> Result<(), Failed> {
    let database = fresh.beside.database();
    if !lease.will_close(database).await {
        return Err(Failed::BeforeClosing(JobError::LeaseLost));
    }
    let closing = run(
        admin,
        "close the database",
        allow_connections(database, false),
    );
    // Even if the answer is an error, the database may be closed.
    closing.await.map_err(Failed::Closed)?;
    rename_closed(admin, fresh, kept)
        .await
        .map_err(Failed::Closed)
}

async fn rename_closed(
    admin: &mut PgConnection,
    fresh: &Fresh,
    kept: &str,
) -> Result<(), JobError> {
    let database = fresh.beside.database();
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
            Err(JobError::Postgres(PostgresError::TargetInUse {
                database: database.to_owned(),
                sessions,
            }))
        }
        Err(JobError::Statement { doing, source }) => {
            Err(JobError::Postgres(PostgresError::TargetRefused {
                doing,
                source,
            }))
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
            // One by one, so that a session that may not be ended does not spare the others. It is counted below.
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
            return Err(JobError::Postgres(PostgresError::TargetInUse {
                database: database.to_owned(),
                sessions,
            }));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn count_sessions(admin: &mut PgConnection, database: &str) -> Result<i64, JobError> {
    // Autovacuum gives way by itself.
    let question = "select count(*) from pg_stat_activity \
        where datname = $1 and backend_type is distinct from 'autovacuum worker'";
    let count = sqlx::query_scalar::<_, i64>(question)
        .bind(database)
        .fetch_one(admin);
    answer("count the sessions in the database", count).await
}

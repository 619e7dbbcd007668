//! Reopens the database that a failed exchange closed, even if its server is away for a while.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

use super::{connect_beside, databases, marker::end_marked};
use crate::{
    engine::{
        address::postgres::Address,
        postgres::session::{self, allow_connections, run},
    },
    error::{JobError, PostgresError},
};

/// How long a server may be away: a restart with recovery, or a failover.
const PATIENCE: Duration = Duration::from_mins(5);
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// How far a failed exchange got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// It completed; only the answer was lost.
    ToItsEnd,
    /// It did not get to the renames. The old database has its name, and is open.
    Nowhere,
}

/// Finds out how far the exchange got, and opens the old database if that still has its name.
///
/// Retries for some minutes. Each try makes its own connection, because the connection may have caused the failure.
pub(super) async fn reopen(beside: &Address, kept: &str, marker: &str) -> Result<Came, JobError> {
    let database = beside.database();
    let deadline = Instant::now() + PATIENCE;
    let mut pause = PAUSE_FIRST;
    loop {
        match try_to_reopen(beside, kept, marker).await {
            Ok(came) => return Ok(came),
            Err(error) if Instant::now() + pause < deadline => {
                tracing::warn!(%database, error = %error.report(), "a closed database could not be reopened yet; trying again");
            }
            Err(error) => return Err(left_closed(database, error)),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LONGEST);
    }
}

async fn try_to_reopen(beside: &Address, kept: &str, marker: &str) -> Result<Came, JobError> {
    let mut admin = connect_beside(beside).await?;
    // If our own connection broke, its waiting statements must not run afterwards.
    end_marked(&mut admin, marker).await?;
    let came = if databases(&mut admin).await?.iter().any(|it| it == kept) {
        Ok(Came::ToItsEnd)
    } else {
        open(&mut admin, beside.database())
            .await
            .map(|()| Came::Nowhere)
    };
    session::close(admin).await;
    came
}

/// Lets connections into the database again.
pub(super) async fn open(admin: &mut PgConnection, database: &str) -> Result<(), JobError> {
    let statement = allow_connections(database, true);
    run(admin, "open the database to connections", statement).await
}

/// Returns the error that says how to open by hand a database that could not be opened here.
pub(super) fn left_closed(database: &str, error: JobError) -> JobError {
    JobError::Postgres(PostgresError::LeftClosed {
        database: database.to_owned(),
        by_hand: allow_connections(database, true),
        source: Box::new(error),
    })
}

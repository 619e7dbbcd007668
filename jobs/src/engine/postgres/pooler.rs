//! Detects a pooler between us and the server that shares one server connection among several clients.
//!
//! With such a pooler, the next client inherits what a session sets: our `search_path`, and that of `pg_dump`, which
//! cannot be told otherwise.

use std::time::Duration;

use sqlx::{Executor as _, PgConnection, Row as _};

use super::{
    session::{self, answer},
    wire::Session,
};
use crate::{
    engine::address::postgres::{Address, Place},
    error::{JobError, PostgresError},
};

/// How often we try to observe two clients on one server connection.
const TRIES: usize = 5;
/// How long the second client may wait: if each client has its own server connection, ours may have been the last.
const SECOND_CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Fails if server connections are shared. Sets nothing in any session.
pub(super) async fn refuse_if_shared(
    ours: &mut Session,
    address: &Address,
    place: &Place,
) -> Result<(), JobError> {
    // A pooler that answers in the server's place cannot know in advance which process will serve us.
    if backend(&mut ours.connection).await? == ours.process {
        return Ok(());
    }
    for _ in 0..TRIES {
        if is_seen_to_share(&mut ours.connection, address, place).await? {
            return Err(JobError::Postgres(PostgresError::SharedConnections {
                server: address.server(),
            }));
        }
    }
    Ok(())
}

/// Returns whether several processes serve our statements, or another client gets the process that just served us.
async fn is_seen_to_share(
    ours: &mut PgConnection,
    address: &Address,
    place: &Place,
) -> Result<bool, JobError> {
    let before = backend(ours).await?;
    let theirs = tokio::time::timeout(SECOND_CLIENT_TIMEOUT, async {
        let Ok(mut other) = session::open(address, place, None).await? else {
            return Ok(None);
        };
        let theirs = backend(&mut other.connection).await?;
        session::close(other.connection).await;
        Ok::<_, JobError>(Some(theirs))
    });
    let theirs = match theirs.await {
        Ok(theirs) => theirs?,
        Err(_) => None,
    };
    Ok(theirs == Some(before) || backend(ours).await? != before)
}

/// Asks which process serves us. Without a prepared statement, because that would belong to the session, too.
async fn backend(session: &mut PgConnection) -> Result<u32, JobError> {
    let doing = "ask which process serves us";
    let question = sqlx::raw_sql("select pg_catalog.pg_backend_pid()");
    let row = answer(doing, session.fetch_one(question)).await?;
    let process: i32 = row
        .try_get(0)
        .map_err(|error| session::meaning(doing, &error))?;
    Ok(process.unsigned_abs())
}

//! Does a pooler stand between us and the server, and does it give one server connection to several clients?
//!
//! Then what a session sets is met by the next client: our `search_path`, and that of `pg_dump`, which nobody can take from it.

use std::time::Duration;

use sqlx::{Executor as _, PgConnection, Row as _};

use super::{
    address::{Address, Place},
    session::{self, answer},
    wire::Session,
};
use crate::error::JobError;

/// How often it is tried to see two clients on one server connection.
const TRIES: usize = 5;
/// How long the second client may wait: where each client has a server connection to itself, ours may have been the last.
const SECOND_CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Refuses to go on where server connections are shared. Sets nothing in any session.
pub(super) async fn refuse_if_shared(
    ours: &mut Session,
    address: &Address,
    place: &Place,
) -> Result<(), JobError> {
    // Who answers in a server's place cannot know which process it will be.
    if backend(&mut ours.connection).await? == ours.process {
        return Ok(());
    }
    for _ in 0..TRIES {
        if is_seen_to_share(&mut ours.connection, address, place).await? {
            return Err(JobError::SharedConnections {
                server: address.server(),
            });
        }
    }
    Ok(())
}

/// Returns whether our statements go to several processes, or another client's to the one that was ours a moment ago.
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

/// Asks which process serves us. Nothing is prepared for it: that would be of the session, too.
async fn backend(session: &mut PgConnection) -> Result<u32, JobError> {
    let doing = "ask which process serves us";
    let question = sqlx::raw_sql("select pg_catalog.pg_backend_pid()");
    let row = answer(doing, session.fetch_one(question)).await?;
    let process: i32 = row
        .try_get(0)
        .map_err(|error| session::meaning(doing, &error))?;
    Ok(process.unsigned_abs())
}

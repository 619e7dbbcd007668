//! The name of an exchange's session, by which a dead worker's session is found: its statements may still wait to
//! rename.

use std::time::{Duration, Instant};

use sqlx::PgConnection;

use super::SESSIONS_END_TIMEOUT;
use crate::{attempt::RunId, engine::postgres::session::answer, error::JobError};

/// Returns the `application_name` of a run's exchange.
pub(super) fn marker(run_id: RunId) -> String {
    format!("lastgood swap {run_id}")
}

/// Ends the sessions of a run's exchanges, and waits until they are gone.
///
/// Only for the worker that has the run, or for a caller that knows that no worker has it.
pub(super) async fn end_marked(admin: &mut PgConnection, marker: &str) -> Result<(), JobError> {
    let doing = "end the sessions of a dead worker";
    let deadline = Instant::now() + SESSIONS_END_TIMEOUT;
    loop {
        let question = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
            where application_name = $1 and pid <> pg_backend_pid()";
        let found = sqlx::query_scalar::<_, i64>(question)
            .bind(marker)
            .fetch_one(&mut *admin);
        if answer(doing, found).await? == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(JobError::NoAnswer {
                doing,
                seconds: SESSIONS_END_TIMEOUT.as_secs(),
            });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! Finds out before the dump what would spoil it or its restore.

use sqlx::{Executor as _, PgConnection};

use super::{
    names::identifier,
    session::{self, answer},
};
use crate::error::{JobError, PostgresError};

/// Refuses a database whose policies hide rows from our role. `pg_dump` would fail too, but only at the first such
/// table, minutes later.
pub(super) async fn refuse_hidden_rows(session: &mut PgConnection) -> Result<(), JobError> {
    let question = include_str!("foresight/hidden_rows.sql");
    let asked = sqlx::query_as::<_, (Option<String>, String)>(question).fetch_one(session);
    let (tables, role) = answer("look for row-level security", asked).await?;
    match tables {
        None => Ok(()),
        Some(tables) => Err(JobError::Postgres(PostgresError::RowSecurity {
            tables,
            role: identifier(&role),
        })),
    }
}

/// Returns a warning for each function that a restore has to call for every row and whose body relies on the session's
/// search path: `pg_restore` has none.
pub(super) async fn functions_by_search_path(
    session: &mut PgConnection,
) -> Result<Vec<String>, JobError> {
    let doing = "look for functions that depend on a search path";
    // The query searches function bodies; its cost must not fail a backup.
    let bounded = "savepoint look; set local statement_timeout = '20s'";
    answer(doing, session.execute(sqlx::raw_sql(bounded))).await?;
    let question = include_str!("foresight/functions_by_search_path.sql");
    let asked = sqlx::query_as::<_, (String, String, String)>(question).fetch_all(&mut *session);
    let found = answer(doing, asked).await;
    let back = "rollback to savepoint look; release savepoint look";
    answer(doing, session.execute(sqlx::raw_sql(back))).await?;
    let found = match found {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(error = %error.report(), "no warnings about functions and search paths");
            Vec::new()
        }
    };
    let warning = |(caller, function, names): (String, String, String)| {
        format!(
            "{caller} calls function {function}, whose body names {names} without a schema: a restore has no search path \
             and may fail on the rows: qualify the name, or run `alter function {function} set search_path = …`"
        )
    };
    Ok(found.into_iter().map(warning).collect())
}

/// Returns the prepared transactions that hold locks for which a dump has to wait, if there are any.
pub(super) async fn prepared_transactions(
    session: &mut PgConnection,
) -> Result<Option<String>, JobError> {
    let question = include_str!("foresight/prepared_transactions.sql");
    let asked = sqlx::query_scalar::<_, Option<String>>(question).fetch_one(&mut *session);
    answer("look for prepared transactions", asked).await
}

/// Returns when the newest transaction that a standby shows was committed on its primary; `None` on a primary.
///
/// Asked before the snapshot is taken, so it is never later than what the snapshot shows.
pub(super) async fn replayed_to(
    session: &mut PgConnection,
) -> Result<Option<chrono::DateTime<chrono::Utc>>, JobError> {
    if !session::is_standby(session).await? {
        return Ok(None);
    }
    let doing = "ask how far the standby has replayed";
    // If nothing was replayed since the standby started, it shows at least the state of its last checkpoint.
    let question = "select coalesce(pg_catalog.pg_last_xact_replay_timestamp(), \
                    (select checkpoint_time from pg_catalog.pg_control_checkpoint()))";
    let asked = sqlx::query_scalar(question).fetch_one(session);
    Ok(Some(answer(doing, asked).await?))
}

//! Which run fills an existing database: recorded in the last line of the database's comment, which no restore brings
//! back.
//!
//! The mark is set on an empty database, before the single transaction that fills it. An attempt that finds its own
//! run's mark on a database that is no longer empty knows that this transaction was committed, even if the worker that
//! waited for it is dead.

use sqlx::PgConnection;

use super::{
    names::{identifier, literal},
    session::{answer, run},
};
use crate::{attempt::RunId, error::JobError};

const MARK: &str = "target of lastgood run ";

/// Marks the database as this run's target, and keeps the rest of its comment.
///
/// Returns whether this role may: only a database's owner may comment on it.
pub(super) async fn mark(
    session: &mut PgConnection,
    database: &str,
    run_id: RunId,
) -> Result<bool, JobError> {
    let comment = comment(session, database).await?;
    let statement = format!(
        "comment on database {} is {}",
        identifier(database),
        literal(&marked(&comment, run_id))
    );
    match run(session, "mark the database as this run's target", statement).await {
        Ok(()) => Ok(true),
        Err(JobError::Denied { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns whether the database has this run's mark.
pub(super) async fn is_marked(
    session: &mut PgConnection,
    database: &str,
    run_id: RunId,
) -> Result<bool, JobError> {
    let comment = comment(session, database).await?;
    Ok(comment.lines().any(|line| line == line_of(run_id)))
}

async fn comment(session: &mut PgConnection, database: &str) -> Result<String, JobError> {
    let question =
        "select shobj_description(oid, 'pg_database') from pg_database where datname = $1";
    let comment = sqlx::query_scalar::<_, Option<String>>(question).bind(database);
    let comment = answer(
        "read the database's comment",
        comment.fetch_optional(session),
    );
    Ok(comment.await?.flatten().unwrap_or_default())
}

/// Returns the comment with this run's mark in place of any other.
fn marked(comment: &str, run_id: RunId) -> String {
    let mut lines: Vec<&str> = comment.lines().collect();
    lines.retain(|line| !line.starts_with(MARK));
    let line = line_of(run_id);
    lines.push(&line);
    lines.join("\n")
}

fn line_of(run_id: RunId) -> String {
    format!("{MARK}{run_id}")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none("", "")]
    #[case::theirs("theirs\n\nand more", "theirs\n\nand more\n")]
    #[case::of_another_run("theirs\ntarget of lastgood run x", "theirs\n")]
    fn a_mark_leaves_the_rest_of_the_comment(#[case] comment: &str, #[case] rest: &str) {
        let run = RunId(uuid::Uuid::from_u128(7));
        let expected = format!("{rest}target of lastgood run {run}");
        assert_eq!(marked(comment, run), expected);
        assert_eq!(marked(&expected, run), expected);
    }
}

//! Checks that the target has the tablespaces that a dump names.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::session::answer;
use crate::{
    error::{JobError, PostgresError},
    format::pg_dump::Entry,
};

/// Returns the tablespaces of a dump's objects, except their database's own.
pub(super) fn of(entries: &[Entry]) -> BTreeSet<&str> {
    entries
        .iter()
        .map(|entry| entry.tablespace.as_str())
        .filter(|name| !name.is_empty())
        .collect()
}

/// Fails unless this role may create objects in each of these tablespaces.
pub(super) async fn make_sure(
    session: &mut PgConnection,
    names: &BTreeSet<&str>,
) -> Result<(), JobError> {
    if names.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = names.iter().copied().collect();
    // The database's own tablespace needs no privilege.
    let question = "select needed.name from unnest($1::text[]) as needed (name) where not exists ( \
            select from pg_tablespace t where t.spcname = needed.name and ( \
                has_tablespace_privilege(t.oid, 'create') \
                or t.oid = (select dattablespace from pg_database where datname = current_database()))) \
        order by needed.name";
    let missing = sqlx::query_scalar::<_, String>(question)
        .bind(&names)
        .fetch_all(session);
    let missing = answer("look for tablespaces", missing).await?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(JobError::Postgres(PostgresError::NoTablespace {
        names: missing.join(", "),
    }))
}

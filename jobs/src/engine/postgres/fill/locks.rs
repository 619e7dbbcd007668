//! Checks that the server's lock table has room for a restore in one transaction, which holds the lock on every object
//! to its end.
//!
//! A transaction that exhausts the lock table fails, and makes other transactions on the whole server fail meanwhile.

use sqlx::PgConnection;

use super::Target;
use crate::{
    engine::postgres::session::answer,
    error::{JobError, PostgresError},
    format::pg_dump::Entry,
};

/// The locks that a table takes: its own, and those of its TOAST table and that table's index.
const LOCKS_OF_A_TABLE: u64 = 3;

/// Refuses a restore that needs more locks than the lock table has room for.
pub(super) async fn make_sure(
    session: &mut PgConnection,
    entries: &[Entry],
    target: Target,
) -> Result<(), JobError> {
    let room = room(session).await?;
    let mut needed = to_create(entries);
    if target == Target::InUse {
        // Objects that are dropped first are locked too.
        needed += relations(session).await?.min(needed);
    }
    if needed > room.locks {
        return Err(JobError::Postgres(PostgresError::LockTableTooSmall {
            needed,
            room: room.locks,
            setting: needed.div_ceil(room.transactions.max(1)),
        }));
    }
    Ok(())
}

/// The size of the lock table.
struct Room {
    locks: u64,
    transactions: u64,
}

async fn room(session: &mut PgConnection) -> Result<Room, JobError> {
    let question = "select current_setting('max_locks_per_transaction')::int8, \
        current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8";
    let asked = sqlx::query_as::<_, (i64, i64)>(question).fetch_one(session);
    let (each, transactions) = answer("ask for the size of the lock table", asked).await?;
    let (each, transactions) = (each.unsigned_abs(), transactions.unsigned_abs());
    Ok(Room {
        locks: each.saturating_mul(transactions),
        transactions,
    })
}

/// Counts the relations that a restore in place may have to drop.
async fn relations(session: &mut PgConnection) -> Result<u64, JobError> {
    let question = "select count(*) from pg_catalog.pg_class where oid >= 16384";
    let count = sqlx::query_scalar::<_, i64>(question).fetch_one(session);
    Ok(answer("count the relations that are there", count)
        .await?
        .unsigned_abs())
}

/// Returns about how many locks it takes to create what is in the dump.
fn to_create(entries: &[Entry]) -> u64 {
    entries.iter().map(of_entry).sum()
}

fn of_entry(entry: &Entry) -> u64 {
    match entry.kind.as_str() {
        "TABLE" | "MATERIALIZED VIEW" => LOCKS_OF_A_TABLE,
        // About objects that are already locked, or about none.
        "TABLE DATA"
        | "SEQUENCE SET"
        | "SEQUENCE OWNED BY"
        | "BLOBS"
        | "DEFAULT"
        | "FK CONSTRAINT"
        | "CHECK CONSTRAINT"
        | "MATERIALIZED VIEW DATA"
        | "TABLE ATTACH"
        | "INDEX ATTACH"
        | "TRIGGER"
        | "RULE"
        | "POLICY"
        | "ROW SECURITY"
        | "ACL"
        | "DEFAULT ACL"
        | "COMMENT"
        | "SECURITY LABEL"
        | "ENCODING"
        | "STDSTRINGS"
        | "SEARCHPATH"
        | "DATABASE"
        | "DATABASE PROPERTIES"
        | "STATISTICS DATA" => 0,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_counted_by_what_is_made() {
        let entries = [
            "TABLE",
            "TABLE DATA",
            "CONSTRAINT",
            "INDEX",
            "FUNCTION",
            "ACL",
        ]
        .map(|kind| Entry {
            kind: kind.to_owned(),
            ..Entry::default()
        });
        assert_eq!(to_create(&entries), 6);
    }
}

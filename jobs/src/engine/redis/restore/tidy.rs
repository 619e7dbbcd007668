//! What remains once every key is written: removing what the backup does not have, and a final check.

use std::time::Instant;

use super::{encode::Counts, fill::LEASE_EVERY, roll::ClosedRoll};
use crate::{
    engine::redis::{
        connection::Connection,
        info::{self, Server},
        reply::{Reply, gibberish},
    },
    error::{JobError, RedisError},
    worker::Worker,
};

/// About how many keys one round trip looks at.
const SCAN_COUNT: &[u8] = b"1000";

/// Removes every key that is not on the roll, and returns how many.
///
/// Keys that others write in the meantime may be removed or may stay: a restore in place needs the server to itself.
pub(super) async fn remove_others(
    connection: &mut Connection,
    roll: &ClosedRoll,
    mark: &str,
    worker: &Worker,
) -> Result<u64, JobError> {
    let mut removed = 0;
    let mut asked = Instant::now();
    let databases = info::must_ask(connection).await?.keys;
    for database in databases.into_keys() {
        select(connection, database).await?;
        let mut cursor = b"0".to_vec();
        loop {
            if asked.elapsed() >= LEASE_EVERY {
                super::alive(worker).await?;
                asked = Instant::now();
            }
            let (next, keys) = scan(connection, &cursor).await?;
            let is_mark = |key: &[u8]| database == 0 && key == mark.as_bytes();
            let is_other = |key: &[u8]| !roll.has(database, key) && !is_mark(key);
            let others: Vec<&[u8]> = keys
                .iter()
                .map(|key| &**key)
                .filter(|key| is_other(key))
                .collect();
            removed += unlink(connection, &others).await?;
            if next == b"0" {
                break;
            }
            cursor = next;
        }
    }
    select(connection, 0).await?;
    Ok(removed)
}

async fn select(connection: &mut Connection, database: u64) -> Result<(), JobError> {
    let digits = database.to_string();
    let doing = "select a database (SELECT)";
    connection
        .ask(doing, &[b"SELECT", digits.as_bytes()])
        .await?;
    Ok(())
}

/// Returns the next cursor and some keys.
async fn scan(
    connection: &mut Connection,
    cursor: &[u8],
) -> Result<(Vec<u8>, Vec<bytes::Bytes>), JobError> {
    let doing = "look for keys that the backup does not have (SCAN)";
    let reply = connection
        .ask(doing, &[b"SCAN", cursor, b"COUNT", SCAN_COUNT])
        .await?;
    let mut parts = reply.into_array().unwrap_or_default().into_iter();
    let next = parts.next().and_then(Reply::into_bytes);
    let keys = parts.next().and_then(Reply::into_array);
    let (Some(next), Some(keys)) = (next, keys) else {
        return Err(gibberish(doing));
    };
    Ok((
        next.to_vec(),
        keys.into_iter().filter_map(Reply::into_bytes).collect(),
    ))
}

async fn unlink(connection: &mut Connection, keys: &[&[u8]]) -> Result<u64, JobError> {
    if keys.is_empty() {
        return Ok(0);
    }
    let doing = "remove keys that the backup does not have (UNLINK)";
    let words = [&[b"UNLINK".as_slice()], keys].concat();
    let removed = connection.ask(doing, &words).await?.as_integer();
    Ok(removed.and_then(|it| it.try_into().ok()).unwrap_or(0))
}

/// Fails unless the target still has what it took: a server whose memory is full may have evicted some of it silently.
pub(super) async fn check(
    connection: &mut Connection,
    before: &Server,
    counts: Counts,
    marks: u64,
) -> Result<(), JobError> {
    let after = info::must_ask(connection).await?;
    let evicted = after.evicted_keys.saturating_sub(before.evicted_keys);
    if evicted > 0 {
        return Err(RedisError::Evicted { evicted }.into());
    }
    let found: u64 = after.keys.values().sum();
    // The marks are counted too, and keys that expire may already have done so.
    let found = found.saturating_sub(marks);
    if found < counts.keys - counts.expiring {
        return Err(RedisError::KeysMissing {
            found,
            written: counts.keys,
        }
        .into());
    }
    Ok(())
}

//! The key by which a target that is half restored is known, and whose restore it was.

use uuid::Uuid;

use super::{
    connection::{Connection, meaning},
    reply::Reply,
};
use crate::error::JobError;

/// In database 0, from before the first key is written until after the last. Its value is the run's id. Permanent.
pub(crate) const MARK: &str = "lastgood:restore";

/// Whose mark a server bears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Marked {
    No,
    ByThisRun,
    /// By another: what its mark says.
    ByAnother(String),
    /// There is such a key, and no restore made it.
    NoMark,
}

/// Returns whether a key is this one.
pub(crate) fn is_mark(database: u64, key: &[u8]) -> bool {
    database == 0 && key == MARK.as_bytes()
}

/// Looks for the mark. Database 0 must be selected.
pub(crate) async fn look(connection: &mut Connection, run: Uuid) -> Result<Marked, JobError> {
    let doing = "look for the mark of a restore (GET)";
    match connection.try_to(doing, &[b"GET", MARK.as_bytes()]).await? {
        Ok(reply) => Ok(read(reply, run)),
        Err(fault) if fault.code() == Some("WRONGTYPE") => Ok(Marked::NoMark),
        Err(fault) => Err(meaning(doing, fault)),
    }
}

fn read(reply: Reply, run: Uuid) -> Marked {
    let Some(value) = reply.into_bytes() else {
        return Marked::No;
    };
    let text = std::str::from_utf8(&value).ok();
    match text.and_then(|text| text.parse::<Uuid>().ok()) {
        Some(found) if found == run => Marked::ByThisRun,
        Some(other) => Marked::ByAnother(other.to_string()),
        None => Marked::NoMark,
    }
}

/// Marks the server as this run's. Database 0 must be selected.
pub(crate) async fn set(connection: &mut Connection, run: Uuid) -> Result<(), JobError> {
    let run = run.to_string();
    let doing = "mark the target as half restored (SET)";
    connection
        .ask(doing, &[b"SET", MARK.as_bytes(), run.as_bytes()])
        .await?;
    Ok(())
}

/// Removes the mark. Database 0 must be selected.
pub(crate) async fn remove(connection: &mut Connection) -> Result<(), JobError> {
    let doing = "remove the mark of the restore (UNLINK)";
    connection.ask(doing, &[b"UNLINK", MARK.as_bytes()]).await?;
    Ok(())
}

//! The key that marks a half restored target, and tells whose restore it was.

use super::{
    connection::{Connection, meaning},
    reply::Reply,
};
use crate::{
    attempt::RunId,
    error::{JobError, RedisError},
    format::rdb::{self, Stored},
};

/// In database 0, from before the first key is written until after the last. Its value is the run's id. Permanent.
pub(crate) const MARK: &str = "lastgood:restore";
/// Used instead if a customer has a key of that name. Permanent.
const OTHER_MARK: &str = "lastgood:restore:unfinished";
/// The type byte of a string.
const STRING: u8 = 0;

/// Whose mark a server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Marked {
    No,
    ByThisRun,
    /// By another run, with the id in its mark.
    ByAnother(String),
}

/// What was found under the names of marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) marked: Marked,
    /// The names whose keys no restore created.
    taken: Vec<&'static str>,
    /// The names whose keys are marks.
    pub(crate) marks: Vec<&'static str>,
}

/// Returns whether a value stored under this key is a mark, which holds a run's id, and not a customer's.
pub(crate) fn is_mark(database: u64, key: &[u8], stored: Stored<'_>) -> bool {
    let is_name = database == 0 && is_name(key);
    is_name && stored.type_byte == STRING && is_run(rdb::string_of(stored.raw).as_deref())
}

/// Returns whether a key of database 0 has the name of a mark.
pub(crate) fn is_name(key: &[u8]) -> bool {
    key == MARK.as_bytes() || key == OTHER_MARK.as_bytes()
}

fn is_run(value: Option<&[u8]>) -> bool {
    run_in(value).is_some()
}

fn run_in(value: Option<&[u8]>) -> Option<RunId> {
    std::str::from_utf8(value?).ok()?.parse().ok()
}

/// Looks for marks. Database 0 must be selected.
pub(crate) async fn look(connection: &mut Connection, run: RunId) -> Result<Found, JobError> {
    let doing = "look for the mark of a restore (GET)";
    let mut found = Found {
        marked: Marked::No,
        taken: Vec::new(),
        marks: Vec::new(),
    };
    for name in [MARK, OTHER_MARK] {
        match connection.try_to(doing, &[b"GET", name.as_bytes()]).await? {
            Ok(Reply::Nil) => {}
            Ok(reply) => found.note(name, run_in(reply.into_bytes().as_deref()), run),
            Err(fault) if fault.code() == Some("WRONGTYPE") => found.taken.push(name),
            Err(fault) => return Err(meaning(doing, fault)),
        }
    }
    Ok(found)
}

impl Found {
    fn note(&mut self, name: &'static str, by: Option<RunId>, run: RunId) {
        match by {
            None => {
                self.taken.push(name);
                return;
            }
            Some(by) if by == run => self.marked = Marked::ByThisRun,
            Some(other) => self.marked = Marked::ByAnother(other.to_string()),
        }
        self.marks.push(name);
    }

    /// Returns a name under which neither the target nor the backup has a customer's key. `owned` are the backup's.
    pub(crate) fn free_name(&self, owned: &[Vec<u8>]) -> Result<&'static str, RedisError> {
        let is_free = |name: &&str| {
            !self.taken.contains(name) && !owned.iter().any(|key| key == name.as_bytes())
        };
        let free = [MARK, OTHER_MARK].into_iter().find(is_free);
        free.ok_or(RedisError::MarksTaken {
            names: [MARK, OTHER_MARK],
        })
    }
}

/// Marks the server as this run's. Database 0 must be selected.
pub(crate) async fn set(
    connection: &mut Connection,
    name: &str,
    run: RunId,
) -> Result<(), JobError> {
    let run = run.to_string();
    let doing = "mark the target as half restored (SET)";
    connection
        .ask(doing, &[b"SET", name.as_bytes(), run.as_bytes()])
        .await?;
    Ok(())
}

/// Removes marks. Database 0 must be selected.
pub(crate) async fn remove(connection: &mut Connection, names: &[&str]) -> Result<(), JobError> {
    let doing = "remove the mark of the restore (UNLINK)";
    let names = names.iter().map(|name| name.as_bytes());
    let words: Vec<&[u8]> = std::iter::once(b"UNLINK".as_slice()).chain(names).collect();
    connection.ask(doing, &words).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const RUN: &[u8] = b"$0190d5e6-0000-7000-8000-000000000001";

    #[rstest]
    #[case::mark(0, MARK, STRING, RUN, true)]
    #[case::other_mark(0, OTHER_MARK, STRING, RUN, true)]
    #[case::other_database(1, MARK, STRING, RUN, false)]
    #[case::other_key(0, "lastgood:restored", STRING, RUN, false)]
    #[case::other_value(0, MARK, STRING, b"\x03yes", false)]
    #[case::other_type(0, MARK, 4, b"\x01\x01a\x01b", false)]
    fn a_customers_own_key_is_no_mark_whatever_its_name(
        #[case] database: u64,
        #[case] key: &str,
        #[case] type_byte: u8,
        #[case] raw: &[u8],
        #[case] expected: bool,
    ) {
        let stored = Stored {
            metadata: &[],
            type_byte,
            raw,
        };
        assert_eq!(is_mark(database, key.as_bytes(), stored), expected);
    }
}

//! Names in SQL, and the names of the databases that a restore creates.

use chrono::{DateTime, Utc};

use crate::attempt::{Epoch, RunId};

/// The longest name that a server keeps, in bytes. It truncates longer ones silently.
const NAME_BYTES_MAX: usize = 63;
const RESTORE: &str = "__restore_";
const BEFORE_RESTORE: &str = "__before_restore_";
/// `__before_restore_` + 14 digits + `_` + 8 digits.
const SUFFIX_BYTES: usize = BEFORE_RESTORE.len() + 14 + 1 + 8;

/// Returns a quoted identifier, whatever the name contains.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a name without the quotes that it may have in a table of contents.
pub(crate) fn unquoted(name: &str) -> String {
    match name
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

/// Returns a quoted literal, whatever the text contains and whatever the server's settings.
pub(crate) fn literal(text: &str) -> String {
    format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Returns a connection string for `-d`, which would parse a bare name that contains `=` as a connection string.
pub(crate) fn conninfo(database: &str) -> String {
    format!(
        "dbname='{}'",
        database.replace('\\', "\\\\").replace('\'', "\\'")
    )
}

/// Returns the first eight digits of a run's id, which tell which restore a database belongs to.
pub(crate) fn run8(run: RunId) -> String {
    let mut digits = run.0.simple().to_string();
    digits.truncate(8);
    digits
}

/// Returns the name of the database that a restore fills: `{db}__restore_{run8}_{epoch}`.
pub(crate) fn fresh(database: &str, run: RunId, epoch: Epoch) -> String {
    format!("{}{epoch}", fresh_prefix(database, run))
}

/// Returns the common prefix of the databases that the attempts of one restore fill.
pub(crate) fn fresh_prefix(database: &str, run: RunId) -> String {
    format!("{}{RESTORE}{}_", short(database), run8(run))
}

/// Returns the name under which the replaced database is kept: `{db}__before_restore_{YYYYMMDDHHMMSS}_{run8}`.
pub(crate) fn kept(database: &str, run: RunId, at: DateTime<Utc>) -> String {
    format!(
        "{}{BEFORE_RESTORE}{}_{}",
        short(database),
        at.format("%Y%m%d%H%M%S"),
        run8(run)
    )
}

/// Returns whether `name` is one that [`kept`] gives for `database`.
pub(crate) fn is_kept(name: &str, database: &str) -> bool {
    parse_kept(name, database).is_some()
}

/// Returns whether `name` is one that [`kept`] gives for `database` in this run.
pub(crate) fn is_kept_by(name: &str, database: &str, run: RunId) -> bool {
    parse_kept(name, database).is_some_and(|digits| digits == run8(run))
}

fn parse_kept<'a>(name: &'a str, database: &str) -> Option<&'a str> {
    let rest = name
        .strip_prefix(&short(database))?
        .strip_prefix(BEFORE_RESTORE)?;
    let (time, run) = rest.split_once('_')?;
    let is_time = time.len() == 14 && time.bytes().all(|b| b.is_ascii_digit());
    let is_run = run.len() == 8
        && run
            .bytes()
            .all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
    (is_time && is_run).then_some(run)
}

/// Returns a name short enough for every suffix: the name itself, or its start, `~` and six digits of its hash.
fn short(database: &str) -> String {
    let room = NAME_BYTES_MAX - SUFFIX_BYTES;
    if database.len() <= room {
        return database.to_owned();
    }
    let begin = database.floor_char_boundary(room - 7);
    let mut hash = blake3::hash(database.as_bytes()).to_hex().to_string();
    hash.truncate(6);
    format!("{}~{hash}", database.get(..begin).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone as _;
    use proptest::prelude::*;

    use super::*;

    const RUN: RunId = RunId(uuid::Uuid::from_u128(
        0x0123_4567_89ab_cdef_0123_4567_89ab_cdef,
    ));

    fn at() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 3, 4, 5, 6, 7).unwrap()
    }

    #[test]
    fn names_tell_what_a_database_is() {
        assert_eq!(fresh("app", RUN, Epoch(3)), "app__restore_01234567_3");
        assert_eq!(
            kept("app", RUN, at()),
            "app__before_restore_20260304050607_01234567"
        );
        assert!(is_kept_by(&kept("app", RUN, at()), "app", RUN));
        assert!(!is_kept_by(
            &kept("app", RUN, at()),
            "app",
            RunId(uuid::Uuid::nil())
        ));
    }

    #[test]
    fn other_databases_are_not_taken_for_kept_ones() {
        for name in [
            "app",
            "app__before_restore_",
            "app__before_restore_20260304050607_0123456X",
            "app__restore_01234567_3",
        ] {
            assert!(!is_kept(name, "app"), "{name}");
        }
        assert!(!is_kept(&kept("app2", RUN, at()), "app"));
        assert!(!is_kept(&kept("app", RUN, at()), "app2"));
    }

    #[test]
    fn quoting_survives_everything() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("a'b\\c"), " E'a\\'b\\\\c'");
        assert_eq!(conninfo("a='b\\"), "dbname='a=\\'b\\\\'");
    }

    proptest! {
        #[test]
        fn every_name_fits_and_is_its_own(database in "\\PC{1,63}", other in "\\PC{1,63}") {
            let name = kept(&database, RUN, at());
            prop_assert!(name.len() <= NAME_BYTES_MAX);
            prop_assert!(fresh(&database, RUN, Epoch(999_999)).len() <= NAME_BYTES_MAX);
            prop_assert!(is_kept(&name, &database));
            prop_assert!(database == other || !is_kept(&name, &other));
        }
    }
}

//! A dump into one database, in one transaction.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io::Write as _,
    path::Path,
};

use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;

use super::{
    address::Address,
    custom_format::Entry,
    dump::widen,
    names::{conninfo, identifier},
    restore::Source,
    session::{self, answer},
};
use crate::{
    archive::{self, Reading},
    error::JobError,
    job::Restore,
    process::Tool,
    worker::Worker,
};

const EXTENSION: &str = "EXTENSION";

/// Whether what is there already makes way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// Nothing is expected to be there.
    Collides,
    /// Objects of the dump are dropped first, within the same transaction.
    IsReplaced,
}

/// Restores the dump into the database at `target`: all of it, or nothing.
///
/// Returns what the reader should know besides.
pub(super) async fn fill(
    target: &Address,
    source: &Source<'_>,
    existing: Existing,
    job: &Restore,
    worker: &Worker,
) -> Result<Vec<String>, JobError> {
    let (mut session, looks) = session::connect_before_tool(target).await?;
    let version = session::server_version(&mut session).await?;
    if version.major < source.server_major {
        return Err(JobError::TargetOlder {
            target: version.major,
            dump: source.server_major,
        });
    }
    let client = worker.tools.client("pg_restore", version.major)?;
    let is_superuser = session::is_superuser(&mut session).await?;
    let present = session::extensions(&mut session)
        .await?
        .into_keys()
        .collect();
    make_sure_of_extensions(&mut session, &source.entries, &present).await?;
    let tables_before = session::count_tables(&mut session).await?;
    session::close(session).await;

    let list = list_file(&source.entries, &present, &worker.work_dir);
    let password = target.password_file(&worker.work_dir);
    let (list, password) = list
        .and_then(|list| Ok((list, password?)))
        .map_err(|source| JobError::Io {
            doing: "write the files that pg_restore reads",
            source,
        })?;
    let mut args: Vec<OsString> = vec![
        "--format=custom".into(),
        "--exit-on-error".into(),
        "--single-transaction".into(),
        "--no-password".into(),
        "--use-list".into(),
        list.path().into(),
        "--dbname".into(),
        conninfo(target.database()).into(),
    ];
    if existing == Existing::IsReplaced {
        args.extend(["--clean".into(), "--if-exists".into()]);
    }
    // Who is no superuser cannot give ownership away.
    if job.no_owner || !is_superuser {
        args.push("--no-owner".into());
    }
    if job.no_acl {
        args.push("--no-acl".into());
    }
    let program = client.pg_restore();
    let mut environment = target.environment(password.path(), client.major);
    environment.extend(looks.environment());
    let tool = Tool::start(&program, &args, &environment, target.secrets());
    let tool = tool.map_err(|source| JobError::ToolStart {
        tool: program.display().to_string(),
        source,
    })?;
    let reading = archive::open(
        &worker.storage,
        &*worker.keyring,
        &source.manifest.archive,
        &source.manifest.dump,
    )
    .await?;
    pour(reading, tool, worker).await?;
    check(target, source, existing, tables_before).await
}

/// Pours the dump into the tool, and waits for its verdict.
async fn pour(mut reading: Reading, mut tool: Tool, worker: &Worker) -> Result<(), JobError> {
    let cannot_wait = |source| JobError::Io {
        doing: "run pg_restore",
        source,
    };
    let mut pipe = tool.take_stdin().map_err(cannot_wait)?;
    widen(&pipe);
    let mut takes_more = true;
    while takes_more && let Some(chunk) = reading.next().await {
        worker.progress.add_dump(chunk.len() as u64);
        // A tool that takes no more has failed, and says why as it exits.
        takes_more = pipe.write_all(&chunk).await.is_ok();
    }
    if takes_more && let Err(damaged) = reading.finish().await {
        // It never got the last chunk, and so never commits.
        let _killed = tool.kill().await;
        return Err(damaged);
    }
    drop(pipe);
    let exit = tool.finish().await.map_err(cannot_wait)?;
    if exit.success && takes_more {
        Ok(())
    } else {
        Err(JobError::RestoreFailed {
            status: exit.status,
            stderr: exit.stderr,
        })
    }
}

/// Compares what is there now with what the dump says.
async fn check(
    target: &Address,
    source: &Source<'_>,
    existing: Existing,
    tables_before: u64,
) -> Result<Vec<String>, JobError> {
    let mut session = session::connect(target).await?;
    let found = session::count_tables(&mut session).await?;
    let extensions = session::extensions(&mut session).await?;
    session::close(session).await;
    let expected = source.summary.tables;
    let is_whole = match existing {
        Existing::Collides => found.checked_sub(tables_before) == Some(expected),
        Existing::IsReplaced => found >= expected,
    };
    if !is_whole {
        return Err(JobError::RestoreNotWhole { expected, found });
    }
    Ok(other_versions(source.extensions, &extensions))
}

fn other_versions(
    dumped: &BTreeMap<String, String>,
    found: &BTreeMap<String, String>,
) -> Vec<String> {
    let pairs = dumped
        .iter()
        .filter_map(|(name, was)| Some((name, was, found.get(name)?)));
    pairs
        .filter(|(_, was, is)| was != is)
        .map(|(name, was, is)| {
            format!("extension {name} is of version {is}, and was of {was} in the dump")
        })
        .collect()
}

/// Tries to create the extensions that the dump needs and the target does not have, and takes it back.
///
/// The only honest test: a superuser's extension may still be allowed, by the ways of managed services.
async fn make_sure_of_extensions(
    session: &mut PgConnection,
    entries: &[Entry],
    present: &BTreeSet<String>,
) -> Result<(), JobError> {
    let needed = entries.iter().filter(|entry| entry.kind == EXTENSION);
    for name in needed
        .map(|entry| unquoted(&entry.tag))
        .filter(|name| !present.contains(name))
    {
        let attempt = format!("begin; create extension {} cascade", identifier(&name));
        let attempted = session.execute(sqlx::raw_sql(AssertSqlSafe(attempt))).await;
        answer("take back an extension", session.execute("rollback")).await?;
        let Err(error) = attempted else { continue };
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        match code.as_deref() {
            Some("42501") => return Err(JobError::ExtensionNeedsSuperuser { extension: name }),
            // Not supported, or no such file: depends on the server's version.
            Some("0A000" | "58P01") => return Err(JobError::NoExtension { extension: name }),
            // Perhaps only because its schema is in the dump: pg_restore will tell.
            _ => {
                tracing::debug!(extension = %name, "cannot tell beforehand whether the extension can be created");
            }
        }
    }
    Ok(())
}

/// Writes the list of what to restore: everything but the extensions that are there already, and their comments.
fn list_file(
    entries: &[Entry],
    present: &BTreeSet<String>,
    work_dir: &Path,
) -> std::io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix("list.")
        .tempfile_in(work_dir)?;
    let mut lines = std::io::BufWriter::new(&mut file);
    for entry in entries.iter().filter(|entry| !is_there(entry, present)) {
        writeln!(lines, "{};", entry.id)?;
    }
    lines.flush()?;
    drop(lines);
    Ok(file)
}

fn is_there(entry: &Entry, present: &BTreeSet<String>) -> bool {
    match entry.kind.as_str() {
        EXTENSION => present.contains(&unquoted(&entry.tag)),
        "COMMENT" => entry
            .tag
            .strip_prefix("EXTENSION ")
            .is_some_and(|name| present.contains(&unquoted(name))),
        _ => false,
    }
}

/// Returns a name as it is, where a table of contents may have it quoted.
fn unquoted(name: &str) -> String {
    match name
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u32, kind: &str, tag: &str) -> Entry {
        Entry {
            id,
            kind: kind.to_owned(),
            tag: tag.to_owned(),
            namespace: String::new(),
        }
    }

    #[test]
    fn extensions_that_are_there_are_left_out_with_their_comments() -> anyhow::Result<()> {
        let entries = [
            entry(7, "EXTENSION", "vector"),
            entry(8, "COMMENT", "EXTENSION vector"),
            entry(9, "EXTENSION", "uuid-ossp"),
            entry(10, "COMMENT", "EXTENSION \"uuid-ossp\""),
            entry(11, "EXTENSION", "hstore"),
            entry(12, "COMMENT", "TABLE vector"),
        ];
        let present = ["vector".to_owned(), "uuid-ossp".to_owned()].into();
        let directory = tempfile::tempdir()?;
        let file = list_file(&entries, &present, directory.path())?;
        assert_eq!(std::fs::read_to_string(file.path())?, "11;\n12;\n");
        Ok(())
    }

    #[test]
    fn another_version_is_worth_a_note() {
        let of = |version: &str| BTreeMap::from([("vector".to_owned(), version.to_owned())]);
        assert!(other_versions(&of("1"), &of("1")).is_empty());
        assert_eq!(
            other_versions(&of("1"), &of("2")),
            ["extension vector is of version 2, and was of 1 in the dump"]
        );
    }
}

//! Restores a dump into one database: rehearsed first, then done by the tool, checked, and analyzed.

mod list;
mod locks;
mod pour;
mod rehearsal;

use std::{collections::BTreeMap, ffi::OsString};

use sqlx::{Executor as _, PgConnection};

use self::{
    list::list_file,
    pour::{Feed, feed, jobs_for, pour},
    rehearsal::rehearse,
};
use super::{
    names::conninfo,
    restore::Source,
    session::{self, Looks, answer, answer_within},
    tablespaces,
};
use crate::{
    archive,
    clients::Client,
    engine::address::postgres::Address,
    error::{JobError, PostgresError},
    job::Restore,
    process::Tool,
    worker::Worker,
};

/// How long gathering statistics may take before it is left to the server's autovacuum.
const ANALYZE_TIMEOUT: std::time::Duration = std::time::Duration::from_hours(1);

/// What a dump is restored into. It decides what may happen to the database if the restore fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// A database that this attempt created and drops if the restore fails. It needs no single transaction, so several
    /// connections fill it, up to one per core.
    Fresh,
    /// Somebody's empty database: restored in one transaction, all or nothing.
    Empty,
    /// A database in use: the dump's objects are dropped and created again, in one transaction.
    InUse,
}

/// Restores the dump into the database at `address`.
///
/// Everything that can be refused is tried before anything is changed. Returns notes for the reader.
pub(super) async fn fill(
    address: &Address,
    source: &Source<'_>,
    target: Target,
    job: &Restore,
    worker: &Worker,
) -> Result<Vec<String>, JobError> {
    let found = session::connect_before_tool(address).await?;
    let (mut session, looks, there) = (found.session, found.looks, found.address);
    let version = session::server_version(&mut session).await?;
    if version.major < source.server_major {
        return Err(JobError::Postgres(PostgresError::TargetOlder {
            target: version.major,
            dump: source.server_major,
        }));
    }
    let client = worker.tools.client("pg_restore", version.major)?;
    let is_superuser = session::may_run_their_code(&mut session, job).await?;
    let left_out = rehearse(&mut session, &source.entries, target, job).await?;
    if target != Target::Fresh {
        locks::make_sure(&mut session, &source.entries, target).await?;
    }
    if !job.no_tablespaces {
        tablespaces::make_sure(&mut session, &tablespaces::of(&source.entries)).await?;
    }
    let jobs = jobs_for(&mut session, target, version.major).await?;
    let tables_before = session::count_tables(&mut session).await?;
    session::close(session).await;

    let tool = Restorer {
        address: &there,
        client,
        looks,
        target,
        keeps_owners: is_superuser && !job.no_owner,
        keeps_grants: !job.no_acl,
        keeps_tablespaces: !job.no_tablespaces,
    };
    let list = list_file(&source.entries, &left_out.ids, &worker.work_dir);
    let password = there.password_file(&worker.work_dir);
    let (list, password) = list
        .and_then(|list| Ok((list, password?)))
        .map_err(|source| JobError::Io {
            doing: "write the files that pg_restore reads",
            source,
        })?;
    match feed(source, jobs, worker).await? {
        Feed::Spool(dump) => {
            let tool = tool.start(list.path(), password.path(), Some((dump, jobs)))?;
            pour::verdict(tool).await?;
        }
        Feed::Stream => {
            let tool = tool.start(list.path(), password.path(), None)?;
            let reading = archive::open(
                &worker.storage,
                &*worker.keyring,
                &source.manifest.archive,
                &source.manifest.dump,
            )
            .await?;
            pour(reading, tool, left_out.has_data, worker).await?;
        }
    }
    let mut notes = left_out.notes;
    notes.extend(check(address, source, target, tables_before).await?);
    Ok(notes)
}

/// How the tool is called.
struct Restorer<'a> {
    address: &'a Address,
    client: &'a Client,
    looks: Looks,
    target: Target,
    keeps_owners: bool,
    keeps_grants: bool,
    keeps_tablespaces: bool,
}

impl Restorer<'_> {
    /// Starts the tool, either on a stream at its standard input, or on a whole file that several connections read at
    /// once.
    fn start(
        &self,
        list: &std::path::Path,
        password: &std::path::Path,
        spool: Option<(std::fs::File, u32)>,
    ) -> Result<Tool, JobError> {
        let mut args: Vec<OsString> = vec![
            "--format=custom".into(),
            "--exit-on-error".into(),
            "--no-password".into(),
            "--use-list".into(),
            list.into(),
            "--dbname".into(),
            conninfo(self.address.database()).into(),
        ];
        match self.target {
            Target::Fresh => {}
            Target::Empty => args.push("--single-transaction".into()),
            Target::InUse => {
                let in_place = ["--single-transaction", "--clean", "--if-exists"];
                args.extend(in_place.map(OsString::from));
            }
        }
        // Only a superuser can give ownership away.
        if !self.keeps_owners {
            args.push("--no-owner".into());
        }
        if !self.keeps_grants {
            args.push("--no-acl".into());
        }
        if !self.keeps_tablespaces {
            args.push("--no-tablespaces".into());
        }
        let program = self.client.pg_restore();
        let mut environment = self.address.environment(password, self.client.major);
        environment.extend(match self.target {
            // Nobody uses the database before the names are exchanged, and the commit of that exchange makes all of
            // this durable. One of several connections may wait for another at any length, and the tool turns off
            // every limit but this one, which servers know since the version that looks for its clients.
            Target::Fresh => self
                .looks
                .environment_with("-c synchronous_commit=off -c idle_session_timeout=0"),
            Target::Empty | Target::InUse => self.looks.environment(),
        });
        let secrets = self.address.secrets();
        let tool = match spool {
            Some((dump, jobs)) => {
                args.push(format!("--jobs={jobs}").into());
                // The file has no name, so each connection's process opens it anew by this path.
                args.push("/dev/stdin".into());
                Tool::start_on(&program, &args, &environment, secrets, dump.into())
            }
            None => Tool::start(&program, &args, &environment, secrets),
        };
        tool.map_err(|source| {
            JobError::Postgres(PostgresError::ToolStart {
                tool: program.display().to_string(),
                source,
            })
        })
    }
}

/// Compares the database with what the dump says, and gathers statistics.
async fn check(
    address: &Address,
    source: &Source<'_>,
    target: Target,
    tables_before: u64,
) -> Result<Vec<String>, JobError> {
    let mut session = session::connect(address).await?;
    let found = session::count_tables(&mut session).await?;
    let extensions = session::extensions(&mut session).await?;
    let expected = source.summary.tables;
    let is_whole = match target {
        Target::Fresh | Target::Empty => found.checked_sub(tables_before) == Some(expected),
        Target::InUse => found >= expected,
    };
    if !is_whole {
        return Err(JobError::Postgres(PostgresError::RestoreNotWhole {
            expected,
            found,
        }));
    }
    let mut notes = other_versions(source.extensions, &extensions);
    notes.extend(analyze(&mut session).await);
    session::close(session).await;
    Ok(notes)
}

/// Gathers the statistics that the planner needs, which the restore does not bring. A failure costs no data.
async fn analyze(session: &mut PgConnection) -> Option<String> {
    let doing = "analyze the restored database";
    let analyzed = async {
        // Suppresses warnings about system tables that this role may not analyze.
        answer(doing, session.execute("set client_min_messages = error")).await?;
        // A statement of its own: in one message with another it would be one transaction, which holds a lock on every
        // table to its end.
        answer_within(ANALYZE_TIMEOUT, doing, session.execute("analyze")).await
    };
    let error: JobError = analyzed.await.err()?;
    Some(format!(
        "no statistics were gathered, and queries may be slow until they are: run `analyze`: {}",
        error.report()
    ))
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
            format!("extension {name} has version {is}, but had version {was} in the dump")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_worth_a_note() {
        let of = |version: &str| BTreeMap::from([("vector".to_owned(), version.to_owned())]);
        assert!(other_versions(&of("1"), &of("1")).is_empty());
        assert_eq!(
            other_versions(&of("1"), &of("2")),
            ["extension vector has version 2, but had version 1 in the dump"]
        );
    }
}

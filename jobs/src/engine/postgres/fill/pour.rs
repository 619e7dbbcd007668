//! Feeds the dump to the tool: as a stream, or as an unnamed file from which several connections restore at once.

use std::{fs::File, path::Path, thread::available_parallelism};

use sqlx::PgConnection;
use tokio::io::AsyncWriteExt as _;

use super::Target;
use crate::{
    archive::{self, Reading},
    engine::postgres::{dump::widen, restore::Source, session::answer},
    error::{JobError, PostgresError},
    process::Tool,
    worker::Worker,
};

/// More connections would crowd out others.
const JOBS_MAX: u32 = 8;
/// Connections that are left to us and others if the role has a connection limit.
const CONNECTIONS_SPARED: u32 = 2;
/// How many bytes a spool leaves free in the work directory's file system.
const BYTES_SPARED: u64 = 256 * 1024 * 1024;

/// What the tool reads.
pub(super) enum Feed {
    /// The whole dump, in a file that nobody else can open and that goes with this process.
    Spool(File),
    /// The dump as it comes out of the archive.
    Stream,
}

/// Returns how many connections restore at once.
pub(super) async fn jobs_for(
    session: &mut PgConnection,
    target: Target,
    server_major: u32,
) -> Result<u32, JobError> {
    // A single transaction has a single connection. Before 13 there is no `drop database … with (force)`, and workers
    // that outlive a dead leader would keep the database from being dropped.
    if target != Target::Fresh || server_major < 13 || !cfg!(target_os = "linux") {
        return Ok(1);
    }
    let question = "select rolconnlimit from pg_catalog.pg_roles where rolname = current_user";
    let limit = sqlx::query_scalar::<_, i32>(question).fetch_optional(session);
    let limit = answer("ask for the role's connection limit", limit).await?;
    let limit = limit.and_then(|limit| u32::try_from(limit).ok());
    let cores = available_parallelism().map_or(1, std::num::NonZero::get);
    let cores = u32::try_from(cores).unwrap_or(JOBS_MAX).min(JOBS_MAX);
    Ok(limit.map_or(cores, |limit| {
        cores.min(limit.saturating_sub(CONNECTIONS_SPARED)).max(1)
    }))
}

/// Returns what the tool reads: a spool if several connections restore and there is room for it, otherwise a stream.
pub(super) async fn feed(
    source: &Source<'_>,
    jobs: u32,
    worker: &Worker,
) -> Result<Feed, JobError> {
    let size = source.manifest.dump.size_bytes;
    if jobs < 2 || !has_room(&worker.work_dir, size) {
        return Ok(Feed::Stream);
    }
    // From here on, a full file system shows as a write error.
    match spool(source, worker).await? {
        Ok(file) => Ok(Feed::Spool(file)),
        Err(error) => {
            tracing::warn!(%error, path = %worker.work_dir.display(), "no room for a spool: the dump is restored as a stream, by one connection");
            Ok(Feed::Stream)
        }
    }
}

/// Returns whether the file system has room for the dump and some to spare.
fn has_room(work_dir: &Path, size_bytes: u64) -> bool {
    let Ok(found) = rustix::fs::statvfs(work_dir) else {
        return false;
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    free.saturating_sub(BYTES_SPARED) > size_bytes
}

/// Writes the dump into an unnamed file, of which nothing is left whatever happens to this process.
async fn spool(source: &Source<'_>, worker: &Worker) -> Result<std::io::Result<File>, JobError> {
    let mut reading = archive::open(
        &worker.storage,
        &*worker.keyring,
        &source.manifest.archive,
        &source.manifest.dump,
    )
    .await?;
    let file = match tempfile::tempfile_in(&worker.work_dir) {
        Ok(file) => file,
        Err(error) => return Ok(Err(error)),
    };
    let mut writing = tokio::fs::File::from_std(file);
    let mut pass = worker.progress.pass();
    while let Some(chunk) = reading.next().await {
        if let Err(error) = writing.write_all(&chunk).await {
            return Ok(Err(error));
        }
        pass.add(chunk.len() as u64);
    }
    if let Err(error) = writing.flush().await {
        return Ok(Err(error));
    }
    reading.finish().await?;
    Ok(Ok(writing.into_std().await))
}

/// Streams the dump into the tool, and waits for its verdict. A tool that leaves out data may stop reading before the
/// end.
pub(super) async fn pour(
    mut reading: Reading,
    mut tool: Tool,
    leaves_out_data: bool,
    worker: &Worker,
) -> Result<(), JobError> {
    let mut pipe = tool.take_stdin().map_err(cannot_wait)?;
    widen(&pipe);
    let mut takes_more = true;
    let mut pass = worker.progress.pass();
    while takes_more && let Some(chunk) = reading.next().await {
        pass.add(chunk.len() as u64);
        // A tool that stops reading has failed, or leaves out the rest. Its exit status tells.
        takes_more = pipe.write_all(&chunk).await.is_ok();
    }
    if takes_more && let Err(damaged) = reading.finish().await {
        // The tool never got the last chunk, so it cannot commit.
        let _killed = tool.kill().await;
        return Err(damaged);
    }
    drop(pipe);
    match verdict(tool).await {
        Ok(()) if !takes_more && !leaves_out_data => Err(JobError::Stopped { what: "pg_restore" }),
        verdict => verdict,
    }
}

pub(super) async fn verdict(tool: Tool) -> Result<(), JobError> {
    let exit = tool.finish().await.map_err(cannot_wait)?;
    if exit.success {
        Ok(())
    } else {
        Err(JobError::Postgres(PostgresError::RestoreFailed {
            status: exit.status,
            stderr: exit.stderr,
        }))
    }
}

fn cannot_wait(source: std::io::Error) -> JobError {
    JobError::Io {
        doing: "run pg_restore",
        source,
    }
}

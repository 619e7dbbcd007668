//! Dumps a database from one consistent snapshot, streams the dump into an upload, and accepts it only if everything
//! agrees.

use std::{collections::BTreeMap, ffi::OsString, path::Path};

use chrono::{DateTime, Utc};
use sqlx::{Executor as _, PgConnection};
use tokio::{process::ChildStdout, sync::oneshot};

use super::{
    foresight, properties,
    session::{self, Found, Looks, answer},
};
use crate::{
    archive::{self, Measured, SealError, Sealed},
    clients::Client,
    contents::{Contents, Item, Recorded},
    engine::{address::postgres::Address, answer::Dumped},
    error::{JobError, PostgresError},
    format::{
        FormatError, Inspect,
        pg_dump::{Keep, Scanner, Summary},
    },
    manifest::{Consistency, Details},
    process::Tool,
    storage::{Unpublished, Upload},
    worker::Worker,
};

/// The format's name in manifests.
pub(crate) const FORMAT: &str = "pg_dump custom";
/// Less than the smallest dump: that of an empty database has about 1000 bytes.
const FLOOR_BYTES: u64 = 512;
/// The oldest server whose dump format can be checked.
const MAJOR_OLDEST: u32 = 10;
/// The capacity of a pipe between two processes: with a large one, hand-overs are fewer and larger.
const PIPE_BYTES: usize = 1024 * 1024;

/// How many of the tool's warnings are kept, and how many characters of each.
const WARNINGS_KEPT: usize = 20;
const WARNING_CHARS: usize = 500;

/// Dumps the database at `address` into `key`. A failure leaves no object.
pub(crate) async fn dump(
    address: &Address,
    key: &str,
    worker: &Worker,
) -> Result<Dumped, JobError> {
    let mut found = session::connect_to_read(address).await?;
    let may_try_primary =
        address.may_leave_standby() && session::is_standby(&mut found.session).await?;
    match Box::pin(dump_there(found, key, worker)).await {
        // A standby cancels a query that reads rows which its replay has to remove. The message is in the server's
        // language, so any failure counts.
        Err(
            error @ (JobError::Postgres(PostgresError::DumpFailed { .. })
            | JobError::Unreachable { .. }),
        ) if may_try_primary && !error.is_permanent() => {
            tracing::warn!(error = %error.report(), "the dump failed on the standby: trying the primary");
            match session::connect_to_read(&address.primary_only()).await {
                Ok(found) => Box::pin(dump_there(found, key, worker)).await,
                Err(_) => Err(error),
            }
        }
        dumped => dumped,
    }
}

async fn dump_there(found: Found, key: &str, worker: &Worker) -> Result<Dumped, JobError> {
    let Found {
        mut session,
        looks,
        address,
    } = found;
    let version = session::server_version(&mut session).await?;
    if version.major < MAJOR_OLDEST {
        return Err(JobError::Postgres(PostgresError::ServerTooOld {
            major: version.major,
        }));
    }
    let client = worker.tools.client("pg_dump", version.major)?;
    let is_superuser = session::is_superuser(&mut session).await?;
    let snapshot = Snapshot::take(session, address.database()).await?;
    let (consistent_at, extensions) = (snapshot.consistent_at, snapshot.extensions.clone());
    let properties = snapshot.properties.clone();
    let mut warnings = of_the_role(is_superuser);
    warnings.extend(snapshot.warnings.clone());
    let flow = Flow::start(&address, client, snapshot, looks, &worker.work_dir)?;
    let flowed = flow.into_upload(worker.storage.upload(key), worker).await;
    let (flowed, object) = match flowed {
        Err(JobError::Postgres(PostgresError::DumpFailed { status, stderr })) => {
            return Err(explained(status, stderr, &address).await);
        }
        flowed => flowed?,
    };
    warnings.extend(flowed.warnings);
    Ok(Dumped {
        format: FORMAT,
        consistent_at,
        consistency: Consistency::Snapshot,
        warnings,
        suspicions: Vec::new(),
        object,
        items: flowed.items,
        recorded: flowed.recorded,
        server_version: format!("PostgreSQL {}", version.text),
        tool_version: client.dump_version.clone(),
        details: Details::Postgres {
            database: address.database().to_owned(),
            server_major: version.major,
            tables: flowed.summary.tables,
            extensions,
            properties,
            superuser: is_superuser,
        },
        dump: flowed.dump,
        archive: flowed.archive,
    })
}

/// Returns a warning about what a restore through the same URL will meet.
fn of_the_role(is_superuser: bool) -> Vec<String> {
    let as_superuser = "the URL's role is a superuser: a restore through it runs the customer's own functions as a \
                        superuser, and needs `as_superuser` (--as-superuser); use a role that owns the database for both";
    is_superuser
        .then(|| as_superuser.to_owned())
        .into_iter()
        .collect()
}

/// Returns why the tool failed, with what the server can add.
async fn explained(status: String, stderr: String, address: &Address) -> JobError {
    let failed = JobError::Postgres(PostgresError::DumpFailed { status, stderr });
    if !failed.to_string().contains("due to lock timeout") {
        return failed;
    }
    let Ok(mut session) = session::connect(address).await else {
        return failed;
    };
    match foresight::prepared_transactions(&mut session).await {
        Ok(Some(names)) => JobError::Postgres(PostgresError::PreparedTransactions { names }),
        Ok(None) | Err(_) => failed,
    }
}

/// A dump that has been streamed into its upload and is accepted.
struct Flowed {
    dump: Measured,
    archive: Measured,
    items: Contents,
    recorded: Option<Recorded>,
    summary: Summary,
    warnings: Vec<String>,
}

/// Our own transaction, whose snapshot the tool shares, and what was read in it.
struct Snapshot {
    session: PgConnection,
    id: String,
    consistent_at: DateTime<Utc>,
    extensions: BTreeMap<String, String>,
    properties: BTreeMap<String, String>,
    /// What a restore may trip over.
    warnings: Vec<String>,
}

impl Snapshot {
    async fn take(mut session: PgConnection, database: &str) -> Result<Self, JobError> {
        let doing = "take a snapshot";
        // All of this is asked before the snapshot is taken, so it is never later than what the snapshot shows. A
        // standby shows what was committed on the primary at the time of the last replayed transaction, whatever the
        // time is now. The clock of its primary may be ahead of ours.
        let replayed_to = foresight::replayed_to(&mut session).await?;
        let now = Utc::now();
        let consistent_at = replayed_to.map_or(now, |replayed| replayed.min(now));
        let begin = "begin isolation level repeatable read read only";
        answer(doing, session.execute(begin)).await?;
        let export = sqlx::query_scalar("select pg_export_snapshot()").fetch_one(&mut session);
        let id = answer(doing, export).await?;
        foresight::refuse_hidden_rows(&mut session).await?;
        Ok(Self {
            id,
            consistent_at,
            extensions: session::extensions(&mut session).await?,
            properties: properties::read(&mut session, database)
                .await?
                .unwrap_or_default(),
            warnings: foresight::functions_by_search_path(&mut session).await?,
            session,
        })
    }
}

/// The tool, and everything that must live as long as it does.
struct Flow {
    tool: Tool,
    pipe: ChildStdout,
    session: PgConnection,
    /// Which the dump names without their versions.
    extensions: BTreeMap<String, String>,
    _password: tempfile::NamedTempFile,
}

impl Flow {
    fn start(
        address: &Address,
        client: &Client,
        snapshot: Snapshot,
        looks: Looks,
        work_dir: &Path,
    ) -> Result<Self, JobError> {
        let password = address
            .password_file(work_dir)
            .map_err(|source| JobError::Io {
                doing: "write a password file",
                source,
            })?;
        let args: [OsString; 5] = [
            "--format=custom".into(),
            // Our own compression is faster, and the same for all engines.
            "--compress=0".into(),
            format!("--snapshot={}", snapshot.id).into(),
            "--lock-wait-timeout=300000".into(),
            "--no-password".into(),
        ];
        let program = client.pg_dump();
        let mut environment = address.environment(password.path(), client.major);
        // If a dump that waits for a lock is killed, its backend would otherwise keep waiting, and block the customer's
        // own schema changes.
        environment.extend(looks.environment_with("-c bytea_output=hex"));
        // So that values are printed the same on any server.
        environment.push(("PGTZ", "UTC".into()));
        let cannot_start = |source| {
            JobError::Postgres(PostgresError::ToolStart {
                tool: program.display().to_string(),
                source,
            })
        };
        let mut tool =
            Tool::start(&program, &args, &environment, address.secrets()).map_err(cannot_start)?;
        let pipe = tool.take_stdout().map_err(cannot_start)?;
        widen(&pipe);
        Ok(Self {
            tool,
            pipe,
            session: snapshot.session,
            extensions: snapshot.extensions,
            _password: password,
        })
    }

    /// Streams the dump into the upload, and finishes the upload if exit status, format and size agree that the dump is
    /// whole.
    async fn into_upload(
        self,
        upload: Upload,
        worker: &Worker,
    ) -> Result<(Flowed, Unpublished), JobError> {
        let (flowing, flows) = oneshot::channel();
        let on_first_chunk = move || drop(flowing);
        let recorder = recording(self.extensions);
        let sealing = archive::seal(
            archive::in_chunks(self.pipe),
            recorder,
            worker.encrypt_to.clone(),
            upload.writer(),
            worker.progress.clone(),
            on_first_chunk,
        );
        let ending = async {
            // The tool imports the snapshot before it writes anything. Once it writes, our transaction would only hold
            // back vacuum.
            let _dropped_to_say_so: Result<(), _> = flows.await;
            session::close(self.session).await;
        };
        let (sealed, ()) = tokio::join!(sealing, ending);
        match believe(sealed, self.tool, upload).await {
            Ok((flowed, upload)) => Ok((flowed, upload.finish().await?)),
            Err(error) => Err(error),
        }
    }
}

/// Checks a dump that has ended. On any doubt the upload is aborted before this returns.
async fn believe(
    sealed: Result<Sealed<Summary>, SealError>,
    tool: Tool,
    upload: Upload,
) -> Result<(Flowed, Upload), JobError> {
    let doubt = match sealed {
        Ok(sealed) => match judge(sealed, tool).await {
            Ok(flowed) => return Ok((flowed, upload)),
            Err(doubt) => doubt,
        },
        Err(stopped) => {
            // Nobody reads its output any more, so its exit status means nothing.
            let _killed = tool.kill().await;
            match stopped {
                SealError::Io(source) => JobError::Io {
                    doing: "read the dump",
                    source,
                },
                SealError::Refused(format) => JobError::of_dump(format),
                SealError::TooLarge { limit_bytes } => JobError::DumpTooLarge { limit_bytes },
                SealError::Stopped => JobError::Stopped {
                    what: "the compression",
                },
                SealError::Upload => match upload.finish().await {
                    Err(error) => return Err(error),
                    Ok(object) => {
                        object.remove().await;
                        return Err(JobError::Stopped { what: "the upload" });
                    }
                },
            }
        }
    };
    upload.abort().await;
    Err(doubt)
}

async fn judge(sealed: Sealed<Summary>, tool: Tool) -> Result<Flowed, JobError> {
    let exit = tool.finish().await.map_err(|source| JobError::Io {
        doing: "wait for pg_dump",
        source,
    })?;
    if !exit.success {
        return Err(JobError::Postgres(PostgresError::DumpFailed {
            status: exit.status,
            stderr: error_first(&exit.stderr),
        }));
    }
    let summary = sealed.contents.map_err(JobError::of_dump)?;
    if sealed.dump.size_bytes < FLOOR_BYTES {
        return Err(JobError::DumpTooSmall {
            size_bytes: sealed.dump.size_bytes,
            floor_bytes: FLOOR_BYTES,
        });
    }
    Ok(Flowed {
        dump: sealed.dump,
        archive: sealed.archive,
        items: sealed.items,
        recorded: sealed.recorded,
        summary,
        warnings: warnings(&exit.stderr),
    })
}

/// Returns the warnings of a tool that succeeded, each with its details and hints.
fn warnings(stderr: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in stderr.lines() {
        let told = |prefixes: &[&str]| {
            let mut told = prefixes.iter().filter_map(|it| line.strip_prefix(it));
            told.next().map(str::trim)
        };
        if let Some(warning) = told(&["pg_dump: warning: ", "WARNING: "]) {
            if found.len() == WARNINGS_KEPT {
                found.push("pg_dump gave more warnings, which were not kept".to_owned());
                break;
            }
            found.push(format!("pg_dump: {warning}"));
        } else if let (Some(more), Some(last)) = (
            told(&["pg_dump: detail: ", "pg_dump: hint: ", "DETAIL: ", "HINT: "]),
            found.last_mut(),
        ) {
            last.push_str("; ");
            last.push_str(more);
        }
    }
    let short = |warning: String| warning.chars().take(WARNING_CHARS).collect();
    found.into_iter().map(short).collect()
}

/// Returns the tool's messages from its error on, which names the table, followed by the messages before it.
fn error_first(stderr: &str) -> String {
    let lines: Vec<&str> = stderr.lines().collect();
    let is_error = |line: &&str| line.starts_with("pg_dump: error: ");
    let (before, from_error) = lines.split_at(lines.iter().position(is_error).unwrap_or(0));
    [from_error, before].concat().join("\n")
}

/// Returns a reader that checks a whole dump, up to its end marker.
pub(crate) fn whole() -> impl Inspect {
    Scanner::new(Keep::Nothing)
}

/// Returns a reader that checks a whole dump as [`whole`] does, and records what it holds, these extensions included.
pub(crate) fn recording(extensions: BTreeMap<String, String>) -> impl Inspect<Contents = Summary> {
    Recorder {
        scanner: Scanner::new(Keep::Contents),
        extensions,
    }
}

struct Recorder {
    scanner: Scanner,
    extensions: BTreeMap<String, String>,
}

impl Inspect for Recorder {
    type Contents = Summary;

    fn inspect(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        Ok(self.scanner.feed(bytes)?)
    }

    fn contents(&mut self) -> Contents {
        let mut contents = self.scanner.contents();
        let extensions = std::mem::take(&mut self.extensions).into_iter();
        contents
            .items
            .extend(extensions.map(|(name, version)| Item {
                value: Some(version),
                ..Item::new("extension", name)
            }));
        contents
    }

    fn finish(self) -> Result<Summary, FormatError> {
        Ok(self.scanner.finish()?)
    }
}

impl Inspect for Scanner {
    type Contents = Summary;

    fn inspect(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        Ok(self.feed(bytes)?)
    }

    fn finish(self) -> Result<Summary, FormatError> {
        Ok(Self::finish(self)?)
    }
}

/// Enlarges a pipe where the system supports that, and leaves it alone elsewhere.
pub(super) fn widen(pipe: &impl std::os::fd::AsFd) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES) {
        tracing::debug!(%error, "the pipe could not be enlarged");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (pipe, PIPE_BYTES);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guards against losing the warnings of a tool that succeeds all the same.
    #[test]
    fn warnings_are_kept_with_what_explains_them() {
        let said = "pg_dump: warning: there are circular foreign-key constraints on this table:\n\
                    pg_dump: detail: node\n\
                    pg_dump: hint: Consider using a full dump.\n\
                    pg_dump: last built-in OID is 16383\n\
                    WARNING:  subscriptions not dumped because current user is not a superuser\n";
        assert_eq!(
            warnings(said),
            [
                "pg_dump: there are circular foreign-key constraints on this table:; node; Consider using a full dump.",
                "pg_dump: subscriptions not dumped because current user is not a superuser",
            ]
        );
        assert_eq!(warnings(&"pg_dump: warning: x\n".repeat(99)).len(), 21);
        assert!(warnings(&format!("WARNING:  {}", "x".repeat(9999)))[0].len() <= WARNING_CHARS);
        assert!(warnings("").is_empty());
    }
}

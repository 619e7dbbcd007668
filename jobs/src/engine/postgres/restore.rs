//! Restores into the requested database, in the way that does the least harm.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::{
    fill::{Target, fill},
    mark, names,
    session::{self, answer},
    swap,
};
use crate::{
    archive,
    attempt::{Attempt, RunId},
    engine::{
        address::postgres::Address,
        answer::{Contents, Restored},
    },
    error::{JobError, PostgresError},
    format::{
        FormatError, Inspect,
        pg_dump::{Entry, Keep, Scanner, Summary},
    },
    job::{DropReplaced, Restore, RestoreTarget},
    manifest::{Details, Manifest},
    worker::Worker,
};

/// A verified archive: what its manifest and its table of contents say.
pub(super) struct Source<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) server_major: u32,
    pub(super) extensions: &'a BTreeMap<String, String>,
    pub(super) properties: &'a BTreeMap<String, String>,
    pub(super) summary: Summary,
    pub(super) entries: Vec<Entry>,
}

impl<'a> Source<'a> {
    /// Verifies all stored bytes, and reads the table of contents.
    pub(super) async fn verify(manifest: &'a Manifest, worker: &Worker) -> Result<Self, JobError> {
        let Details::Postgres {
            server_major,
            extensions,
            properties,
            ..
        } = &manifest.details
        else {
            return Err(other_engine(manifest));
        };
        let contents = TableOfContents(Scanner::new(Keep::Entries));
        let (summary, entries) = archive::verify(
            &worker.storage,
            &*worker.keyring,
            &manifest.archive,
            contents,
        )
        .await?;
        Ok(Self {
            manifest,
            server_major: *server_major,
            extensions,
            properties,
            summary,
            entries,
        })
    }

    /// Reports a finished restore.
    pub(super) fn restored(
        &self,
        database: &str,
        kept: Option<String>,
        notes: Vec<String>,
    ) -> Restored {
        Restored {
            database: database.to_owned(),
            kept,
            contents: Contents::Postgres {
                tables: self.summary.tables,
            },
            dump_bytes: self.manifest.dump.size_bytes,
            notes,
        }
    }
}

/// Restores the restore point that `manifest` describes to the target in `job`.
pub(crate) async fn restore(
    attempt: Attempt,
    own: &Address,
    job: &Restore,
    manifest: &Manifest,
    target: Option<&Address>,
    worker: &Worker,
) -> Result<Restored, JobError> {
    match &job.target {
        RestoreTarget::Own {} | RestoreTarget::InPlace { merge: true, .. } => {
            Err(JobError::NotThisWay {
                engine: manifest.engine,
                how: "into its own database by adding to it",
                instead: "let it swap with a fresh database, restore into an empty one, or restore in place",
            })
        }
        RestoreTarget::Swap {} => swap::swap(attempt, own, job, manifest, worker).await,
        RestoreTarget::Database { name } => {
            if is_the_servers_own(name) {
                return Err(JobError::Postgres(PostgresError::NotATarget {
                    database: name.clone(),
                }));
            }
            let target = own.with_database(name);
            if job.of_owner {
                belongs_to_the_same(own, &target).await?;
            }
            into_empty(attempt, &target, job, manifest, worker).await
        }
        RestoreTarget::Reference { .. } => {
            let target = target.ok_or(JobError::NoTargetUrl)?;
            // `postgres` is allowed here: on managed services a customer's database may have that name.
            if is_template(target.database()) {
                return Err(JobError::Postgres(PostgresError::NotATarget {
                    database: target.database().to_owned(),
                }));
            }
            into_empty(attempt, target, job, manifest, worker).await
        }
        RestoreTarget::InPlace { merge: false, .. } => in_place(own, job, manifest, worker).await,
    }
}

/// Returns whether every server has a database of this name: restored data there would be in everybody's way.
fn is_the_servers_own(database: &str) -> bool {
    is_template(database) || database == "postgres"
}

fn is_template(database: &str) -> bool {
    matches!(database, "template0" | "template1")
}

/// Fails unless the target and the resource's own database have the same owner. Otherwise a caller could learn what
/// other customers' databases hold.
async fn belongs_to_the_same(own: &Address, target: &Address) -> Result<(), JobError> {
    let mut admin = swap::connect_beside(own).await?;
    // If the resource's own database is gone, the role counts as its owner, unless it is a superuser.
    let question = "select coalesce(target.datdba = coalesce(own.datdba, role.oid), false) \
        from pg_database target left join pg_database own on own.datname = $1 \
        left join pg_roles role on role.rolname = current_user and not role.rolsuper where target.datname = $2";
    let belongs = sqlx::query_scalar::<_, bool>(question)
        .bind(own.database())
        .bind(target.database())
        .fetch_optional(&mut admin);
    let belongs = answer("ask for the target's owner", belongs).await?;
    session::close(admin).await;
    if belongs == Some(true) {
        return Ok(());
    }
    Err(JobError::Postgres(PostgresError::OthersDatabase {
        database: target.database().to_owned(),
    }))
}

/// Restores into an empty database, or finds that an earlier attempt of this run has done so.
async fn into_empty(
    attempt: Attempt,
    target: &Address,
    job: &Restore,
    manifest: &Manifest,
    worker: &Worker,
) -> Result<Restored, JobError> {
    let database = target.database();
    let mut session = session::connect(target).await?;
    session::may_run_their_code(&mut session, job).await?;
    let found = contents(&mut session).await?;
    let filled = filled_before(&mut session, attempt, database, manifest).await;
    session::close(session).await;
    match filled? {
        _ if found.is_empty() => {}
        Filled::ByThisRun => return done_before(database, None, manifest),
        Filled::Perhaps => {
            return Err(JobError::PerhapsFilledBefore {
                database: database.to_owned(),
                found: found.join(", "),
            });
        }
        Filled::ByOthers => {
            return Err(JobError::TargetNotEmpty {
                database: database.to_owned(),
                found: found.join(", "),
            });
        }
    }
    let source = Source::verify(manifest, worker).await?;
    alive(worker).await?;
    mark_target(target, attempt).await?;
    let notes = fill(target, &source, Target::Empty, job, worker).await?;
    Ok(source.restored(target.database(), None, notes))
}

/// Who has filled a target that is not empty.
enum Filled {
    /// An earlier attempt of this run: the mark is there, and as many tables as in the dump.
    ByThisRun,
    /// An earlier attempt of this run or somebody else: there is no mark, which this role may not be allowed to set, or
    /// the number of tables differs.
    Perhaps,
    /// Not this run, because this is its first attempt.
    ByOthers,
}

async fn filled_before(
    session: &mut PgConnection,
    attempt: Attempt,
    database: &str,
    manifest: &Manifest,
) -> Result<Filled, JobError> {
    let tables = tables_of(manifest)?;
    let is_marked = mark::is_marked(session, database, attempt.run).await?;
    if is_marked && session::count_tables(session).await? == tables {
        Ok(Filled::ByThisRun)
    } else if is_marked || attempt.epoch.has_predecessor() {
        Ok(Filled::Perhaps)
    } else {
        Ok(Filled::ByOthers)
    }
}

/// Marks the target, so that the next attempt recognises what this one has done. Only an empty database gets the mark.
async fn mark_target(target: &Address, attempt: Attempt) -> Result<(), JobError> {
    let database = target.database();
    let mut session = session::connect(target).await?;
    let found = contents(&mut session).await?;
    if !found.is_empty() {
        return Err(JobError::TargetNotEmpty {
            database: database.to_owned(),
            found: found.join(", "),
        });
    }
    let marked = mark::mark(&mut session, database, attempt.run).await;
    session::close(session).await;
    if !marked? {
        tracing::debug!(%database, "only its owner could mark the target as this run's");
    }
    Ok(())
}

/// Reports a restore that an earlier attempt has done.
pub(super) fn done_before(
    database: &str,
    kept: Option<String>,
    manifest: &Manifest,
) -> Result<Restored, JobError> {
    Ok(Restored {
        database: database.to_owned(),
        kept,
        contents: Contents::Postgres {
            tables: tables_of(manifest)?,
        },
        dump_bytes: manifest.dump.size_bytes,
        notes: vec!["an earlier attempt of this run had already finished the restore".to_owned()],
    })
}

fn tables_of(manifest: &Manifest) -> Result<u64, JobError> {
    match &manifest.details {
        Details::Postgres { tables, .. } => Ok(*tables),
        Details::Mongodb { .. } | Details::Redis { .. } => Err(other_engine(manifest)),
    }
}

/// Returns the error for a manifest of PostgreSQL with the details of another engine.
fn other_engine(manifest: &Manifest) -> JobError {
    JobError::BadManifest {
        key: manifest.archive.key.to_string(),
        why: "its details are not PostgreSQL's".to_owned(),
    }
}

/// Reads a dump's table of contents, and no further.
struct TableOfContents(Scanner);

impl Inspect for TableOfContents {
    type Contents = (Summary, Vec<Entry>);

    fn inspect(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        Ok(self.0.feed(bytes)?)
    }

    fn is_satisfied(&self) -> bool {
        self.0.has_contents()
    }

    fn finish(self) -> Result<Self::Contents, FormatError> {
        if !self.0.has_contents() {
            self.0.finish()?;
            return Err(FormatError::CheckStopped);
        }
        Ok(self.0.into_contents())
    }
}

/// Restores over existing data. Idempotent: every attempt starts again and ends in the same state.
async fn in_place(
    target: &Address,
    job: &Restore,
    manifest: &Manifest,
    worker: &Worker,
) -> Result<Restored, JobError> {
    let source = Source::verify(manifest, worker).await?;
    alive(worker).await?;
    let mut notes = fill(target, &source, Target::InUse, job, worker).await?;
    notes.push("objects that the dump does not have were left as they were".to_owned());
    Ok(source.restored(target.database(), None, notes))
}

/// Fails if another attempt may have taken over the run.
pub(super) async fn alive(worker: &Worker) -> Result<(), JobError> {
    if worker.lease.is_alive().await {
        Ok(())
    } else {
        Err(JobError::LeaseLost)
    }
}

/// Returns a few of the user's objects in a database, such as `table public.orders`.
async fn contents(session: &mut PgConnection) -> Result<Vec<String>, JobError> {
    let question = include_str!("contents.sql");
    let found = sqlx::query_scalar::<_, String>(question).fetch_all(session);
    answer("check whether the target is empty", found).await
}

/// Returns the statement that opens a database.
pub(crate) fn to_open_by_hand(database: &str) -> String {
    session::allow_connections(database, true)
}

/// Opens a database that the exchange of a run has closed.
pub(crate) async fn reopen(own: &Address, database: &str, run_id: RunId) -> Result<(), JobError> {
    swap::reopen_after(own, database, run_id).await
}

/// Drops a database that a restore replaced and kept.
pub(crate) async fn drop_replaced(own: &Address, job: &DropReplaced) -> Result<(), JobError> {
    if !names::is_kept(&job.database, own.database()) || job.database == own.database() {
        return Err(JobError::NotKept {
            database: job.database.clone(),
            of: own.database().to_owned(),
        });
    }
    let mut admin = swap::connect_beside(own).await?;
    let major = session::server_version(&mut admin).await?.major;
    let dropped = swap::drop_database(&mut admin, &job.database, major).await;
    session::close(admin).await;
    dropped
}

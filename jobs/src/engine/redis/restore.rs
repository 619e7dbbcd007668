//! Restores over the network: writes each key as the server dumped it, into a server that is empty or to be
//! overwritten.
//!
//! Not atomic: keys arrive one by one, and clients see them arrive. A mark is in the target from before the first key
//! to after the last, to tell a half restored server from a whole one.
//!
//! ```text
//! look at the target → verify the archive → look again, try what it can take → mark → keys → functions → remove others → unmark
//!                   nothing stays written                                     │ a failure from here on leaves it half restored
//! ```

mod batch;
mod encode;
mod fill;
mod pieces;
mod roll;
mod survey;
mod target;
mod tidy;

use self::{
    encode::Counts,
    fill::{Filled, Taken, fill, now_ms},
    roll::Roll,
    survey::Survey,
    target::Target,
};
use super::mark::{self, Marked};
use crate::{
    archive::{self, Pulled},
    attempt::{Attempt, RunId},
    engine::{
        address::redis::Address,
        answer::{Contents, Restored},
    },
    error::{JobError, RedisError},
    job::{Restore, RestoreTarget},
    manifest::{Details, Manifest},
    worker::Worker,
};

/// What happens to existing keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    /// The target must be empty.
    Refused,
    /// The target ends up with exactly the keys of the backup.
    Replaced,
    /// Keys that are not in the backup stay.
    Merged,
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
    let (address, existing) = match &job.target {
        RestoreTarget::Own {} => (own, Existing::Refused),
        RestoreTarget::Reference { .. } => {
            (target.ok_or(JobError::NoTargetUrl)?, Existing::Refused)
        }
        RestoreTarget::InPlace { merge: false, .. } => (own, Existing::Replaced),
        RestoreTarget::InPlace { merge: true, .. } => (own, Existing::Merged),
        RestoreTarget::Swap {} => {
            return Err(JobError::NotThisWay {
                engine: manifest.engine,
                how: "by swapping",
                instead: "restore into its own server once that is empty, into another empty server, or in place",
            });
        }
        RestoreTarget::Database { .. } => {
            return Err(JobError::NotThisWay {
                engine: manifest.engine,
                how: "into a database by name",
                instead: "a restore always covers all databases of a server: name another, empty server by a secret \
                          reference",
            });
        }
    };
    into(address, existing, attempt, manifest, worker).await
}

/// What is to be written, and how.
struct Plan<'a> {
    run: RunId,
    /// The name of the key that marks the target in the meantime.
    mark: &'static str,
    existing: Existing,
    manifest: &'a Manifest,
    survey: Survey,
    worker: &'a Worker,
}

async fn into(
    address: &Address,
    existing: Existing,
    attempt: Attempt,
    manifest: &Manifest,
    worker: &Worker,
) -> Result<Restored, JobError> {
    made_by_this_engine(manifest)?;
    let server = shown(address);
    // Checked before the archive is read, which takes long, and again after it.
    let found = Target::look(address, attempt.run).await?;
    admit(&found, existing, attempt, &server)?;
    drop(found);
    let now_ms = now_ms();
    let inspector = Pulled::start(move |dump| survey::take(dump, now_ms));
    let survey = archive::verify(
        &worker.storage,
        &*worker.keyring,
        &manifest.archive,
        inspector,
    )
    .await?;
    let mut target = Target::look(address, attempt.run).await?;
    admit(&target, existing, attempt, &server)?;
    target.can_take(&survey, existing, attempt.run).await?;
    alive(worker).await?;

    let mark = target.marks.free_name(&survey.own_marks)?;
    let mut plan = Plan {
        run: attempt.run,
        mark,
        existing,
        manifest,
        survey,
        worker,
    };
    let taken = Taken::default();
    let written = write(&mut target, &mut plan, &taken).await;
    let (counts, removed_keys) = written.map_err(|source| RedisError::HalfRestored {
        server: server.clone(),
        keys: taken.keys(),
        source: Box::new(source),
    })?;
    Ok(Restored {
        database: server,
        kept: None,
        contents: Contents::Redis {
            keys: counts.keys,
            expired_keys: counts.expired,
            removed_keys,
            functions: plan.survey.census.summary.functions,
        },
        dump_bytes: manifest.dump.size_bytes,
        notes: notes(&plan.survey, &target),
    })
}

/// Returns host and port, for people.
fn shown(address: &Address) -> String {
    let (host, port) = (&address.host, address.port);
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Decides whether a server in this state may be written to.
fn admit(
    target: &Target,
    existing: Existing,
    attempt: Attempt,
    server: &str,
) -> Result<(), JobError> {
    match (existing, &target.marks.marked) {
        (Existing::Replaced | Existing::Merged, _)
        // An earlier attempt of this run wrote these keys.
        | (Existing::Refused, Marked::ByThisRun) => return Ok(()),
        (Existing::Refused, Marked::No) if target.is_empty() => return Ok(()),
        (Existing::Refused, Marked::No | Marked::ByAnother(_)) => {}
    }
    let (database, found) = (server.to_owned(), target.found());
    // If there is another run's mark, that run left the keys, not this one.
    if attempt.epoch.has_predecessor() && target.marks.marked == Marked::No {
        Err(JobError::PerhapsFilledBefore { database, found })
    } else {
        Err(JobError::TargetNotEmpty { database, found })
    }
}

/// Writes everything, between setting the mark and removing it. Returns what was written, and how many keys were
/// removed.
async fn write(
    target: &mut Target,
    plan: &mut Plan<'_>,
    taken: &Taken,
) -> Result<(Counts, u64), JobError> {
    let mark = plan.mark;
    mark::set(&mut target.connection, mark, plan.run).await?;
    let roll = match plan.existing {
        Existing::Refused | Existing::Merged => None,
        Existing::Replaced => {
            let keys = plan.survey.census.keys.values().sum();
            Some(Roll::with_capacity(keys))
        }
    };
    let stubs = std::mem::take(&mut plan.survey.stubs);
    let connection = &mut target.connection;
    let filled = fill(connection, plan.manifest, roll, stubs, taken, plan.worker).await?;
    let Filled { counts, roll } = filled;
    alive(plan.worker).await?;
    if target.writes_functions(&plan.survey, plan.existing) {
        target.load_functions(&plan.survey, plan.existing).await?;
    }
    let connection = &mut target.connection;
    let removed = match roll.map(Roll::close) {
        Some(roll) => tidy::remove_others(connection, &roll, mark, plan.worker).await?,
        None => 0,
    };
    // Includes marks of earlier restores, unless the backup has put a customer's key in their place.
    let owned = &plan.survey.own_marks;
    let is_left = |name: &&str| *name != mark && !owned.iter().any(|key| key == name.as_bytes());
    let earlier = target.marks.marks.iter().copied().filter(is_left);
    let marks: Vec<&str> = std::iter::once(mark).chain(earlier).collect();
    tidy::check(connection, &target.server, counts, marks.len() as u64).await?;
    alive(plan.worker).await?;
    mark::remove(connection, &marks).await?;
    Ok((counts, removed))
}

/// Fails if another attempt may have taken over the run.
async fn alive(worker: &Worker) -> Result<(), JobError> {
    if worker.lease.is_alive().await {
        Ok(())
    } else {
        Err(JobError::LeaseLost)
    }
}

fn made_by_this_engine(manifest: &Manifest) -> Result<(), JobError> {
    match &manifest.details {
        Details::Redis { .. } => Ok(()),
        Details::Postgres { .. } | Details::Mongodb { .. } => Err(JobError::BadManifest {
            key: manifest.archive.key.to_string(),
            why: "its details are not Redis's".to_owned(),
        }),
    }
}

/// Returns what the reader should know besides the counts.
fn notes(survey: &Survey, target: &Target) -> Vec<String> {
    let mut notes = Vec::new();
    match &target.marks.marked {
        Marked::ByThisRun => notes.push(
            "an earlier attempt of this run had begun the restore: this one wrote every key again"
                .to_owned(),
        ),
        Marked::ByAnother(run) => {
            notes.push(format!(
                "the target was half restored by run {run}, which did not finish"
            ));
        }
        Marked::No => {}
    }
    if survey.census.has_mark {
        notes.push(
            "the backup was made while a restore into its server was running or had failed, and may hold only part of the \
             keys: the mark of that restore was left out"
                .to_owned(),
        );
    }
    let summary = &survey.census.summary;
    let lost = [
        (
            summary.module_aux,
            "pieces of data that modules keep beside the keys",
        ),
        (
            survey.without_stub,
            "streams have consumer groups too large to be written whole: their pending entries of deleted messages, and \
             idempotency ids,",
        ),
    ];
    for (count, what) in lost {
        if count > 0 {
            notes.push(format!(
                "{count} {what} were left out: no command can write them"
            ));
        }
    }
    if summary.slot_imports > 0 {
        notes.push(
            "the backup was made while slots were being migrated: their keys may be incomplete"
                .to_owned(),
        );
    }
    notes
}

#[cfg(test)]
mod tests;

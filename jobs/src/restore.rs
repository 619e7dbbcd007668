//! One restore, end to end: verifies the archive, then brings the data back without harming what is there.

pub use crate::engine::{
    answer::{Contents, Restored},
    drop_replaced, reopen, to_open_by_hand,
};
use crate::{
    attempt::Attempt,
    engine::{self, address::Address},
    error::JobError,
    job::{Restore, RestoreTarget},
    manifest::Manifest,
    resource::Resource,
    sought::Sought,
    worker::Worker,
};

/// Restores a restore point into the job's target.
///
/// `target` is the address behind the secret reference of [`crate::job::RestoreTarget::Reference`], and `None` for
/// every other target. The archive's hash is verified before the target is touched.
///
/// Safe to run twice. A second delivery after the swap, or after an empty database was filled, finds the work done. In
/// `PostgreSQL` it finds a mark in the comment on the database, which only the database's owner may set. Without that
/// mark, the second delivery fails with [`JobError::PerhapsFilledBefore`] and changes nothing. A restore in place is
/// done again.
///
/// `PostgreSQL` is all or nothing: the target is filled in one transaction, or is a fresh database that nobody uses
/// yet. A swap that fails leaves the old database under its name and drops the fresh one. A swap that succeeds keeps
/// the old database, open to connections, until [`drop_replaced`].
///
/// MongoDB has no transaction of this size. A target that must be empty carries a mark while it is filled: a failure
/// drops what was made, and after a kill the run's next attempt makes it anew. In place, each collection is made beside
/// the old one, and takes its name only when all are made. An attempt that dies while collections take their names
/// leaves some old and some new ones. Its error says which, and the next attempt finishes.
///
/// A worker that is killed between closing the old database and renaming it leaves it closed. It recorded its intent
/// beforehand ([`crate::worker::Lease::will_close`]): the run's next attempt opens the database before anything else.
/// If no attempt follows, the reader of that record opens the database with [`reopen`].
pub async fn restore(
    attempt: Attempt,
    resource: &Resource,
    job: &Restore,
    sought: &Sought<'_>,
    target: Option<&Address>,
    worker: &Worker,
) -> Result<Restored, JobError> {
    confirm(resource, job)?;
    let manifest = sought.read(&worker.storage).await?;
    recognise(&manifest, resource, job)?;
    engine::restore(attempt, resource, job, &manifest, target, worker).await
}

/// Checks that the request to overwrite a database names the right resource.
fn confirm(resource: &Resource, job: &Restore) -> Result<(), JobError> {
    match &job.target {
        RestoreTarget::InPlace { overwrite, .. } if *overwrite != resource.id => {
            Err(JobError::NotConfirmed {
                expected: resource.id.to_string(),
                given: overwrite.to_string(),
            })
        }
        RestoreTarget::InPlace { .. }
        | RestoreTarget::Swap {}
        | RestoreTarget::Own {}
        | RestoreTarget::Database { .. }
        | RestoreTarget::Reference { .. } => Ok(()),
    }
}

/// Checks that the manifest is the one that the job asks for.
fn recognise(manifest: &Manifest, resource: &Resource, job: &Restore) -> Result<(), JobError> {
    if manifest.run_id.0 != job.point {
        return Err(JobError::OtherPoint {
            what: "run",
            found: manifest.run_id.to_string(),
            expected: job.point.to_string(),
        });
    }
    if manifest.resource_id != resource.id {
        return Err(JobError::OtherPoint {
            what: "resource",
            found: manifest.resource_id.to_string(),
            expected: resource.id.to_string(),
        });
    }
    if manifest.engine != resource.engine {
        return Err(JobError::OtherPoint {
            what: "engine",
            found: manifest.engine.to_string(),
            expected: resource.engine.to_string(),
        });
    }
    Ok(())
}

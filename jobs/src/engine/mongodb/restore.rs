//! A restore to where it was asked for, by the way that harms least.
//!
//! Reads any archive of `mongodump`. Different from `mongorestore`: the whole archive is verified before the first
//! write; the target must be empty, or is replaced collection by collection at the end (`mongorestore --drop` drops each
//! before it reads the first document of it); a document that is refused is a failure; documents that break their
//! collection's validator come back. As with `mongorestore`, collections get new UUIDs, and an index the current version.

mod access;
mod batch;
mod collections;
mod empty;
mod fault;
mod fill;
mod in_place;
mod indexes;
mod insert;
mod mark;
mod metadata;
mod plan;
mod replay;
mod same;
mod source;
mod target;

use secrecy::SecretString;

pub use self::fault::RestoreFault;
pub(super) use self::mark::MARK;
use self::{
    collections::Made,
    plan::{Item, Plan, Shape},
    source::Source,
};
use super::session::{self, Session};
use crate::{
    error::JobError,
    job::{Attempt, Restore, RestoreTarget},
    manifest::Manifest,
    resource::{ReadPreference, Resource},
    restore::{Contents, Restored},
    worker::Worker,
};

/// Where a restore goes.
struct Target {
    session: Session,
    /// The name that the archive's only database gets; `None` where each keeps its own.
    renamed: Option<String>,
}

/// Restores the point that `manifest` describes to where `job` says.
pub(crate) async fn restore(
    attempt: Attempt,
    resource: &Resource,
    job: &Restore,
    manifest: &Manifest,
    target_url: Option<&SecretString>,
    worker: &Worker,
) -> Result<Restored, JobError> {
    let not_this_way = |how, instead| {
        let engine = resource.engine;
        Err(JobError::NotThisWay {
            engine,
            how,
            instead,
        })
    };
    match &job.target {
        RestoreTarget::Swap {} => not_this_way(
            "by swapping with a fresh database",
            "restore into its own database if that is empty, restore into an empty one, or restore in place",
        ),
        RestoreTarget::InPlace { merge: true, .. } => not_this_way(
            "by adding to what is there",
            "leave `merge` (--merge) out: collections that the backup does not have stay in any case",
        ),
        RestoreTarget::Own {} => {
            let target = connect(&resource.url, None, manifest).await?;
            empty::into_empty(attempt, &target, manifest, worker).await
        }
        RestoreTarget::Database { name } => {
            if source::database(manifest)?.is_none() {
                return not_this_way(
                    "into one database",
                    "its backup is of a whole deployment: restore it into another, behind a secret reference",
                );
            }
            target::check_name(name)?;
            let target = connect(&resource.url, Some(name), manifest).await?;
            if job.of_owner && access::is_everywhere(&target.session).await? {
                let database = name.clone();
                return Err(RestoreFault::OthersPerhaps { database }.into());
            }
            empty::into_empty(attempt, &target, manifest, worker).await
        }
        RestoreTarget::Reference { .. } => {
            let url = target_url.ok_or(JobError::NoTargetUrl)?;
            let target = connect(url, None, manifest).await?;
            empty::into_empty(attempt, &target, manifest, worker).await
        }
        RestoreTarget::InPlace { merge: false, .. } => {
            let target = connect(&resource.url, None, manifest).await?;
            in_place::in_place(attempt, &target, manifest, worker).await
        }
    }
}

/// Connects to where writes go. The archive's database gets the given name, else that in the URL.
async fn connect(
    url: &SecretString,
    name: Option<&str>,
    manifest: &Manifest,
) -> Result<Target, JobError> {
    let archived = source::database(manifest)?;
    let session = session::connect(url, Some(ReadPreference::Primary)).await?;
    let renamed = match name.or(session.database.as_deref()) {
        Some(renamed) if archived.is_none() => {
            return Err(RestoreFault::WholeDeployment {
                target: renamed.to_owned(),
            }
            .into());
        }
        renamed => renamed.map(str::to_owned),
    };
    Ok(Target { session, renamed })
}

/// Makes sure that nobody else has the run by now.
async fn alive(worker: &Worker) -> Result<(), JobError> {
    if worker.lease.is_alive().await {
        Ok(())
    } else {
        Err(JobError::LeaseLost)
    }
}

/// Reports a restore that is done.
fn restored(source: &Source<'_>, plan: &Plan, database: Option<&str>, made: Made) -> Restored {
    let databases = plan.databases();
    let mut notes = made.notes;
    // What an earlier attempt had done is as the plan has it.
    let mut items: Vec<Item> = made.items.into_iter().map(|(item, _)| item).collect();
    let is_view = |it: &Item| it.shape == Shape::View;
    if items.is_empty() && plan.oplog.is_none() {
        items.clone_from(&plan.items);
    } else {
        let views = made.views.as_ref().unwrap_or(&plan.items);
        items.extend(views.iter().filter(|it| is_view(it)).cloned());
    }
    if !plan.left_out.is_empty() {
        let left_out = plan.left_out.join(", ");
        notes.push(format!(
            "left out, because only a server itself writes them: {left_out}"
        ));
    }
    if !plan.ours.is_empty() {
        let ours = plan.ours.join(", ");
        notes.push(format!(
            "the backup was made while a restore was at work in it or had failed, and may hold a part of the documents only: \
             what that restore had made for itself was left out: {ours}"
        ));
    }
    Restored {
        database: match database {
            Some(database) => database.to_owned(),
            None => databases.into_iter().collect::<Vec<_>>().join(", "),
        },
        kept: None,
        contents: Contents::Mongodb {
            collections: items.len() as u64,
            documents: items.iter().map(|it| it.documents).sum(),
            indexes: collections::count_indexes(&items, made.indexes_refused),
        },
        dump_bytes: source.manifest.dump.size_bytes,
        notes,
    }
}

#[cfg(test)]
mod tests;

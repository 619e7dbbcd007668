//! Restores to the requested target, in the way that does the least harm.
//!
//! Reads any archive of `mongodump`. It differs from `mongorestore` in four ways:
//!
//! - The whole archive is verified before the first write.
//! - The target must be empty, or is replaced collection by collection at the end. `mongorestore --drop` drops each
//!   collection before it reads the collection's first document.
//! - A document that the server refuses fails the restore.
//! - Documents that violate their collection's validator are restored.
//!
//! As with `mongorestore`, collections get new UUIDs, and indexes the current version.

mod access;
mod batch;
mod collections;
mod empty;
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

use self::{
    collections::Made,
    plan::{Item, Plan, Shape},
    source::Source,
};
pub(super) use self::{
    mark::MARK,
    plan::{AccessOf, Item as RestoredItem, Shape as RestoredShape},
    replay::{Foreseen, Outlook},
    source::oplog_at,
};
use super::session::{self, Session};
use crate::{
    attempt::Attempt,
    engine::{
        address::mongodb::Address,
        answer::{Contents, Restored},
    },
    error::{JobError, RestoreFault},
    job::{Restore, RestoreTarget},
    manifest::Manifest,
    resource::{ReadPreference, ResourceOptions},
    worker::Worker,
};

/// Where a restore goes.
struct Target {
    session: Session,
    /// The new name of the archive's only database; `None` if each database keeps its own.
    renamed: Option<String>,
}

/// Restores the restore point that `manifest` describes to the target in `job`.
pub(crate) async fn restore(
    attempt: Attempt,
    own: &Address,
    options: ResourceOptions,
    job: &Restore,
    manifest: &Manifest,
    target: Option<&Address>,
    worker: &Worker,
) -> Result<Restored, JobError> {
    let options = ResourceOptions {
        read_preference: Some(ReadPreference::Primary),
        ..options
    };
    let not_this_way = |how, instead| {
        let engine = manifest.engine;
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
            "by merging into existing data",
            "leave `merge` (--merge) out: collections that the backup does not have stay in any case",
        ),
        RestoreTarget::Own {} => {
            let target = connect(own, options, None, manifest).await?;
            empty::into_empty(attempt, &target, manifest, worker).await
        }
        RestoreTarget::Database { name } => {
            if source::database(manifest)?.is_none() {
                return not_this_way(
                    "into one database",
                    "its backup is of a whole deployment: restore it into another one, named by a secret reference",
                );
            }
            target::check_name(name)?;
            let target = connect(own, options, Some(name), manifest).await?;
            if job.of_owner && access::is_everywhere(&target.session).await? {
                let database = name.clone();
                return Err(RestoreFault::OthersPerhaps { database }.into());
            }
            empty::into_empty(attempt, &target, manifest, worker).await
        }
        RestoreTarget::Reference { .. } => {
            let target = target.ok_or(JobError::NoTargetUrl)?;
            // What the resource says of its own server says nothing of another.
            let options = ResourceOptions {
                shard: false,
                ..options
            };
            let target = connect(target, options, None, manifest).await?;
            empty::into_empty(attempt, &target, manifest, worker).await
        }
        RestoreTarget::InPlace { merge: false, .. } => {
            let target = connect(own, options, None, manifest).await?;
            in_place::in_place(attempt, &target, manifest, worker).await
        }
    }
}

/// Connects to the server to write to. The archive's database gets the given name, otherwise the one in the URL.
async fn connect(
    address: &Address,
    options: ResourceOptions,
    name: Option<&str>,
    manifest: &Manifest,
) -> Result<Target, JobError> {
    let archived = source::database(manifest)?;
    let session = session::connect(address, options).await?;
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

/// Fails if another attempt may have taken over the run.
async fn alive(worker: &Worker) -> Result<(), JobError> {
    if worker.lease.is_alive().await {
        Ok(())
    } else {
        Err(JobError::LeaseLost)
    }
}

/// Reports a finished restore.
fn restored(source: &Source<'_>, plan: &Plan, database: Option<&str>, made: Made) -> Restored {
    let databases = plan.databases();
    let mut notes = made.notes;
    // If an earlier attempt did the work, the result is what the plan says.
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
            "the backup was made while a restore into its database was running or had failed, and may hold only part of \
             the documents: that restore's own collections were left out: {ours}"
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

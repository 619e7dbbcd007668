//! One restore, end to end: verify the archive, then bring it back without harming what is there.

use secrecy::SecretString;

use crate::{
    engine::{mongodb, postgres, redis},
    error::JobError,
    job::{Attempt, DropReplaced, Restore, RestoreTarget},
    manifest::Manifest,
    resource::{Engine, Resource},
    sought::Sought,
    worker::Worker,
};

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    /// The database that holds the data now.
    pub database: String,
    /// The database that was replaced and kept, if any.
    pub kept: Option<String>,
    /// What was brought back.
    #[serde(flatten)]
    pub contents: Contents,
    /// Bytes of the dump.
    pub dump_bytes: u64,
    /// What the reader should know besides.
    pub notes: Vec<String>,
}

/// What a restore brought back, in its engine's words.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum Contents {
    /// `PostgreSQL`.
    Postgres {
        /// Tables.
        tables: u64,
    },
    /// MongoDB.
    Mongodb {
        /// Collections, views and time-series.
        collections: u64,
        /// Documents.
        documents: u64,
        /// Indexes, those on `_id` included.
        indexes: u64,
    },
    /// Redis and Valkey.
    Redis {
        /// Keys written.
        keys: u64,
        /// Keys left out, because they had expired by then.
        expired_keys: u64,
        /// Keys removed, because the backup does not have them.
        removed_keys: u64,
        /// Function libraries.
        functions: u64,
    },
}

/// Restores a point.
///
/// `target_url` is the resolved secret reference of [`crate::job::RestoreTarget::Reference`], else `None`.
/// Safe to run twice. A second delivery after the swap, or after a database that was empty was filled, finds it done;
/// in `PostgreSQL` by a mark in the comment on the database, which only its owner may set: without it, the second delivery
/// fails with [`JobError::PerhapsFilledBefore`] and changes nothing. In place it is done once more.
///
/// The archive's hash is verified before the target is touched. `PostgreSQL` is all or nothing: the target is filled in one
/// transaction, or is a fresh database that nobody uses yet. A swap that fails leaves the old database under its name, and the fresh one dropped. What it replaced
/// is kept, open to connections, until [`drop_replaced`].
///
/// MongoDB has no transaction for so much. A target that must be empty carries a mark while it is filled: a failure
/// drops what was made, and after a kill the run's next attempt makes it anew. In place, each collection is made beside the
/// old one and takes its name at the end, when all are made. An attempt that dies while they take their names leaves some
/// of both; its error says which, and the next attempt finishes.
///
/// A worker that is killed in the moment between closing the old database and renaming it leaves it closed. It has written that down
/// before ([`crate::worker::Lease::will_close`]): the run's next attempt opens the database first of all, and where none comes,
/// whoever reads the record does, by [`reopen`].
pub async fn restore(
    attempt: Attempt,
    resource: &Resource,
    job: &Restore,
    sought: &Sought<'_>,
    target_url: Option<SecretString>,
    worker: &Worker,
) -> Result<Restored, JobError> {
    confirm(resource, job)?;
    let manifest = sought.read(&worker.storage).await?;
    recognise(&manifest, resource, job)?;
    match resource.engine {
        Engine::Postgres | Engine::Vector => {
            let target_url = target_url.as_ref();
            postgres::restore::restore(attempt, resource, job, &manifest, target_url, worker).await
        }
        Engine::Mongodb => {
            let target_url = target_url.as_ref();
            Box::pin(mongodb::restore::restore(
                attempt, resource, job, &manifest, target_url, worker,
            ))
            .await
        }
        Engine::Redis => {
            let target_url = target_url.as_ref();
            Box::pin(redis::restore::restore(
                attempt, resource, job, &manifest, target_url, worker,
            ))
            .await
        }
    }
}

/// Drops a database that a restore of this resource replaced and kept. Dropping what is gone already succeeds.
///
/// Ends the sessions that are in it. Only names that such a restore gives are dropped.
pub async fn drop_replaced(resource: &Resource, job: &DropReplaced) -> Result<(), JobError> {
    match resource.engine {
        Engine::Postgres | Engine::Vector => postgres::restore::drop_replaced(resource, job).await,
        Engine::Mongodb | Engine::Redis => Err(JobError::NotKept {
            database: job.database.clone(),
            of: resource.id.to_string(),
        }),
    }
}

/// Returns the statement that opens a database which a restore left closed.
#[must_use]
pub fn to_open_by_hand(database: &str) -> String {
    postgres::restore::to_open_by_hand(database)
}

/// Lets connections into a database again that a restore of `run_id` has closed, and that no worker has any more.
///
/// What that worker's sessions still wait to do is ended first. Where the exchange came to its end, nothing is left to do.
pub async fn reopen(
    resource: &Resource,
    database: &str,
    run_id: uuid::Uuid,
) -> Result<(), JobError> {
    match resource.engine {
        Engine::Postgres | Engine::Vector => {
            postgres::restore::reopen(resource, database, run_id).await
        }
        // They close nothing.
        Engine::Mongodb | Engine::Redis => Ok(()),
    }
}

/// Makes sure that whoever asked to overwrite a database knew which one.
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

/// Makes sure that the manifest is the one that was asked for.
fn recognise(manifest: &Manifest, resource: &Resource, job: &Restore) -> Result<(), JobError> {
    if manifest.run_id != job.point {
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

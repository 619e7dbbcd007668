//! Dispatch: sends each request to the engine of the resource it is about.

pub mod address;
pub mod answer;
pub mod contents;
pub mod mongodb;
mod native;
pub mod postgres;
pub mod redis;
mod tls;

use self::{
    address::Address,
    answer::{Dumped, Restored},
};
use crate::{
    attempt::{Attempt, RunId},
    clients::Toolbox,
    error::JobError,
    job::{DropReplaced, Restore},
    manifest::Manifest,
    names::Engine,
    resource::Resource,
    worker::Worker,
};

/// One engine that this worker can serve, as its consumer registers it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Capability {
    /// The engine.
    pub engine: Engine,
    /// The kinds of run: `backup` and `restore`.
    pub operations: Vec<String>,
    /// The tools behind it, e.g. `pg_dump (PostgreSQL) 18.6 in /usr/lib/postgresql/18/bin`, or the protocols and
    /// formats that this build speaks itself.
    pub tools: Vec<String>,
}

/// Returns what this worker can do with these tools.
///
/// An engine that needs tools has no entry if none were found.
#[must_use]
pub fn capabilities(tools: &Toolbox) -> Vec<Capability> {
    let tools_of = |engine| match engine {
        Engine::Postgres | Engine::Vector => tools.shown(),
        Engine::Mongodb => mongodb::protocols(),
        Engine::Redis => redis::protocols(),
    };
    let capable = |engine| Capability {
        engine,
        operations: vec!["backup".to_owned(), "restore".to_owned()],
        tools: tools_of(engine),
    };
    let all = Engine::ALL.into_iter().map(capable);
    all.filter(|capability| !capability.tools.is_empty())
        .collect()
}

/// Dumps a resource into an archive with this key. Nothing refers to the archive yet.
pub(crate) async fn dump(
    resource: &Resource,
    key: &str,
    worker: &Worker,
) -> Result<Dumped, JobError> {
    match &resource.address {
        Address::Postgres(server) => postgres::dump::dump(server, key, worker).await,
        Address::Mongodb(server) => {
            Box::pin(mongodb::dump::dump(server, resource.options, key, worker)).await
        }
        Address::Redis(server) => Box::pin(redis::dump::dump(server, key, worker)).await,
    }
}

/// Restores the restore point that a manifest describes.
pub(crate) async fn restore(
    attempt: Attempt,
    resource: &Resource,
    job: &Restore,
    manifest: &Manifest,
    target: Option<&Address>,
    worker: &Worker,
) -> Result<Restored, JobError> {
    match &resource.address {
        Address::Postgres(own) => {
            let target = target.and_then(Address::as_postgres);
            postgres::restore::restore(attempt, own, job, manifest, target, worker).await
        }
        Address::Mongodb(own) => {
            let target = target.and_then(Address::as_mongodb);
            let restoring = mongodb::restore::restore(
                attempt,
                own,
                resource.options,
                job,
                manifest,
                target,
                worker,
            );
            Box::pin(restoring).await
        }
        Address::Redis(own) => {
            let target = target.and_then(Address::as_redis);
            let restoring = redis::restore::restore(attempt, own, job, manifest, target, worker);
            Box::pin(restoring).await
        }
    }
}

/// Drops a database that a restore of this resource replaced and kept.
///
/// Idempotent: succeeds if the database is already gone. Ends the sessions in the database. Refuses any name that such
/// a restore does not give.
pub async fn drop_replaced(resource: &Resource, job: &DropReplaced) -> Result<(), JobError> {
    match &resource.address {
        Address::Postgres(own) => postgres::restore::drop_replaced(own, job).await,
        // These engines never keep a replaced database.
        Address::Mongodb(_) | Address::Redis(_) => Err(JobError::NotKept {
            database: job.database.clone(),
            of: resource.id.to_string(),
        }),
    }
}

/// Returns the SQL statement that opens a database which a restore left closed.
#[must_use]
pub fn to_open_by_hand(database: &str) -> String {
    postgres::restore::to_open_by_hand(database)
}

/// Reopens a database that the restore `run_id` closed and that no worker holds any more.
///
/// First ends the sessions of that worker, so that their pending statements cannot run later. Does nothing if the
/// exchange of the databases had completed.
pub async fn reopen(resource: &Resource, database: &str, run_id: RunId) -> Result<(), JobError> {
    match &resource.address {
        Address::Postgres(own) => postgres::restore::reopen(own, database, run_id).await,
        // These engines never close a database.
        Address::Mongodb(_) | Address::Redis(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_tools_only_what_needs_none_is_promised() {
        let capabilities = capabilities(&Toolbox::only(&[]).await);
        let engines: Vec<_> = capabilities.iter().map(|it| it.engine).collect();
        assert_eq!(engines, [Engine::Mongodb, Engine::Redis]);
    }
}

//! Handles one run: turns the catalog's row into a job, and the job's result into an outcome.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use apalis::prelude::Data;
use lastgood_jobs::{
    backup::{Previous, backup},
    engine::address::{Address, transport::Transport},
    error::{ErrorKind, chain},
    job::{DropReplaced, Job, Restore, RestoreTarget},
    resource::{Resource, ResourceOptions},
    restore::{Restored, drop_replaced, restore},
    storage::Storage,
    worker::Worker,
};
use secrecy::SecretString;

use super::{
    Shared, copy,
    drill::run_drill,
    expire,
    holders::holders,
    judge::{is_shredded, judge, lacking},
    record::{recorded, sought},
    verify,
};
use crate::{
    catalog::{CatalogError, PointRow, ResourceRow, StoredConnection, answered},
    keys::{self, CatalogKeyring},
    nouns::ResourceStatus,
    proof::{NewProof, ProofKind},
    queue::{Failure, Outcome, Run},
    secret::{Reference, SecretError},
};

/// The time limit for reading from the catalog. After it the attempt fails, and another may succeed.
pub(super) const READ_WITHIN: Duration = Duration::from_mins(1);

/// Executes one run.
pub async fn handle(run: Run<Job>, shared: Data<Shared>) -> Result<Outcome, Failure> {
    match &run.args {
        Job::Backup {} => {
            let subject = subject(&run, &shared).await?;
            let team = subject.resource.team.as_str();
            let in_use = answered(READ_WITHIN, shared.catalog.key_in_use(team)).await?;
            let worker = Worker {
                encrypt_to: keys::for_backup(in_use, shared.master_keys.as_ref(), team)?,
                ..worker(&run, &shared)
            };
            let tier = &subject.resource.tier;
            let limit = answered(READ_WITHIN, shared.catalog.maximum_dump_bytes(tier)).await?;
            worker.progress.limit_dump(limit);
            Box::pin(make_backup(&run, subject, &worker)).await
        }
        Job::Restore(job) => {
            let resource = subject(&run, &shared).await?.resource;
            Box::pin(make_restore(&run, job, &resource, &shared)).await
        }
        Job::DropReplaced(job) => drop_database(job, &subject(&run, &shared).await?.resource).await,
        Job::Copy(job) => Box::pin(copy::copy(&run, job, &shared)).await,
        Job::Verify(job) => Box::pin(verify::verify(&run, job, &shared)).await,
        Job::Expire(job) => Box::pin(expire::expire(&run, job, &shared)).await,
        Job::Drill(job) => Box::pin(run_drill(&run, job, &shared)).await,
    }
}

/// Refuses a server that does not have to prove its identity, if the installation requires that.
fn check_transport(address: &Address, shared: &Shared) -> Result<(), Failure> {
    match address.transport().doubt() {
        Some(why) if shared.require_verified_tls => Err(Failure::permanent(
            ErrorKind::Config,
            format!(
                "this installation requires every server to prove who it is (--require-verified-tls), but this connection does not \
                 ask for that: {why}; see docs/explanation/transport.md"
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Returns a job's worker for the primary store.
pub(super) fn worker(run: &Run<Job>, shared: &Shared) -> Worker {
    worker_in(&shared.stores.primary().storage, run, shared)
}

/// Returns a job's worker for one store.
pub(super) fn worker_in(storage: &Storage, run: &Run<Job>, shared: &Shared) -> Worker {
    Worker {
        storage: storage.clone(),
        tools: Arc::clone(&shared.tools),
        work_dir: shared.work_dir.clone(),
        encrypt_to: None,
        keyring: Arc::new(CatalogKeyring {
            catalog: shared.catalog.clone(),
            master: shared.master_keys.clone(),
        }),
        lease: Arc::new(run.lease.clone()),
        progress: Arc::clone(&run.progress),
    }
}

/// The resource that a run is about, as the catalog stores it and as a job takes it.
struct Subject {
    row: ResourceRow,
    newest: Option<PointRow>,
    resource: Resource,
}

async fn subject(run: &Run<Job>, shared: &Shared) -> Result<Subject, Failure> {
    let reading = async {
        let row = shared.catalog.resource(&run.resource_id).await?;
        let connection = shared.catalog.connection(&run.resource_id).await?;
        let newest = shared.catalog.newest_point(&run.resource_id, None).await?;
        Ok((row, connection, newest))
    };
    let (row, connection, newest) = answered(READ_WITHIN, reading).await?;
    let resource = resource(&row, connection, shared).await?;
    // Recorded before the check, so that `status` names refused connections too.
    note_server(&resource, shared).await;
    check_transport(&resource.address, shared)?;
    Ok(Subject {
        row,
        newest,
        resource,
    })
}

/// Records where the resource's server is, for the limit on dumps from one server, and how the connection to it is protected. If this
/// cannot be recorded, the run goes on.
async fn note_server(resource: &Resource, shared: &Shared) {
    let server = resource.address.server();
    let protected = match resource.address.transport() {
        Transport::Verified => "verified",
        Transport::Local => "local",
        Transport::Unverified(why) => why,
    };
    let noting = shared
        .catalog
        .note_server(resource.id.as_str(), server.as_deref(), protected);
    if let Err(error) = answered(READ_WITHIN, noting).await {
        tracing::warn!(
            error = chain(&error),
            "cannot record where the resource's server is"
        );
    }
}

async fn make_backup(
    run: &Run<Job>,
    subject: Subject,
    worker: &Worker,
) -> Result<Outcome, Failure> {
    let Subject {
        row,
        newest,
        resource,
    } = subject;
    // Runs queued when the resource was paused or removed were cancelled; this one was running then, failed and came back.
    let is_unwanted = match row.status {
        ResourceStatus::Removed => true,
        ResourceStatus::Paused => run.slot.is_some(),
        ResourceStatus::Active => false,
    };
    if is_unwanted {
        let message = format!(
            "resource {:?} is {}: it is not backed up",
            row.id, row.status
        );
        return Err(Failure::permanent(ErrorKind::Config, message));
    }
    let previous = newest.map(|point| Previous {
        dump_bytes: point.dump_bytes.unsigned_abs(),
        stored_bytes: point.stored_bytes.unsigned_abs(),
    });
    let point = backup(run.as_attempt(), &resource, previous, worker).await?;
    for warning in &point.manifest.warnings {
        tracing::warn!(warning, "the backup has a warning");
    }
    for suspicion in &point.manifest.suspicions {
        let because = &suspicion.because;
        tracing::error!(
            because,
            "the restore point is suspect: it counts towards no promise"
        );
    }
    Ok(Outcome::RestorePoint(Box::new(point)))
}

async fn make_restore(
    run: &Run<Job>,
    job: &Restore,
    resource: &Resource,
    shared: &Shared,
) -> Result<Outcome, Failure> {
    let point = answered(READ_WITHIN, shared.catalog.point(job.point)).await?;
    if point.resource_id != resource.id.as_str() {
        let message = format!(
            "restore point {} belongs to resource {:?}, not to {:?}",
            job.point,
            point.resource_id,
            resource.id.as_str()
        );
        return Err(Failure::permanent(ErrorKind::Config, message));
    }
    if let (Some(_), Some(because)) = (point.suspected_at, &point.suspected_because) {
        tracing::warn!(
            because,
            "restoring from a suspect restore point, as requested"
        );
    }
    let target = match &job.target {
        RestoreTarget::Reference { reference } => {
            // A permanent failure: somebody is waiting, and retries of a mistyped target would hold up the right one.
            let fails = |error| Failure::permanent(ErrorKind::Config, chain(&error));
            let reference = reference.parse::<Reference>().map_err(fails)?;
            let url = reference.resolve().await.map_err(fails)?;
            Some(Address::parse(resource.engine, &url)?)
        }
        RestoreTarget::Swap {}
        | RestoreTarget::Own {}
        | RestoreTarget::Database { .. }
        | RestoreTarget::InPlace { .. } => None,
    };
    if let Some(target) = &target {
        check_transport(target, shared)?;
    }
    let recorded = recorded(&point)?;
    let sought = sought(&point, &recorded);
    let mut faults = Vec::new();
    for store in holders(&point, shared).await?.all() {
        let began = Instant::now();
        let restored = Box::pin(restore(
            run.as_attempt(),
            resource,
            job,
            &sought,
            target.as_ref(),
            &worker_in(&store.storage, run, shared),
        ))
        .await;
        match restored {
            // The restore read every byte of the dump and the target took it, which proves as much as a verification. If an earlier
            // store could not provide the point, that store remains unproven.
            Ok(restored) => {
                let report = report_from(&store.name, &point, &restored)?;
                let proof = NewProof::restored(point.id, &store.name, began.elapsed()).into();
                return Ok(if faults.is_empty() {
                    Outcome::Proof {
                        point: point.id,
                        stores: vec![store.name.clone()],
                        report,
                        proof,
                    }
                } else {
                    let lacking = lacking(&faults, &point, shared).await;
                    Outcome::Salvaged {
                        lacking,
                        report,
                        proof: Some(proof),
                    }
                });
            }
            Err(error) if error.is_of_the_store() || is_shredded(&error) => {
                tracing::warn!(
                    store = store.name,
                    error = error.report(),
                    "this store cannot provide the restore point"
                );
                faults.push((store, error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(judge(faults, &point, ProofKind::Restore, shared).await)
}

async fn drop_database(job: &DropReplaced, resource: &Resource) -> Result<Outcome, Failure> {
    drop_replaced(resource, job).await?;
    Ok(Outcome::Report(
        serde_json::json!({ "dropped": job.database }),
    ))
}

/// Reports what a restore did, which store it read, and why the point was suspect, if it was.
fn report_from(
    store: &str,
    point: &PointRow,
    restored: &Restored,
) -> Result<serde_json::Value, Failure> {
    let mut report = serde_json::to_value(restored)
        .map_err(|error| Failure::permanent(ErrorKind::Internal, error.to_string()))?;
    if let Some(fields) = report.as_object_mut() {
        fields.insert("store".to_owned(), store.into());
        if let (Some(_), Some(because)) = (point.suspected_at, &point.suspected_because) {
            fields.insert("suspect".to_owned(), because.as_str().into());
        }
    }
    Ok(report)
}

/// Parses the catalog's row and resolves its secret.
pub(super) async fn resource(
    row: &ResourceRow,
    connection: StoredConnection,
    shared: &Shared,
) -> Result<Resource, Failure> {
    let config = |error: String| {
        Failure::permanent(ErrorKind::Config, format!("resource {:?}: {error}", row.id))
    };
    let engine = row
        .engine
        .parse()
        .map_err(|error| config(format!("{error}")))?;
    Ok(Resource {
        id: row.id.parse().map_err(|error| config(format!("{error}")))?,
        team: row
            .team
            .parse()
            .map_err(|error| config(format!("{error}")))?,
        tier: row
            .tier
            .parse()
            .map_err(|error| config(format!("{error}")))?,
        engine,
        address: Address::parse(engine, &url(row, connection, shared).await?)?,
        options: serde_json::from_value::<ResourceOptions>(row.options.clone())
            .map_err(|error| config(format!("cannot read its options: {error}")))?,
    })
}

async fn url(
    row: &ResourceRow,
    connection: StoredConnection,
    shared: &Shared,
) -> Result<SecretString, Failure> {
    let url = match connection {
        StoredConnection::Reference(reference) => reference.parse::<Reference>()?.resolve().await?,
        StoredConnection::Sealed { url, .. } => {
            let keys = shared
                .master_keys
                .as_ref()
                .ok_or(SecretError::NoMasterKey)?;
            keys.open(&row.id, &url)?
        }
    };
    Ok(url)
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        // Retryable: another consumer may have the secret, or this one after a restart. A half-finished roll-out of a secret must not
        // fail runs for good.
        Self::retryable(ErrorKind::Config, chain(&error))
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::PointExpired(_)
            | CatalogError::TooLateToKeep(_)
            | CatalogError::NotSuspect(_)
            | CatalogError::QuotaReached { .. }
            | CatalogError::NotFound { .. }
            | CatalogError::NoConnection(_)
            | CatalogError::Removed(_)
            | CatalogError::BadKey
            | CatalogError::TokenNameInUse(_)
            | CatalogError::BadRow { .. } => Self::permanent(ErrorKind::Config, chain(&error)),
            CatalogError::Unreachable(_) => Self::outage(chain(&error)),
            CatalogError::BadUrl
            | CatalogError::Busy(_)
            | CatalogError::NotMigrated(_)
            | CatalogError::MadeBefore
            | CatalogError::Migrate(_)
            | CatalogError::TooOld(_)
            | CatalogError::Exists(_)
            | CatalogError::RestoreUnderWay(_)
            | CatalogError::KeyReused
            | CatalogError::KeyInUse(_)
            | CatalogError::NoKeyInUse(_)
            | CatalogError::PointsHeld { .. }
            | CatalogError::OnlyCopies { .. }
            | CatalogError::ClocksApart { .. }
            | CatalogError::MasterKeyReplaced
            | CatalogError::Statement(_)
            | CatalogError::StoreVanished(_) => Self::retryable(ErrorKind::Internal, chain(&error)),
        }
    }
}

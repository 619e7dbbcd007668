//! One backup, end to end: dump, compress, hash, store, check, and write the manifest last.

use chrono::{DateTime, Utc};

use crate::{
    attempt::Attempt,
    detached,
    engine::{self, answer::Dumped},
    error::JobError,
    key::ArchiveKey,
    manifest::{
        Compression, Dump, Encryption, FORMAT, Manifest, Scheme, Stored, Suspect, Suspicion,
        VERSION,
    },
    resource::Resource,
    storage::{Created, Keys, Storage, Unpublished},
    worker::Worker,
};

/// A finished backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePoint {
    /// The key of its manifest.
    pub manifest_key: String,
    /// Its manifest.
    pub manifest: Manifest,
}

/// What the next restore point is compared with: the sizes of the resource's last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Previous {
    /// The dump's size. A dump that shrinks by more than half is suspect.
    pub dump_bytes: u64,
    /// The archive's size, from which the next upload derives its part size.
    pub stored_bytes: u64,
}

/// Makes a restore point, or adopts the one that an earlier attempt of this run committed.
///
/// Cancel-safe: dropping the future kills the tool and aborts the upload.
pub async fn backup(
    attempt: Attempt,
    resource: &Resource,
    previous: Option<Previous>,
    worker: &Worker,
) -> Result<RestorePoint, JobError> {
    let stored_bytes = previous.map_or(0, |previous| previous.stored_bytes);
    let worker = &Worker {
        storage: worker.storage.expecting(stored_bytes),
        ..worker.clone()
    };
    let storage = &worker.storage;
    let keys = Keys::new(&resource.team, &resource.id, resource.engine, attempt)
        .encrypted_to(worker.encrypt_to.as_ref());
    if let Some(point) = adopt(&keys, storage).await? {
        return Ok(point);
    }
    let started_at = Utc::now();
    let dumped = engine::dump(resource, &keys.archive(), worker).await?;
    let (mut manifest, archive) = describe(
        dumped,
        attempt,
        resource,
        &keys,
        started_at,
        previous.map(|previous| previous.dump_bytes),
    )?;
    manifest.installation = storage.installation();
    manifest.archive.encryption = worker.encrypt_to.clone().map(encryption);
    if !worker.lease.is_alive().await || !worker.progress.may_commit() {
        archive.remove().await;
        return Err(JobError::LeaseLost);
    }
    // In its own task: a commit that has begun must not be stopped half way.
    let commit = detached::spawn(commit(storage.clone(), keys, manifest, archive));
    let stopped = |_| JobError::Stopped { what: "the commit" };
    commit.await.map_err(stopped)?
}

/// Returns the run's restore point, if an earlier attempt committed one that is whole.
///
/// A point whose archive is missing or truncated cannot be restored: its manifest is removed, and the backup is made
/// again.
async fn adopt(keys: &Keys, storage: &Storage) -> Result<Option<RestorePoint>, JobError> {
    let manifest_key = keys.manifest();
    let Some(manifest) = storage.manifest(&manifest_key).await? else {
        return Ok(None);
    };
    let archive = &manifest.archive;
    if storage.size(&archive.key).await? != Some(archive.size_bytes) {
        tracing::warn!(object.key = %manifest_key, "removing a manifest whose archive is missing or incomplete");
        retract(storage, &manifest_key, &manifest).await?;
        return Ok(None);
    }
    Ok(Some(RestorePoint {
        manifest_key,
        manifest,
    }))
}

/// Removes `manifest`, whose archive is not there. If another attempt has replaced it with its own manifest meanwhile,
/// that one stays.
async fn retract(
    storage: &Storage,
    manifest_key: &str,
    manifest: &Manifest,
) -> Result<(), JobError> {
    match storage.manifest(manifest_key).await? {
        Some(there) if is_of_one_attempt(&there, manifest) => storage.remove(manifest_key).await,
        Some(_) | None => Ok(()),
    }
}

/// Returns whether the same attempt wrote both. Epochs repeat after a catalog has lost commits; attempt ids do not.
fn is_of_one_attempt(there: &Manifest, ours: &Manifest) -> bool {
    (there.epoch, there.attempt_id) == (ours.epoch, ours.attempt_id)
}

fn describe(
    dumped: Dumped,
    attempt: Attempt,
    resource: &Resource,
    keys: &Keys,
    started_at: DateTime<Utc>,
    previous_dump_bytes: Option<u64>,
) -> Result<(Manifest, Unpublished), JobError> {
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        version: VERSION,
        run_id: attempt.run,
        epoch: attempt.epoch,
        attempt_id: Some(attempt.id),
        installation: None,
        resource_id: resource.id.clone(),
        team: resource.team.clone(),
        tier: resource.tier.clone(),
        engine: resource.engine,
        consistent_at: dumped.consistent_at,
        consistency: dumped.consistency,
        started_at,
        finished_at: Utc::now(),
        made_by: concat!("lastgood ", env!("CARGO_PKG_VERSION")).to_owned(),
        warnings: dumped.warnings,
        suspicions: dumped
            .suspicions
            .into_iter()
            .chain(shrunk(dumped.dump.size_bytes, previous_dump_bytes))
            .collect(),
        archive: Stored {
            key: keys.archive().parse()?,
            size_bytes: dumped.archive.size_bytes,
            blake3: dumped.archive.blake3,
            compression: Compression::Zstd,
            encryption: None,
        },
        dump: Dump {
            format: dumped.format.to_owned(),
            size_bytes: dumped.dump.size_bytes,
            blake3: dumped.dump.blake3,
        },
        server_version: dumped.server_version,
        tool_version: dumped.tool_version,
        contents: dumped.recorded,
        details: dumped.details,
    };
    Ok((manifest, dumped.object))
}

fn encryption(key: ArchiveKey) -> Encryption {
    Encryption {
        scheme: Scheme::Age,
        key: key.id,
        recipient: key.recipient,
    }
}

/// Returns the suspicion that data was lost, if a dump shrank by more than half.
fn shrunk(size_bytes: u64, previous: Option<u64>) -> Option<Suspicion> {
    let previous = previous.filter(|previous| size_bytes < previous / 2)?;
    Some(Suspicion::new(
        Suspect::Shrunk,
        format!("the dump has {size_bytes} bytes, less than half of the last one's {previous}"),
    ))
}

/// Writes the manifest, which makes the restore point exist.
async fn commit(
    storage: Storage,
    keys: Keys,
    manifest: Manifest,
    archive: Unpublished,
) -> Result<RestorePoint, JobError> {
    let manifest_key = keys.manifest();
    loop {
        match storage.create_manifest(&manifest_key, &manifest).await {
            Ok(Created::New) => break,
            // Another attempt was faster: adopt what it committed, and remove our archive. Unless the manifest is our
            // own, and only the store's first answer was lost.
            Ok(Created::AlreadyExists) => match adopt(&keys, &storage).await {
                Ok(Some(point)) if point.manifest.archive.key == manifest.archive.key => {
                    archive.keep();
                    return Ok(point);
                }
                Ok(Some(point)) => {
                    archive.remove().await;
                    return Ok(point);
                }
                Ok(None) => {}
                Err(error) => {
                    archive.keep();
                    return Err(error);
                }
            },
            Err(error) => {
                // The manifest may have been written all the same, and must then keep its archive. The janitor can
                // tell.
                archive.keep();
                return Err(error);
            }
        }
    }
    // If this commit came late, the janitor may have removed the archive as a dead attempt's.
    if storage.size(&manifest.archive.key).await? != Some(manifest.archive.size_bytes) {
        retract(&storage, &manifest_key, &manifest).await?;
        return Err(JobError::LeaseLost);
    }
    archive.keep();
    Ok(RestorePoint {
        manifest_key,
        manifest,
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::manifest::tests::example;

    #[tokio::test]
    async fn a_slow_attempt_retracts_its_own_manifest_and_no_others() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let url = directory.path().to_str().unwrap_or_default().parse()?;
        let storage = Storage::open(&url).await?;
        let manifest = example();
        let key = "v1/acme/db-1/2026/03/04/050607Z-x.manifest.json";
        storage.create_manifest(key, &manifest).await?;
        // Of the same epoch: only the attempt id, which the claim draws, tells them apart.
        let other = Manifest {
            attempt_id: Some(crate::attempt::AttemptId(uuid::Uuid::from_u128(12))),
            ..manifest.clone()
        };
        retract(&storage, key, &other).await?;
        assert_eq!(storage.manifest(key).await?.as_ref(), Some(&manifest));
        retract(&storage, key, &manifest).await?;
        assert_eq!(storage.manifest(key).await?, None);
        Ok(())
    }

    #[rstest]
    #[case::first(100, None, false)]
    #[case::half(50, Some(100), false)]
    #[case::less(49, Some(100), true)]
    #[case::grown(100, Some(1), false)]
    fn a_dump_that_lost_more_than_half_is_suspect(
        #[case] size: u64,
        #[case] previous: Option<u64>,
        #[case] is_suspect: bool,
    ) {
        assert_eq!(shrunk(size, previous).is_some(), is_suspect);
    }
}

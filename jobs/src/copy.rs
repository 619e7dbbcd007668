//! One copy, end to end: a restore point into another store, archive first, manifest last.

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};

use crate::{
    archive::{Damage, Meter},
    error::{JobError, StoreFault},
    manifest::{Manifest, Stored},
    storage::{Created, Storage},
    worker::Worker,
};

/// What a copy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Copied {
    /// The point is in the store now.
    New,
    /// It was there already, whole.
    AlreadyThere,
}

/// Copies the restore point whose manifest is at `manifest_key` from `from` into the worker's own store.
///
/// The archive's bytes are hashed on their way, and an archive that is not what its manifest says is aborted before anybody
/// could see it. It is copied as it is: compressed, and encrypted where it was. Safe to run twice, and beside itself: what an
/// earlier attempt has left is believed only if it has the manifest's hash.
pub async fn copy(manifest_key: &str, from: &Storage, worker: &Worker) -> Result<Copied, JobError> {
    let to = &worker.storage;
    let manifest = from.manifest(manifest_key).await?;
    let manifest = manifest.ok_or_else(|| JobError::NoSuchPoint {
        key: manifest_key.to_owned(),
    })?;
    let archive = &manifest.archive;
    let is_described = same(manifest_key, to.manifest(manifest_key).await?, &manifest)?;
    let is_there = is_whole(to, archive).await?;
    if is_described && is_there {
        return Ok(Copied::AlreadyThere);
    }
    let object = if is_there {
        None
    } else {
        // Damaged, or half of another copy's: its bytes are not those that the manifest describes.
        to.remove(&archive.key).await?;
        Some(stream(archive, from, worker).await?)
    };
    if !worker.lease.is_alive().await {
        if let Some(object) = object {
            object.remove().await;
        }
        return Err(JobError::LeaseLost);
    }
    let created = if is_described {
        Ok(Created::AlreadyExists)
    } else {
        to.create_manifest(manifest_key, &manifest).await
    };
    // Whatever the answer, the manifest may be there: then it must not lose its archive. The janitor can tell.
    if let Some(object) = object {
        object.keep();
    }
    match created? {
        Created::New => {}
        Created::AlreadyExists => {
            same(manifest_key, to.manifest(manifest_key).await?, &manifest)?;
        }
    }
    Ok(Copied::New)
}

/// Streams an archive from one store into the other, and gives up unless it is what its manifest says.
async fn stream(
    archive: &Stored,
    from: &Storage,
    worker: &Worker,
) -> Result<crate::storage::Unpublished, JobError> {
    let bytes = from.read(&archive.key).await?;
    let upload = worker
        .storage
        .expecting(archive.size_bytes)
        .upload(&archive.key);
    let writer = upload.writer();
    let read = measure(bytes, |chunk| {
        worker.progress.add_stored(chunk.len() as u64);
        let writer = &writer;
        // A failed upload is explained by `finish`.
        async move { writer.write(chunk).await.is_ok() }
    })
    .await;
    drop(writer);
    let wrong = match read {
        Ok(Some(meter)) => difference(archive, &meter).err(),
        Ok(None) => return upload.finish().await,
        Err(error) => Some(error),
    };
    match wrong {
        None => upload.finish().await,
        Some(error) => {
            upload.abort().await;
            Err(error)
        }
    }
}

/// Returns whether an archive is in a store, with the bytes that its manifest describes.
async fn is_whole(store: &Storage, archive: &Stored) -> Result<bool, JobError> {
    if store.size(&archive.key).await? != Some(archive.size_bytes) {
        return Ok(false);
    }
    let bytes = store.read(&archive.key).await?;
    let meter = measure(bytes, |_| std::future::ready(true)).await?;
    Ok(meter.is_some_and(|meter| difference(archive, &meter).is_ok()))
}

/// Hashes a stream and passes it on. `None`: nobody takes it any more.
async fn measure<F: Future<Output = bool>>(
    mut bytes: impl Stream<Item = Result<Bytes, JobError>> + Unpin,
    mut pass_on: impl FnMut(Bytes) -> F,
) -> Result<Option<Meter>, JobError> {
    let mut meter = Meter::default();
    while let Some(chunk) = bytes.try_next().await? {
        let hashed = tokio::task::spawn_blocking(move || {
            meter.update(&chunk);
            (meter, chunk)
        });
        let stopped = |_| JobError::Stopped {
            what: "the hashing of an archive",
        };
        let chunk;
        (meter, chunk) = hashed.await.map_err(stopped)?;
        if !pass_on(chunk).await {
            return Ok(None);
        }
    }
    Ok(Some(meter))
}

fn difference(archive: &Stored, meter: &Meter) -> Result<(), JobError> {
    let found = meter.finish();
    let source = if found.size_bytes != archive.size_bytes {
        Damage::Size {
            what: "the archive",
            expected: archive.size_bytes,
            found: found.size_bytes,
        }
    } else if found.blake3 != archive.blake3 {
        Damage::Hash {
            what: "the archive",
        }
    } else {
        return Ok(());
    };
    Err(JobError::Damaged {
        key: archive.key.clone(),
        source,
    })
}

/// Returns whether a store has this manifest already; another one in its place is an error, and never overwritten.
fn same(key: &str, there: Option<Manifest>, manifest: &Manifest) -> Result<bool, JobError> {
    match there {
        None => Ok(false),
        Some(there) if there == *manifest => Ok(true),
        Some(_) => Err(JobError::Store {
            doing: "copy the manifest to",
            key: key.to_owned(),
            source: StoreFault("another restore point's manifest is there already".to_owned()),
        }),
    }
}

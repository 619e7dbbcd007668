//! One copy, end to end: puts a restore point into another store, archive first, manifest last.

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};

use crate::{
    archive::Meter,
    error::{Damage, JobError, StoreFault},
    manifest::{Manifest, Stored},
    sought::Sought,
    storage::{Created, Storage},
    worker::Worker,
};

/// What a copy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Copied {
    /// The restore point is now in the store.
    New,
    /// It was there already, whole.
    AlreadyThere,
}

/// Returns whether a store already holds a restore point, with the bytes that its manifest describes.
pub async fn is_there(
    manifest_key: &str,
    manifest: &Manifest,
    store: &Storage,
) -> Result<bool, JobError> {
    Ok(same(manifest_key, store, manifest).await? && is_whole(store, &manifest.archive).await?)
}

/// How many times a copy writes its archive at most: again only if the archive disappears before its manifest is
/// written.
const WRITTEN_MAX: u32 = 2;

/// Copies a restore point from `from` into the worker's own store.
///
/// The archive is copied as it is stored: compressed, and encrypted if it was. Its bytes are hashed on the way, and an
/// upload that does not match the manifest is aborted before anybody can see it.
///
/// Safe to run twice, and concurrently with itself. What an earlier attempt left is trusted only if it has the
/// manifest's hash. Nothing that is already there is removed: all attempts share one archive key, and a stale attempt
/// cannot know whether another has written a manifest for it meanwhile. The janitor removes archives without a
/// manifest.
pub async fn copy(
    sought: &Sought<'_>,
    from: &Storage,
    worker: &Worker,
) -> Result<Copied, JobError> {
    let to = &worker.storage;
    let manifest = sought.read(from).await?;
    let archive = &manifest.archive;
    let mut is_described = same(sought.manifest_key, to, &manifest).await?;
    let mut is_there = is_whole(to, archive).await?;
    if is_described && is_there {
        return Ok(Copied::AlreadyThere);
    }
    for _ in 0..WRITTEN_MAX {
        if !is_there {
            owned(worker).await?;
            stream(archive, from, worker).await?;
        }
        owned(worker).await?;
        if !is_described {
            is_described = describe(sought.manifest_key, to, &manifest).await?;
        }
        // The janitor may have removed an old archive as an orphan just before its manifest was written.
        is_there = to.size(&archive.key).await? == Some(archive.size_bytes);
        if is_described && is_there {
            return Ok(Copied::New);
        }
    }
    Err(JobError::Store {
        doing: "keep the copy",
        key: archive.key.to_string(),
        source: StoreFault(
            "it disappeared right after it was written: find out who else removes objects from this store".to_owned(),
        ),
    })
}

/// Checks that this attempt still owns its run.
async fn owned(worker: &Worker) -> Result<(), JobError> {
    if worker.lease.is_alive().await {
        Ok(())
    } else {
        Err(JobError::LeaseLost)
    }
}

/// Writes the manifest, and returns whether it is in the store.
async fn describe(key: &str, to: &Storage, manifest: &Manifest) -> Result<bool, JobError> {
    match to.create_manifest(key, manifest).await? {
        Created::New => Ok(true),
        Created::AlreadyExists => same(key, to, manifest).await,
    }
}

/// Streams an archive from one store into the other, and aborts if it does not match its manifest.
async fn stream(archive: &Stored, from: &Storage, worker: &Worker) -> Result<(), JobError> {
    let bytes = from.read(&archive.key).await?;
    let upload = worker
        .storage
        .expecting(archive.size_bytes)
        .upload_over(&archive.key);
    let writer = upload.writer();
    let read = measure(bytes, |chunk| {
        worker.progress.add_stored(chunk.len() as u64);
        let writer = &writer;
        // If the upload fails, its `finish` says why.
        async move { writer.write(chunk).await.is_ok() }
    })
    .await;
    drop(writer);
    let wrong = match read {
        Ok(Some(meter)) => difference(archive, &meter).err(),
        Ok(None) => None,
        Err(error) => Some(error),
    };
    match wrong {
        None => {
            upload.finish().await?.keep();
            Ok(())
        }
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

/// Hashes a stream and passes it on. Returns `None` if the receiver has gone.
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
            what: "hashing an archive",
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
        key: archive.key.to_string(),
        source,
    })
}

/// Returns whether a store already has this manifest. A different one in its place is an error, and is never
/// overwritten.
async fn same(key: &str, store: &Storage, manifest: &Manifest) -> Result<bool, JobError> {
    match store.manifest(key).await? {
        None => Ok(false),
        Some(there) if there == *manifest => Ok(true),
        Some(_) => Err(JobError::Store {
            doing: "copy the manifest to",
            key: key.to_owned(),
            source: StoreFault(
                "another manifest is there already, and is not overwritten: find out who wrote it, and remove it by hand"
                    .to_owned(),
            ),
        }),
    }
}

#[cfg(test)]
mod tests;

//! Where objects live: the one room that knows which store it is.
//!
//! Today that is a directory with two children on one file system: `objects`, where everything is whole and under its
//! final name, and `partial`, where it grows. A name appears in `objects` by rename (archives) or by hard link
//! (manifests, which must be written once even when two attempts race).

mod address;
mod janitor;
mod keys;
mod upload;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use opendal::{ErrorKind, Operator, services::Fs};

pub use self::{
    address::{StorageUrl, StorageUrlError},
    janitor::Swept,
};
pub(crate) use self::{
    keys::Keys,
    upload::{Unpublished, Upload, UploadWriter},
};
use crate::{
    error::{JobError, StoreFault},
    manifest::Manifest,
};

/// What is older than this was left by a dead attempt: no lease lives so long without renewal.
pub const JANITOR_AGE: Duration = Duration::from_hours(24);

/// What a reader is given at a time, and how many such parts are read ahead.
const READ_BYTES: usize = 2 * 1024 * 1024;
const READS_AHEAD: usize = 2;
/// More than any manifest; a larger object is none.
const MANIFEST_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A store, open. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage {
    operator: Operator,
    root: Arc<Path>,
}

/// Whether a write-once object is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    New,
    AlreadyExists,
}

impl Storage {
    /// Opens a store and makes its directories.
    pub async fn open(url: &StorageUrl) -> Result<Self, JobError> {
        let directory = url.directory().to_owned();
        blocking("open", "the store", move || {
            let root = std::path::absolute(directory)?;
            // Customers' data: nobody else on this machine may look.
            let mut private = std::fs::DirBuilder::new();
            std::os::unix::fs::DirBuilderExt::mode(private.recursive(true), 0o700);
            private.create(root.join("objects"))?;
            private.create(root.join("partial"))?;
            let utf8 = |path: PathBuf| {
                let path = path.into_os_string().into_string();
                path.map_err(|_| io::Error::other("its path is not UTF-8"))
            };
            let service = Fs::default()
                .root(&utf8(root.join("objects"))?)
                .atomic_write_dir(&utf8(root.join("partial"))?);
            Ok(Self {
                operator: Operator::new(service).map_err(io::Error::other)?,
                root: root.into(),
            })
        })
        .await
    }

    /// Writes, reads back and removes a small object: what `doctor` shows.
    pub async fn check(&self) -> Result<(), JobError> {
        let key = format!("check/{}", uuid::Uuid::new_v4());
        let written = Bytes::from(key.clone());
        let upload = self.upload(&key);
        // A failed write is explained by `finish`.
        let _explained_below = upload.writer().write(written.clone()).await;
        let object = upload.finish().await?;
        let read: Vec<Bytes> = self.read(&key).await?.try_collect().await?;
        object.keep();
        self.remove(&key).await?;
        if read.concat() != *written {
            let fault = StoreFault("it gave back other bytes than it was given".to_owned());
            return Err(JobError::Store {
                doing: "read back",
                key,
                source: fault,
            });
        }
        Ok(())
    }

    /// Reads a restore point's manifest. `None` if there is none.
    ///
    /// A manifest of another format or version is [`JobError::BadManifest`], never a guess.
    pub async fn manifest(&self, key: &str) -> Result<Option<Manifest>, JobError> {
        let bad = |why: String| JobError::BadManifest {
            key: key.to_owned(),
            why,
        };
        match self.size(key).await? {
            None => return Ok(None),
            Some(0..=MANIFEST_BYTES_MAX) => {}
            Some(size) => return Err(bad(format!("it has {size} bytes"))),
        }
        let bytes = self.operator.read(key).await;
        let bytes = bytes.map_err(|error| failure("read", key, &error))?;
        Manifest::from_json(&bytes.to_vec())
            .map(Some)
            .map_err(|why| bad(why.to_string()))
    }

    /// Returns the keys of all manifests: what a catalog can be rebuilt from. In no order.
    pub async fn manifest_keys(
        &self,
    ) -> Result<impl Stream<Item = Result<String, JobError>> + Send + Unpin + use<>, JobError> {
        let objects = self.operator.lister_with("v1/").recursive(true).await;
        let objects = objects.map_err(|error| failure("list", "v1/", &error))?;
        Ok(objects
            .map_err(|error| failure("list", "v1/", &error))
            .try_filter_map(|entry| {
                let key = Some(entry.path().to_owned()).filter(|key| keys::is_manifest(key));
                std::future::ready(Ok(key))
            }))
    }

    /// Returns the keys of all objects below `keys/`: the escrows. In no order.
    pub(crate) async fn escrow_keys(&self) -> Result<Vec<String>, JobError> {
        let cannot = |error: opendal::Error| failure("list", "keys/", &error);
        let objects = self.operator.lister_with("keys/").recursive(true).await;
        let objects = objects.map_err(cannot)?;
        let objects: Vec<opendal::Entry> = objects.try_collect().await.map_err(cannot)?;
        Ok(objects
            .iter()
            .map(|entry| entry.path().to_owned())
            .collect())
    }

    /// Removes a restore point: its manifest first, so that there is never one without an archive.
    ///
    /// Removing what is gone already succeeds. An archive that a crash leaves is an orphan for [`Storage::sweep`].
    pub async fn remove_point(&self, manifest_key: &str) -> Result<(), JobError> {
        let manifest = self.manifest(manifest_key).await?;
        self.remove(manifest_key).await?;
        match manifest {
            Some(manifest) => self.remove(&manifest.archive.key).await,
            None => Ok(()),
        }
    }

    /// Begins an object.
    pub(crate) fn upload(&self, key: &str) -> Upload {
        Upload::start(self.clone(), key.to_owned())
    }

    /// Returns an object's size. `None` if there is none.
    pub(crate) async fn size(&self, key: &str) -> Result<Option<u64>, JobError> {
        match self.operator.stat(key).await {
            Ok(found) => Ok(Some(found.content_length())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failure("look for", key, &error)),
        }
    }

    /// Streams an object from its begin to its end.
    pub(crate) async fn read(
        &self,
        key: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, JobError>> + Send + Unpin + use<>, JobError> {
        let reader = self.operator.reader_with(key);
        let reader = reader.chunk(READ_BYTES).concurrent(READS_AHEAD).await;
        let reader = reader.map_err(|error| failure("open", key, &error))?;
        let bytes = reader.into_bytes_stream(..).await;
        let bytes = bytes.map_err(|error| failure("open", key, &error))?;
        let key = key.to_owned();
        Ok(bytes.map_err(move |error| io_failure("read", &key, &error)))
    }

    /// Removes an object; one that is gone already is no error.
    pub async fn remove(&self, key: &str) -> Result<(), JobError> {
        let removed = self.operator.delete(key).await;
        removed.map_err(|error| failure("remove", key, &error))
    }

    /// Removes an object that nobody owns, or leaves it to the janitor.
    pub(crate) async fn remove_or_leave(&self, key: &str) {
        if let Err(error) = self.remove(key).await {
            tracing::warn!(object.key = %key, error = %error.report(), "an object is left to the janitor");
        }
    }

    /// Writes a manifest, whole and once: of two writers at the same instant, exactly one is told [`Created::New`].
    pub(crate) async fn create_manifest(
        &self,
        key: &str,
        manifest: &Manifest,
    ) -> Result<Created, JobError> {
        let json = manifest.to_json().map_err(|error| JobError::Io {
            doing: "write a manifest as JSON",
            source: error.into(),
        })?;
        let partial = self.root.join("partial");
        let object = self.object_path(key);
        let created = blocking("create", key, move || {
            if let Some(directory) = object.parent() {
                std::fs::create_dir_all(directory)?;
            }
            let mut file = tempfile::Builder::new()
                .prefix("manifest.")
                .tempfile_in(partial)?;
            io::Write::write_all(&mut file, &json)?;
            file.as_file().sync_all()?;
            // A link, unlike a rename, fails where the name is taken.
            match std::fs::hard_link(file.path(), &object) {
                Ok(()) => Ok(Created::New),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    Ok(Created::AlreadyExists)
                }
                Err(error) => Err(error),
            }
        })
        .await?;
        self.make_durable(key).await?;
        Ok(created)
    }

    /// Makes an object's name survive a power cut: its bytes are synced already, its directories may not be.
    async fn make_durable(&self, key: &str) -> Result<(), JobError> {
        let object = self.object_path(key);
        let root = self.root.clone();
        blocking("sync", key, move || {
            let directories = object.ancestors().skip(1);
            for directory in directories.take_while(|directory| directory.starts_with(&root)) {
                std::fs::File::open(directory)?.sync_all()?;
            }
            Ok(())
        })
        .await
    }

    fn object_path(&self, key: &str) -> PathBuf {
        self.root.join("objects").join(key)
    }
}

/// Runs file system work that opendal has no word for.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    key: &str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, JobError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(io_failure(doing, key, &error)),
        Err(_) => Err(JobError::Stopped {
            what: "work on the store",
        }),
    }
}

fn failure(doing: &'static str, key: &str, error: &opendal::Error) -> JobError {
    if let Some(cause) = innermost_io(error) {
        return plain_failure(doing, key, cause);
    }
    let why = format!("{}: {}", error.kind(), error.message());
    let key = key.to_owned();
    JobError::Store {
        doing,
        key,
        source: StoreFault(why),
    }
}

fn io_failure(doing: &'static str, key: &str, error: &io::Error) -> JobError {
    plain_failure(doing, key, innermost_io(error).unwrap_or(error))
}

fn plain_failure(doing: &'static str, key: &str, error: &io::Error) -> JobError {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    if matches!(error.kind(), StorageFull | QuotaExceeded) {
        return JobError::StoreFull { doing };
    }
    let (key, source) = (key.to_owned(), StoreFault(error.to_string()));
    JobError::Store { doing, key, source }
}

/// Finds the system's own error: opendal and io errors wrap each other.
fn innermost_io<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut found = None;
    let mut next = Some(error);
    while let Some(error) = next {
        found = error.downcast_ref::<io::Error>().or(found);
        next = match error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
        {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    found
}

#[cfg(test)]
mod tests;

//! Where objects live. Only this module knows which kind of store it is.
//!
//! A store is a directory or a bucket. In both, an object has its name only once it is whole, and a manifest is written
//! once even if two attempts race.

mod address;
mod bucket;
mod directory;
mod fault;
mod identified;
mod identity;
mod janitor;
mod keys;
mod listing;
mod parts;
mod spelling;
mod upload;

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use opendal::{ErrorKind, Operator};
use secrecy::SecretString;

use self::{
    address::Place,
    bucket::Bucket,
    directory::Directory,
    fault::{REMOVE, failure, gives_no_reason, io_failure},
    keys::CHECKS,
    parts::PART_BYTES_MIN,
    upload::Sharing,
};
pub use self::{
    address::{StorageUrl, StorageUrlError},
    bucket::{
        Addressing, BucketAccess, Checksums, Credentials, KeySource, Lender, LentBy, Patience,
        ReadKeys, Surroundings, WriteOnce,
    },
    identity::{Binding, IDENTITY, Identity},
    janitor::Swept,
    listing::Listing,
    spelling::{ManifestKeyError, manifest_key},
};
pub(crate) use self::{
    keys::{ESCROWS, Keys, resource_prefix},
    upload::{Unpublished, Upload, UploadWriter},
};
pub use crate::object_key::{ObjectKey, ObjectKeyError};
use crate::{
    error::{JobError, StoreFault},
    manifest::Manifest,
};

/// How many bytes a read of a directory and of a bucket returns at a time, and how many such parts are read ahead.
const READ_BYTES: usize = 2 * 1024 * 1024;
const READ_BYTES_OF_BUCKET: usize = 8 * 1024 * 1024;
const READS_AHEAD: usize = 2;
/// More bytes than any manifest has. A larger object is not a manifest.
const MANIFEST_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// An open store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage {
    operator: Operator,
    backend: Backend,
    /// The expected size of the next object; 0 if unknown.
    expected_bytes: u64,
    /// The store that is meant; `None` accepts any.
    meant: Option<Binding>,
    /// Whether what is uploaded is thrown away.
    discards: bool,
}

/// The kind of store.
#[derive(Debug, Clone)]
enum Backend {
    Directory(Directory),
    Bucket(Bucket),
    /// This process's memory, which is lost with it.
    #[cfg(test)]
    Memory,
}

/// What happens if a directory holds no store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// A store is made in it.
    IsMade,
    /// It is refused. A reader, or a caller who knows of objects there, must not be shown an empty store.
    IsRefused,
}

/// Whether a write-once object is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    New,
    AlreadyExists,
}

impl Storage {
    /// Opens a store that needs no keys, making its directories.
    pub async fn open(url: &StorageUrl) -> Result<Self, JobError> {
        Self::open_with(url, &BucketAccess::default()).await
    }

    /// Opens a store. A directory is made. A bucket must exist, but is not contacted yet.
    pub async fn open_with(url: &StorageUrl, access: &BucketAccess) -> Result<Self, JobError> {
        Self::open_or(url, access, Absent::IsMade).await
    }

    /// Opens an existing store. Makes nothing: a directory without a store is [`JobError::NoStore`].
    pub async fn open_existing(url: &StorageUrl, access: &BucketAccess) -> Result<Self, JobError> {
        Self::open_or(url, access, Absent::IsRefused).await
    }

    async fn open_or(
        url: &StorageUrl,
        access: &BucketAccess,
        absent: Absent,
    ) -> Result<Self, JobError> {
        let (operator, backend) = match &url.place {
            Place::Directory(path) => {
                let (directory, operator) = Directory::open(path.clone(), absent).await?;
                (operator, Backend::Directory(directory))
            }
            Place::Bucket { name, prefix } => {
                let (bucket, operator) = Bucket::open(name, prefix, access)?;
                (operator, Backend::Bucket(bucket))
            }
        };
        Ok(Self {
            operator,
            backend,
            expected_bytes: 0,
            meant: None,
            discards: false,
        })
    }

    /// Returns the same store, bound: every publication first checks that this is still the store that the binding
    /// means. If it is not, the write fails with [`JobError::StoreChanged`].
    #[must_use]
    pub fn bound(&self, meant: Binding) -> Self {
        Self {
            meant: Some(meant),
            ..self.clone()
        }
    }

    /// Returns the installation that writes to the store, if it is known. Every manifest names it.
    #[must_use]
    pub fn installation(&self) -> Option<uuid::Uuid> {
        self.meant.as_ref().map(Binding::installation)
    }

    /// Returns the same store with an expected size for the next object, which determines the size of its parts.
    #[must_use]
    pub fn expecting(&self, bytes: u64) -> Self {
        Self {
            expected_bytes: bytes,
            ..self.clone()
        }
    }

    /// Returns the same store for reading, whose uploads go nowhere: for a dump that is only looked at.
    #[must_use]
    pub(crate) fn discarding(&self) -> Self {
        Self {
            discards: true,
            ..self.clone()
        }
    }

    /// Checks that the store works: writes, reads back and removes an object the way an archive is written (two parts
    /// in a bucket), and tries to write it twice. `doctor` shows the result.
    pub async fn check(&self) -> Result<(), JobError> {
        let key = format!("{CHECKS}{}", uuid::Uuid::new_v4());
        let wrong = |doing, why: &str| JobError::Store {
            doing,
            key: key.clone(),
            source: StoreFault(why.to_owned()),
        };
        let written = match &self.backend {
            Backend::Bucket(_) => two_parts(),
            Backend::Directory(_) => Bytes::from(key.clone()),
            #[cfg(test)]
            Backend::Memory => Bytes::from(key.clone()),
        };
        // See whether the store answers at all before sending megabytes.
        self.size(&key).await?;
        let upload = self.upload(&key);
        // If the write fails, `finish` says why.
        let _explained_below = upload.writer().write(written.clone()).await;
        let object = upload.finish().await?;
        let read: Vec<Bytes> = self.read(&key).await?.try_collect().await?;
        let again = self.create(&key, b"another".to_vec()).await?;
        object.keep();
        self.remove(&key).await?;
        if read.concat() != *written {
            return Err(wrong(
                "read back",
                "it returned different bytes from those written",
            ));
        }
        if again == Created::New {
            return Err(wrong(
                "protect",
                "it overwrites objects that must be written once: it does not support the condition `If-None-Match: *`",
            ));
        }
        self.unfinished(CHECKS).await.map(drop)
    }

    /// Reads a restore point's manifest. `None` if there is none.
    ///
    /// A manifest of another format or version is [`JobError::BadManifest`], and is never guessed at.
    pub async fn manifest(&self, key: &str) -> Result<Option<Manifest>, JobError> {
        let bad = |why: String| JobError::BadManifest {
            key: key.to_owned(),
            why,
        };
        match self.size(key).await? {
            None => return Ok(None),
            // No manifest is empty. An entry that reports no bytes may be a pipe, and never end.
            Some(1..=MANIFEST_BYTES_MAX) => {}
            Some(size) => return Err(bad(format!("it has {size} bytes"))),
        }
        let bytes = self.read_whole(key, MANIFEST_BYTES_MAX).await?;
        let bytes = bytes.ok_or_else(|| bad("it is larger than its store reports".to_owned()))?;
        Manifest::from_json(&bytes)
            .map(Some)
            .map_err(|why| bad(why.to_string()))
    }

    /// Removes a restore point: first its manifest, so that no manifest is ever without its archive.
    ///
    /// Idempotent. An archive left by a crash is an orphan, which [`Storage::sweep`] removes.
    pub async fn remove_point(&self, manifest_key: &str) -> Result<(), JobError> {
        let manifest = self.manifest(manifest_key).await?;
        self.remove(manifest_key).await?;
        match manifest {
            Some(manifest) => self.remove(&manifest.archive.key).await,
            None => Ok(()),
        }
    }

    /// Begins an object that only this attempt writes.
    pub(crate) fn upload(&self, key: &str) -> Upload {
        if self.discards {
            return Upload::to_nowhere(self.clone());
        }
        Upload::start(self.clone(), key.to_owned(), Sharing::Alone)
    }

    /// Begins an object that several attempts may write at once, all with the same bytes. It replaces an existing
    /// object atomically, and its writer never removes it.
    pub(crate) fn upload_over(&self, key: &str) -> Upload {
        Upload::start(self.clone(), key.to_owned(), Sharing::Many)
    }

    /// Returns an object's size. `None` if there is none.
    pub(crate) async fn size(&self, key: &str) -> Result<Option<u64>, JobError> {
        let key = &*admitted(key)?;
        match self.operator.stat(key).await {
            Ok(found) => Ok(Some(found.content_length())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.require_store(key).await?;
                Ok(None)
            }
            Err(error) => Err(self.explained("look for", key, &error).await),
        }
    }

    /// Returns what a failed HEAD means. Its answer gives no reason, but that to a GET may.
    async fn explained(&self, doing: &'static str, key: &str, error: &opendal::Error) -> JobError {
        let told = match &self.backend {
            Backend::Bucket(_) if gives_no_reason(error) => {
                self.operator.read_with(key).range(0..1).await.err()
            }
            Backend::Bucket(_) | Backend::Directory(_) => None,
            #[cfg(test)]
            Backend::Memory => None,
        };
        let told = told.filter(|told| told.kind() != ErrorKind::NotFound);
        failure(doing, key, told.as_ref().unwrap_or(error))
    }

    /// Reads an object of at most `most` bytes, whatever size the store reports. `None` if it has more.
    pub(crate) async fn read_whole(
        &self,
        key: &str,
        most: u64,
    ) -> Result<Option<Vec<u8>>, JobError> {
        let mut parts = self.read(key).await?;
        let mut bytes = Vec::new();
        while let Some(part) = parts.try_next().await? {
            if (bytes.len() + part.len()) as u64 > most {
                return Ok(None);
            }
            bytes.extend_from_slice(&part);
        }
        Ok(Some(bytes))
    }

    /// Streams a whole object.
    pub(crate) async fn read(
        &self,
        key: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, JobError>> + Send + Unpin + use<>, JobError> {
        self.stream(key, None).await
    }

    /// Streams the bytes of an object from `range.start` up to `range.end`, which must not lie beyond its end.
    pub async fn read_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = Result<Bytes, JobError>> + Send + Unpin + use<>, JobError> {
        self.stream(key, Some(range)).await
    }

    /// Returns a URL from which anybody can read an object until `ttl` has passed. `None` if the store has no such
    /// URLs.
    ///
    /// The URL holds a signature: show it only to the caller, and never log it.
    pub async fn presign(
        &self,
        key: &str,
        ttl: Duration,
    ) -> Result<Option<SecretString>, JobError> {
        let key = &admitted(key)?;
        match &self.backend {
            Backend::Directory(_) => Ok(None),
            #[cfg(test)]
            Backend::Memory => Ok(None),
            Backend::Bucket(bucket) => bucket.presign(key, ttl).await.map(Some),
        }
    }

    async fn stream(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> Result<impl Stream<Item = Result<Bytes, JobError>> + Send + Unpin + use<>, JobError> {
        let key = &*admitted(key)?;
        let chunk = match &self.backend {
            Backend::Directory(_) => READ_BYTES,
            #[cfg(test)]
            Backend::Memory => READ_BYTES,
            Backend::Bucket(_) => READ_BYTES_OF_BUCKET,
        };
        let reader = self.operator.reader_with(key);
        let reader = reader.chunk(chunk).concurrent(READS_AHEAD).await;
        let reader = reader.map_err(|error| failure("open", key, &error))?;
        let bytes = match range {
            Some(range) => reader.into_bytes_stream(range).await,
            None => reader.into_bytes_stream(..).await,
        };
        let bytes = bytes.map_err(|error| failure("open", key, &error))?;
        let key = key.to_owned();
        Ok(bytes.map_err(move |error| io_failure("read", &key, &error)))
    }

    /// Checks that only the object is missing, and not its store.
    async fn require_store(&self, missing: &str) -> Result<(), JobError> {
        // A store that is not known yet cannot be recognised.
        if self
            .meant
            .as_ref()
            .is_some_and(|meant| meant.store().is_some())
        {
            return self.require().await;
        }
        self.require_bucket(missing).await
    }

    /// Checks that only the object is missing, and not its bucket.
    ///
    /// A HEAD cannot tell, because its answer has no body; a GET can.
    async fn require_bucket(&self, missing: &str) -> Result<(), JobError> {
        match &self.backend {
            Backend::Directory(_) => return Ok(()),
            #[cfg(test)]
            Backend::Memory => return Ok(()),
            Backend::Bucket(_) => {}
        }
        match self.operator.read_with(missing).range(0..1).await {
            Err(error) if error.kind() == ErrorKind::ConfigInvalid => {
                Err(failure("look for", missing, &error))
            }
            // The object is there by now, or is missing, or has another problem that is reported elsewhere.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Removes an object. Succeeds if it is already gone.
    ///
    /// Fails with [`JobError::StoreRefuses`] if an object lock or a missing right forbids it. Also fails if the store
    /// itself is not there: the object would come back with it.
    pub async fn remove(&self, key: &str) -> Result<(), JobError> {
        let key = &*admitted(key)?;
        self.require().await?;
        let removed = self.operator.delete(key).await;
        removed.map_err(|error| failure(REMOVE, key, &error))
    }

    /// Removes an object that belongs to nobody, or leaves it to the janitor.
    pub(crate) async fn remove_or_leave(&self, key: &str) {
        if let Err(error) = self.remove(key).await {
            tracing::warn!(object.key = %key, error = %error.report(), "cannot remove an object: it is left to the janitor");
        }
    }

    /// Writes a manifest atomically and only once: of two concurrent writers, exactly one gets [`Created::New`].
    pub(crate) async fn create_manifest(
        &self,
        key: &str,
        manifest: &Manifest,
    ) -> Result<Created, JobError> {
        let json = manifest.to_json().map_err(|error| JobError::Io {
            doing: "write a manifest as JSON",
            source: error.into(),
        })?;
        self.create(key, json).await
    }

    /// Writes an object atomically, durably and only once: of two concurrent writers, exactly one gets
    /// [`Created::New`].
    pub(crate) async fn create(&self, key: &str, bytes: Vec<u8>) -> Result<Created, JobError> {
        let key = admitted(key)?;
        match &self.backend {
            Backend::Directory(directory) => {
                directory.create(&key, bytes, self.meant.clone()).await
            }
            Backend::Bucket(bucket) => {
                self.require().await?;
                bucket.create(&key, bytes).await
            }
            #[cfg(test)]
            Backend::Memory => {
                let written = self.operator.write_with(&key, bytes).if_not_exists(true);
                match written.await {
                    Ok(_) => Ok(Created::New),
                    Err(error) if error.kind() == ErrorKind::ConditionNotMatch => {
                        Ok(Created::AlreadyExists)
                    }
                    Err(error) => Err(failure("create", &key, &error)),
                }
            }
        }
    }

    /// Makes a newly written object survive a power cut.
    async fn make_durable(&self, key: &ObjectKey) -> Result<(), JobError> {
        match &self.backend {
            Backend::Directory(directory) => directory.make_durable(key).await,
            Backend::Bucket(_) => Ok(()),
            #[cfg(test)]
            Backend::Memory => Ok(()),
        }
    }
}

/// Returns the smallest object that needs two parts.
fn two_parts() -> Bytes {
    let bytes = usize::try_from(PART_BYTES_MIN).unwrap_or(usize::MAX - 1);
    Bytes::from(vec![b'?'; bytes + 1])
}

/// Parses a key. Every key passes here, so that no other text is ever joined to a store's path or address.
fn admitted(key: &str) -> Result<ObjectKey, JobError> {
    Ok(key.parse()?)
}

#[cfg(test)]
mod tests;

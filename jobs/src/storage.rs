//! Where objects live: the one room that knows which store it is.
//!
//! A store is a directory or a bucket. In each, an object is under its name when it is whole and not before, and a manifest
//! is written once even when two attempts race.

mod address;
mod bucket;
mod directory;
mod fault;
mod identity;
mod janitor;
mod keys;
mod listing;
mod object_key;
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
    object_key::{ObjectKey, ObjectKeyError},
    spelling::{ManifestKeyError, manifest_key},
};
pub(crate) use self::{
    keys::Keys,
    upload::{PUT_TOGETHER, Unpublished, Upload, UploadWriter},
};
use crate::{
    error::{JobError, StoreFault},
    manifest::Manifest,
};

/// What a reader of a directory is given at a time, of a bucket, and how many such parts are read ahead.
const READ_BYTES: usize = 2 * 1024 * 1024;
const READ_BYTES_OF_BUCKET: usize = 8 * 1024 * 1024;
const READS_AHEAD: usize = 2;
/// More than any manifest; a larger object is none.
const MANIFEST_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A store, open. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage {
    operator: Operator,
    backend: Backend,
    /// How large the next object probably is; 0 where nobody knows.
    expected_bytes: u64,
    /// Which store is meant; `None`: whichever is there.
    meant: Option<Binding>,
}

/// What a store is made of.
#[derive(Debug, Clone)]
enum Backend {
    Directory(Directory),
    Bucket(Bucket),
    /// This process's memory: gone with it.
    #[cfg(test)]
    Memory,
}

/// What becomes of a directory in which there is no store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// A store.
    IsMade,
    /// Nothing: whoever reads, or misses what should be there, must not be shown an empty one.
    IsRefused,
}

/// Whether a write-once object is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    New,
    AlreadyExists,
}

impl Storage {
    /// Opens a store that needs no keys, and makes its directories.
    pub async fn open(url: &StorageUrl) -> Result<Self, JobError> {
        Self::open_with(url, &BucketAccess::default()).await
    }

    /// Opens a store. A directory is made; a bucket must exist, and nothing is asked of it yet.
    pub async fn open_with(url: &StorageUrl, access: &BucketAccess) -> Result<Self, JobError> {
        Self::open_or(url, access, Absent::IsMade).await
    }

    /// Opens a store that must be there: [`JobError::NoStore`] where a directory holds none. Makes nothing.
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
        })
    }

    /// Returns the same store, which from now on is written to only while it is the one that the binding means: each publishing
    /// looks. Anything else is [`JobError::StoreChanged`].
    #[must_use]
    pub fn bound(&self, meant: Binding) -> Self {
        Self {
            meant: Some(meant),
            ..self.clone()
        }
    }

    /// Returns the installation on whose behalf it is written to, if that is known: every manifest names it.
    #[must_use]
    pub fn installation(&self) -> Option<uuid::Uuid> {
        self.meant.as_ref().map(Binding::installation)
    }

    /// Returns what the store says that it is. `None`: it was last written to by a build that gave stores no identity, or never.
    pub async fn identity(&self) -> Result<Option<Identity>, JobError> {
        let Some(json) = self.identity_json().await? else {
            return Ok(None);
        };
        let identity = Identity::from_json(&json);
        let identity = identity.map_err(|why| JobError::StoreChanged { why });
        identity.map(Some)
    }

    /// Gives a store that has no identity one of its own, and returns it; where another writer was faster, returns that one's.
    ///
    /// Whose the store is, the caller has made sure of.
    pub async fn claim(&self, installation: uuid::Uuid) -> Result<Identity, JobError> {
        let identity = Identity::new(installation);
        let json = identity.to_json().map_err(|error| JobError::Io {
            doing: "write an identity as JSON",
            source: error.into(),
        })?;
        // A store that does not know the condition may have taken both: what is there in the end counts.
        let any = Self {
            meant: None,
            ..self.clone()
        };
        any.create(IDENTITY, json).await?;
        any.identity().await?.ok_or_else(|| JobError::StoreChanged {
            why: format!("its {IDENTITY} is gone right after it was written"),
        })
    }

    /// Returns whether the store refuses to write an object that is there, tried with its own identity and the same bytes: where
    /// it does not refuse, nothing is lost. A store without an identity has refused nothing.
    pub async fn writes_once(&self) -> Result<bool, JobError> {
        let Some(json) = self.identity_json().await? else {
            return Ok(false);
        };
        match &self.backend {
            Backend::Directory(_) => Ok(true),
            #[cfg(test)]
            Backend::Memory => Ok(true),
            Backend::Bucket(bucket) => bucket.refuses_to_overwrite(IDENTITY, json).await,
        }
    }

    /// Refuses a store that is not the one that is meant, where one is.
    pub async fn require(&self) -> Result<(), JobError> {
        let Some(meant) = &self.meant else {
            return Ok(());
        };
        if let Backend::Directory(directory) = &self.backend {
            return directory.require(meant.clone()).await;
        }
        let found = self.identity_json().await?;
        let compared = meant.compare(found.as_deref());
        compared.map_err(|why| JobError::StoreChanged { why })
    }

    async fn identity_json(&self) -> Result<Option<Vec<u8>>, JobError> {
        match self.operator.stat(IDENTITY).await {
            Ok(found) if found.content_length() > identity::BYTES_MAX => {
                return Err(JobError::StoreChanged {
                    why: format!("its {IDENTITY} has {} bytes", found.content_length()),
                });
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.require_bucket(IDENTITY).await?;
                return Ok(None);
            }
            Err(error) => return Err(self.explained("read", IDENTITY, &error).await),
        }
        match self.operator.read(IDENTITY).await {
            Ok(json) => Ok(Some(json.to_vec())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failure("read", IDENTITY, &error)),
        }
    }

    /// Returns the same store, told how large the next object probably is: the parts of its upload follow it.
    #[must_use]
    pub fn expecting(&self, bytes: u64) -> Self {
        Self {
            expected_bytes: bytes,
            ..self.clone()
        }
    }

    /// Writes, reads back and removes an object in the way of an archive (a bucket's has two parts), and makes sure that the store
    /// writes once what must be: what `doctor` shows.
    pub async fn check(&self) -> Result<(), JobError> {
        let key = format!("check/{}", uuid::Uuid::new_v4());
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
        // Whether anybody answers at all, before megabytes are sent.
        self.size(&key).await?;
        let upload = self.upload(&key);
        // A failed write is explained by `finish`.
        let _explained_below = upload.writer().write(written.clone()).await;
        let object = upload.finish().await?;
        let read: Vec<Bytes> = self.read(&key).await?.try_collect().await?;
        let again = self.create(&key, b"another".to_vec()).await?;
        object.keep();
        self.remove(&key).await?;
        if read.concat() != *written {
            return Err(wrong(
                "read back",
                "it gave back other bytes than it was given",
            ));
        }
        if again == Created::New {
            return Err(wrong(
                "protect",
                "it overwrites what must be written once: it does not know the condition `If-None-Match: *`",
            ));
        }
        self.unfinished("check/").await.map(drop)
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
            // None has no bytes; what has, besides, may be a pipe, and never end.
            Some(1..=MANIFEST_BYTES_MAX) => {}
            Some(size) => return Err(bad(format!("it has {size} bytes"))),
        }
        let bytes = self.read_whole(key, MANIFEST_BYTES_MAX).await?;
        let bytes = bytes.ok_or_else(|| bad("it does not end where its store says".to_owned()))?;
        Manifest::from_json(&bytes)
            .map(Some)
            .map_err(|why| bad(why.to_string()))
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

    /// Begins an object of this attempt alone.
    pub(crate) fn upload(&self, key: &str) -> Upload {
        Upload::start(self.clone(), key.to_owned(), Sharing::Alone)
    }

    /// Begins an object that several attempts may write at once, all of them the same bytes: it replaces what is there, all of
    /// it at once, and is never removed again by whoever wrote it.
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

    /// Returns what a failed answer to a HEAD means. It gives no reason; that to a GET may.
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

    /// Reads an object of `most` bytes at the most, whatever size its store says that it has. `None`: it has more.
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

    /// Streams an object from its begin to its end.
    pub(crate) async fn read(
        &self,
        key: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, JobError>> + Send + Unpin + use<>, JobError> {
        self.stream(key, None).await
    }

    /// Streams the bytes of an object from `range.start` up to `range.end`, which it must have.
    pub async fn read_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<impl Stream<Item = Result<Bytes, JobError>> + Send + Unpin + use<>, JobError> {
        self.stream(key, Some(range)).await
    }

    /// Returns an address from which anybody who has it can read an object until `ttl` is over. `None` where the store has no
    /// such thing. It holds a signature: show it to whoever asked, and to no log.
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

    /// Makes sure that it is the object that is missing, and not its store.
    async fn require_store(&self, missing: &str) -> Result<(), JobError> {
        // One that is not known yet is nobody's to miss anything in.
        if self
            .meant
            .as_ref()
            .is_some_and(|meant| meant.store().is_some())
        {
            return self.require().await;
        }
        self.require_bucket(missing).await
    }

    /// Makes sure that it is the object that is missing, and not its bucket.
    ///
    /// A server cannot say so when it is asked about an object, for its answer has no body; when it is asked for one, it can.
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
            // There by now, or missing itself, or in trouble of another kind that is told elsewhere.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Removes an object; one that is gone already is no error.
    ///
    /// [`JobError::StoreRefuses`] where an object lock or a right forbids it.
    ///
    /// What is not in a store that is gone is not removed: it comes back with it.
    pub async fn remove(&self, key: &str) -> Result<(), JobError> {
        let key = &*admitted(key)?;
        self.require().await?;
        let removed = self.operator.delete(key).await;
        removed.map_err(|error| failure(REMOVE, key, &error))
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
        self.create(key, json).await
    }

    /// Writes an object, whole, once and durably: of two writers at the same instant, exactly one is told [`Created::New`].
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

    /// Makes an object that was just written survive a power cut.
    async fn make_durable(&self, key: &ObjectKey) -> Result<(), JobError> {
        match &self.backend {
            Backend::Directory(directory) => directory.make_durable(key).await,
            Backend::Bucket(_) => Ok(()),
            #[cfg(test)]
            Backend::Memory => Ok(()),
        }
    }
}

/// Returns as little as cannot be sent in one part.
fn two_parts() -> Bytes {
    let bytes = usize::try_from(PART_BYTES_MIN).unwrap_or(usize::MAX - 1);
    Bytes::from(vec![b'?'; bytes + 1])
}

/// Whatever comes to a store under a key comes through here: no other text is ever joined to its path or address.
fn admitted(key: &str) -> Result<ObjectKey, JobError> {
    Ok(key.parse()?)
}

#[cfg(test)]
mod tests;

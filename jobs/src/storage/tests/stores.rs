//! An empty store of each kind, private to one test, and what it holds afterwards.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use opendal::{Operator, services::Memory};

use super::super::{Backend, BucketAccess, Checksums, Credentials, Patience, Storage, WriteOnce};

/// The kinds of stores, which must all behave alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Memory,
    Directory,
    /// An S3 server that supports unfinished uploads, and accepts any signature.
    Moto,
    /// An S3 server that checks signatures and checksums, and does not support unfinished uploads.
    S3s,
    /// The gateway of Ceph, which supports all that lastgood needs.
    Ceph,
    /// Its bucket that keeps versions, where it overwrites, and lastgood was told to accept that.
    CephVersioned,
}

/// A store, with the directory that it needs.
pub(super) struct Store {
    pub(super) storage: Storage,
    directory: Option<tempfile::TempDir>,
}

impl Store {
    /// Returns an empty store. If this machine has no such server, reports the skip and returns `None`.
    pub(super) async fn new(kind: Kind) -> Result<Option<Self>> {
        let store = match kind {
            Kind::Memory => Self {
                storage: Storage {
                    operator: Operator::new(Memory::default())?,
                    backend: Backend::Memory,
                    expected_bytes: 0,
                    meant: None,
                    discards: false,
                },
                directory: None,
            },
            Kind::Directory => {
                let directory = tempfile::tempdir()?;
                let url = directory.path().to_str().unwrap_or_default().parse()?;
                Self {
                    storage: Storage::open(&url).await?,
                    directory: Some(directory),
                }
            }
            Kind::Moto | Kind::S3s | Kind::Ceph | Kind::CephVersioned => {
                let Some(access) = access_if_here(kind)? else {
                    return Ok(None);
                };
                Self::in_bucket_of(kind, &access).await?
            }
        };
        Ok(Some(store))
    }

    /// Returns an empty store in the bucket that the kind means, opened with this access.
    pub(super) async fn in_bucket_of(kind: Kind, access: &BucketAccess) -> Result<Self> {
        let bucket = variable(if kind == Kind::CephVersioned {
            "LASTGOOD_TEST_S3_VERSIONED_BUCKET"
        } else {
            "LASTGOOD_TEST_S3_BUCKET"
        })?;
        Self::at(access, &bucket, &uuid::Uuid::new_v4().to_string()).await
    }

    pub(super) async fn in_bucket(access: &BucketAccess, prefix: &str) -> Result<Self> {
        Self::at(access, &variable("LASTGOOD_TEST_S3_BUCKET")?, prefix).await
    }

    async fn at(access: &BucketAccess, bucket: &str, prefix: &str) -> Result<Self> {
        let url = format!("s3://{bucket}/{prefix}").parse()?;
        Ok(Self {
            storage: Storage::open_with(&url, access).await?,
            directory: None,
        })
    }

    /// Returns the keys of all objects, in order.
    pub(super) async fn objects(&self) -> Result<Vec<String>> {
        let entries = self
            .storage
            .operator
            .lister_with("")
            .recursive(true)
            .await?;
        let mut keys: Vec<String> = entries
            .try_filter_map(|entry| {
                let is_file = entry.metadata().is_file();
                std::future::ready(Ok(is_file.then(|| entry.path().to_owned())))
            })
            .try_collect()
            .await?;
        keys.sort();
        Ok(keys)
    }

    /// Returns how many unfinished files or uploads there are.
    pub(super) async fn unfinished(&self) -> Result<u64> {
        match &self.directory {
            Some(directory) => {
                let partial = std::fs::read_dir(directory.path().join("partial"))?;
                Ok(partial.count() as u64)
            }
            None => Ok(self.storage.unfinished("").await?),
        }
    }
}

/// Returns the access to a test's server. If this machine has none, reports the skip and returns `None`.
pub(super) fn access_if_here(kind: Kind) -> Result<Option<BucketAccess>> {
    let access = access(kind)?;
    let endpoint = access.endpoint.as_deref().unwrap_or_default();
    if let Some(why) = endpoint.strip_prefix("skip: ") {
        // Written past the test runner, which hides the output of a test that passes.
        writeln!(std::io::stderr(), "SKIPPED: {kind:?}: {why}")?;
        return Ok(None);
    }
    Ok(Some(access))
}

/// Returns the access to a test's server, with little patience. `access_if_here` is for one that may not be here.
pub(super) fn access(kind: Kind) -> Result<BucketAccess> {
    let name = match kind {
        Kind::Moto => "MOTO",
        Kind::S3s => "S3S",
        Kind::Ceph | Kind::CephVersioned => "RGW",
        Kind::Memory | Kind::Directory => anyhow::bail!("{kind:?} is no bucket"),
    };
    let of = |what: &str| variable(&format!("LASTGOOD_TEST_S3_{name}_{what}"));
    Ok(BucketAccess {
        endpoint: Some(of("URL")?),
        checksums: Checksums::Crc32c,
        credentials: Some(
            Credentials {
                access_key_id: of("ACCESS_KEY_ID")?,
                secret_access_key: of("SECRET_ACCESS_KEY")?.into(),
                session_token: None,
            }
            .into(),
        ),
        patience: Patience {
            pause: std::time::Duration::from_millis(10),
            ..Patience::default()
        },
        write_once: if kind == Kind::CephVersioned {
            WriteOnce::Looked
        } else {
            WriteOnce::Condition
        },
        ..BucketAccess::default()
    })
}

fn variable(name: &str) -> Result<String> {
    std::env::var(name)
        .with_context(|| format!("{name} is not set: run `make test`, which starts the servers"))
}

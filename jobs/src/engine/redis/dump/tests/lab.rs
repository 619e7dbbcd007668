//! A private store for the dumps of a pretend server, and a look at what is in it afterwards.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;

use super::super::{Begin, dump, follow, replica};
use super::pretend::{Pretend, Script};
use crate::{
    clients::Toolbox,
    engine::{
        address::redis::Address,
        answer::Dumped,
        redis::connection::{Connection, over},
    },
    error::JobError,
    storage::Storage,
    worker::{Lease, Progress, Worker},
};

const KEY: &str = "v1/acme/cache-1/x.rdb.zst";
/// Longer than any of these tests takes.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(1);

struct Alive;

impl Lease for Alive {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }
}

/// A private store, and a worker that dumps into it.
pub(super) struct Lab {
    store: tempfile::TempDir,
    worker: Worker,
}

impl Lab {
    pub(super) async fn new() -> Result<Self> {
        let store = tempfile::tempdir()?;
        let worker = Worker {
            storage: Storage::open(&store.path().display().to_string().parse()?).await?,
            tools: Arc::new(Toolbox::default()),
            work_dir: store.path().to_owned(),
            encrypt_to: None,
            keyring: std::sync::Arc::new(crate::key::NoKeys),
            lease: Arc::new(Alive),
            progress: Arc::new(Progress::default()),
        };
        Ok(Self { store, worker })
    }

    /// Limits the size of dumps to this many bytes.
    pub(super) fn limit_dump(&self, bytes: u64) {
        self.worker
            .progress
            .limit_dump(std::num::NonZeroU64::new(bytes));
    }

    pub(super) async fn dump(&self, server: &Pretend) -> Result<Dumped, JobError> {
        dump(&Address::parse(&server.url().into())?, KEY, &self.worker).await
    }

    /// Dumps over a connection that carries at most `packet` bytes at a time.
    pub(super) async fn dump_in_packets(&self, script: Script, packet: usize) -> Result<Dumped> {
        let (ours, theirs) = tokio::io::duplex(packet);
        let serving = tokio::spawn(super::pretend::serve(theirs, script.into()));
        let mut connection: Connection = over(Box::new(ours), PATIENCE);
        let begin = Begin::note(&mut connection).await?;
        let dumped = match replica::begin(&mut connection).await? {
            replica::Begun::Sending(ending) => {
                follow(connection, ending, begin, KEY, &self.worker).await?
            }
            replica::Begun::Refused(fault) => return Err(fault.into()),
        };
        serving.abort();
        Ok(dumped)
    }

    /// Returns the decompressed dump in the store.
    pub(super) fn stored(&self) -> Result<Vec<u8>> {
        let bytes = std::fs::read(self.store.path().join("objects").join(KEY));
        Ok(zstd::decode_all(&bytes.context("no object")?[..])?)
    }

    /// Returns whether the store holds no files.
    pub(super) fn is_empty(&self) -> Result<bool> {
        let mut directories = vec![self.store.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory)? {
                let path = entry?.path();
                if !path.is_dir() {
                    return Ok(false);
                }
                directories.push(path);
            }
        }
        Ok(true)
    }
}

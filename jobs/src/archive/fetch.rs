//! Stored bytes on their way back, measured, for a thread that may block.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use super::{CHUNKS_WAITING, Damage, Measured, Meter};
use crate::{
    error::JobError,
    manifest::Stored,
    storage::{ObjectKey, Storage},
};

pub(crate) const ARCHIVE: &str = "the archive";

/// The bytes of an object, as a source to read from.
pub(super) struct Fetched {
    chunks: mpsc::Receiver<Result<Bytes, JobError>>,
    chunk: Bytes,
    meter: Meter,
    failure: Option<JobError>,
}

/// Makes sure that the archive is in the store, with its size.
pub(crate) async fn is_there(
    storage: &Storage,
    key: &ObjectKey,
    size_bytes: u64,
) -> Result<(), JobError> {
    let damaged = |source| JobError::Damaged {
        key: key.to_string(),
        source,
    };
    match storage.size(key).await? {
        None => Err(damaged(Damage::Missing)),
        Some(found) if found != size_bytes => {
            let expected = size_bytes;
            Err(damaged(Damage::Size {
                what: ARCHIVE,
                expected,
                found,
            }))
        }
        Some(_) => Ok(()),
    }
}

/// Begins to read the object that a manifest describes, if it is there and has the size that it should.
pub(super) async fn fetch(storage: &Storage, stored: &Stored) -> Result<Fetched, JobError> {
    is_there(storage, &stored.key, stored.size_bytes).await?;
    let bytes = storage.read(&stored.key).await?;
    let (chunks, waiting) = mpsc::channel(CHUNKS_WAITING);
    tokio::spawn(pump(bytes, chunks));
    Ok(Fetched {
        chunks: waiting,
        chunk: Bytes::new(),
        meter: Meter::default(),
        failure: None,
    })
}

async fn pump(
    mut bytes: impl Stream<Item = Result<Bytes, JobError>> + Unpin,
    chunks: mpsc::Sender<Result<Bytes, JobError>>,
) {
    while let Some(chunk) = bytes.next().await {
        if chunks.send(chunk).await.is_err() {
            return;
        }
    }
}

impl Fetched {
    /// Returns what comes next, without taking it. Empty at the end, and after a failure of the store.
    pub(super) fn peek(&mut self) -> &Bytes {
        while self.chunk.is_empty() && self.failure.is_none() {
            match self.chunks.blocking_recv() {
                Some(Ok(chunk)) => {
                    self.meter.update(&chunk);
                    self.chunk = chunk;
                }
                Some(Err(error)) => self.failure = Some(error),
                None => break,
            }
        }
        &self.chunk
    }

    /// Reads what nobody has taken, and returns what all of it measures.
    pub(super) fn finish(mut self) -> Result<Measured, JobError> {
        while !self.peek().is_empty() {
            self.chunk.clear();
        }
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self.meter.finish()),
        }
    }

    /// Returns why the store failed, if it did.
    pub(super) fn into_failure(self) -> Option<JobError> {
        self.failure
    }
}

impl Read for Fetched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = buffer.len().min(self.peek().len());
        if self.failure.is_some() {
            return Err(io::Error::other("the store failed"));
        }
        if let Some(room) = buffer.get_mut(..taken) {
            self.chunk.copy_to_slice(room);
        }
        Ok(taken)
    }
}

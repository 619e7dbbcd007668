//! Reads stored bytes back and measures them, for a thread that may block.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use super::{CHUNKS_WAITING, Measured, Meter};
use crate::{
    error::{Damage, JobError},
    manifest::Stored,
    object_key::ObjectKey,
    storage::Storage,
};

pub(crate) const ARCHIVE: &str = "the archive";

/// The bytes of an object, as a blocking reader.
pub(super) struct Fetched {
    chunks: mpsc::Receiver<Result<Bytes, JobError>>,
    chunk: Bytes,
    meter: Meter,
    failure: Option<JobError>,
}

/// Checks that the archive is in the store and has this size.
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

/// Begins to read the object that a manifest describes, after checking that it is there and has the right size.
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
    /// Returns the next bytes without consuming them. Empty at the end, and after a failure of the store.
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

    /// Reads the remaining bytes, and returns the size and hash of the whole object.
    pub(super) fn finish(mut self) -> Result<Measured, JobError> {
        while !self.peek().is_empty() {
            self.chunk.clear();
        }
        match self.failure {
            Some(error) => Err(error),
            None => Ok(self.meter.finish()),
        }
    }

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

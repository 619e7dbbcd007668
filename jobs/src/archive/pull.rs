//! A dump for a reader that sets its own pace: a thread pulls what the pipeline pushes.

use std::{
    io::{self, Read},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

use super::CHUNKS_WAITING;
use crate::format::{FormatError, Inspect, LEVEL};

/// An inspector that reads the dump on its own thread.
///
/// Dropping it ends the thread's source, and thereby the thread.
pub(crate) struct Pulled<T> {
    chunks: SyncSender<Bytes>,
    thread: Option<JoinHandle<Result<T, FormatError>>>,
    level: i32,
}

impl<T: Send + 'static> Pulled<T> {
    /// Starts the thread. `read` sees the end of the dump as the end of its source, and must read up to it.
    pub(crate) fn start(
        read: impl FnOnce(DumpRead) -> Result<T, FormatError> + Send + 'static,
    ) -> Self {
        let (chunks, waiting) = sync_channel(CHUNKS_WAITING);
        let source = DumpRead {
            source: Source::Pushed(waiting),
            chunk: Bytes::new(),
        };
        let thread = Some(std::thread::spawn(move || read(source)));
        let level = LEVEL;
        Self {
            chunks,
            thread,
            level,
        }
    }

    /// Sets the zstd level at which this dump is compressed.
    pub(crate) fn at_level(self, level: i32) -> Self {
        Self { level, ..self }
    }

    /// Waits for the thread, which has ended or is about to.
    fn join(&mut self) -> Result<T, FormatError> {
        let thread = self.thread.take().ok_or(FormatError::CheckStopped)?;
        thread.join().unwrap_or(Err(FormatError::CheckStopped))
    }
}

impl<T: Send + 'static> Inspect for Pulled<T> {
    type Contents = T;

    fn level(&self) -> i32 {
        self.level
    }

    fn inspect(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        self.inspect_chunk(&Bytes::copy_from_slice(bytes))
    }

    fn inspect_chunk(&mut self, chunk: &Bytes) -> Result<(), FormatError> {
        if self.chunks.send(chunk.clone()).is_ok() {
            return Ok(());
        }
        // A thread that stops reading before the end has found a fault.
        Err(self.join().err().unwrap_or(FormatError::CheckStopped))
    }

    fn finish(mut self) -> Result<T, FormatError> {
        // Dropping the sender ends the source.
        self.chunks = sync_channel(0).0;
        self.join()
    }
}

/// A dump as a blocking source, for threads that may block.
pub(crate) struct DumpRead {
    source: Source,
    chunk: Bytes,
}

enum Source {
    Pushed(Receiver<Bytes>),
    Opened(mpsc::Receiver<Bytes>),
}

impl DumpRead {
    pub(super) fn of(opened: mpsc::Receiver<Bytes>) -> Self {
        Self {
            source: Source::Opened(opened),
            chunk: Bytes::new(),
        }
    }
}

impl Read for DumpRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            let next = match &mut self.source {
                Source::Pushed(chunks) => chunks.recv().ok(),
                Source::Opened(chunks) => chunks.blocking_recv(),
            };
            match next {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let taken = buffer.len().min(self.chunk.len());
        if let Some(room) = buffer.get_mut(..taken) {
            self.chunk.copy_to_slice(room);
        }
        Ok(taken)
    }
}

//! The way back: store → BLAKE3 → zstd → BLAKE3 → dump.

use std::io::{self, Write as _};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{CHUNK_BYTES, CHUNKS_WAITING, Damage, DumpRead, FormatError, Inspect, Measured, Meter};
use crate::{
    error::JobError,
    manifest::{Dump, Stored},
    storage::Storage,
};

pub(crate) const ARCHIVE: &str = "the archive";
pub(crate) const DUMP: &str = "the dump in it";

/// Reads all stored bytes and makes sure that they are those of the manifest. Returns what `inspector` found in the dump.
pub(crate) async fn verify<I: Inspect>(
    storage: &Storage,
    stored: &Stored,
    inspector: I,
) -> Result<I::Contents, JobError> {
    let chunks = fetch(storage, stored).await?;
    let expected = expected_of(stored);
    let work = tokio::task::spawn_blocking(move || {
        let contents = ContentsSink {
            inspector,
            wrong: None,
        };
        verify_chunks(chunks, &expected, contents)
    });
    in_archive(stored, work.await)
}

/// A verified dump on its way out of its archive.
///
/// Its last chunk is held back until size and hash have proved right: a reader that got everything got the dump.
pub(crate) struct Reading {
    chunks: mpsc::Receiver<Bytes>,
    end: JoinHandle<Result<(), Wrong>>,
    stored: Stored,
}

/// Begins to read the dump in an archive.
pub(crate) async fn open(
    storage: &Storage,
    stored: &Stored,
    dump: &Dump,
) -> Result<Reading, JobError> {
    let compressed = fetch(storage, stored).await?;
    let expected = (
        expected_of(stored),
        Measured {
            size_bytes: dump.size_bytes,
            blake3: dump.blake3.clone(),
        },
    );
    let (out, chunks) = mpsc::channel(CHUNKS_WAITING);
    let end =
        tokio::task::spawn_blocking(move || open_chunks(compressed, &expected.0, &expected.1, out));
    Ok(Reading {
        chunks,
        end,
        stored: stored.clone(),
    })
}

impl Reading {
    /// Returns the next chunk, `None` at the end or at a failure: [`Reading::finish`] tells them apart.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.chunks.recv().await
    }

    /// Says whether the dump was whole.
    pub(crate) async fn finish(mut self) -> Result<(), JobError> {
        self.chunks.close();
        in_archive(&self.stored, self.end.await)
    }

    /// Returns the dump as a source for a thread that may block, and its end.
    ///
    /// Whatever the thread makes of the source: it got the dump only if [`ReadingEnd::finish`] says so.
    pub(crate) fn into_read(self) -> (DumpRead, ReadingEnd) {
        let end = ReadingEnd {
            end: self.end,
            stored: self.stored,
        };
        (DumpRead::of(self.chunks), end)
    }
}

/// How a reading ended. Ask after its source has been dropped.
pub(crate) struct ReadingEnd {
    end: JoinHandle<Result<(), Wrong>>,
    stored: Stored,
}

impl ReadingEnd {
    /// Says whether the dump was whole.
    pub(crate) async fn finish(self) -> Result<(), JobError> {
        in_archive(&self.stored, self.end.await)
    }
}

/// What stops a reading.
#[derive(Debug)]
enum Wrong {
    Damage(Damage),
    Store(JobError),
    /// Nobody takes the dump any more.
    Unwanted,
}

fn in_archive<T>(
    stored: &Stored,
    result: Result<Result<T, Wrong>, tokio::task::JoinError>,
) -> Result<T, JobError> {
    let stopped = JobError::Stopped {
        what: "the reading of the archive",
    };
    match result {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Wrong::Damage(source))) => Err(JobError::Damaged {
            key: stored.key.clone(),
            source,
        }),
        Ok(Err(Wrong::Store(error))) => Err(error),
        Ok(Err(Wrong::Unwanted)) | Err(_) => Err(stopped),
    }
}

fn expected_of(stored: &Stored) -> Measured {
    Measured {
        size_bytes: stored.size_bytes,
        blake3: stored.blake3.clone(),
    }
}

/// Makes sure that the archive is in the store, with its size.
pub(crate) async fn is_there(storage: &Storage, stored: &Stored) -> Result<(), JobError> {
    let damaged = |source| JobError::Damaged {
        key: stored.key.clone(),
        source,
    };
    match storage.size(&stored.key).await? {
        None => Err(damaged(Damage::Missing)),
        Some(found) if found != stored.size_bytes => {
            let expected = stored.size_bytes;
            Err(damaged(Damage::Size {
                what: ARCHIVE,
                expected,
                found,
            }))
        }
        Some(_) => Ok(()),
    }
}

/// Streams the stored bytes into a short queue that a thread can wait on.
async fn fetch(
    storage: &Storage,
    stored: &Stored,
) -> Result<mpsc::Receiver<Result<Bytes, JobError>>, JobError> {
    is_there(storage, stored).await?;
    let bytes = storage.read(&stored.key).await?;
    let (chunks, waiting) = mpsc::channel(CHUNKS_WAITING);
    tokio::spawn(pump(bytes, chunks));
    Ok(waiting)
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

fn verify_chunks<I: Inspect>(
    mut chunks: mpsc::Receiver<Result<Bytes, JobError>>,
    expected: &Measured,
    contents: ContentsSink<I>,
) -> Result<I::Contents, Wrong> {
    let mut archive = Meter::default();
    let mut zstd = decoder(contents)?;
    let mut unreadable = None;
    while let Some(chunk) = chunks.blocking_recv() {
        let chunk = chunk.map_err(Wrong::Store)?;
        archive.update(&chunk);
        let is_enough = zstd.get_ref().is_enough() || unreadable.is_some();
        if !is_enough && let Err(error) = zstd.write_all(&chunk).and_then(|()| zstd.flush()) {
            unreadable = Some(error);
        }
    }
    // The hash first: it explains every other fault.
    compare(ARCHIVE, expected, &archive.finish())?;
    let contents = zstd.into_inner();
    match (contents.wrong, unreadable) {
        (Some(wrong), _) => Err(Wrong::Damage(Damage::Dump(wrong))),
        (None, Some(error)) => Err(unreadable_by_zstd(&error)),
        (None, None) => contents
            .inspector
            .finish()
            .map_err(|wrong| Wrong::Damage(Damage::Dump(wrong))),
    }
}

/// Feeds an inspector until it is satisfied.
struct ContentsSink<I> {
    inspector: I,
    wrong: Option<FormatError>,
}

impl<I: Inspect> ContentsSink<I> {
    fn is_enough(&self) -> bool {
        self.inspector.is_satisfied() || self.wrong.is_some()
    }
}

impl<I: Inspect> io::Write for ContentsSink<I> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_enough() {
            self.wrong = self.inspector.inspect(bytes).err();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open_chunks(
    mut chunks: mpsc::Receiver<Result<Bytes, JobError>>,
    expected_archive: &Measured,
    expected_dump: &Measured,
    out: mpsc::Sender<Bytes>,
) -> Result<(), Wrong> {
    let mut archive = Meter::default();
    let mut zstd = decoder(DumpSink {
        meter: Meter::default(),
        buffer: BytesMut::with_capacity(CHUNK_BYTES),
        held: Bytes::new(),
        out,
        is_unwanted: false,
    })?;
    while let Some(chunk) = chunks.blocking_recv() {
        let chunk = chunk.map_err(Wrong::Store)?;
        archive.update(&chunk);
        if let Err(error) = zstd.write_all(&chunk) {
            return Err(zstd.get_ref().explain(&error));
        }
    }
    if let Err(error) = zstd.flush() {
        return Err(zstd.get_ref().explain(&error));
    }
    let mut dump = zstd.into_inner();
    if let Err(error) = dump.hold() {
        return Err(dump.explain(&error));
    }
    compare(ARCHIVE, expected_archive, &archive.finish())?;
    compare(DUMP, expected_dump, &dump.meter.finish())?;
    dump.release().map_err(|_| Wrong::Unwanted)
}

/// Takes decompressed bytes: measures them and passes them on in chunks, one chunk behind.
struct DumpSink {
    meter: Meter,
    buffer: BytesMut,
    held: Bytes,
    out: mpsc::Sender<Bytes>,
    is_unwanted: bool,
}

impl DumpSink {
    /// Passes on the chunk that was held, and holds what has gathered.
    fn hold(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.release()?;
        let full = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(CHUNK_BYTES));
        self.meter.update(&full);
        self.held = full.freeze();
        Ok(())
    }

    fn release(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        if held.is_empty() {
            return Ok(());
        }
        self.out.blocking_send(held).map_err(|_| {
            self.is_unwanted = true;
            io::Error::other("nobody takes the dump any more")
        })
    }

    fn explain(&self, error: &io::Error) -> Wrong {
        if self.is_unwanted {
            Wrong::Unwanted
        } else {
            unreadable_by_zstd(error)
        }
    }
}

impl io::Write for DumpSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.buffer.capacity() - self.buffer.len());
        self.buffer
            .extend_from_slice(bytes.get(..taken).unwrap_or_default());
        if self.buffer.len() == self.buffer.capacity() {
            self.hold()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn decoder<W: io::Write>(sink: W) -> Result<zstd::stream::write::Decoder<'static, W>, Wrong> {
    zstd::stream::write::Decoder::new(sink).map_err(|error| unreadable_by_zstd(&error))
}

fn unreadable_by_zstd(error: &io::Error) -> Wrong {
    Wrong::Damage(Damage::Compression(error.to_string()))
}

fn compare(what: &'static str, expected: &Measured, found: &Measured) -> Result<(), Wrong> {
    if expected.size_bytes != found.size_bytes {
        let (expected, found) = (expected.size_bytes, found.size_bytes);
        return Err(Wrong::Damage(Damage::Size {
            what,
            expected,
            found,
        }));
    }
    if expected.blake3 != found.blake3 {
        return Err(Wrong::Damage(Damage::Hash { what }));
    }
    Ok(())
}

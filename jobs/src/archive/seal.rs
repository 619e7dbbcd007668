//! The way out: dump → BLAKE3 → zstd → age → BLAKE3 → store. Behind the dump follows the list of its contents.

use std::{
    cell::Cell,
    io::{self, Write as _},
    pin::pin,
    rc::Rc,
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::{mpsc, oneshot},
};

use super::{CHUNK_BYTES, CHUNKS_WAITING, Measured, Meter, encryption::Wrapping};
use crate::{
    contents::{Contents, Recorded},
    format::{FormatError, Inspect},
    key::ArchiveKey,
    storage::UploadWriter,
    worker::Progress,
};

/// A dump that has been handed to the store in full.
#[derive(Debug)]
pub(crate) struct Sealed<T> {
    pub(crate) dump: Measured,
    pub(crate) archive: Measured,
    /// What the dump holds, item by item.
    pub(crate) items: Contents,
    /// The list of these, as it stands in the archive; `None` if it is too large.
    pub(crate) recorded: Option<Recorded>,
    /// What the inspector found, or what it misses in a dump that has ended.
    pub(crate) contents: Result<T, FormatError>,
}

/// Why a dump could not be sealed.
#[derive(Debug)]
pub(crate) enum SealError {
    /// The dump could not be read, compressed or encrypted, or its contents could not be recorded.
    Io(io::Error),
    /// The inspector refused the dump.
    Refused(FormatError),
    /// The dump is larger than its limit.
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The upload failed; the upload itself knows why.
    Upload,
    /// A thread panicked.
    Stopped,
}

/// Streams `dump` through `inspector`, compression and, given a `key`, encryption `into` an upload, and measures both
/// ends.
///
/// Calls `on_first_chunk` once, when the dump begins to flow. Dropping the future stops the threads. The upload is then
/// unfinished, and dropping its handle removes it.
pub(crate) async fn seal<I: Inspect>(
    dump: impl Stream<Item = io::Result<Bytes>>,
    inspector: I,
    key: Option<ArchiveKey>,
    into: UploadWriter,
    progress: Arc<Progress>,
    on_first_chunk: impl FnOnce(),
) -> Result<Sealed<I::Contents>, SealError> {
    let (chunks, waiting) = mpsc::channel(CHUNKS_WAITING);
    let (looked_at, ready) = mpsc::channel(CHUNKS_WAITING);
    let (listed, list) = oneshot::channel();
    // On two threads, so that one chunk is inspected while another is compressed: a fast dump then waits for the slower
    // of the two, not for both.
    let (pressing, level) = (progress.clone(), inspector.level());
    let look = tokio::task::spawn_blocking(move || {
        look(waiting, inspector, &progress, &looked_at, listed)
    });
    let press = tokio::task::spawn_blocking(move || {
        press(ready, list, level, key.as_ref(), into, &pressing)
    });
    let pumped = pump(dump, chunks, on_first_chunk).await;
    let looked = look.await.map_err(|_| SealError::Stopped)?;
    let pressed = press.await.map_err(|_| SealError::Stopped)?;
    pumped.map_err(SealError::Io)?;
    let Looked {
        dump,
        items,
        recorded,
        contents,
    } = looked?;
    // Before the contents are looked at: a failed `press` stops `look`, which then misses the end of the dump.
    let archive = pressed?;
    Ok(Sealed {
        dump,
        archive,
        items,
        recorded,
        contents,
    })
}

/// Returns what a reader yields, gathered into full chunks: a pipe yields far less at a time.
pub(crate) fn in_chunks(reader: impl AsyncRead + Unpin) -> impl Stream<Item = io::Result<Bytes>> {
    futures::stream::try_unfold(reader, async |mut reader| {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        while chunk.len() < chunk.capacity() && reader.read_buf(&mut chunk).await? > 0 {}
        Ok((!chunk.is_empty()).then(|| (chunk.freeze(), reader)))
    })
}

/// Reads the dump to its end. Stops early, without an error, when the next stage has stopped: that stage knows why.
async fn pump(
    dump: impl Stream<Item = io::Result<Bytes>>,
    chunks: mpsc::Sender<Bytes>,
    on_first_chunk: impl FnOnce(),
) -> io::Result<()> {
    let mut dump = pin!(dump);
    let mut next = dump.next().await.transpose()?;
    on_first_chunk();
    while let Some(chunk) = next {
        if chunks.send(chunk).await.is_err() {
            break;
        }
        next = dump.try_next().await?;
    }
    Ok(())
}

/// What is known of a dump that has passed.
struct Looked<T> {
    dump: Measured,
    items: Contents,
    recorded: Option<Recorded>,
    /// What the inspector found in it, or misses.
    contents: Result<T, FormatError>,
}

/// Feeds the dump to its inspector, measures it, and passes it on. Stops when the inspector refuses it, and at the
/// first byte beyond the limit. The limit is enforced here so that it bounds every engine's dumps.
///
/// Last, hands over the list of what the dump holds.
fn look<I: Inspect>(
    mut chunks: mpsc::Receiver<Bytes>,
    mut inspector: I,
    progress: &Progress,
    looked_at: &mpsc::Sender<Bytes>,
    listed: oneshot::Sender<Vec<u8>>,
) -> Result<Looked<I::Contents>, SealError> {
    let mut dump = Meter::default();
    let mut left = progress.dump_limit();
    while let Some(chunk) = chunks.blocking_recv() {
        if let Some(left) = &mut left {
            let limit_bytes = progress.dump_limit().unwrap_or_default();
            *left = left
                .checked_sub(chunk.len() as u64)
                .ok_or(SealError::TooLarge { limit_bytes })?;
        }
        inspector
            .inspect_chunk(&chunk)
            .map_err(SealError::Refused)?;
        progress.add_dump(chunk.len() as u64);
        dump.update(&chunk);
        if looked_at.blocking_send(chunk).is_err() {
            break;
        }
    }
    let items = inspector.contents();
    let (frame, recorded) = match items.to_frame() {
        Ok((frame, recorded)) => (frame, Some(recorded)),
        // A backup counts more than its proof.
        Err(error) => {
            tracing::warn!(%error, "the archive has no list of its contents, and no drill can prove it");
            (Vec::new(), None)
        }
    };
    // If nobody listens, the next stage has failed and knows why.
    let _taken = listed.send(frame);
    Ok(Looked {
        dump: dump.finish(),
        items,
        recorded,
        contents: inspector.finish(),
    })
}

/// Compresses and encrypts the chunks and the list behind them, measures the result, and hands it to the upload.
fn press(
    chunks: mpsc::Receiver<Bytes>,
    list: oneshot::Receiver<Vec<u8>>,
    level: i32,
    key: Option<&ArchiveKey>,
    into: UploadWriter,
    progress: &Progress,
) -> Result<Measured, SealError> {
    if !into.is_kept() {
        return Ok(pass_by(chunks));
    }
    let has_failed = Rc::new(Cell::new(false));
    let archive = ArchiveSink {
        meter: Meter::default(),
        buffer: BytesMut::with_capacity(CHUNK_BYTES),
        into,
        has_failed: has_failed.clone(),
        progress,
    };
    press_into(archive, chunks, list, level, key).map_err(|error| {
        if has_failed.get() {
            SealError::Upload
        } else {
            SealError::Io(error)
        }
    })
}

/// Lets the chunks of a dump pass that nobody keeps.
fn pass_by(mut chunks: mpsc::Receiver<Bytes>) -> Measured {
    while chunks.blocking_recv().is_some() {}
    Meter::default().finish()
}

fn press_into(
    archive: ArchiveSink<'_>,
    mut chunks: mpsc::Receiver<Bytes>,
    list: oneshot::Receiver<Vec<u8>>,
    level: i32,
    key: Option<&ArchiveKey>,
) -> io::Result<Measured> {
    let wrapping = Wrapping::begin(archive, key)?;
    let mut zstd = zstd::stream::write::Encoder::new(wrapping, level)?;
    zstd.include_checksum(true)?;
    while let Some(chunk) = chunks.blocking_recv() {
        zstd.write_all(&chunk)?;
    }
    let mut wrapping = zstd.finish()?;
    // Only after the last chunk: the other stage, which has the list, waits for us while it has chunks.
    match list.blocking_recv() {
        Ok(frame) => wrapping.write_all(&frame)?,
        Err(_) => return Err(io::Error::other("the dump was not read to its end")),
    }
    let mut archive = wrapping.finish()?;
    archive.send()?;
    Ok(archive.meter.finish())
}

/// A sink for the stored bytes: measures them and passes them on in chunks.
struct ArchiveSink<'a> {
    meter: Meter,
    buffer: BytesMut,
    into: UploadWriter,
    /// Outlives the sink, which is dropped on an error.
    has_failed: Rc<Cell<bool>>,
    progress: &'a Progress,
}

impl ArchiveSink<'_> {
    fn send(&mut self) -> io::Result<()> {
        let full = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(CHUNK_BYTES));
        self.meter.update(&full);
        self.progress.add_stored(full.len() as u64);
        self.into.blocking_write(full.freeze()).map_err(|_| {
            self.has_failed.set(true);
            io::Error::other("the upload failed")
        })
    }
}

impl io::Write for ArchiveSink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.buffer.capacity() - self.buffer.len());
        self.buffer
            .extend_from_slice(bytes.get(..taken).unwrap_or_default());
        if self.buffer.len() == self.buffer.capacity() {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! The way back: store → BLAKE3 → age → zstd → BLAKE3 → dump.

use std::io::{self, Write as _};

use bytes::{Bytes, BytesMut};
use tokio::{sync::mpsc, task::JoinHandle};
use uuid::Uuid;

use super::{
    CHUNK_BYTES, CHUNKS_WAITING, DumpRead, Measured, Meter,
    encryption::Unwrapping,
    fetch::{ARCHIVE, Fetched, fetch},
};
use crate::{
    error::{Damage, JobError},
    format::{FormatError, Inspect},
    key::{Identity, KeyError, Keyring},
    manifest::{Dump, Stored},
    storage::Storage,
};

pub(crate) const DUMP: &str = "the dump in it";

/// Reads all stored bytes and checks them against the manifest. Returns what `inspector` found in the dump.
pub(crate) async fn verify<I: Inspect>(
    storage: &Storage,
    keyring: &dyn Keyring,
    stored: &Stored,
    inspector: I,
) -> Result<I::Contents, JobError> {
    let identity = identity(stored, keyring).await?;
    let source = fetch(storage, stored).await?;
    let expected = expected_of(stored);
    let work = tokio::task::spawn_blocking(move || {
        let contents = ContentsSink {
            inspector,
            wrong: None,
        };
        verify_chunks(source, identity.as_ref(), &expected, contents)
    });
    in_archive(stored, work.await)
}

/// Checks that `keyring` opens an archive, by reading its header. Returns the key's id, or `None` if the archive is not
/// encrypted.
pub(crate) async fn opens(
    storage: &Storage,
    stored: &Stored,
    keyring: &dyn Keyring,
) -> Result<Option<Uuid>, JobError> {
    let Some(identity) = identity(stored, keyring).await? else {
        return Ok(None);
    };
    let source = fetch(storage, stored).await?;
    let work = tokio::task::spawn_blocking(move || open_header(source, &identity));
    in_archive(stored, work.await)?;
    Ok(stored.encryption.as_ref().map(|encryption| encryption.key))
}

/// A verified dump on its way out of its archive.
///
/// The last chunk is held back until size and hash have been checked: a reader that got every chunk got the right dump.
pub(crate) struct Reading {
    chunks: mpsc::Receiver<Bytes>,
    end: JoinHandle<Result<(), Wrong>>,
    stored: Stored,
}

/// Begins to read the dump in an archive.
pub(crate) async fn open(
    storage: &Storage,
    keyring: &dyn Keyring,
    stored: &Stored,
    dump: &Dump,
) -> Result<Reading, JobError> {
    let identity = identity(stored, keyring).await?;
    let source = fetch(storage, stored).await?;
    let expected = (
        expected_of(stored),
        Measured {
            size_bytes: dump.size_bytes,
            blake3: dump.blake3.clone(),
        },
    );
    let (out, chunks) = mpsc::channel(CHUNKS_WAITING);
    let end = tokio::task::spawn_blocking(move || {
        open_chunks(source, identity.as_ref(), &expected.0, &expected.1, out)
    });
    Ok(Reading {
        chunks,
        end,
        stored: stored.clone(),
    })
}

impl Reading {
    /// Returns the next chunk. `None` means the end or a failure: [`Reading::finish`] tells which.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.chunks.recv().await
    }

    /// Checks that the dump was whole.
    pub(crate) async fn finish(mut self) -> Result<(), JobError> {
        self.chunks.close();
        in_archive(&self.stored, self.end.await)
    }

    /// Returns the dump as a blocking source, and a handle on its end.
    ///
    /// The thread has read the right dump only if [`ReadingEnd::finish`] says so, whatever it made of the source.
    pub(crate) fn into_read(self) -> (DumpRead, ReadingEnd) {
        let end = ReadingEnd {
            end: self.end,
            stored: self.stored,
        };
        (DumpRead::of(self.chunks), end)
    }
}

/// How a reading ended. Ask only after its source has been dropped.
pub(crate) struct ReadingEnd {
    end: JoinHandle<Result<(), Wrong>>,
    stored: Stored,
}

impl ReadingEnd {
    /// Checks that the dump was whole.
    pub(crate) async fn finish(self) -> Result<(), JobError> {
        in_archive(&self.stored, self.end.await)
    }
}

/// Why a reading stopped.
#[derive(Debug)]
pub(super) enum Wrong {
    Damage(Damage),
    Store(JobError),
    /// The reader of the dump has gone.
    Unwanted,
}

pub(super) fn in_archive<T>(
    stored: &Stored,
    result: Result<Result<T, Wrong>, tokio::task::JoinError>,
) -> Result<T, JobError> {
    let stopped = JobError::Stopped {
        what: "reading the archive",
    };
    match result {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Wrong::Damage(source))) => Err(JobError::of_archive(&stored.key, source)),
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

/// Returns the identity that opens the archive, or `None` if the archive is not encrypted.
pub(super) async fn identity(
    stored: &Stored,
    keyring: &dyn Keyring,
) -> Result<Option<Identity>, JobError> {
    let Some(encryption) = &stored.encryption else {
        return Ok(None);
    };
    let (key, recipient) = (encryption.key, &encryption.recipient);
    let identity = keyring.identity(key, recipient).await?;
    let found = identity.recipient();
    if found != *recipient {
        let recipient = recipient.clone();
        return Err(JobError::Key(KeyError::Other {
            key,
            recipient,
            found,
        }));
    }
    Ok(Some(identity))
}

fn open_header(mut source: Fetched, identity: &Identity) -> Result<(), Wrong> {
    let head = source.peek().clone();
    let opened = Unwrapping::begin(&head, &mut source, Some(identity)).map(|_| ());
    explained(source, opened)
}

/// Reports a failure of the store before any other fault, which it explains.
pub(super) fn explained(source: Fetched, result: Result<(), Damage>) -> Result<(), Wrong> {
    match (source.into_failure(), result) {
        (Some(error), _) => Err(Wrong::Store(error)),
        (None, result) => result.map_err(Wrong::Damage),
    }
}

/// Checks the size and the hash of all stored bytes.
pub(super) fn compare_stored(source: Fetched, stored: &Stored) -> Result<(), Wrong> {
    let found = source.finish().map_err(Wrong::Store)?;
    compare(ARCHIVE, &expected_of(stored), &found)
}

fn verify_chunks<I: Inspect>(
    mut source: Fetched,
    identity: Option<&Identity>,
    expected: &Measured,
    contents: ContentsSink<I>,
) -> Result<I::Contents, Wrong> {
    let mut zstd = decoder(contents)?;
    let shown = show(&mut source, identity, &mut zstd);
    // The hash first: a wrong one explains every other fault.
    compare(ARCHIVE, expected, &source.finish().map_err(Wrong::Store)?)?;
    let contents = zstd.into_inner();
    match (contents.wrong, shown) {
        (Some(wrong), _) => Err(Wrong::Damage(Damage::Dump(wrong))),
        (None, Err(damage)) => Err(Wrong::Damage(damage)),
        (None, Ok(())) => contents
            .inspector
            .finish()
            .map_err(|wrong| Wrong::Damage(Damage::Dump(wrong))),
    }
}

/// Feeds the dump to its inspector until that has seen enough.
fn show<I: Inspect>(
    source: &mut Fetched,
    identity: Option<&Identity>,
    zstd: &mut Decoder<ContentsSink<I>>,
) -> Result<(), Damage> {
    let head = source.peek().clone();
    let mut compressed = Unwrapping::begin(&head, source, identity)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    while !zstd.get_ref().is_enough() {
        let read = compressed.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        let written = zstd.write_all(bytes).and_then(|()| zstd.flush());
        written.map_err(|error| unreadable_by_zstd(&error))?;
    }
    Ok(())
}

/// A sink that feeds an inspector until that is satisfied or finds a fault.
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
    mut source: Fetched,
    identity: Option<&Identity>,
    expected_archive: &Measured,
    expected_dump: &Measured,
    out: mpsc::Sender<Bytes>,
) -> Result<(), Wrong> {
    let mut zstd = decoder(DumpSink {
        meter: Meter::default(),
        buffer: BytesMut::with_capacity(CHUNK_BYTES),
        held: Bytes::new(),
        out,
        is_unwanted: false,
    })?;
    let unpacked = unpack(&mut source, identity, &mut zstd);
    let mut dump = zstd.into_inner();
    if dump.is_unwanted {
        return Err(Wrong::Unwanted);
    }
    if unpacked.is_err() {
        return explained(source, unpacked);
    }
    dump.hold().map_err(|_| Wrong::Unwanted)?;
    let archive = source.finish().map_err(Wrong::Store)?;
    compare(ARCHIVE, expected_archive, &archive)?;
    compare(DUMP, expected_dump, &dump.meter.finish())?;
    dump.release().map_err(|_| Wrong::Unwanted)
}

/// Decrypts and decompresses the whole archive into the sink.
fn unpack(
    source: &mut Fetched,
    identity: Option<&Identity>,
    zstd: &mut Decoder<DumpSink>,
) -> Result<(), Damage> {
    let head = source.peek().clone();
    let mut compressed = Unwrapping::begin(&head, source, identity)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = compressed.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        zstd.write_all(bytes)
            .map_err(|error| unreadable_by_zstd(&error))?;
    }
    zstd.flush().map_err(|error| unreadable_by_zstd(&error))
}

/// A sink for decompressed bytes: measures them and passes them on in chunks, one chunk behind.
struct DumpSink {
    meter: Meter,
    buffer: BytesMut,
    held: Bytes,
    out: mpsc::Sender<Bytes>,
    is_unwanted: bool,
}

impl DumpSink {
    /// Passes on the held chunk, and holds the bytes gathered since.
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
            io::Error::other("the reader of the dump is gone")
        })
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

type Decoder<W> = zstd::stream::write::Decoder<'static, W>;

fn decoder<W: io::Write>(sink: W) -> Result<Decoder<W>, Wrong> {
    Decoder::new(sink).map_err(|error| Wrong::Damage(unreadable_by_zstd(&error)))
}

fn unreadable_by_zstd(error: &io::Error) -> Damage {
    Damage::Compression(error.to_string())
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

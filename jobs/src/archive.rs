//! The archive: a dump, compressed, encrypted if there is a key, and hashed on its way to the store; verified on its
//! way back.
//!
//! In both directions the bytes stream through threads with short queues between them, so that memory stays within a
//! few MiB whatever the size of the database.

mod encryption;
mod fetch;
mod list;
mod open;
mod pull;
mod seal;

pub(crate) use self::{
    fetch::{ARCHIVE, is_there},
    list::contents,
    open::{DUMP, Reading, open, opens, verify},
    pull::{DumpRead, Pulled},
    seal::{SealError, Sealed, in_chunks, seal},
};

/// How many bytes pass between two stages at a time.
const CHUNK_BYTES: usize = 512 * 1024;
/// How many chunks may wait between two stages.
const CHUNKS_WAITING: usize = 4;

/// The size and hash of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) size_bytes: u64,
    /// 64 lower-case hex digits, as manifests record it.
    pub(crate) blake3: String,
}

/// Measures a stream as it passes.
#[derive(Default)]
pub(crate) struct Meter {
    hasher: blake3::Hasher,
    size_bytes: u64,
}

impl Meter {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size_bytes += bytes.len() as u64;
    }

    pub(crate) fn finish(&self) -> Measured {
        Measured {
            size_bytes: self.size_bytes,
            blake3: self.hasher.finalize().to_hex().to_string(),
        }
    }
}

#[cfg(test)]
mod tests;

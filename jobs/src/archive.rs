//! The archive: a dump, compressed, encrypted where there is a key, and hashed on its way to the store; verified on its way back.
//!
//! In both directions bytes stream through threads that do this, between short queues: memory
//! is bounded by a few MiB whatever the size of the database.

mod encryption;
mod fetch;
mod open;
mod pull;
mod seal;

pub(crate) use self::{
    fetch::{ARCHIVE, is_there},
    open::{DUMP, Reading, open, opens, verify},
    pull::{DumpRead, Pulled},
    seal::{SealError, Sealed, in_chunks, seal},
};
use bytes::Bytes;

use crate::engine::{mongodb::archive_format, postgres::custom_format, redis::rdb};

/// The name of the compression, as manifests record it.
pub(crate) const COMPRESSION: &str = "zstd";
/// The lowest of the ordinary ones: on two cores a higher level slows the dump beside it, and what it gains in size is little
/// (BENCHMARKS.md). A format may ask for another, see [`Inspect::level`].
const LEVEL: i32 = 1;
/// How much passes between two stages at a time.
const CHUNK_BYTES: usize = 512 * 1024;
/// How many chunks may wait between two stages.
const CHUNKS_WAITING: usize = 4;

/// Looks at a dump as it flies by, and may refuse it. Works on a thread that may block.
pub(crate) trait Inspect: Send + 'static {
    /// What it knows of a dump that was whole.
    type Contents: Send + 'static;

    /// Returns zstd's level for such a dump.
    fn level(&self) -> i32 {
        LEVEL
    }

    /// Takes the next bytes.
    fn inspect(&mut self, bytes: &[u8]) -> Result<(), FormatError>;

    /// Takes the next bytes, which it may keep without a copy.
    fn inspect_chunk(&mut self, chunk: &Bytes) -> Result<(), FormatError> {
        self.inspect(chunk)
    }

    /// Returns whether it has seen what it wanted to see: a verification then stops to show it more.
    fn is_satisfied(&self) -> bool {
        false
    }

    /// Says, after the last byte, whether the dump was whole.
    fn finish(self) -> Result<Self::Contents, FormatError>;
}

/// What is wrong with a dump by the rules of its own format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// `pg_dump`'s custom format.
    #[error(transparent)]
    Postgres(#[from] custom_format::FormatError),
    /// The RDB of Redis and Valkey.
    #[error(transparent)]
    Redis(#[from] rdb::FormatError),
    /// `mongodump`'s archive.
    #[error(transparent)]
    Mongodb(#[from] archive_format::FormatError),
    /// A fault of ours: nothing is known of the dump.
    #[error("its check stopped before its end")]
    CheckStopped,
}

impl FormatError {
    /// Returns whether nothing is wrong with the bytes, as far as this build can tell: it does not know what they are. A newer one may.
    pub(crate) fn is_unknown(&self) -> bool {
        match self {
            Self::Postgres(error) => matches!(error, custom_format::FormatError::Version { .. }),
            Self::Mongodb(error) => matches!(error, archive_format::FormatError::Version { .. }),
            Self::Redis(error) => error.is_unknown(),
            Self::CheckStopped => false,
        }
    }
}

/// The size and hash of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) size_bytes: u64,
    /// 64 lower-case hex digits, as manifests record it.
    pub(crate) blake3: String,
}

/// Measures a stream as it flies by.
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

/// What is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The object is gone.
    #[error("it is missing from the store")]
    Missing,
    /// Another size than the manifest's.
    #[error("{what} has {found} bytes, and its manifest says {expected}")]
    Size {
        /// `the archive` or `the dump in it`.
        what: &'static str,
        /// The manifest's.
        expected: u64,
        /// The object's.
        found: u64,
    },
    /// Other bytes than were stored.
    #[error("the BLAKE3 of {what} is not the one in its manifest")]
    Hash {
        /// `the archive` or `the dump in it`.
        what: &'static str,
    },
    /// Bytes that age refuses.
    #[error("it does not decrypt: {0}")]
    Encryption(&'static str),
    /// Bytes of age where the manifest knows of none.
    #[error("it is encrypted, and its manifest says that it is not")]
    Encrypted,
    /// Bytes of zstd where the manifest says age.
    #[error(
        "it is not encrypted, and its manifest says that it is: somebody else may have put it there"
    )]
    NotEncrypted,
    /// Bytes that zstd cannot read.
    #[error("it does not decompress: {0}")]
    Compression(String),
    /// A dump that is none.
    #[error("the dump in it is not whole")]
    Dump(#[source] FormatError),
}

#[cfg(test)]
mod tests;

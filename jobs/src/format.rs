//! The native dump formats, byte by byte: read as they stream by, and refused if they are not whole.
//!
//! Nothing here knows of servers, stores or archives.

pub mod mongodump;
pub mod pg_dump;
pub(crate) mod rdb;

use bytes::Bytes;

/// The lowest of zstd's regular levels. On two cores, a higher level slows down the dump that runs beside it, and gains
/// little in size (BENCHMARKS.md). A format may ask for another, see [`Inspect::level`].
pub(crate) const LEVEL: i32 = 1;
/// Inspects a dump as it streams by, and may refuse it. Runs on a thread that may block.
pub(crate) trait Inspect: Send + 'static {
    /// What it knows of a whole dump.
    type Contents: Send + 'static;

    /// Returns the zstd level for such a dump.
    fn level(&self) -> i32 {
        LEVEL
    }

    /// Takes the next bytes.
    fn inspect(&mut self, bytes: &[u8]) -> Result<(), FormatError>;

    /// Takes the next bytes, which it may keep without copying.
    fn inspect_chunk(&mut self, chunk: &Bytes) -> Result<(), FormatError> {
        self.inspect(chunk)
    }

    /// Returns whether it has seen enough: a verification then passes it no more bytes.
    fn is_satisfied(&self) -> bool {
        false
    }

    /// Returns what the dump holds, item by item. To be called after the last byte, before [`Inspect::finish`].
    fn contents(&mut self) -> crate::contents::Contents {
        crate::contents::Contents::default()
    }

    /// Returns, after the last byte, whether the dump was whole.
    fn finish(self) -> Result<Self::Contents, FormatError>;
}

/// What is wrong with a dump by the rules of its own format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// In `pg_dump`'s custom format.
    #[error(transparent)]
    Postgres(#[from] pg_dump::FormatError),
    /// In the RDB of Redis and Valkey.
    #[error(transparent)]
    Redis(#[from] rdb::FormatError),
    /// In `mongodump`'s archive.
    #[error(transparent)]
    Mongodb(#[from] mongodump::FormatError),
    /// A fault of ours, which says nothing about the dump.
    #[error("its check stopped before its end")]
    CheckStopped,
}

impl FormatError {
    /// Returns whether the bytes are of a version or type that this build does not know. They may be fine, and a newer
    /// build may know them.
    pub(crate) fn is_unknown(&self) -> bool {
        match self {
            Self::Postgres(error) => matches!(error, pg_dump::FormatError::Version { .. }),
            Self::Mongodb(error) => matches!(error, mongodump::FormatError::Version { .. }),
            Self::Redis(error) => error.is_unknown(),
            Self::CheckStopped => false,
        }
    }
}

//! The ways in which an archive can be damaged.

use crate::format::FormatError;

/// Damage to an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The object is missing.
    #[error("it is missing from the store")]
    Missing,
    /// Its size is not the manifest's.
    #[error("{what} has {found} bytes, but its manifest says {expected}")]
    Size {
        /// `the archive` or `the dump in it`.
        what: &'static str,
        /// The size in the manifest.
        expected: u64,
        /// The size that was found.
        found: u64,
    },
    /// Its bytes are not the ones that were stored.
    #[error("the BLAKE3 of {what} is not the one in its manifest")]
    Hash {
        /// `the archive` or `the dump in it`.
        what: &'static str,
    },
    /// age refuses the bytes.
    #[error("it does not decrypt: {0}")]
    Encryption(&'static str),
    /// The object is encrypted, and its manifest says that it is not.
    #[error("it is encrypted, but its manifest says that it is not")]
    Encrypted,
    /// The object is not encrypted, and its manifest says that it is.
    #[error(
        "it is not encrypted, but its manifest says that it is: somebody else may have put it there"
    )]
    NotEncrypted,
    /// zstd cannot read the bytes.
    #[error("it does not decompress: {0}")]
    Compression(String),
    /// The list of the dump's contents cannot be read.
    #[error("{0}")]
    Contents(String),
    /// The dump in the archive is not whole.
    #[error("the dump in it is not whole")]
    Dump(#[source] FormatError),
}

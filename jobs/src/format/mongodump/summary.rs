//! The result of reading an archive: what it holds, or why it is not whole.

use super::VERSION;

/// What was read, by namespace, in the prelude's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// What each namespace held.
    pub(crate) namespaces: Vec<NamespaceSummary>,
    /// The length of the whole archive.
    pub(crate) bytes: u64,
}

/// What one namespace held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NamespaceSummary {
    /// The number of its documents.
    pub(crate) documents: u64,
    /// Their total length.
    pub(crate) bytes: u64,
}

/// Why a stream is not a whole archive of `mongodump`, or why one cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Another format.
    #[error("it does not begin like a mongodump archive")]
    NotArchive,
    /// `mongodump --archive --gzip`.
    #[error("it is compressed: decompress it with gzip -d first")]
    Compressed,
    /// A version that this build does not know.
    #[error("its format is {version:?}, but only {VERSION:?} is supported")]
    Version {
        /// The version, shortened if it is long.
        version: String,
    },
    /// Bytes that are not allowed where they are.
    #[error("it has {what} at byte {at}")]
    Malformed {
        /// What was found.
        what: &'static str,
        /// The byte offset.
        at: u64,
    },
    /// A block that the prelude did not announce.
    #[error("it has a block of {namespace:?} at byte {at}, which is not among its namespaces")]
    Unannounced {
        /// The namespace of the block.
        namespace: String,
        /// The byte offset.
        at: u64,
    },
    /// A block after its namespace's end.
    #[error("it has a block of {namespace:?} at byte {at}, after the end of that namespace")]
    AfterEnd {
        /// The namespace of the block.
        namespace: String,
        /// The byte offset.
        at: u64,
    },
    /// Documents other than those that were written.
    #[error(
        "the documents of {namespace:?} are not those that were dumped: their checksum, at byte {at}, does not match"
    )]
    Checksum {
        /// The namespace of the documents.
        namespace: String,
        /// The byte offset.
        at: u64,
    },
    /// An end in the middle of something.
    #[error("it ends at byte {at}, in the middle of {within}")]
    Truncated {
        /// The byte offset.
        at: u64,
        /// In the middle of what.
        within: &'static str,
    },
    /// An end before every namespace had ended.
    #[error("it ends at byte {at}, and {missing} of its namespaces have not ended")]
    Unended {
        /// The byte offset.
        at: u64,
        /// How many namespaces have not ended.
        missing: usize,
    },
    /// The visitor refused the archive.
    #[error("it cannot be used: {why}")]
    Refused {
        /// The visitor's reason.
        why: String,
    },
    /// Something that the format cannot express, or that its readers would refuse.
    #[error("a mongodump archive cannot hold {what}")]
    Unwritable {
        /// What was to be written.
        what: &'static str,
    },
}

//! What an archive tells once it was read: what it holds, or why it is not whole.

use super::VERSION;

/// What was read, namespace by namespace, in the prelude's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// What each namespace held.
    pub(crate) namespaces: Vec<NamespaceSummary>,
    /// The whole archive's length.
    pub(crate) bytes: u64,
}

/// What one namespace held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NamespaceSummary {
    /// How many documents.
    pub(crate) documents: u64,
    /// Their length in all.
    pub(crate) bytes: u64,
}

/// Why a stream is no whole archive of `mongodump`, or why one cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    /// Another format.
    #[error("it does not begin like a mongodump archive")]
    NotArchive,
    /// `mongodump --archive --gzip`.
    #[error("it is compressed: decompress it with gzip -d first")]
    Compressed,
    /// A version that did not exist when this was written.
    #[error("its format is {version:?}, and {VERSION:?} is supported")]
    Version {
        /// What it says; its begin, if it is long.
        version: String,
    },
    /// Bytes that cannot stand where they are.
    #[error("it has {what} at byte {at}")]
    Malformed {
        /// What was found.
        what: &'static str,
        /// Where.
        at: u64,
    },
    /// A block that the prelude did not announce.
    #[error("it has a block of {namespace:?} at byte {at}, which is not among its namespaces")]
    Unannounced {
        /// Whose.
        namespace: String,
        /// Where.
        at: u64,
    },
    /// A block after its namespace's end.
    #[error("it has a block of {namespace:?} at byte {at}, after the end of that namespace")]
    AfterEnd {
        /// Whose.
        namespace: String,
        /// Where.
        at: u64,
    },
    /// Documents that are not those that were written.
    #[error(
        "the documents of {namespace:?} are not those that were dumped: their checksum, at byte {at}, is another"
    )]
    Checksum {
        /// Whose.
        namespace: String,
        /// Where.
        at: u64,
    },
    /// An end in the middle of something.
    #[error("it ends at byte {at}, in the middle of {within}")]
    Truncated {
        /// Where.
        at: u64,
        /// Of what.
        within: &'static str,
    },
    /// An end before every namespace had ended.
    #[error("it ends at byte {at}, and {missing} of its namespaces have not ended")]
    Unended {
        /// Where.
        at: u64,
        /// How many namespaces.
        missing: usize,
    },
    /// Whoever is shown the archive does not want it.
    #[error("it cannot be used: {why}")]
    Refused {
        /// What they said.
        why: String,
    },
    /// What the format cannot express, or its readers would refuse.
    #[error("a mongodump archive cannot hold {what}")]
    Unwritable {
        /// What was to be written.
        what: &'static str,
    },
}

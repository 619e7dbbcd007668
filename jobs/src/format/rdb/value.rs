//! What a splitter yields: values, their pieces, a summary, and why it refused.

use super::layout::{REDIS_NEWEST, VALKEY_ONLY, Version};

/// A value as `DUMP` returns it, without the footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    /// What modules keep about the key itself (Redis 8.6), including the opcode; usually empty.
    pub(crate) metadata: &'a [u8],
    /// The value's type and encoding.
    pub(crate) type_byte: u8,
    /// What follows the key in a file, and the type byte in a payload.
    pub(crate) raw: &'a [u8],
}

impl Stored<'_> {
    /// Returns whether it is a hash with fields that may expire. The key disappears with the last of them.
    pub(crate) fn has_expiring_fields(&self) -> bool {
        // In versions where these types mean something else, or nothing, reading fails before this.
        matches!(self.type_byte, 22..=25)
    }
}

/// Where a value belongs, and what is known about its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    pub(crate) db: u64,
    pub(crate) key: &'a [u8],
    /// Unix time; never 0, which `RESTORE` takes for no expiry.
    pub(crate) expires_at_ms: Option<u64>,
    /// How long the key was unused, if the server evicts by age.
    pub(crate) idle_seconds: Option<u64>,
    /// The logarithmic counter, if the server evicts by frequency.
    pub(crate) frequency: Option<u8>,
}

/// A value that is small enough to be given whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value<'a> {
    pub(crate) header: Header<'a>,
    pub(crate) stored: Stored<'a>,
}

/// The kind of a value to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueKind {
    String,
    List,
    Set,
    Zset,
    Hash,
    Stream,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId {
    pub(crate) ms: u64,
    pub(crate) seq: u64,
}

impl std::fmt::Display for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// A piece of a value that is too large to be given whole, in the order in which commands can rebuild it.
///
/// Strings come in chunks; lists, sets, sorted sets and hashes by element. Streams come as entries in the order of
/// their ids, then `StreamMeta`, then `StreamGroups`, then each group, followed by each of its consumers, followed by
/// the consumer's pending entries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Element<'a> {
    /// `APPEND`.
    StringChunk(&'a [u8]),
    /// `RPUSH`.
    ListItem(&'a [u8]),
    /// `SADD`.
    SetMember(&'a [u8]),
    /// `ZADD`. The score may be infinite, but is never NaN.
    ZsetMember { member: &'a [u8], score: f64 },
    /// `HSET`, and `HPEXPIREAT` if the field expires.
    HashField {
        field: &'a [u8],
        value: &'a [u8],
        expires_at_ms: Option<u64>,
    },
    /// `XADD` with this id; fields and values alternate, at least one pair.
    StreamEntry { id: StreamId, pairs: EntryPairs<'a> },
    /// `XSETID`. If no entries are left, the stream has to be created first.
    StreamMeta(StreamMeta),
    /// `XGROUP CREATE`.
    StreamGroup {
        group: &'a [u8],
        last_delivered: StreamId,
        /// Unknown in streams of Redis 5 and 6, or if the server lost count.
        entries_read: Option<u64>,
    },
    /// `XGROUP CREATECONSUMER`.
    StreamConsumer { group: &'a [u8], consumer: &'a [u8] },
    /// All groups of the stream at once in stored form, and what follows them, for a [stub](super::stub_payload). Given
    /// before the single groups, unless they are too large to be held.
    StreamGroups {
        /// The value's type.
        type_byte: u8,
        raw: &'a [u8],
    },
    /// `XCLAIM … TIME … RETRYCOUNT … FORCE JUSTID`. A server refuses it if the entry itself is deleted.
    StreamPending {
        group: &'a [u8],
        consumer: &'a [u8],
        id: StreamId,
        delivered_at_ms: u64,
        deliveries: u64,
    },
}

/// What a stream keeps besides its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamMeta {
    /// Number of entries in it now.
    pub(crate) length: u64,
    pub(crate) last_id: StreamId,
    /// Number of entries ever added and greatest id ever deleted; unknown in streams of Redis 5 and 6.
    pub(crate) history: Option<StreamHistory>,
}

/// What a stream remembers of entries that it no longer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamHistory {
    pub(crate) entries_added: u64,
    pub(crate) max_deleted_id: StreamId,
}

/// The fields and values of one stream entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryPairs<'a> {
    /// Fields and values, back to back.
    pub(super) bytes: &'a [u8],
    /// Where each of them ends.
    pub(super) ends: &'a [usize],
}

impl<'a> EntryPairs<'a> {
    /// Returns alternating fields and values: what `XADD` takes after the id.
    pub(crate) fn fields_and_values(self) -> impl Iterator<Item = &'a [u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        let spans = begins.zip(self.ends.iter().copied());
        spans.filter_map(move |(begin, end)| self.bytes.get(begin..end))
    }
}

/// What was seen of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) version: Version,
    pub(crate) bytes: u64,
    pub(crate) checksum: Checksum,
    /// Values given whole.
    pub(crate) whole: u64,
    /// Values given in pieces.
    pub(crate) large: u64,
    /// How many of all these expire.
    pub(crate) expiring: u64,
    /// Keys with an empty list, set, sorted set or hash, which old servers wrote by mistake; skipped, as servers do.
    pub(crate) empty: u64,
    /// How many strings in large values were skipped because they were too long to be held, and the length of the
    /// longest.
    pub(crate) too_long: u64,
    pub(crate) longest_bytes: u64,
    pub(crate) functions: u64,
    /// Data that modules keep besides the keys; no command restores it.
    pub(crate) module_aux: u64,
    /// Slot migrations in progress: the keys of those slots are incomplete.
    pub(crate) slot_imports: u64,
    /// Idempotency ids of streams given in pieces; no command restores them.
    pub(crate) idempotency_ids_dropped: u64,
}

/// What the end of a file says about its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// It matches.
    Verified,
    /// The server was told to write none (`rdbchecksum no`).
    Disabled,
    /// The version is older than checksums.
    Absent,
}

/// Why a stream is not a whole RDB file that this build understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not an RDB file.
    #[error("it begins neither with REDIS nor with VALKEY: it is not an RDB file")]
    NotRdb,
    /// From a server that this build does not know.
    #[error(
        "its version is {number}, but only 1 to {REDIS_NEWEST} (Redis) and {VALKEY_ONLY} (Valkey) are supported"
    )]
    Version {
        /// The version in the header.
        number: u16,
    },
    /// A type of value that this version does not have.
    #[error(
        "it has a value of the unknown type {type_byte} at byte {at}, and its RDB version is {version}"
    )]
    UnknownType {
        /// The byte in the place of a type.
        type_byte: u8,
        /// The file's version.
        version: Version,
        /// Its byte offset.
        at: u64,
    },
    /// An opcode that this version does not have.
    #[error("it has the unknown opcode {opcode} at byte {at}, and its RDB version is {version}")]
    UnknownOpcode {
        /// The byte in the place of an opcode.
        opcode: u8,
        /// The file's version.
        version: Version,
        /// Its byte offset.
        at: u64,
    },
    /// Written by a server that was never released.
    #[error("it has {what} as {by} wrote them; dump it again with a released server")]
    PreRelease {
        /// What was found.
        what: &'static str,
        /// Who wrote it.
        by: &'static str,
    },
    /// A module's value that is too large to be sent whole.
    #[error(
        "it has a value of the module type {module} of more than {limit} bytes, which only its module could split"
    )]
    ModuleTooLarge {
        /// The nine characters of the type's name.
        module: String,
        /// The most bytes that are held at once.
        limit: usize,
    },
    /// A large value with metadata, which only `RESTORE` could restore.
    #[error(
        "it has a value of more than {limit} bytes with a module's metadata on its key, which would be lost in splitting"
    )]
    MetadataOnLarge {
        /// The most bytes that are held at once.
        limit: usize,
    },
    /// A part that is larger than a server would take.
    #[error("it has a part at byte {at} that is longer than a server accepts")]
    TooLong {
        /// Its byte offset.
        at: u64,
    },
    /// Contradictory bytes.
    #[error("it has {what} at byte {at}")]
    Malformed {
        /// What was found.
        what: &'static str,
        /// The approximate byte offset.
        at: u64,
    },
    /// An early end.
    #[error("it ends too early, at byte {at}")]
    Truncated {
        /// The length of the file.
        at: u64,
    },
    /// Bytes after the end.
    #[error("it has bytes after its end, at byte {at}")]
    TrailingBytes {
        /// The byte offset at which the RDB file ended.
        at: u64,
    },
    /// Changed bytes.
    #[error("its checksum does not match: its bytes were changed")]
    Checksum,
}

impl FormatError {
    /// Returns whether this build does not know, or cannot hold, what the bytes are, while nothing says that they are
    /// wrong.
    pub(crate) fn is_unknown(&self) -> bool {
        match self {
            Self::Version { .. }
            | Self::UnknownType { .. }
            | Self::UnknownOpcode { .. }
            | Self::PreRelease { .. }
            | Self::ModuleTooLarge { .. }
            | Self::MetadataOnLarge { .. } => true,
            Self::NotRdb
            | Self::TooLong { .. }
            | Self::Malformed { .. }
            | Self::Truncated { .. }
            | Self::TrailingBytes { .. }
            | Self::Checksum => false,
        }
    }
}

/// Why splitting stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SplitError<E> {
    /// The bytes are not what they should be.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The bytes could not be read.
    #[error("the dump could not be read")]
    Read(#[source] std::io::Error),
    /// The visitor does not want to go on.
    #[error("the contents of the dump could not be taken")]
    Visitor(#[source] E),
}

//! What a splitter tells: values, their pieces, a summary, and why it refused.

use super::layout::{REDIS_NEWEST, VALKEY_ONLY, Version};

/// A value as `DUMP` has it, without its footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    /// What modules keep about the key itself (Redis 8.6), opcode included; most often nothing.
    pub(crate) metadata: &'a [u8],
    /// The value's type and encoding.
    pub(crate) type_byte: u8,
    /// What follows the key in a file, and the type byte in a payload.
    pub(crate) raw: &'a [u8],
}

impl Stored<'_> {
    /// Returns whether it is a hash of which fields may expire, and with the last of them the key itself.
    pub(crate) fn has_expiring_fields(&self) -> bool {
        // In versions in which these are something else, or nothing, no value gets so far.
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
    /// How long nobody used the key, where the server evicts by age.
    pub(crate) idle_seconds: Option<u64>,
    /// The logarithmic counter, where the server evicts by frequency.
    pub(crate) frequency: Option<u8>,
}

/// A value that is small enough to be given whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value<'a> {
    pub(crate) header: Header<'a>,
    pub(crate) stored: Stored<'a>,
}

/// What a value is to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueKind {
    String,
    List,
    Set,
    Zset,
    Hash,
    Stream,
}

/// A stream entry's id.
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
/// Strings come as chunks; lists, sets, sorted sets and hashes by element; streams as entries in the order of their ids,
/// then `StreamMeta`, then each group, followed by each of its consumers, followed by the consumer's pending entries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Element<'a> {
    /// `APPEND`.
    StringChunk(&'a [u8]),
    /// `RPUSH`.
    ListItem(&'a [u8]),
    /// `SADD`.
    SetMember(&'a [u8]),
    /// `ZADD`. The score may be infinite, and is never NaN.
    ZsetMember { member: &'a [u8], score: f64 },
    /// `HSET`, and `HPEXPIREAT` where the field expires.
    HashField {
        field: &'a [u8],
        value: &'a [u8],
        expires_at_ms: Option<u64>,
    },
    /// `XADD` with this id; fields and values in turn, at least one pair.
    StreamEntry { id: StreamId, pairs: EntryPairs<'a> },
    /// `XSETID`. A stream may have no entries left: `XGROUP CREATE … MKSTREAM` makes it then.
    StreamMeta(StreamMeta),
    /// `XGROUP CREATE`.
    StreamGroup {
        group: &'a [u8],
        last_delivered: StreamId,
        /// Unknown in streams of Redis 5 and 6, and where the server lost count.
        entries_read: Option<u64>,
    },
    /// `XGROUP CREATECONSUMER`.
    StreamConsumer { group: &'a [u8], consumer: &'a [u8] },
    /// All groups of the stream at once, as they are stored, and what follows them: what a [stub](super::stub_payload) is made of. Told
    /// before the groups are, unless they are too large to be held.
    StreamGroups {
        /// The value's type.
        type_byte: u8,
        raw: &'a [u8],
    },
    /// `XCLAIM … TIME … RETRYCOUNT … FORCE JUSTID`. A server does not take it where the entry itself is deleted.
    StreamPending {
        group: &'a [u8],
        consumer: &'a [u8],
        id: StreamId,
        delivered_at_ms: u64,
        deliveries: u64,
    },
}

/// What a stream keeps beside its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamMeta {
    /// Entries in it now.
    pub(crate) length: u64,
    pub(crate) last_id: StreamId,
    /// Entries ever added and the greatest id ever deleted; unknown in streams of Redis 5 and 6.
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
    /// Fields and values, one after the other.
    pub(super) bytes: &'a [u8],
    /// Where each of them ends.
    pub(super) ends: &'a [usize],
}

impl<'a> EntryPairs<'a> {
    /// Returns fields and values in turn: what `XADD` takes after the id.
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
    /// Of all these, how many expire.
    pub(crate) expiring: u64,
    /// Keys with an empty list, set, sorted set or hash, as old servers wrote by mistake; passed over, as servers do.
    pub(crate) empty: u64,
    /// Strings in large values that are longer than was held, and were passed over; and how long the longest of them is.
    pub(crate) too_long: u64,
    pub(crate) longest_bytes: u64,
    pub(crate) functions: u64,
    /// Data that modules keep beside the keys; no command brings it back.
    pub(crate) module_aux: u64,
    /// Slot migrations that were under way: the keys of those slots are incomplete.
    pub(crate) slot_imports: u64,
    /// Idempotency ids of streams given in pieces; no command brings them back.
    pub(crate) idempotency_ids_dropped: u64,
}

/// What the end of a file said about its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checksum {
    /// It fits.
    Verified,
    /// The server was told to write none (`rdbchecksum no`).
    Disabled,
    /// The version is older than checksums.
    Absent,
}

/// Why a stream is not a whole RDB file that this program understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// No RDB file at all.
    #[error("it begins neither with REDIS nor with VALKEY: no RDB file")]
    NotRdb,
    /// From a server this program does not know.
    #[error(
        "its version is {number}, and 1 to {REDIS_NEWEST} (Redis) and {VALKEY_ONLY} (Valkey) are supported"
    )]
    Version {
        /// As the header says.
        number: u16,
    },
    /// A type of value that this version does not have.
    #[error(
        "it has a value of the unknown type {type_byte} at byte {at}, and is of RDB version {version}"
    )]
    UnknownType {
        /// The byte in the place of a type.
        type_byte: u8,
        /// The file's.
        version: Version,
        /// Its offset.
        at: u64,
    },
    /// An opcode that this version does not have.
    #[error("it has the unknown opcode {opcode} at byte {at}, and is of RDB version {version}")]
    UnknownOpcode {
        /// The byte in the place of an opcode.
        opcode: u8,
        /// The file's.
        version: Version,
        /// Its offset.
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
        /// The type's nine characters.
        module: String,
        /// The most that is held at once.
        limit: usize,
    },
    /// A large value with metadata, which only `RESTORE` could bring back.
    #[error(
        "it has a value of more than {limit} bytes with a module's metadata on its key, which would be lost in splitting"
    )]
    MetadataOnLarge {
        /// The most that is held at once.
        limit: usize,
    },
    /// A part that is larger than a server would take.
    #[error("it has a part at byte {at} that is longer than a server takes")]
    TooLong {
        /// Its offset.
        at: u64,
    },
    /// It contradicts itself.
    #[error("it has {what} at byte {at}")]
    Malformed {
        /// What was found.
        what: &'static str,
        /// Where, roughly.
        at: u64,
    },
    /// It ends too early.
    #[error("it ends too early, at byte {at}")]
    Truncated {
        /// Its length.
        at: u64,
    },
    /// It goes on after its end.
    #[error("it goes on after its end, at byte {at}")]
    TrailingBytes {
        /// Where the RDB ended.
        at: u64,
    },
    /// Its bytes were changed.
    #[error("its checksum does not fit: its bytes were changed")]
    Checksum,
}

impl FormatError {
    /// Returns whether this program does not know, or cannot hold, what the bytes are, and nothing says that they are wrong.
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
    /// They could not be read.
    #[error("the dump could not be read")]
    Read(#[source] std::io::Error),
    /// The visitor does not want to go on.
    #[error("what the dump holds could not be taken")]
    Visitor(#[source] E),
}

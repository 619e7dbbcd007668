//! What a byte in the place of an opcode means, by the version of the RDB file.

use super::value::{FormatError, ValueKind};

/// A version of the format, as file headers and the payloads of `DUMP` have it.
///
/// Redis and Valkey share one sequence of numbers. Up to 11 they agree, Redis has 12 to 79, and Valkey starts at 80. So
/// the number alone says what a type byte means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u16);

/// Whose format it is, by the magic word at the start of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    Redis,
    Valkey,
}

/// Redis 8.6.
pub(super) const REDIS_NEWEST: u16 = 13;
/// Valkey 9.0; 9.1 writes the same.
pub(super) const VALKEY_ONLY: u16 = 80;

/// The first version with expiring hash fields (Redis 7.4).
const REDIS_FIELD_EXPIRY: u16 = 12;
/// The first version with modules' metadata on keys, and with streams that remember their producers (Redis 8.6).
const REDIS_KEY_METADATA: u16 = 13;
/// The first version that ends with a checksum (Redis 2.6).
const CHECKSUMMED: u16 = 5;

/// Bytes from here on are opcodes by convention: Redis and Valkey assign opcodes from 255 downwards and types from 0
/// upwards.
const OPCODES_FROM: u8 = 128;
/// The metadata of a key comes before its type, in files and in the payloads of `DUMP`.
pub(super) const OPCODE_KEY_METADATA: u8 = 243;
pub(super) const OPCODE_FUNCTION: u8 = 245;
pub(super) const OPCODE_IDLE: u8 = 248;
pub(super) const OPCODE_FREQUENCY: u8 = 249;
pub(super) const OPCODE_AUX: u8 = 250;
pub(super) const OPCODE_EXPIRES_MILLIS: u8 = 252;
pub(super) const OPCODE_SELECT_DB: u8 = 254;
pub(super) const OPCODE_END: u8 = 255;

/// What comes next in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Value(Shape),
    KeyMetadata,
    SlotImport,
    SlotInfo,
    Function,
    ModuleAux,
    Idle,
    Frequency,
    Aux,
    ResizeDb,
    ExpiresMillis,
    ExpiresSeconds,
    SelectDb,
    End,
}

/// How a value's bytes are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    String,
    List,
    ListZiplist,
    /// Its nodes are ziplists.
    Quicklist,
    /// Its nodes are listpacks or single plain elements.
    Quicklist2,
    Set,
    SetIntset,
    SetListpack,
    /// Scores as text.
    ZsetText,
    /// Scores as doubles.
    ZsetDouble,
    ZsetZiplist,
    ZsetListpack,
    Hash,
    HashZipmap,
    HashZiplist,
    HashListpack,
    /// Each field with its own expiry.
    HashExpiring(FieldExpiry),
    /// A listpack of field, value, expiry; preceded by the earliest expiry in some versions.
    HashListpackExpiring {
        skipped: usize,
    },
    Stream(StreamVersion),
    Module,
}

/// How a hash's fields store their expiries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldExpiry {
    /// A number before the field, as an absolute time; the earliest expiry is not stored (release candidates of Redis
    /// 7.4).
    Absolute,
    /// A number before the field, relative to the earliest expiry, which the value starts with (Redis 7.4).
    Relative,
    /// Eight bytes after the value, -1 for none (Valkey 9).
    Trailing,
}

/// What a stream's value contains; each version adds to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StreamVersion {
    /// Redis 5.
    Entries,
    /// First id, greatest deleted id, entries added and read (Redis 7.0).
    Counted,
    /// When each consumer was last active (Redis 7.2).
    Active,
    /// The producers' idempotency ids (Redis 8.6).
    Idempotent,
}

impl StreamVersion {
    /// Returns the type byte of values of this version.
    pub(super) fn type_byte(self) -> u8 {
        match self {
            Self::Entries => 15,
            Self::Counted => 19,
            Self::Active => 21,
            Self::Idempotent => 26,
        }
    }

    /// Returns the version of a value of this type, if it is a stream.
    pub(super) fn of(type_byte: u8) -> Option<Self> {
        let all = [Self::Entries, Self::Counted, Self::Active, Self::Idempotent];
        all.into_iter().find(|it| it.type_byte() == type_byte)
    }
}

impl Version {
    /// Accepts a version whose format this build knows.
    pub(crate) fn new(number: u16) -> Result<Self, FormatError> {
        match number {
            1..=REDIS_NEWEST | VALKEY_ONLY => Ok(Self(number)),
            _ => Err(FormatError::Version { number }),
        }
    }

    /// Returns the number that payloads of `RESTORE` carry.
    pub(crate) fn number(self) -> u16 {
        self.0
    }

    /// Returns whose magic word a file of this version starts with.
    pub(crate) fn flavour(self) -> Flavour {
        if self.0 >= VALKEY_ONLY {
            Flavour::Valkey
        } else {
            Flavour::Redis
        }
    }

    pub(super) fn has_checksum(self) -> bool {
        self.0 >= CHECKSUMMED
    }

    pub(super) fn has_key_metadata(self) -> bool {
        self.is_redis_from(REDIS_KEY_METADATA)
    }

    fn is_redis_from(self, number: u16) -> bool {
        self.flavour() == Flavour::Redis && self.0 >= number
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.flavour() {
            Flavour::Redis => write!(f, "{}", self.0),
            Flavour::Valkey => write!(f, "{} (Valkey)", self.0),
        }
    }
}

impl Next {
    /// Interprets the byte in the place of an opcode; `at` is its offset.
    pub(super) fn of(byte: u8, version: Version, at: u64) -> Result<Self, FormatError> {
        let next = match byte {
            OPCODE_KEY_METADATA if version.flavour() == Flavour::Valkey => Self::SlotImport,
            OPCODE_KEY_METADATA if version.has_key_metadata() => Self::KeyMetadata,
            // Valkey skips what another server wrote about its slots, and so do we.
            244 => Self::SlotInfo,
            OPCODE_FUNCTION => Self::Function,
            246 => return Err(pre_release("functions", "a 7.0 release candidate")),
            247 => Self::ModuleAux,
            OPCODE_IDLE => Self::Idle,
            OPCODE_FREQUENCY => Self::Frequency,
            OPCODE_AUX => Self::Aux,
            251 => Self::ResizeDb,
            OPCODE_EXPIRES_MILLIS => Self::ExpiresMillis,
            253 => Self::ExpiresSeconds,
            OPCODE_SELECT_DB => Self::SelectDb,
            OPCODE_END => Self::End,
            opcode @ OPCODES_FROM.. => {
                return Err(FormatError::UnknownOpcode {
                    opcode,
                    version,
                    at,
                });
            }
            type_byte => Self::Value(Shape::of(type_byte, version, at)?),
        };
        Ok(next)
    }
}

impl Shape {
    /// Interprets a type byte; `at` is its offset.
    pub(super) fn of(type_byte: u8, version: Version, at: u64) -> Result<Self, FormatError> {
        let unknown = FormatError::UnknownType {
            type_byte,
            version,
            at,
        };
        let shape = match type_byte {
            0 => Self::String,
            1 => Self::List,
            2 => Self::Set,
            3 => Self::ZsetText,
            4 => Self::Hash,
            5 => Self::ZsetDouble,
            6 => return Err(pre_release("module values", "a 4.0 release candidate")),
            7 => Self::Module,
            9 => Self::HashZipmap,
            10 => Self::ListZiplist,
            11 => Self::SetIntset,
            12 => Self::ZsetZiplist,
            13 => Self::HashZiplist,
            14 => Self::Quicklist,
            15 => Self::Stream(StreamVersion::Entries),
            16 => Self::HashListpack,
            17 => Self::ZsetListpack,
            18 => Self::Quicklist2,
            19 => Self::Stream(StreamVersion::Counted),
            20 => Self::SetListpack,
            21 => Self::Stream(StreamVersion::Active),
            22 if version.flavour() == Flavour::Valkey => Self::HashExpiring(FieldExpiry::Trailing),
            22..=25 if version.is_redis_from(REDIS_FIELD_EXPIRY) => match type_byte {
                22 => Self::HashExpiring(FieldExpiry::Absolute),
                23 => Self::HashListpackExpiring { skipped: 0 },
                24 => Self::HashExpiring(FieldExpiry::Relative),
                _ => Self::HashListpackExpiring { skipped: 8 },
            },
            26 if version.is_redis_from(REDIS_KEY_METADATA) => {
                Self::Stream(StreamVersion::Idempotent)
            }
            _ => return Err(unknown),
        };
        Ok(shape)
    }

    /// Returns the value's kind to a client; `None` for a module's value, which only its module can read.
    pub(super) fn kind(self) -> Option<ValueKind> {
        let kind = match self {
            Self::String => ValueKind::String,
            Self::List | Self::ListZiplist | Self::Quicklist | Self::Quicklist2 => ValueKind::List,
            Self::Set | Self::SetIntset | Self::SetListpack => ValueKind::Set,
            Self::ZsetText | Self::ZsetDouble | Self::ZsetZiplist | Self::ZsetListpack => {
                ValueKind::Zset
            }
            Self::Hash
            | Self::HashZipmap
            | Self::HashZiplist
            | Self::HashListpack
            | Self::HashExpiring(_)
            | Self::HashListpackExpiring { .. } => ValueKind::Hash,
            Self::Stream(_) => ValueKind::Stream,
            Self::Module => return None,
        };
        Some(kind)
    }
}

fn pre_release(what: &'static str, by: &'static str) -> FormatError {
    FormatError::PreRelease { what, by }
}

//! Whether a stream is a whole RDB file, and what is in it: each value as `RESTORE` takes it, or in pieces.
//!
//! An RDB file is what Redis and Valkey write to disk and send to replicas. Every value in it has its own encoding, the
//! same that `DUMP` returns, so a value can go to a server as it is. Only one that is too large for a command is decoded.
//!
//! ```text
//! "REDIS0011" or "VALKEY080", then until the end, each behind one byte that says what it is:
//!   aux: name, value    functions: source    select a database: number    hints at sizes
//!   expires at · idle for · frequency · metadata: of the next key
//!   a type: key, value
//!   255: checksum of all before (8 bytes, little-endian; zero: none)
//! length: 6, 14, 32 or 64 bits, big-endian · string: length + bytes, or an integer, or compressed by LZF
//! ```
//!
//! The framing of every value is checked: where it ends, and that what follows makes sense. What is packed inside a string
//! (listpacks and the like) is looked at only in values given in pieces; the server that takes a value whole has its own eye
//! on it, and the checksum is over every byte. An unknown type or opcode ends it all, for nothing says how long it is.

mod intset;
mod layout;
mod listpack;
mod lzf;
mod packed;
mod payload;
mod pieces;
mod reader;
mod skim;
mod splitter;
mod told;
mod writer;
mod ziplist;
mod zipmap;

use std::io::Read;

use self::splitter::Splitter;

pub(crate) use layout::Version;
pub(crate) use payload::{
    functions_payload, module_id, parse_dump_payload, restore_payload, string_of, stub_payload,
};
pub(crate) use skim::module_name;
pub(crate) use told::{
    Checksum, Element, FormatError, Header, SplitError, Stored, StreamId, StreamMeta, Summary,
    Value, ValueKind,
};
pub(crate) use writer::RdbWriter;

/// How much may be held at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Values of more bytes, as they are encoded, are given in pieces.
    ///
    /// Up to twice as much is buffered. In pieces, single strings are held, one at a time.
    pub(crate) whole_value_bytes: usize,
    /// The longest string that is held, …
    pub(crate) string_bytes: u64,
    /// … and what becomes of a longer one.
    pub(crate) longer: Longer,
}

/// What becomes of a string in a large value that is too long to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Longer {
    /// The file is refused.
    Refused,
    /// It is passed over, and the visitor is shown an empty one in its place: for those who only count.
    PassedOver,
}

impl Limits {
    /// Returns the limits for those who only count: no string is too long for them.
    pub(crate) fn to_count() -> Self {
        Self {
            string_bytes: 512 * 1024 * 1024,
            longer: Longer::PassedOver,
            ..Self::default()
        }
    }
}

/// The longest single string that a restore writes: a server takes no longer command, where its client-query-buffer-limit was not
/// raised.
pub(crate) const LONGEST_WRITTEN: u64 = 1024 * 1024 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            whole_value_bytes: 64 * 1024 * 1024,
            string_bytes: LONGEST_WRITTEN,
            longer: Longer::Refused,
        }
    }
}

/// Who is told what is in a file, in its order.
pub(crate) trait Visit {
    /// Why a visitor may not want to go on.
    type Error;

    /// Before everything else: what the payloads will be written in.
    fn begin(&mut self, version: Version) -> Result<(), Self::Error>;
    /// What the file says about itself: `redis-ver`, `valkey-ver`, `ctime`, `used-mem`, …
    fn aux(&mut self, field: &[u8], value: &[u8]) -> Result<(), Self::Error>;
    /// A library of functions, as `FUNCTION LOAD` takes it.
    fn function(&mut self, source: &[u8]) -> Result<(), Self::Error>;
    /// A value as a whole.
    fn value(&mut self, value: Value<'_>) -> Result<(), Self::Error>;
    /// A value whose elements follow, up to `end_large`.
    fn begin_large(&mut self, kind: ValueKind, header: Header<'_>) -> Result<(), Self::Error>;
    /// One of them.
    fn element(&mut self, element: Element<'_>) -> Result<(), Self::Error>;
    /// There are no more.
    fn end_large(&mut self) -> Result<(), Self::Error>;
}

/// Reads a file to its end, and tells the visitor what is in it.
///
/// The visitor hears of values before the checksum at the end is seen: who must not act on damaged bytes reads twice, first
/// with a visitor that does nothing. Blocks on the source; memory is bounded whatever the source says.
pub(crate) fn split<R: Read, V: Visit>(
    source: R,
    visitor: &mut V,
    limits: Limits,
) -> Result<Summary, SplitError<V::Error>> {
    Splitter::begin(source, visitor, limits)?.finish()
}

#[cfg(test)]
mod tests;

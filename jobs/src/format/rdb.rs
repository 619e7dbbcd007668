//! Checks that a stream is a whole RDB file, and takes it apart: each value as `RESTORE` takes it, or in pieces.
//!
//! An RDB file is what Redis and Valkey write to disk and send to replicas. Every value in it has its own encoding, the
//! same that `DUMP` returns, so a value can be sent to a server as it is. Only a value that is too large for one
//! command is decoded.
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
//! The framing of every value is checked: where it ends, and that the following bytes make sense. Contents packed into
//! a string (listpacks and the like) are decoded only for values given in pieces. A server that takes a value whole
//! checks it itself, and the checksum covers every byte. An unknown type or opcode ends the reading, because nothing
//! says how long it is.

mod intset;
mod layout;
mod listpack;
mod lzf;
mod opener;
mod packed;
mod payload;
mod pieces;
mod reader;
mod skim;
mod splitter;
mod value;
mod writer;
mod ziplist;
mod zipmap;

use std::io::Read;

use self::splitter::Splitter;

pub(crate) use layout::Version;
pub(crate) use opener::{Opener, Unopened};
pub(crate) use payload::{
    functions_payload, module_id, parse_dump_payload, restore_payload, string_of, stub_payload,
};
pub(crate) use skim::module_name;
pub(crate) use value::{
    Checksum, Element, FormatError, Header, SplitError, Stored, StreamHistory, StreamId,
    StreamMeta, Summary, Value, ValueKind,
};
pub(crate) use writer::RdbWriter;

/// How much may be held in memory at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// The largest encoded value, in bytes, that is given whole; larger ones are given in pieces.
    ///
    /// Up to twice as much is buffered. In pieces, one string is held at a time.
    pub(crate) whole_value_bytes: usize,
    /// The longest string that is held.
    pub(crate) string_bytes: u64,
    /// What happens to a longer one.
    pub(crate) longer: Longer,
}

/// What happens to a string in a large value that is too long to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Longer {
    /// The file is refused.
    Refused,
    /// The string is skipped, and the visitor is shown an empty one instead: for visitors that only count.
    PassedOver,
}

impl Limits {
    /// Returns the limits for visitors that only count: no string is too long for them.
    pub(crate) fn to_count() -> Self {
        Self {
            string_bytes: 512 * 1024 * 1024,
            longer: Longer::PassedOver,
            ..Self::default()
        }
    }
}

/// The longest single string that a restore writes: a server takes no longer command unless its
/// `client-query-buffer-limit` was raised.
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

/// Is shown what is in a file, in the file's order.
pub(crate) trait Visit {
    /// The visitor's own reason to stop.
    type Error;

    /// Called first, with the version of the payloads.
    fn begin(&mut self, version: Version) -> Result<(), Self::Error>;
    /// Shows what the file says about itself: `redis-ver`, `valkey-ver`, `ctime`, `used-mem`, …
    fn aux(&mut self, field: &[u8], value: &[u8]) -> Result<(), Self::Error>;
    /// Shows a function library, as `FUNCTION LOAD` takes it.
    fn function(&mut self, source: &[u8]) -> Result<(), Self::Error>;
    /// Shows a whole value.
    fn value(&mut self, value: Value<'_>) -> Result<(), Self::Error>;
    /// Announces a value whose elements follow, up to `end_large`.
    fn begin_large(&mut self, kind: ValueKind, header: Header<'_>) -> Result<(), Self::Error>;
    /// Shows one of its elements.
    fn element(&mut self, element: Element<'_>) -> Result<(), Self::Error>;
    /// Says that there are no more elements.
    fn end_large(&mut self) -> Result<(), Self::Error>;
}

/// Reads a file to its end, and shows the visitor what is in it.
///
/// The visitor is shown values before the checksum at the end has been seen. A caller that must not act on damaged
/// bytes reads the file twice, the first time with a visitor that does nothing. Blocks on the source. Memory is
/// bounded, whatever the source says.
pub(crate) fn split<R: Read, V: Visit>(
    source: R,
    visitor: &mut V,
    limits: Limits,
) -> Result<Summary, SplitError<V::Error>> {
    Splitter::begin(source, visitor, limits)?.finish()
}

#[cfg(test)]
mod tests;

//! Values packed into one string: strings, and integers that stand for strings.

use super::{listpack::Listpack, reader::write_decimal, ziplist::Ziplist};

/// The entries in one string, in the old layout or the new.
#[derive(Debug, Clone)]
pub(super) enum Packed<'a> {
    Listpack(Listpack<'a>),
    Ziplist(Ziplist<'a>),
}

impl<'a> Packed<'a> {
    pub(super) fn next(&mut self) -> Result<Option<Entry<'a>>, &'static str> {
        match self {
            Self::Listpack(listpack) => listpack.next(),
            Self::Ziplist(ziplist) => ziplist.next(),
        }
    }

    /// Reads an entry that must exist.
    pub(super) fn expect(&mut self) -> Result<Entry<'a>, &'static str> {
        self.next()?.ok_or("a packed value that ends too early")
    }
}

/// One entry of a packed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry<'a> {
    String(&'a [u8]),
    Integer(i64),
}

impl<'a> Entry<'a> {
    /// Returns the entry as a string; `scratch` receives the digits of an integer.
    pub(super) fn text<'s>(self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        match self {
            Self::String(string) => string,
            Self::Integer(integer) => {
                scratch.clear();
                write_decimal(integer, scratch);
                scratch
            }
        }
    }

    /// Returns the entry as a number, parsing it if it is a string.
    pub(super) fn integer(self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(integer),
            Self::String(string) => std::str::from_utf8(string).ok()?.parse().ok(),
        }
    }
}

/// Parses a signed little-endian integer of up to eight bytes.
pub(super) fn signed(bytes: &[u8]) -> i64 {
    let is_negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
    let mut wide = if is_negative { [0xff; 8] } else { [0; 8] };
    for (to, from) in wide.iter_mut().zip(bytes) {
        *to = *from;
    }
    i64::from_le_bytes(wide)
}

//! The entries of a listpack.
//!
//! ```text
//! total bytes (4, little-endian)  entries (2)  entry… 255     entry: encoding, data, its own length backwards
//! ```

use super::packed::{Entry, signed};

/// Reads a listpack, entry by entry. It ends with `None`, or with an error if it is damaged.
#[derive(Debug, Clone)]
pub(super) struct Listpack<'a> {
    left: &'a [u8],
}

/// What is wrong with a listpack.
pub(super) const DAMAGED: &str = "a damaged listpack";

impl<'a> Listpack<'a> {
    /// Checks the frame around the entries.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let frame = bytes.split_first_chunk::<6>();
        let ([a, b, c, d, ..], rest) = frame.ok_or(DAMAGED)?;
        let total = u32::from_le_bytes([*a, *b, *c, *d]);
        if usize::try_from(total) != Ok(bytes.len()) {
            return Err("a listpack whose length is not the one that it states");
        }
        match rest.split_last() {
            Some((255, left)) => Ok(Self { left }),
            _ => Err("a listpack without its end"),
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Entry<'a>>, &'static str> {
        if self.left.is_empty() {
            return Ok(None);
        }
        let before = self.left.len();
        let entry = self.entry().ok_or(DAMAGED)?;
        let backwards = backwards_bytes(before - self.left.len());
        self.left = self.left.get(backwards..).ok_or(DAMAGED)?;
        Ok(Some(entry))
    }

    /// Reads an entry that must exist.
    pub(super) fn expect(&mut self) -> Result<Entry<'a>, &'static str> {
        self.next()?.ok_or("a listpack that ends too early")
    }

    fn entry(&mut self) -> Option<Entry<'a>> {
        let [first] = self.take::<1>()?;
        match first {
            0..0x80 => Some(Entry::Integer(i64::from(first))),
            0x80..0xc0 => self.string(usize::from(first & 0x3f)),
            0xc0..0xe0 => {
                let [low] = self.take()?;
                let bits = i64::from(first & 0x1f) << 8 | i64::from(low);
                // Thirteen bits, signed.
                Some(Entry::Integer(if bits >= 1 << 12 {
                    bits - (1 << 13)
                } else {
                    bits
                }))
            }
            0xe0..0xf0 => {
                let [low] = self.take()?;
                self.string(usize::from(first & 0x0f) << 8 | usize::from(low))
            }
            0xf0 => {
                let length = u32::from_le_bytes(self.take()?);
                self.string(usize::try_from(length).ok()?)
            }
            0xf1 => Some(Entry::Integer(signed(&self.take::<2>()?))),
            0xf2 => Some(Entry::Integer(signed(&self.take::<3>()?))),
            0xf3 => Some(Entry::Integer(signed(&self.take::<4>()?))),
            0xf4 => Some(Entry::Integer(signed(&self.take::<8>()?))),
            0xf5.. => None,
        }
    }

    fn string(&mut self, length: usize) -> Option<Entry<'a>> {
        let (string, left) = self.left.split_at_checked(length)?;
        self.left = left;
        Some(Entry::String(string))
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, left) = self.left.split_first_chunk()?;
        self.left = left;
        Some(*bytes)
    }
}

/// Returns how many bytes an entry's length takes, at seven bits each.
fn backwards_bytes(length: usize) -> usize {
    match length {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        0x20_0000..=0xfff_ffff => 4,
        _ => 5,
    }
}

//! The entries of a ziplist, which listpacks replaced in Redis 7.0.
//!
//! ```text
//! total bytes (4, little-endian)  offset of the last entry (4)  entries (2)  entry… 255
//! entry: length of the one before (1 byte, or 254 and 4 bytes), encoding, data
//! ```

use super::packed::{Entry, signed};

/// Reads a ziplist, entry by entry. It ends with `None`, or with an error if it is damaged.
#[derive(Debug, Clone)]
pub(super) struct Ziplist<'a> {
    left: &'a [u8],
}

const DAMAGED: &str = "a damaged ziplist";

impl<'a> Ziplist<'a> {
    /// Checks the frame around the entries.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let frame = bytes.split_first_chunk::<10>();
        let ([a, b, c, d, ..], rest) = frame.ok_or(DAMAGED)?;
        let total = u32::from_le_bytes([*a, *b, *c, *d]);
        if usize::try_from(total) != Ok(bytes.len()) {
            return Err("a ziplist whose length is not the one that it states");
        }
        match rest.split_last() {
            Some((255, left)) => Ok(Self { left }),
            _ => Err("a ziplist without its end"),
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Entry<'a>>, &'static str> {
        if self.left.is_empty() {
            return Ok(None);
        }
        self.entry().map(Some).ok_or(DAMAGED)
    }

    fn entry(&mut self) -> Option<Entry<'a>> {
        let [length_before] = self.take()?;
        match length_before {
            0..254 => {}
            254 => {
                self.take::<4>()?;
            }
            255 => return None,
        }
        let [first] = self.take()?;
        match first {
            0..0x40 => self.string(usize::from(first)),
            0x40..0x80 => {
                let [low] = self.take()?;
                self.string(usize::from(first & 0x3f) << 8 | usize::from(low))
            }
            0x80 => {
                let length = u32::from_be_bytes(self.take()?);
                self.string(usize::try_from(length).ok()?)
            }
            0xc0 => Some(Entry::Integer(signed(&self.take::<2>()?))),
            0xd0 => Some(Entry::Integer(signed(&self.take::<4>()?))),
            0xe0 => Some(Entry::Integer(signed(&self.take::<8>()?))),
            0xf0 => Some(Entry::Integer(signed(&self.take::<3>()?))),
            0xfe => Some(Entry::Integer(signed(&self.take::<1>()?))),
            // 0 to 12, within the encoding.
            0xf1..=0xfd => Some(Entry::Integer(i64::from(first & 0x0f) - 1)),
            _ => None,
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

//! The fields of a zipmap, the encoding of small hashes before Redis 2.6.
//!
//! ```text
//! pairs (1 byte, 254: unknown)  pair… 255
//! pair: length, field, length, free (1 byte), value, unused bytes     length: 1 byte, or 254 and 4 bytes, little-endian
//! ```

/// Reads a zipmap, pair by pair. It ends with `None`, or with an error if it is damaged.
#[derive(Debug, Clone)]
pub(super) struct Zipmap<'a> {
    left: &'a [u8],
}

/// A field and its value.
pub(super) type Pair<'a> = (&'a [u8], &'a [u8]);

impl<'a> Zipmap<'a> {
    /// Checks the frame around the pairs.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, &'static str> {
        match bytes {
            [_, left @ .., 255] => Ok(Self { left }),
            _ => Err("a zipmap without its end"),
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Pair<'a>>, &'static str> {
        if self.left.is_empty() {
            return Ok(None);
        }
        self.pair().map(Some).ok_or("a damaged zipmap")
    }

    fn pair(&mut self) -> Option<Pair<'a>> {
        let field = self.length()?;
        let field = self.take(field)?;
        let value = self.length()?;
        let unused = usize::from(*self.take(1)?.first()?);
        let value = self.take(value)?;
        self.take(unused)?;
        Some((field, value))
    }

    fn length(&mut self) -> Option<usize> {
        match *self.take(1)?.first()? {
            length @ 0..254 => Some(usize::from(length)),
            254 => {
                let length = self.take(4)?.first_chunk()?;
                usize::try_from(u32::from_le_bytes(*length)).ok()
            }
            255 => None,
        }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, left) = self.left.split_at_checked(count)?;
        self.left = left;
        Some(bytes)
    }
}

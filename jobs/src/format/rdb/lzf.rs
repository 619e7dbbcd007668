//! Expands LZF, the compression inside RDB files.

use std::io::Read;

use super::reader::{Reader, Stop};

/// How far back a reference may reach: this much of the expanded bytes has to be kept.
pub(super) const HISTORY_BYTES: usize = 8192;

/// Expands one compressed string, one instruction at a time: at most 264 bytes each.
///
/// ```text
/// 000LLLLL                    L + 1 bytes follow as they are
/// LLLooooo oooooooo           L + 2 bytes again, from o + 1 bytes back (L = 1 … 6)
/// 111ooooo LLLLLLLL oooooooo  L + 9 bytes again
/// ```
#[derive(Debug)]
pub(super) struct Expander {
    /// Compressed bytes that have yet to be read.
    compressed: u64,
    /// Expanded bytes that have yet to be produced.
    missing: u64,
}

impl Expander {
    /// Reads the two lengths before the compressed bytes.
    pub(super) fn begin<R: Read>(reader: &mut Reader<R>) -> Result<Self, Stop> {
        let compressed = reader.length()?;
        let missing = reader.length()?;
        Ok(Self {
            compressed,
            missing,
        })
    }

    /// Returns how many compressed bytes have yet to be read.
    pub(super) fn compressed(&self) -> u64 {
        self.compressed
    }

    /// Returns how many bytes have yet to be produced.
    pub(super) fn expanded(&self) -> u64 {
        self.missing
    }

    /// Expands one instruction onto `out`, whose last bytes references point back to. Returns whether there was one.
    pub(super) fn step<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Stop> {
        if self.compressed == 0 {
            if self.missing > 0 {
                return Err(reader.malformed("a compressed string that expands to too little"));
            }
            return Ok(false);
        }
        let [first] = self.take(reader)?;
        let run = usize::from(first >> 5);
        if run == 0 {
            let count = usize::from(first) + 1;
            self.spend(reader, count)?;
            self.make(reader, count)?;
            out.extend_from_slice(reader.take(count)?);
            return Ok(true);
        }
        let count = if run == 7 {
            let [more] = self.take(reader)?;
            usize::from(more) + 9
        } else {
            run + 2
        };
        let [low] = self.take(reader)?;
        let back = (usize::from(first & 0x1f) << 8 | usize::from(low)) + 1;
        self.make(reader, count)?;
        let Some(from) = out.len().checked_sub(back) else {
            return Err(
                reader.malformed("a compressed string that refers to bytes before its start")
            );
        };
        if count <= back {
            out.extend_from_within(from..from + count);
            return Ok(true);
        }
        // The reference overlaps what it produces: a run of equal bytes.
        for at in from..from + count {
            let byte = out.get(at).copied().unwrap_or_default();
            out.push(byte);
        }
        Ok(true)
    }

    fn take<R: Read, const N: usize>(&mut self, reader: &mut Reader<R>) -> Result<[u8; N], Stop> {
        self.spend(reader, N)?;
        reader.array()
    }

    fn spend<R: Read>(&mut self, reader: &Reader<R>, count: usize) -> Result<(), Stop> {
        let left = self.compressed.checked_sub(count as u64);
        self.compressed =
            left.ok_or_else(|| reader.malformed("a compressed string that ends too early"))?;
        Ok(())
    }

    fn make<R: Read>(&mut self, reader: &Reader<R>, count: usize) -> Result<(), Stop> {
        let left = self.missing.checked_sub(count as u64);
        self.missing =
            left.ok_or_else(|| reader.malformed("a compressed string that expands to too much"))?;
        Ok(())
    }
}

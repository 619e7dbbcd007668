//! Reads the bytes of an RDB file: buffers them, sums them up, and holds back those that may be needed again.
//!
//! Held bytes simply stay in the buffer. So a value can first be skipped, to find its end, and then be given as a
//! slice, or be read again from its start if it turns out to be too large.

use std::io::Read;

use crc_fast::{CrcAlgorithm, Digest};

use super::{Limits, Longer, lzf::Expander, value::FormatError};

/// How much is requested from the source at once, and the minimum size of the buffer.
pub(super) const READ_BYTES: usize = 512 * 1024;
/// The most that is read ahead while nothing is held.
const AHEAD_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Buffers larger than this are released after use.
const IDLE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why reading stopped.
#[derive(Debug)]
pub(super) enum Stop {
    Format(FormatError),
    Read(std::io::Error),
    /// More would have to be held than is allowed.
    Full {
        at: u64,
    },
}

impl From<FormatError> for Stop {
    fn from(error: FormatError) -> Self {
        Self::Format(error)
    }
}

/// A length, or the encoding in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Plain(u64),
    /// An integer of this many bytes.
    Integer(usize),
    /// Compressed: two lengths follow.
    Lzf,
}

#[derive(Debug)]
pub(super) struct Reader<R> {
    source: R,
    buffer: Vec<u8>,
    /// The index of the next byte to read.
    position: usize,
    /// The index after the last byte in the buffer.
    end: usize,
    hold: Option<Hold>,
    /// Everything before this index has been summed up.
    summed: usize,
    digest: Digest,
    /// How many bytes have left the buffer.
    gone: u64,
    limits: Limits,
    /// The strings that were skipped because of their length.
    pub(super) passed_over: PassedOver,
}

/// How many strings were skipped because they were too long to be held, and the longest of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PassedOver {
    pub(super) strings: u64,
    pub(super) longest_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    from: usize,
    limit: usize,
}

impl<R: Read> Reader<R> {
    /// Starts to read, with a buffer of this size.
    pub(super) fn new(source: R, buffer_bytes: usize, limits: Limits) -> Self {
        Self {
            source,
            buffer: vec![0; buffer_bytes],
            position: 0,
            end: 0,
            hold: None,
            summed: 0,
            digest: Digest::new(CrcAlgorithm::Crc64Redis),
            gone: 0,
            limits,
            passed_over: PassedOver::default(),
        }
    }

    /// Returns the offset of the next byte.
    pub(super) fn at(&self) -> u64 {
        self.gone + self.position as u64
    }

    pub(super) fn malformed(&self, what: &'static str) -> Stop {
        let at = self.at();
        Stop::Format(FormatError::Malformed { what, at })
    }

    /// Holds what is read from here on, up to `limit` bytes.
    pub(super) fn hold(&mut self, limit: usize) {
        let from = self.position;
        self.hold = Some(Hold { from, limit });
    }

    /// Returns what was read since `hold`; it is held until `release`.
    pub(super) fn held(&self) -> &[u8] {
        let from = self.hold.map_or(self.position, |hold| hold.from);
        self.buffer.get(from..self.position).unwrap_or_default()
    }

    pub(super) fn release(&mut self) {
        self.hold = None;
    }

    /// Goes back to where `hold` was called, and releases.
    pub(super) fn rewind(&mut self) {
        if let Some(hold) = self.hold.take() {
            self.position = hold.from;
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, Stop> {
        if self.position == self.end {
            self.fill(1)?;
        }
        let byte = self.buffer.get(self.position).copied();
        self.position += 1;
        byte.ok_or(Stop::Format(FormatError::Truncated { at: self.gone }))
    }

    /// Reads a fixed number of bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let bytes = self.take(N)?.first_chunk().copied();
        bytes.ok_or(Stop::Format(FormatError::Truncated { at: self.gone }))
    }

    /// Reads eight bytes, least significant first: a time, in every version since 9, or a field's expiry.
    pub(super) fn i64_le(&mut self) -> Result<i64, Stop> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// Reads a Unix time in milliseconds.
    pub(super) fn millis(&mut self) -> Result<u64, Stop> {
        let millis = u64::try_from(self.i64_le()?);
        millis.map_err(|_| self.malformed("a time before 1970"))
    }

    /// Reads a few bytes as a slice.
    pub(super) fn take(&mut self, count: usize) -> Result<&[u8], Stop> {
        if self.end - self.position < count {
            self.fill(count)?;
        }
        let from = self.position;
        self.position += count;
        Ok(self.buffer.get(from..self.position).unwrap_or_default())
    }

    /// Reads at least one and at most `count` bytes, as available.
    pub(super) fn some(&mut self, count: u64) -> Result<&[u8], Stop> {
        if self.position == self.end {
            self.fill(1)?;
        }
        let there = self.end - self.position;
        let count = usize::try_from(count).map_or(there, |count| count.min(there));
        self.take(count)
    }

    pub(super) fn skip(&mut self, count: u64) -> Result<(), Stop> {
        let there = self.end - self.position;
        match usize::try_from(count) {
            Ok(count) if count <= there => {
                self.position += count;
                Ok(())
            }
            _ => self.skip_far(count),
        }
    }

    #[cold]
    fn skip_far(&mut self, count: u64) -> Result<(), Stop> {
        if let Some(hold) = self.hold {
            let held = self.position - hold.from;
            let fits = |count: &usize| *count <= hold.limit.saturating_sub(held);
            let count = usize::try_from(count).ok().filter(fits);
            let at = self.at();
            self.take(count.ok_or(Stop::Full { at })?)?;
            return Ok(());
        }
        let mut left = count;
        while left > 0 {
            left -= self.some(left)?.len() as u64;
        }
        Ok(())
    }

    /// Reads a length, or the encoding in its place.
    pub(super) fn length_or_encoding(&mut self) -> Result<Length, Stop> {
        let first = self.byte()?;
        let low = u64::from(first & 0x3f);
        let length = match (first >> 6, low) {
            (0, _) => Length::Plain(low),
            (1, _) => Length::Plain(low << 8 | u64::from(self.byte()?)),
            (2, 0) => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
            (2, 1) => Length::Plain(u64::from_be_bytes(self.array()?)),
            (3, 0) => Length::Integer(1),
            (3, 1) => Length::Integer(2),
            (3, 2) => Length::Integer(4),
            (3, 3) => Length::Lzf,
            _ => return Err(self.malformed("an unknown encoding of a length")),
        };
        Ok(length)
    }

    /// Reads a length or a number.
    pub(super) fn length(&mut self) -> Result<u64, Stop> {
        match self.length_or_encoding()? {
            Length::Plain(length) => Ok(length),
            Length::Integer(_) | Length::Lzf => {
                Err(self.malformed("a string in place of a length"))
            }
        }
    }

    /// Reads the integer that stands for a string.
    pub(super) fn integer(&mut self, bytes: usize) -> Result<i64, Stop> {
        Ok(match bytes {
            1 => i64::from(i8::from_le_bytes(self.array()?)),
            2 => i64::from(i16::from_le_bytes(self.array()?)),
            _ => i64::from(i32::from_le_bytes(self.array()?)),
        })
    }

    pub(super) fn skip_string(&mut self) -> Result<(), Stop> {
        let encoding = self.length_or_encoding()?;
        self.skip_encoded(encoding)
    }

    /// Skips a string whose length or encoding was already read.
    pub(super) fn skip_encoded(&mut self, encoding: Length) -> Result<(), Stop> {
        match encoding {
            Length::Plain(length) => self.skip(length),
            Length::Integer(bytes) => self.skip(bytes as u64),
            Length::Lzf => {
                let compressed = self.length()?;
                self.length()?;
                self.skip(compressed)
            }
        }
    }

    /// Reads a string into `text`, and replaces its contents. Never allocates more than has arrived or was really
    /// expanded.
    ///
    /// Returns `false` if the string is too long to be held and was skipped; `text` is then empty.
    pub(super) fn string_into(&mut self, text: &mut Vec<u8>) -> Result<bool, Stop> {
        text.clear();
        if text.capacity() > IDLE_BYTES_MAX {
            text.shrink_to(IDLE_BYTES_MAX);
        }
        match self.length_or_encoding()? {
            Length::Plain(length) => {
                if self.is_too_long(length)? {
                    self.skip(length)?;
                    return Ok(false);
                }
                let mut left = length;
                while left > 0 {
                    let some = self.some(left)?;
                    left -= some.len() as u64;
                    text.extend_from_slice(some);
                }
            }
            Length::Integer(bytes) => write_decimal(self.integer(bytes)?, text),
            Length::Lzf => {
                let mut expander = Expander::begin(self)?;
                if self.is_too_long(expander.expanded())? {
                    self.skip(expander.compressed())?;
                    return Ok(false);
                }
                while expander.step(self, text)? {}
            }
        }
        Ok(true)
    }

    fn is_too_long(&mut self, length: u64) -> Result<bool, Stop> {
        if length <= self.limits.string_bytes {
            return Ok(false);
        }
        match self.limits.longer {
            Longer::Refused => Err(Stop::Full { at: self.at() }),
            Longer::PassedOver => {
                self.passed_over.strings += 1;
                self.passed_over.longest_bytes = self.passed_over.longest_bytes.max(length);
                Ok(true)
            }
        }
    }

    /// Returns the checksum of everything read so far.
    pub(super) fn checksum(&mut self) -> u64 {
        self.sum_until(self.position);
        self.digest.finalize()
    }

    /// Fails if anything follows.
    pub(super) fn end(&mut self) -> Result<(), Stop> {
        let at = self.at();
        match self.fill(1) {
            Ok(()) => Err(Stop::Format(FormatError::TrailingBytes { at })),
            Err(Stop::Format(FormatError::Truncated { .. })) => Ok(()),
            Err(stop) => Err(stop),
        }
    }

    fn sum_until(&mut self, until: usize) {
        let bytes = self.buffer.get(self.summed..until).unwrap_or_default();
        self.digest.update(bytes);
        self.summed = until;
    }

    /// Reads on until `wanted` bytes are available.
    #[cold]
    fn fill(&mut self, wanted: usize) -> Result<(), Stop> {
        let limit = self.hold.map_or(AHEAD_BYTES_MAX, |hold| hold.limit);
        let from = self.hold.map_or(self.position, |hold| hold.from);
        if self.position - from + wanted > limit {
            return Err(Stop::Full { at: self.at() });
        }
        self.sum_until(from);
        self.move_to_front(from);
        while self.end - self.position < wanted {
            if self.end == self.buffer.len() {
                // Arrived bytes fill the buffer, so a mere header cannot provoke the doubling.
                self.buffer.resize((self.buffer.len() * 2).max(1), 0);
            }
            let free = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.source.read(free) {
                Ok(0) => {
                    let at = self.gone + self.end as u64;
                    return Err(Stop::Format(FormatError::Truncated { at }));
                }
                Ok(count) => self.end += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Stop::Read(error)),
            }
        }
        Ok(())
    }

    fn move_to_front(&mut self, from: usize) {
        self.buffer.copy_within(from..self.end, 0);
        self.end -= from;
        self.position -= from;
        self.summed -= from;
        self.gone += from as u64;
        if let Some(hold) = &mut self.hold {
            hold.from = 0;
        } else if self.buffer.len() > IDLE_BYTES_MAX && self.end < READ_BYTES {
            self.buffer.truncate(READ_BYTES);
            self.buffer.shrink_to_fit();
        }
    }
}

impl Reader<std::io::Empty> {
    /// Starts to read these bytes, copied into a buffer that [`into_buffer`](Self::into_buffer) gives back.
    pub(super) fn of_bytes(bytes: &[u8], mut buffer: Vec<u8>, limits: Limits) -> Self {
        buffer.clear();
        if buffer.capacity() > IDLE_BYTES_MAX {
            buffer.shrink_to(IDLE_BYTES_MAX);
        }
        buffer.extend_from_slice(bytes);
        let end = buffer.len();
        Self {
            buffer,
            end,
            ..Self::new(std::io::empty(), 0, limits)
        }
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }
}

/// Writes an integer as the text that it stands for. Packed values are full of them, so it avoids the formatting
/// machinery.
pub(super) fn write_decimal(number: i64, text: &mut Vec<u8>) {
    if number < 0 {
        text.push(b'-');
    }
    let begin = text.len();
    let mut left = number.unsigned_abs();
    loop {
        // Less than ten, so nothing is truncated.
        text.push(b'0' + (left % 10).to_le_bytes()[0]);
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if let Some(digits) = text.get_mut(begin..) {
        digits.reverse();
    }
}

//! Checks that a stream is a whole `pg_dump -Fc` archive: its header, table of contents, blocks and end.
//!
//! A custom archive has no end marker, but its start says what has to follow: every entry of its table of contents that
//! has data must have its block, and the stream must end right after a block. So a stream that was cut anywhere, even
//! by one byte or between two blocks, differs from a whole one.
//!
//! ```text
//! "PGDMP" major minor revision int_size offset_size format=1  compression  date(7 ints)  name server dump  (strings)
//! count, then per entry: id, has_data, fields by version…, dependencies… NULL, offset: state byte + offset_size bytes
//! blocks until the end:  1 id chunk… 0        a table's data
//!                        3 id (oid chunk… 0)… 0   large objects
//! int: sign byte + int_size bytes, little-endian · string: int length (negative: NULL) + bytes · chunk: int + bytes
//! ```
//!
//! The scanner is fed the stream as it goes by, in pieces of any size. It keeps no data, only what is still expected.

mod entries;
mod layout;
mod state;
mod summary;
mod tally;

use std::collections::HashSet;

use self::{
    layout::{
        BLOCK_DATA, BLOCK_LARGE_OBJECTS, FORMAT_CUSTOM, Field, INT_BYTES, Item, MINOR_NEWEST,
        MINOR_OLDEST, OFFSET_BYTES, fields_of, int,
    },
    state::State,
    tally::Tally,
};
use crate::contents::Contents;

pub use summary::{Entry, FormatError, Keep, Summary};

/// More entries than any dump can have; bounds what is remembered.
const ENTRIES_MAX: usize = 20_000_000;
/// More than any name; longer strings are definitions, which are skipped.
const NAME_BYTES_MAX: usize = 64 * 1024;
/// More than the SQL of any entry that a restore inspects; longer SQL is skipped.
const DEFINITION_BYTES_MAX: i64 = 1024 * 1024;

/// Scans an archive as it streams by.
#[derive(Debug)]
pub struct Scanner {
    at: u64,
    state: State,
    item: Item,
    keep: Keep,
    fields: &'static [Field],
    field: usize,
    entries_left: u64,
    entry: Entry,
    entry_has_data: bool,
    entries: Vec<Entry>,
    pending: HashSet<u32>,
    summary: Summary,
    tally: Tally,
}

impl Scanner {
    /// Starts at the start of an archive.
    #[must_use]
    pub fn new(keep: Keep) -> Self {
        Self {
            at: 0,
            state: State::Magic,
            item: Item::fixed(11),
            keep,
            fields: &[],
            field: 0,
            entries_left: 0,
            entry: Entry::default(),
            entry_has_data: false,
            entries: Vec::new(),
            pending: HashSet::new(),
            summary: Summary::default(),
            tally: Tally::default(),
        }
    }

    /// Takes the next bytes. After a failure, every call fails.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), FormatError> {
        loop {
            bytes = self.pass_rows(bytes);
            let Some(rest) = self.fill(bytes) else {
                return Ok(());
            };
            bytes = rest;
            if let Err(error) = self.complete() {
                self.state = State::Failed;
                self.item = Item::fixed(0);
                return Err(error);
            }
        }
    }

    /// Returns what the archive says about itself, if it is whole. To be called at the end of the stream.
    pub fn finish(self) -> Result<Summary, FormatError> {
        let at = self.at;
        let is_between_blocks =
            self.state == State::BlockType && matches!(self.item, Item::Fixed { have: 0, .. });
        if !is_between_blocks {
            return Err(FormatError::Truncated {
                at,
                within: self.state.name(),
            });
        }
        match self.pending.len() {
            0 => Ok(self.summary),
            missing => Err(FormatError::DataMissing { at, missing }),
        }
    }

    /// Returns what the dump holds, if it was started with [`Keep::Contents`]. To be called at the end of the stream.
    pub fn contents(&mut self) -> Contents {
        std::mem::take(&mut self.tally).into_contents()
    }

    /// Returns whether the whole table of contents has been read.
    #[must_use]
    pub fn has_contents(&self) -> bool {
        match self.state {
            State::BlockType
            | State::DataId
            | State::DataChunk
            | State::ObjectsId
            | State::ObjectOid
            | State::ObjectChunk => true,
            State::Magic
            | State::Compression
            | State::Date(_)
            | State::DatabaseName
            | State::ServerVersion
            | State::DumpVersion
            | State::EntryCount
            | State::EntryField
            | State::Failed => false,
        }
    }

    /// Returns the table of contents, and the summary of what came before it.
    #[must_use]
    pub fn into_contents(self) -> (Summary, Vec<Entry>) {
        (self.summary, self.entries)
    }

    /// The fast path: skips whole chunks of a table's data, which most versions write one per row.
    fn pass_rows<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        if self.state != State::DataChunk || !matches!(self.item, Item::Fixed { have: 0, .. }) {
            return bytes;
        }
        let records = self.keep == Keep::Contents;
        while let [0, a, b, c, d, rest @ ..] = bytes {
            let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            match rest.split_at_checked(length) {
                Some((chunk, after)) if length > 0 => {
                    if records {
                        self.tally.data(chunk);
                    }
                    self.at += (1 + INT_BYTES + length) as u64;
                    bytes = after;
                }
                _ => break,
            }
        }
        bytes
    }

    /// Fills the item from `bytes`. Returns the rest once the item is full, `None` until then.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let taken = match &mut self.item {
            Item::Fixed {
                bytes: buffer,
                have,
                want,
            } => {
                let free = buffer.get_mut(*have..*want).unwrap_or_default();
                let taken = free.len().min(bytes.len());
                for (to, from) in free.iter_mut().zip(bytes) {
                    *to = *from;
                }
                *have += taken;
                taken
            }
            Item::Name { bytes: name, want } => {
                let taken = (*want - name.len()).min(bytes.len());
                name.extend(bytes.iter().take(taken));
                taken
            }
            Item::Skip { left } => {
                let taken = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= taken as u64;
                if self.keep == Keep::Contents
                    && matches!(self.state, State::DataChunk | State::ObjectChunk)
                {
                    self.tally.data(bytes.get(..taken).unwrap_or_default());
                }
                taken
            }
        };
        self.at += taken as u64;
        let is_full = match &self.item {
            Item::Fixed { have, want, .. } => have == want,
            Item::Name { bytes, want } => bytes.len() == *want,
            Item::Skip { left } => *left == 0,
        };
        // A failed scanner waits for no bytes and takes none.
        if self.state == State::Failed && bytes.is_empty() {
            return None;
        }
        if is_full { bytes.get(taken..) } else { None }
    }

    /// Acts on a full item, and sets the one that comes next.
    fn complete(&mut self) -> Result<(), FormatError> {
        match std::mem::replace(&mut self.item, Item::int()) {
            Item::Fixed { bytes, .. } => self.fixed(&bytes),
            Item::Name { bytes, .. } => {
                self.text(String::from_utf8_lossy(&bytes).into_owned());
                Ok(())
            }
            Item::Skip { .. } => {
                self.after_skip();
                Ok(())
            }
        }
    }

    fn fixed(&mut self, bytes: &[u8; 16]) -> Result<(), FormatError> {
        match self.state {
            State::Magic => self.magic(bytes),
            State::Compression => {
                self.state = State::Date(0);
                Ok(())
            }
            State::Date(6) => {
                self.state = State::DatabaseName;
                Ok(())
            }
            State::Date(n) => {
                self.state = State::Date(n + 1);
                Ok(())
            }
            State::DatabaseName | State::ServerVersion | State::DumpVersion => {
                let length = int(bytes);
                self.string(length, self.state != State::DatabaseName)
            }
            State::EntryCount => {
                let count = self.count(int(bytes))?;
                self.summary.entries = count as u64;
                self.entries_left = count as u64;
                self.next_entry();
                Ok(())
            }
            State::EntryField => self.entry_field(bytes),
            State::BlockType => self.block(bytes[0]),
            State::DataId => {
                let id = self.data_of(int(bytes))?;
                self.tally.begin(id);
                self.state = State::DataChunk;
                Ok(())
            }
            State::ObjectsId => {
                self.data_of(int(bytes))?;
                self.state = State::ObjectOid;
                Ok(())
            }
            State::DataChunk => {
                match self.length(int(bytes))? {
                    0 => {
                        self.tally.end();
                        self.next_block();
                    }
                    left => self.item = Item::Skip { left },
                }
                Ok(())
            }
            State::ObjectOid => {
                if bytes[1..=INT_BYTES].iter().all(|byte| *byte == 0) {
                    self.next_block();
                } else {
                    self.tally.begin_object(bytes);
                    self.state = State::ObjectChunk;
                }
                Ok(())
            }
            State::ObjectChunk => {
                match self.length(int(bytes))? {
                    0 => {
                        self.tally.end();
                        self.state = State::ObjectOid;
                    }
                    left => self.item = Item::Skip { left },
                }
                Ok(())
            }
            State::Failed => Err(self.malformed("bytes after a failure")),
        }
    }

    fn magic(&mut self, bytes: &[u8; 16]) -> Result<(), FormatError> {
        let [
            b'P',
            b'G',
            b'D',
            b'M',
            b'P',
            major,
            minor,
            _revision,
            int_size,
            offset_size,
            format,
            ..,
        ] = *bytes
        else {
            return Err(FormatError::NotCustom);
        };
        if major != 1 || !(MINOR_OLDEST..=MINOR_NEWEST).contains(&minor) {
            return Err(FormatError::Version { major, minor });
        }
        if usize::from(int_size) != INT_BYTES || usize::from(offset_size) != OFFSET_BYTES {
            return Err(self.malformed("integers of an unsupported size"));
        }
        if format != FORMAT_CUSTOM {
            return Err(FormatError::NotCustom);
        }
        self.fields = fields_of(minor);
        self.state = State::Compression;
        // From 1.15 on one byte for the algorithm, before that a compression level.
        self.item = if minor >= 15 {
            Item::fixed(1)
        } else {
            Item::int()
        };
        Ok(())
    }

    fn next_block(&mut self) {
        self.state = State::BlockType;
        self.item = Item::fixed(1);
    }

    fn block(&mut self, kind: u8) -> Result<(), FormatError> {
        self.state = match kind {
            BLOCK_DATA => State::DataId,
            BLOCK_LARGE_OBJECTS => State::ObjectsId,
            _ => return Err(self.malformed("an unknown block")),
        };
        Ok(())
    }

    /// Crosses an entry's data off the list of what has to come.
    fn data_of(&mut self, id: i64) -> Result<u32, FormatError> {
        let id = self.id(id)?;
        if self.pending.remove(&id) {
            Ok(id)
        } else {
            Err(self.malformed("data of an entry that has none, or whose data came before"))
        }
    }

    fn id(&self, id: i64) -> Result<u32, FormatError> {
        let id = u32::try_from(id).ok().filter(|id| *id > 0);
        id.ok_or_else(|| self.malformed("an impossible id"))
    }

    fn length(&self, length: i64) -> Result<u64, FormatError> {
        u64::try_from(length).map_err(|_| self.malformed("a chunk of negative length"))
    }

    fn count(&self, count: i64) -> Result<usize, FormatError> {
        let count = usize::try_from(count)
            .ok()
            .filter(|count| *count <= ENTRIES_MAX);
        count.ok_or_else(|| self.malformed("an impossible number of entries"))
    }

    fn malformed(&self, what: &'static str) -> FormatError {
        FormatError::Malformed { what, at: self.at }
    }
}

#[cfg(test)]
mod tests;

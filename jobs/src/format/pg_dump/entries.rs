//! Parses the table of contents of a dump, entry by entry.

use super::{
    DEFINITION_BYTES_MAX, FormatError, Keep, NAME_BYTES_MAX, Scanner,
    layout::{
        Field, Item, OFFSET_BYTES, STATE_NO_DATA, STATE_UNKNOWN_OFFSET, STATE_WITH_OFFSET, int,
    },
    state::State,
};

impl Scanner {
    pub(super) fn entry_field(&mut self, bytes: &[u8; 16]) -> Result<(), FormatError> {
        match self.fields.get(self.field) {
            Some(Field::Id) => {
                self.entry.id = self.id(int(bytes))?;
                self.next_field();
            }
            Some(Field::Int) => self.next_field(),
            Some(Field::Text) => return self.string(int(bytes), false),
            Some(Field::Tag | Field::Kind | Field::Namespace | Field::Tablespace) => {
                return self.string(int(bytes), true);
            }
            Some(Field::Definition) => {
                let length = int(bytes);
                let is_needed = match self.keep {
                    Keep::Nothing => false,
                    Keep::Contents => self.entry.has_sql_to_record(),
                    Keep::Entries => self.entry.has_sql_to_keep(),
                };
                let is_kept = is_needed && length <= DEFINITION_BYTES_MAX;
                return self.string(length, is_kept);
            }
            Some(Field::Copy) => {
                let length = int(bytes);
                let is_kept = self.keep == Keep::Contents && length <= DEFINITION_BYTES_MAX;
                return self.string(length, is_kept);
            }
            Some(Field::Dependency) => match int(bytes) {
                ..0 => self.next_field(),
                length => {
                    let is_kept =
                        self.keep == Keep::Entries && self.entry.has_dependencies_to_keep();
                    return self.string(length, is_kept);
                }
            },
            Some(Field::Offset) | None => {
                match bytes[0] {
                    STATE_UNKNOWN_OFFSET | STATE_WITH_OFFSET => self.entry_has_data = true,
                    STATE_NO_DATA => self.entry_has_data = false,
                    _ => return Err(self.malformed("an unknown data state")),
                }
                self.end_entry()?;
            }
        }
        Ok(())
    }

    /// Starts on a string's bytes, or completes it at once if it has none.
    pub(super) fn string(&mut self, length: i64, is_kept: bool) -> Result<(), FormatError> {
        let Ok(length @ 1..) = usize::try_from(length) else {
            self.text(String::new());
            return Ok(());
        };
        self.item = if !is_kept {
            Item::Skip {
                left: length as u64,
            }
        } else if length <= NAME_BYTES_MAX
            || matches!(
                self.fields.get(self.field),
                Some(Field::Definition | Field::Copy)
            )
        {
            Item::Name {
                bytes: Vec::new(),
                want: length,
            }
        } else {
            return Err(self.malformed("a name without end"));
        };
        Ok(())
    }

    /// Takes a string (empty if it was skipped), and moves on.
    pub(super) fn text(&mut self, text: String) {
        match self.state {
            State::DatabaseName => self.state = State::ServerVersion,
            State::ServerVersion => {
                self.summary.server_version = text;
                self.state = State::DumpVersion;
            }
            State::DumpVersion => {
                self.summary.dump_version = text;
                self.state = State::EntryCount;
            }
            State::EntryField => {
                match self.fields.get(self.field) {
                    Some(Field::Tag) => self.entry.tag = text,
                    Some(Field::Kind) => self.entry.kind = text,
                    Some(Field::Definition) => self.entry.definition = text,
                    Some(Field::Copy) => self.entry.copy = text,
                    Some(Field::Namespace) => self.entry.namespace = text,
                    Some(Field::Tablespace) => self.entry.tablespace = text,
                    // More dependencies follow, up to one that is NULL.
                    Some(Field::Dependency) => {
                        self.entry.dependencies.extend(text.parse::<u32>().ok());
                        return;
                    }
                    Some(Field::Id | Field::Int | Field::Text | Field::Offset) | None => {}
                }
                self.next_field();
            }
            State::Magic
            | State::Compression
            | State::Date(_)
            | State::EntryCount
            | State::BlockType
            | State::DataId
            | State::DataChunk
            | State::ObjectsId
            | State::ObjectOid
            | State::ObjectChunk
            | State::Failed => {}
        }
    }

    /// Moves on after a string or a chunk was skipped.
    pub(super) fn after_skip(&mut self) {
        if !matches!(self.state, State::DataChunk | State::ObjectChunk) {
            self.text(String::new());
        }
    }

    pub(super) fn next_field(&mut self) {
        self.field += 1;
        self.item = match self.fields.get(self.field) {
            Some(Field::Offset) => Item::fixed(1 + OFFSET_BYTES),
            _ => Item::int(),
        };
    }

    pub(super) fn end_entry(&mut self) -> Result<(), FormatError> {
        let entry = std::mem::take(&mut self.entry);
        if entry.kind == "TABLE" {
            self.summary.tables += 1;
        }
        if self.entry_has_data && !self.pending.insert(entry.id) {
            return Err(self.malformed("two entries of the same id"));
        }
        match self.keep {
            Keep::Nothing => {}
            Keep::Contents => self.tally.entry(&entry),
            Keep::Entries => self.entries.push(entry),
        }
        self.entries_left -= 1;
        self.next_entry();
        Ok(())
    }

    pub(super) fn next_entry(&mut self) {
        if self.entries_left == 0 {
            self.next_block();
        } else {
            self.state = State::EntryField;
            self.field = 0;
        }
    }
}

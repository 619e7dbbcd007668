//! What is in a backup, before any of it is written.

use std::collections::BTreeMap;

use crate::{
    archive::{DumpRead, FormatError, Pulled},
    engine::redis::rdb::{
        self, Element, Header, Limits, SplitError, Summary, Value, ValueKind, Version, split,
    },
};

use super::mark;

/// What was found in a dump that is whole and of which every value is of a type that is known.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) summary: Summary,
    /// The server that wrote it, by its own word.
    pub(super) written_by: Option<String>,
    /// Keys by database.
    pub(super) keys: BTreeMap<u64, u64>,
    /// Whether the server was a half restored one: the mark of a restore is among its keys.
    pub(super) has_mark: bool,
}

impl Survey {
    /// Returns an inspector that surveys.
    pub(super) fn inspector(limits: Limits) -> Pulled<Self> {
        Pulled::start(move |dump| read(dump, limits))
    }

    pub(super) fn total_keys(&self) -> u64 {
        self.keys.values().sum()
    }

    pub(super) fn version(&self) -> Version {
        self.summary.version
    }

    /// Returns the number of the highest database with a key.
    pub(super) fn highest_database(&self) -> u64 {
        self.keys.keys().next_back().copied().unwrap_or(0)
    }
}

fn read(dump: DumpRead, limits: Limits) -> Result<Survey, FormatError> {
    let mut surveyor = Surveyor::default();
    match split(dump, &mut surveyor, limits) {
        Ok(summary) => Ok(Survey {
            summary,
            written_by: surveyor.written_by,
            keys: surveyor.keys,
            has_mark: surveyor.has_mark,
        }),
        Err(SplitError::Format(wrong)) => Err(wrong.into()),
        // The source only ever ends.
        Err(SplitError::Read(_)) => Err(FormatError::CheckStopped),
        Err(SplitError::Visitor(never)) => match never {},
    }
}

#[derive(Debug, Default)]
struct Surveyor {
    written_by: Option<String>,
    keys: BTreeMap<u64, u64>,
    has_mark: bool,
}

impl Surveyor {
    fn count(&mut self, header: Header<'_>) {
        *self.keys.entry(header.db).or_default() += 1;
        self.has_mark |= mark::is_mark(header.db, header.key);
    }
}

impl rdb::Visit for Surveyor {
    type Error = std::convert::Infallible;

    fn begin(&mut self, _: Version) -> Result<(), Self::Error> {
        Ok(())
    }

    fn aux(&mut self, field: &[u8], value: &[u8]) -> Result<(), Self::Error> {
        let server = match field {
            b"redis-ver" => "Redis",
            b"valkey-ver" => "Valkey",
            _ => return Ok(()),
        };
        let version = super::batch::shown(value);
        self.written_by = Some(format!("{server} {version}"));
        Ok(())
    }

    fn function(&mut self, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn value(&mut self, value: Value<'_>) -> Result<(), Self::Error> {
        self.count(value.header);
        Ok(())
    }

    fn begin_large(&mut self, _: ValueKind, header: Header<'_>) -> Result<(), Self::Error> {
        self.count(header);
        Ok(())
    }

    fn element(&mut self, _: Element<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    fn end_large(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

//! Checks that a dump is whole, and counts what is in it.

use std::{collections::BTreeMap, io::Read};

use crate::{
    engine::redis::mark,
    format::{
        FormatError,
        rdb::{
            self, Element, Header, Limits, SplitError, Summary, Value, ValueKind, Version, Visit,
            split,
        },
    },
};

/// More databases than any server has; a file with more is not a dump.
const MOST_DATABASES: usize = 65_536;
/// The type of values that only a module can read.
pub(crate) const MODULE: u8 = 7;

/// What is in a whole dump.
#[derive(Debug)]
pub(crate) struct Census {
    pub(crate) summary: Summary,
    /// By database number.
    pub(crate) keys: BTreeMap<u64, u64>,
    pub(crate) module_values: u64,
    /// Whether the mark of a restore is among the keys, which means that the server was half restored.
    pub(crate) has_mark: bool,
    /// When the snapshot was written, in seconds by the server's clock.
    pub(crate) ctime: Option<i64>,
    /// Such as `Redis 7.0.15`, from the dump.
    pub(crate) server: Option<String>,
}

/// Reads a dump to its end and counts. Any doubt is an error.
pub(crate) fn take(dump: impl Read) -> Result<Census, FormatError> {
    let mut counter = Counter::default();
    let summary = read_whole(dump, &mut counter, Limits::to_count())?;
    Ok(counter.finish(summary))
}

/// Shows a whole dump to a visitor that only looks. Any doubt is an error.
pub(crate) fn read_whole<V: Visit<Error = rdb::FormatError>>(
    dump: impl Read,
    visitor: &mut V,
    limits: Limits,
) -> Result<Summary, FormatError> {
    match split(dump, visitor, limits) {
        Ok(summary) => Ok(summary),
        Err(SplitError::Format(error) | SplitError::Visitor(error)) => Err(error.into()),
        // The pipeline's own reader never fails.
        Err(SplitError::Read(_)) => Err(FormatError::CheckStopped),
    }
}

/// Counts what is in a dump.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    keys: BTreeMap<u64, u64>,
    module_values: u64,
    has_mark: bool,
    ctime: Option<i64>,
    redis: Option<String>,
    valkey: Option<String>,
}

impl Counter {
    /// Returns the counts, once the dump has been found whole.
    pub(crate) fn finish(self, summary: Summary) -> Census {
        Census {
            summary,
            keys: self.keys,
            module_values: self.module_values,
            has_mark: self.has_mark,
            ctime: self.ctime,
            server: self.valkey.or(self.redis),
        }
    }

    fn count(&mut self, header: Header<'_>) -> Result<(), rdb::FormatError> {
        let db = header.db;
        if let Some(keys) = self.keys.get_mut(&db) {
            *keys += 1;
            return Ok(());
        }
        if self.keys.len() >= MOST_DATABASES {
            let what = "more databases than a server can have";
            return Err(rdb::FormatError::Malformed { what, at: 0 });
        }
        self.keys.insert(db, 1);
        Ok(())
    }
}

impl Visit for Counter {
    type Error = rdb::FormatError;

    fn begin(&mut self, _: Version) -> Result<(), Self::Error> {
        Ok(())
    }

    fn aux(&mut self, field: &[u8], value: &[u8]) -> Result<(), Self::Error> {
        let text = || {
            String::from_utf8_lossy(value)
                .chars()
                .take(40)
                .collect::<String>()
        };
        match field {
            b"ctime" => self.ctime = text().parse().ok(),
            b"redis-ver" => self.redis = Some(format!("Redis {}", text())),
            b"valkey-ver" => self.valkey = Some(format!("Valkey {}", text())),
            _ => {}
        }
        Ok(())
    }

    fn function(&mut self, _: &[u8]) -> Result<(), Self::Error> {
        Ok(())
    }

    fn value(&mut self, value: Value<'_>) -> Result<(), Self::Error> {
        let Value { header, stored } = value;
        self.module_values += u64::from(stored.type_byte == MODULE);
        self.has_mark |= mark::is_mark(header.db, header.key, stored);
        self.count(header)
    }

    fn begin_large(&mut self, _: ValueKind, header: Header<'_>) -> Result<(), Self::Error> {
        self.count(header)
    }

    fn element(&mut self, _: Element<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    fn end_large(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

//! Is the dump whole, and what is in it?

use std::{collections::BTreeMap, io::Read};

use crate::{
    archive::FormatError,
    engine::redis::{
        mark,
        rdb::{
            self, Element, Header, Limits, SplitError, Summary, Value, ValueKind, Version, Visit,
            split,
        },
    },
};

/// More than servers have; what says otherwise is no dump.
const MOST_DATABASES: usize = 65_536;
/// The type of values that only a module can read.
const MODULE: u8 = 7;

/// What is in a whole dump.
#[derive(Debug)]
pub(crate) struct Census {
    pub(crate) summary: Summary,
    /// By database number.
    pub(crate) keys: BTreeMap<u64, u64>,
    pub(crate) module_values: u64,
    /// Whether the mark of a restore is among the keys: the server was half restored.
    pub(crate) has_mark: bool,
    /// The second in which the snapshot was written, by the server's clock.
    pub(crate) ctime: Option<i64>,
    /// `Redis 7.0.15`, as the dump has it.
    pub(crate) server: Option<String>,
}

/// Reads a dump to its end and counts. Any doubt is an error.
pub(crate) fn take(dump: impl Read) -> Result<Census, FormatError> {
    let mut counter = Counter::default();
    let summary = match split(dump, &mut counter, Limits::default()) {
        Ok(summary) => summary,
        Err(SplitError::Format(error) | SplitError::Visitor(error)) => return Err(error.into()),
        // The pipeline's own reader does not fail.
        Err(SplitError::Read(_)) => return Err(FormatError::CheckStopped),
    };
    Ok(Census {
        summary,
        keys: counter.keys,
        module_values: counter.module_values,
        has_mark: counter.has_mark,
        ctime: counter.ctime,
        server: counter.valkey.or(counter.redis),
    })
}

#[derive(Default)]
struct Counter {
    keys: BTreeMap<u64, u64>,
    module_values: u64,
    has_mark: bool,
    ctime: Option<i64>,
    redis: Option<String>,
    valkey: Option<String>,
}

impl Counter {
    fn count(&mut self, header: Header<'_>) -> Result<(), rdb::FormatError> {
        let db = header.db;
        self.has_mark |= mark::is_mark(db, header.key);
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
        self.module_values += u64::from(value.stored.type_byte == MODULE);
        self.count(value.header)
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

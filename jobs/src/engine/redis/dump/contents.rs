//! What a dump holds, recorded while it is made: keys by database, and function libraries.

mod groups;
mod value;

use std::{collections::BTreeMap, io::Read};

use self::{
    groups::{Database, Unknown},
    value::ValueHash,
};
use super::census::{Census, Counter, read_whole};
use crate::{
    contents::{Contents, Item, ItemHash},
    engine::redis::mark,
    format::{
        FormatError,
        rdb::{self, Element, Header, Limits, Opener, Summary, Value, ValueKind, Version, Visit},
    },
};

/// How many function libraries are recorded one by one.
const MOST_LIBRARIES: usize = 10_000;
/// How many characters of a library's name are recorded.
const NAME_CHARS: usize = 200;

/// Reads a dump to its end, counts, and records what it holds. Any doubt is an error.
pub(super) fn take(dump: impl Read) -> Result<(Census, Contents), FormatError> {
    take_within(dump, Limits::to_count())
}

/// Reads a dump as [`take`] does, within other limits.
fn take_within(dump: impl Read, limits: Limits) -> Result<(Census, Contents), FormatError> {
    let mut recorder = Recorder::default();
    let summary = read_whole(dump, &mut recorder, limits)?;
    let contents = recorder.record.finish(summary);
    Ok((recorder.counter.finish(summary), contents))
}

/// Counts and records at once.
#[derive(Default)]
struct Recorder {
    counter: Counter,
    record: Record,
}

impl Visit for Recorder {
    type Error = rdb::FormatError;

    fn begin(&mut self, version: Version) -> Result<(), Self::Error> {
        self.record.version = Some(version);
        self.counter.begin(version)
    }

    fn aux(&mut self, field: &[u8], value: &[u8]) -> Result<(), Self::Error> {
        self.counter.aux(field, value)
    }

    fn function(&mut self, source: &[u8]) -> Result<(), Self::Error> {
        self.record.function(source);
        self.counter.function(source)
    }

    fn value(&mut self, value: Value<'_>) -> Result<(), Self::Error> {
        self.counter.value(value)?;
        self.record.value(value);
        Ok(())
    }

    fn begin_large(&mut self, kind: ValueKind, header: Header<'_>) -> Result<(), Self::Error> {
        self.counter.begin_large(kind, header)?;
        self.record.begin_large(kind, header);
        Ok(())
    }

    fn element(&mut self, element: Element<'_>) -> Result<(), Self::Error> {
        self.record.hash.add(element);
        self.counter.element(element)
    }

    fn end_large(&mut self) -> Result<(), Self::Error> {
        self.record.end_large();
        self.counter.end_large()
    }
}

#[derive(Default)]
struct Record {
    version: Option<Version>,
    opener: Opener,
    hash: ValueHash,
    /// By number.
    databases: BTreeMap<u64, Database>,
    /// The value that comes in pieces.
    large: Option<Large>,
    functions: Vec<Item>,
}

struct Large {
    kind: ValueKind,
    db: u64,
    key: Vec<u8>,
    expires_at_ms: Option<u64>,
}

impl Record {
    fn function(&mut self, source: &[u8]) {
        if self.functions.len() < MOST_LIBRARIES {
            self.functions.push(Item {
                hash: Some(ItemHash::of(source)),
                ..Item::new("function", library(source))
            });
        }
    }

    fn value(&mut self, value: Value<'_>) {
        let Value { header, stored } = value;
        // A restore leaves the mark of another out.
        let is_mark = mark::is_mark(header.db, header.key, stored);
        let Some(version) = self.version.filter(|_| !is_mark) else {
            return;
        };
        let hash = &mut self.hash;
        hash.begin();
        if let Some(text) = stored.plain_string() {
            hash.whole_string(text);
            self.count(header, Some(ValueKind::String), None);
            return;
        }
        let mut give = |element: Element<'_>| hash.add(element);
        let opened = self.opener.open(stored, version, &mut give);
        let unknown = opened.err().map(Unknown::from);
        self.count(header, stored.kind(version), unknown);
    }

    fn begin_large(&mut self, kind: ValueKind, header: Header<'_>) {
        self.hash.begin();
        self.large = Some(Large {
            kind,
            db: header.db,
            key: header.key.to_vec(),
            expires_at_ms: header.expires_at_ms,
        });
    }

    fn end_large(&mut self) {
        let Some(large) = self.large.take() else {
            return;
        };
        let header = Header {
            db: large.db,
            key: &large.key,
            expires_at_ms: large.expires_at_ms,
            idle_seconds: None,
            frequency: None,
        };
        let unknown = self.hash.has_loose_groups.then_some(Unknown::LooseGroups);
        self.count(header, Some(large.kind), unknown);
        self.databases.entry(large.db).or_default().has_large = true;
    }

    /// Adds a key to its group.
    fn count(&mut self, header: Header<'_>, kind: Option<ValueKind>, unknown: Option<Unknown>) {
        let hash = self.hash.under(header.key, kind, header.expires_at_ms);
        let vanishes = [header.expires_at_ms, self.hash.earliest_ms];
        let until_ms = vanishes.into_iter().flatten().min();
        let database = self.databases.entry(header.db).or_default();
        if let Some(group) = database.group(header, kind) {
            group.add(hash, until_ms, unknown);
        }
    }

    fn finish(self, summary: Summary) -> Contents {
        let mut items = self.functions;
        for (number, database) in self.databases {
            // Which of its values has the string is not known.
            let is_unknown = database.has_large && summary.too_long > 0;
            database.list(number, is_unknown.then_some(Unknown::TooLong), &mut items);
        }
        Contents { items }
    }
}

/// Returns the name of a function library, from its first line: `#!lua name=shop`.
fn library(source: &[u8]) -> String {
    let line = source.split(|byte| *byte == b'\n').next();
    let line = String::from_utf8_lossy(line.unwrap_or_default());
    let named = line
        .split_whitespace()
        .find_map(|it| it.strip_prefix("name="));
    let name = named.unwrap_or_default().chars();
    name.take(NAME_CHARS).collect()
}

#[cfg(test)]
mod tests;

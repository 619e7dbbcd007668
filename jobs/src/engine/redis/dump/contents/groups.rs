//! Which of a database's keys are proven together?
//!
//! A second dump, made days later of a restored server, must have the same groups, less what has expired since. So the
//! group of a key depends on the key and its expiry alone, never on the time of the dump:
//!
//! - Keys without an expiry are one group, but for hashes: single fields of a hash may expire, and its key with the last
//!   of them. Hashes are spread by their keys, so that one that changes by itself takes only its own part with it.
//! - Keys with an expiry are grouped by the hour in which they expire, in a cycle of twelve weeks. So there are never
//!   more than [`HOURS`] groups, and when an hour begins, only what shares a group with it becomes unproven.
//!
//! Permanent: a drill compares them with what an earlier build recorded.

use chrono::DateTime;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    contents::{Item, ItemHash},
    format::rdb::{Header, Unopened, ValueKind},
};

/// How many groups the expiring keys of a database fall into.
const HOURS: u64 = 12 * 7 * 24;
const MS_PER_HOUR: u64 = 60 * 60 * 1000;
/// How many parts the hashes of a database fall into.
const PARTS: u64 = 64;
/// Databases from this number on have one group of each kind, so that memory stays bounded. Servers have 16 databases
/// unless told otherwise.
const UNDIVIDED: u64 = 64;

/// The groups of one database.
#[derive(Debug, Default)]
pub(super) struct Database {
    keys: Group,
    /// Empty until there is a hash.
    hashes: Vec<Group>,
    /// Empty until there is an expiring key.
    expiring: Vec<Group>,
    /// Whether it has a value that came in pieces.
    pub(super) has_large: bool,
}

/// Some keys.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Group {
    keys: u64,
    hash: ItemHash,
    /// When the first of these keys, or the first of their fields, expires.
    until_ms: Option<u64>,
    unknown: Option<Unknown>,
}

/// Why the hash of a group cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    Strange,
    TooLong,
    LooseGroups,
}

impl Database {
    /// Returns the group that a key belongs to.
    pub(super) fn group(
        &mut self,
        header: Header<'_>,
        kind: Option<ValueKind>,
    ) -> Option<&mut Group> {
        let (groups, count, place) = match (header.expires_at_ms, kind) {
            (Some(at), _) => (&mut self.expiring, HOURS, at / MS_PER_HOUR),
            (None, Some(ValueKind::Hash)) => (&mut self.hashes, PARTS, xxh3_64(header.key)),
            (None, _) => return Some(&mut self.keys),
        };
        let count = if header.db < UNDIVIDED { count } else { 1 };
        if groups.is_empty() {
            groups.resize(usize::try_from(count).ok()?, Group::default());
        }
        groups.get_mut(usize::try_from(place % count).ok()?)
    }

    /// Adds its groups to a list. `unknown` is about all of them.
    pub(super) fn list(self, number: u64, unknown: Option<Unknown>, items: &mut Vec<Item>) {
        let mut add = |kind, name, group: Group| {
            if group.keys > 0 {
                items.push(group.into_item(kind, name, unknown));
            }
        };
        add("keys", number.to_string(), self.keys);
        let parts = self.hashes.len();
        for (part, group) in (1..).zip(self.hashes) {
            add("hashes", format!("{number}, part {part} of {parts}"), group);
        }
        let hours = self.expiring.len();
        for (hour, group) in (1..).zip(self.expiring) {
            let name = format!("{number}, hour {hour} of {hours}");
            add("expiring keys", name, group);
        }
    }
}

impl Group {
    /// Adds a key that vanishes at some time, or loses a part of its value.
    pub(super) fn add(&mut self, hash: ItemHash, until_ms: Option<u64>, unknown: Option<Unknown>) {
        self.keys += 1;
        self.hash.add(hash);
        self.unknown = self.unknown.or(unknown);
        self.until_ms = match (self.until_ms, until_ms) {
            (Some(known), Some(at)) => Some(known.min(at)),
            (known, at) => known.or(at),
        };
    }

    fn into_item(self, kind: &'static str, name: String, unknown: Option<Unknown>) -> Item {
        let unknown = unknown.or(self.unknown);
        let until = self.until_ms.and_then(|at| i64::try_from(at).ok());
        Item {
            count: Some(self.keys),
            hash: Some(self.hash).filter(|_| unknown.is_none()),
            // An instant beyond what can be expressed never comes.
            until: until.and_then(DateTime::from_timestamp_millis),
            unknown: unknown.map(|it| it.because().to_owned()),
            ..Item::new(kind, name)
        }
    }
}

impl Unknown {
    fn because(self) -> &'static str {
        match self {
            Self::Strange => "it has a value that this build cannot take apart",
            Self::TooLong => "it has a string that is too long to be held in memory",
            Self::LooseGroups => {
                "it has a stream with consumer groups of more than 64 MiB, which a restore may not bring back in full"
            }
        }
    }
}

impl From<Unopened> for Unknown {
    fn from(unopened: Unopened) -> Self {
        match unopened {
            Unopened::Strange => Self::Strange,
            Unopened::TooLong => Self::TooLong,
        }
    }
}

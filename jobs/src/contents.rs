//! What a dump holds, item by item: recorded while it is made, and compared after a drill has restored it.
//!
//! The items are computed from the stream that passes by, so that recording them asks nothing more of the customer's
//! server. A drill restores the dump, dumps the restored database again through the same code, and compares both lists.
//! The hashes show faithfulness only. BLAKE3 shows that nobody changed the archive.
//!
//! They travel in the archive, in a skippable zstd frame behind the dump, which standard tools pass over: the hash of a
//! table with few possible rows gives its contents away, so the list is encrypted as the dump is.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt::{self, Display},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

mod compare;
mod stored;

pub use compare::{Comparison, Difference, Fact, LeftOut, compare};
pub use stored::{ContentsError, Recorded};

/// One thing in a dump that must come back: a table, an index, a collection, a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is, in the engine's own words and in lower case, e.g. `table`.
    pub kind: Cow<'static, str>,
    /// Its full name. Several items may share one, e.g. overloaded functions.
    pub name: String,
    /// How many rows, documents or keys it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The hash of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<ItemHash>,
    /// How these are written, e.g. the order of columns. Hashes of different shapes cannot be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<String>,
    /// What else must be the same: a version, a sequence's value, an index's definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// From this instant on the server may remove it by itself, e.g. keys that expire. It is compared before then only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Why its count and hash could not be told from the stream. It is then compared by name only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

impl Item {
    /// Returns an item of which only the existence is known.
    pub fn new(kind: impl Into<Cow<'static, str>>, name: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            name: name.into(),
            count: None,
            hash: None,
            shape: None,
            value: None,
            until: None,
            unknown: None,
        }
    }
}

/// Everything in a dump. Items stand in no particular order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The items.
    pub items: Vec<Item>,
}

impl Contents {
    /// Returns how many items of each kind there are.
    #[must_use]
    pub fn by_kind(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for item in &self.items {
            *counts.entry(item.kind.clone().into_owned()).or_default() += 1;
        }
        counts
    }
}

/// A 128-bit hash, which shows as 32 lower-case hex digits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ItemHash(pub u128);

impl ItemHash {
    /// Hashes bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxh3_128(bytes))
    }

    /// Adds the hash of one member of a set or a map: the sum does not depend on the order.
    pub fn add(&mut self, member: Self) {
        self.0 = self.0.wrapping_add(member.0);
    }
}

impl Display for ItemHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for ItemHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ItemHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        let digits = (text.len() == 32).then(|| u128::from_str_radix(&text, 16).ok());
        digits
            .flatten()
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a hash has 32 hex digits"))
    }
}

/// A hash of bytes that arrive in pieces, in their order.
#[derive(Clone, Default)]
pub struct Hashing(Xxh3);

impl Hashing {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the hash of all of them.
    #[must_use]
    pub fn finish(&self) -> ItemHash {
        ItemHash(self.0.digest128())
    }
}

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hashing").field(&self.finish()).finish()
    }
}

#[cfg(test)]
mod tests;

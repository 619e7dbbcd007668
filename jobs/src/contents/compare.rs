//! How do two lists of contents differ?

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Contents, Item};

/// How many differences are kept, and how many items that were left out. All are counted.
const KEPT: usize = 100;

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// How many items were compared, by kind.
    pub compared: BTreeMap<String, u64>,
    /// How many rows, documents and keys these have.
    pub records: u64,
    /// How many items differ.
    pub differing: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// How many items could not be compared in full.
    #[serde(default)]
    pub left_out_items: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

/// One item that came back otherwise than it was dumped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The item's kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Which fact differs.
    pub fact: Fact,
    /// What was dumped; absent if the item is not of the dump, and of hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What came back; absent if the item did not, and of hashes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// A fact about an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// That it is there, so many times.
    Existence,
    /// How many rows, documents or keys it has.
    Count,
    /// What they are.
    Hash,
    /// Its value: a version, a definition.
    Value,
}

/// An item that was not compared in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The item's kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Why.
    pub because: String,
}

/// Compares what was dumped with what came back. Items that the server may have removed by itself before `at` are left
/// out.
#[must_use]
pub fn compare(expected: &Contents, found: &Contents, at: DateTime<Utc>) -> Comparison {
    let mut comparison = Comparison::default();
    let (expected, found) = (by_name(expected), by_name(found));
    let extra = found.keys().filter(|name| !expected.contains_key(*name));
    let names = expected.keys().chain(extra);
    for name in names {
        let none = Vec::new();
        let dumped = expected.get(name).unwrap_or(&none);
        let back = found.get(name).unwrap_or(&none);
        if dumped.iter().chain(back).any(|item| has_lapsed(item, at)) {
            comparison.leave_out(name, "it may have expired by itself");
            continue;
        }
        let (kind, _) = name;
        *comparison.compared.entry((*kind).to_owned()).or_default() += dumped.len() as u64;
        if dumped.len() != back.len() {
            let times = |items: &[&Item]| match items.len() {
                0 => None,
                1 => Some("present".to_owned()),
                many => Some(format!("present {many} times")),
            };
            comparison.differs(name, Fact::Existence, times(dumped), times(back));
            continue;
        }
        for (dumped, back) in dumped.iter().zip(back) {
            comparison.one(name, dumped, back);
        }
    }
    comparison
}

/// An item's kind and name.
type Name<'a> = (&'a str, &'a str);

/// Returns the items by kind and name. Those that share a name stand in the order of their facts.
fn by_name(contents: &Contents) -> BTreeMap<Name<'_>, Vec<&Item>> {
    let mut by_name: BTreeMap<Name<'_>, Vec<&Item>> = BTreeMap::new();
    for item in &contents.items {
        let name = (item.kind.as_ref(), item.name.as_str());
        by_name.entry(name).or_default().push(item);
    }
    for items in by_name.values_mut() {
        items.sort_by_key(|item| (&item.value, item.count, item.hash.map(|hash| hash.0)));
    }
    by_name
}

fn has_lapsed(item: &Item, at: DateTime<Utc>) -> bool {
    item.until.is_some_and(|until| until <= at)
}

impl Comparison {
    /// Returns whether no row, document or key was compared although there were some: then nothing is proven of them.
    #[must_use]
    pub fn is_of_names_only(&self) -> bool {
        self.records == 0 && self.left_out_items > 0
    }

    /// Returns whether everything that was compared came back.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.differing == 0
    }

    fn one(&mut self, name: &Name<'_>, dumped: &Item, back: &Item) {
        if let Some(because) = dumped.unknown.as_ref().or(back.unknown.as_ref()) {
            return self.leave_out(name, because);
        }
        if dumped.count != back.count {
            let shown = |item: &Item| item.count.map(|count| count.to_string());
            return self.differs(name, Fact::Count, shown(dumped), shown(back));
        }
        if dumped.shape != back.shape {
            self.leave_out(
                name,
                "it is printed in another form than before; only counted",
            );
        } else if dumped.hash != back.hash {
            // The hashes stay in the archive: they could give a small table's contents away.
            return self.differs(name, Fact::Hash, None, None);
        }
        self.records += dumped.count.unwrap_or_default();
        if dumped.value != back.value {
            self.differs(name, Fact::Value, dumped.value.clone(), back.value.clone());
        }
    }

    fn differs(
        &mut self,
        (kind, name): &Name<'_>,
        fact: Fact,
        expected: Option<String>,
        found: Option<String>,
    ) {
        self.differing += 1;
        if self.differences.len() < KEPT {
            self.differences.push(Difference {
                kind: (*kind).to_owned(),
                name: (*name).to_owned(),
                fact,
                expected,
                found,
            });
        }
    }

    fn leave_out(&mut self, (kind, name): &Name<'_>, because: &str) {
        self.left_out_items += 1;
        if self.left_out.len() < KEPT {
            self.left_out.push(LeftOut {
                kind: (*kind).to_owned(),
                name: (*name).to_owned(),
                because: because.to_owned(),
            });
        }
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kind,
            name,
            fact,
            expected,
            found,
        } = self;
        write!(f, "{kind} {name}: ")?;
        let shown = |it: &Option<String>| it.clone().unwrap_or_else(|| "none".to_owned());
        let (expected, found) = (shown(expected), shown(found));
        match (fact, &self.expected, &self.found) {
            (Fact::Existence, Some(_), None) => f.write_str("it did not come back"),
            (Fact::Existence, None, Some(_)) => f.write_str("it came back, and was not dumped"),
            (Fact::Existence, _, _) => write!(f, "dumped as {expected}, came back {found}"),
            (Fact::Count, _, _) => write!(f, "{expected} records were dumped, {found} came back"),
            (Fact::Hash, _, _) => {
                f.write_str("its records came back otherwise than they were dumped")
            }
            (Fact::Value, _, _) => write!(f, "{expected} was dumped, {found} came back"),
        }
    }
}

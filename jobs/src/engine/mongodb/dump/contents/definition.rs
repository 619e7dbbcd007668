//! Options and indexes as text that is the same before and after a restore.
//!
//! Servers list options in an order of their own, and some numbers and booleans in another type than they were given.

use std::collections::BTreeMap;

use bson::{Bson, Document};
use serde_json::{Map, Value};

use crate::contents::ItemHash;

/// What counts of an index. The version of its format does not, and neither does how it was built, nor what old servers
/// kept although they did not know it.
const OF_INDEX: [&str; 24] = [
    "2dsphereIndexVersion",
    "bits",
    "bucketSize",
    "coarsestIndexedLevel",
    "collation",
    "columnstoreProjection",
    "default_language",
    "expireAfterSeconds",
    "finestIndexedLevel",
    "hidden",
    "key",
    "language_override",
    "max",
    "min",
    "name",
    "partialFilterExpression",
    "prepareUnique",
    "sparse",
    "storageEngine",
    "strings",
    "textIndexVersion",
    "unique",
    "weights",
    "wildcardProjection",
];
/// Options of an index that are on or off.
const SWITCHES: [&str; 4] = ["hidden", "prepareUnique", "sparse", "unique"];
/// The longest text that is recorded as it is.
const TEXT_BYTES_MAX: usize = 4096;

/// Returns the options of a collection or view; `None` if it has none.
pub(super) fn of_options(options: &Document) -> Option<String> {
    let all: BTreeMap<&str, Value> = options
        .iter()
        .map(|(name, value)| (name.as_str(), plain(name, value)))
        .collect();
    (!all.is_empty()).then(|| text(all))
}

/// Returns the definition of an index.
pub(super) fn of_index(index: &Document) -> String {
    let known = index
        .iter()
        .filter(|(name, _)| OF_INDEX.contains(&name.as_str()));
    let all = known.filter_map(|(name, value)| {
        let is_switch = SWITCHES.contains(&name.as_str());
        if !is_switch {
            return Some((name.as_str(), plain(name, value)));
        }
        is_on(value).then_some((name.as_str(), Value::Bool(true)))
    });
    text(all.collect())
}

/// Returns the value of a field at the top. What is within keeps its order and its types.
fn plain(name: &str, value: &Bson) -> Value {
    match (name, value) {
        ("key" | "weights", Bson::Document(fields)) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.clone(), number(value)));
            Value::Object(fields.collect())
        }
        ("collation", Bson::Document(collation)) => {
            // The server's choice.
            let mut collation = collation.clone();
            collation.remove("version");
            Bson::Document(collation).into_relaxed_extjson()
        }
        _ => number(value),
    }
}

/// Returns a number without its type, and any other value with it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is not a number keeps its type, whatever the type"
)]
fn number(value: &Bson) -> Value {
    match value {
        Bson::Int32(number) => Value::from(*number),
        Bson::Int64(number) => Value::from(*number),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it is whole, and smaller than 2^53"
        )]
        Bson::Double(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
            Value::from(*number as i64)
        }
        other => other.clone().into_canonical_extjson(),
    }
}

fn is_on(value: &Bson) -> bool {
    if let Bson::Boolean(is_on) = value {
        *is_on
    } else {
        number(value) != 0
    }
}

fn text(all: BTreeMap<&str, Value>) -> String {
    let all = all
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let text = Value::Object(all.collect::<Map<_, _>>()).to_string();
    if text.len() <= TEXT_BYTES_MAX {
        return text;
    }
    format!(
        "{} bytes with the hash {}",
        text.len(),
        ItemHash::of(text.as_bytes())
    )
}

//! From when on may a server remove documents of a collection by itself?

use bson::{Bson, Document, RawDocument, raw::RawBsonRef};
use chrono::{DateTime, Utc};

use super::super::super::restore::{RestoredItem, RestoredShape};

/// The rules by which documents of a collection expire, and when the first of them does.
#[derive(Debug)]
pub(super) struct Expiry {
    rules: Vec<Rule>,
    until_ms: Option<i64>,
}

/// Documents expire this long after the time in this field.
#[derive(Debug)]
struct Rule {
    path: Vec<String>,
    after_ms: i64,
}

impl Expiry {
    /// Returns the rules of a collection; `None` if its documents never expire.
    pub(super) fn of(item: &RestoredItem) -> Option<Self> {
        let of_index = |index: &Document| {
            let after_ms = after_ms(index)?;
            let field = index.get_document("key").ok()?.keys().next()?;
            let path = field.split('.').map(str::to_owned).collect();
            Some(Rule { path, after_ms })
        };
        let mut rules: Vec<_> = item.indexes.iter().filter_map(of_index).collect();
        let path = match item.options.get_document("timeseries") {
            Ok(options) if item.shape == RestoredShape::TimeSeries => {
                let field = options.get_str("timeField").unwrap_or_default();
                vec!["control", "min", field]
            }
            Ok(_) | Err(_) => vec!["_id"],
        };
        if let Some(after_ms) = after_ms(&item.options) {
            let path = path.into_iter().map(str::to_owned).collect();
            rules.push(Rule { path, after_ms });
        }
        (!rules.is_empty()).then_some(Self {
            rules,
            until_ms: None,
        })
    }

    /// Takes a document.
    pub(super) fn note(&mut self, raw: &[u8]) {
        let Ok(document) = RawDocument::from_bytes(raw) else {
            return;
        };
        for rule in &self.rules {
            let expires = earliest(document, &rule.path).map(|at| at.saturating_add(rule.after_ms));
            self.until_ms = [self.until_ms, expires].into_iter().flatten().min();
        }
    }

    /// Returns when the first document expires.
    pub(super) fn until(&self) -> Option<DateTime<Utc>> {
        // An instant beyond what can be expressed never comes.
        DateTime::from_timestamp_millis(self.until_ms?.max(0))
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a server takes all other types alike"
)]
fn after_ms(of: &Document) -> Option<i64> {
    let after = of.get("expireAfterSeconds")?;
    let seconds = match after {
        Bson::Int32(seconds) => i64::from(*seconds),
        Bson::Int64(seconds) => *seconds,
        // As a server takes it: what is no number is 0.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "it saturates, and NaN is 0"
        )]
        Bson::Double(seconds) => *seconds as i64,
        _ => 0,
    };
    Some(seconds.saturating_mul(1000))
}

/// Returns the earliest time in a field. It may be in an array, and so may what it is in.
fn earliest(document: &RawDocument, path: &[String]) -> Option<i64> {
    let (field, rest) = path.split_first()?;
    within(document.get(field).ok()??, rest)
}

fn within(value: RawBsonRef<'_>, rest: &[String]) -> Option<i64> {
    if let Some(array) = value.as_array() {
        let values = array.into_iter().map_while(Result::ok);
        return values.filter_map(|it| within(it, rest)).min();
    }
    if rest.is_empty() {
        return value.as_datetime().map(bson::DateTime::timestamp_millis);
    }
    earliest(value.as_document()?, rest)
}

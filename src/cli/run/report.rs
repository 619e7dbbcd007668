//! What a run reported, in sentences.

use serde_json::{Map, Value};

use crate::cli::output::{counted, printable};

/// What a restore counts: the field, and the words for one and for several.
const COUNTS: [(&str, &str, &str); 6] = [
    ("tables", "table", "tables"),
    ("collections", "collection", "collections"),
    ("documents", "document", "documents"),
    ("indexes", "index", "indexes"),
    ("keys", "key", "keys"),
    ("functions", "function library", "function libraries"),
];

/// Returns the sentences. A report of another shape, from an older or newer build, is returned as JSON.
pub(super) fn sentences(report: &Value) -> Vec<String> {
    let sentences = report.as_object().and_then(|it| {
        restored(it)
            .or_else(|| verified(it))
            .or_else(|| copied(it))
            .or_else(|| Some(vec![ended(it)?]))
    });
    sentences.unwrap_or_else(|| vec![printable(&report.to_string())])
}

fn text<'a>(report: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    report.get(field)?.as_str()
}

fn texts(report: &Map<String, Value>, field: &str) -> Vec<String> {
    let all = report.get(field).and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(printable)
        .collect()
}

fn restored(report: &Map<String, Value>) -> Option<Vec<String>> {
    let (database, store) = (text(report, "database")?, text(report, "store")?);
    let count = |field: &str| report.get(field)?.as_u64().filter(|count| *count > 0);
    let counts = COUNTS.iter().filter_map(|(field, one, several)| {
        let count = count(field)?;
        Some(format!(
            "{count} {}",
            if count == 1 { one } else { several }
        ))
    });
    let counts: Vec<_> = counts.collect();
    let what = if counts.is_empty() {
        "nothing".to_owned()
    } else {
        counts.join(", ")
    };
    let mut told = vec![format!(
        "restored {what} into {} from store {}",
        printable(database),
        printable(store)
    )];
    let expired = count("expired_keys").map(|count| counted(count, "key"));
    told.extend(expired.map(|keys| format!("left out {keys} that had expired")));
    let removed = count("removed_keys").map(|count| counted(count, "key"));
    told.extend(removed.map(|keys| format!("removed {keys} that the backup does not have")));
    told.extend(
        texts(report, "notes")
            .into_iter()
            .map(|note| format!("note: {note}")),
    );
    told.extend(text(report, "suspect").map(|why| format!("SUSPECT: {}", printable(why))));
    Some(told)
}

fn verified(report: &Map<String, Value>) -> Option<Vec<String>> {
    let found = text(report, "verified")?;
    let stores = texts(report, "stores").join(", ");
    Some(vec![format!(
        "read back from {stores}: {}",
        printable(found)
    )])
}

fn copied(report: &Map<String, Value>) -> Option<Vec<String>> {
    report.get("copied")?;
    let store = printable(text(report, "store")?);
    Some(vec![match text(report, "from") {
        Some(from) => format!("copied from store {} to {store}", printable(from)),
        None => format!("store {store} had it already"),
    }])
}

/// Returns how a run ended that has nothing to count.
fn ended(report: &Map<String, Value>) -> Option<String> {
    let said = |field, words: &str| Some(format!("{words} {}", printable(text(report, field)?)));
    said("skipped", "nothing was done:")
        .or_else(|| said("refused", "not removed:"))
        .or_else(|| said("dropped", "dropped"))
        .or_else(|| {
            report
                .get("removed")?
                .as_bool()?
                .then(|| "removed from every store".to_owned())
        })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case::postgres(
        json!({ "kept": "old", "notes": ["one", "two"], "store": "primary", "tables": 1, "database": "shop", "dump_bytes": 9 }),
        &["restored 1 table into shop from store primary", "note: one", "note: two"]
    )]
    #[case::mongodb(
        json!({ "notes": [], "store": "far", "collections": 2, "documents": 1, "indexes": 1, "database": "orders", "suspect": "it shrank" }),
        &["restored 2 collections, 1 document, 1 index into orders from store far", "SUSPECT: it shrank"]
    )]
    #[case::redis(
        json!({ "notes": [], "store": "far", "keys": 7, "expired_keys": 0, "removed_keys": 2, "functions": 0, "database": "0" }),
        &["restored 7 keys into 0 from store far", "removed 2 keys that the backup does not have"]
    )]
    #[case::nothing(json!({ "notes": [], "store": "far", "tables": 0, "database": "shop" }), &["restored nothing into shop from store far"])]
    #[case::verified(json!({ "point": "id", "verified": "whole", "stores": ["a", "b"] }), &["read back from a, b: whole"])]
    #[case::copied(json!({ "store": "far", "from": "near", "copied": "new" }), &["copied from store near to far"])]
    #[case::there_already(json!({ "store": "far", "copied": "already_there" }), &["store far had it already"])]
    #[case::skipped(json!({ "point": "id", "skipped": "it has expired" }), &["nothing was done: it has expired"])]
    #[case::refused(json!({ "point": "id", "refused": "it is locked" }), &["not removed: it is locked"])]
    #[case::dropped(json!({ "dropped": "old" }), &["dropped old"])]
    #[case::removed(json!({ "point": "id", "removed": true }), &["removed from every store"])]
    #[case::of_another_build(json!({ "news": 1 }), &[r#"{"news":1}"#])]
    #[case::no_object(json!([1]), &["[1]"])]
    fn a_report_is_told_in_sentences(#[case] report: Value, #[case] told: &[&str]) {
        assert_eq!(sentences(&report), told);
    }

    #[test]
    fn a_name_from_outside_controls_no_terminal() {
        let told = sentences(&json!({ "dropped": "a\u{1b}[2Jb" })).join("");
        assert!(!told.contains('\u{1b}'), "{told}");
    }
}

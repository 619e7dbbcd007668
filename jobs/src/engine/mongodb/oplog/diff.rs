//! An update as servers from 5.0 on log it: the differences, field by field (`{$v: 2, diff: …}`).
//!
//! ```text
//! {d: {a: false}, u: {b: 1}, i: {c: 2}, se: {…}}        a removed, b set, c put at the end, and a difference of e
//! {a: true, l: 3, u0: 1, s2: {…}}                       of a list: cut to 3, its first element set, a difference of its third
//! ```
//!
//! It is applied as servers apply it, so that a difference is harmless on a document that is already newer.

use std::collections::{HashMap, HashSet};

use bson::{RawArray, RawArrayBuf, RawDocument, RawDocumentBuf, raw::RawBsonRef};

use super::{Unreplayable, broken};

/// No document is nested more deeply.
const DEPTH_MAX: usize = 200;

pub(super) fn apply(
    document: &RawDocument,
    diff: &RawDocument,
) -> Result<RawDocumentBuf, Unreplayable> {
    of_document(document, diff, 0)
}

enum Field<'a> {
    Removed,
    Set(RawBsonRef<'a>),
    /// Moved to the end, wherever it was.
    Inserted,
    Differs(&'a RawDocument),
}

fn of_document(
    document: &RawDocument,
    diff: &RawDocument,
    depth: usize,
) -> Result<RawDocumentBuf, Unreplayable> {
    check_depth(depth)?;
    let mut fields: HashMap<&str, Field<'_>> = HashMap::new();
    let mut ends = Vec::new();
    for part in diff {
        let (kind, part) = part.map_err(broken)?;
        let RawBsonRef::Document(part) = part else {
            return Err(unknown(kind.as_str()));
        };
        if let Some(name) = kind.as_str().strip_prefix('s') {
            is_known(part, depth)?;
            fields.insert(name, Field::Differs(part));
            continue;
        }
        // Refused even without fields: its meaning is unknown.
        if !["d", "u", "i"].contains(&kind.as_str()) {
            return Err(unknown(kind.as_str()));
        }
        for field in part {
            let (name, value) = field.map_err(broken)?;
            let how = match kind.as_str() {
                "d" => Field::Removed,
                "u" => {
                    ends.push((name, value));
                    Field::Set(value)
                }
                "i" => {
                    ends.push((name, value));
                    Field::Inserted
                }
                other => return Err(unknown(other)),
            };
            fields.insert(name.as_str(), how);
        }
    }
    let mut out = RawDocumentBuf::new();
    let mut set = HashSet::new();
    for field in document {
        let (name, old) = field.map_err(broken)?;
        match fields.get(name.as_str()) {
            None => out.append(name, old),
            Some(Field::Removed | Field::Inserted) => {}
            Some(Field::Set(value)) => {
                out.append(name, *value);
                set.insert(name.as_str());
            }
            Some(Field::Differs(diff)) => match differing(old, diff, depth)? {
                Differing::Document(new) => out.append(name, new),
                Differing::List(new) => out.append(name, new),
                Differing::Nothing => out.append(name, RawBsonRef::Null),
            },
        }
    }
    for (name, value) in ends {
        if !set.contains(name.as_str()) {
            out.append(name, value);
        }
    }
    Ok(out)
}

enum Differing {
    Document(RawDocumentBuf),
    List(RawArrayBuf),
    /// The old value is of another kind: a later entry will replace it.
    Nothing,
}

fn differing(
    old: RawBsonRef<'_>,
    diff: &RawDocument,
    depth: usize,
) -> Result<Differing, Unreplayable> {
    let depth = depth + 1;
    Ok(match (old, is_of_list(diff)) {
        (RawBsonRef::Document(old), false) => Differing::Document(of_document(old, diff, depth)?),
        (RawBsonRef::Array(old), true) => Differing::List(of_list(old, diff, depth)?),
        _ => Differing::Nothing,
    })
}

/// Fails if a difference has an unknown part. Checked even if the difference applies to nothing.
fn is_known(diff: &RawDocument, depth: usize) -> Result<(), Unreplayable> {
    if is_of_list(diff) {
        of_list(&RawArrayBuf::new(), diff, depth + 1).map(|_| ())
    } else {
        of_document(&RawDocumentBuf::new(), diff, depth + 1).map(|_| ())
    }
}

fn is_of_list(diff: &RawDocument) -> bool {
    diff.get_bool("a").is_ok_and(|it| it)
}

enum Element<'a> {
    Set(RawBsonRef<'a>),
    Differs(&'a RawDocument),
}

fn of_list(list: &RawArray, diff: &RawDocument, depth: usize) -> Result<RawArrayBuf, Unreplayable> {
    check_depth(depth)?;
    let mut length = None;
    let mut elements = HashMap::new();
    let mut highest = None;
    for part in diff {
        let (kind, value) = part.map_err(broken)?;
        let kind = kind.as_str();
        if kind == "a" {
            continue;
        }
        if kind == "l" {
            length = value.as_i32().and_then(|it| usize::try_from(it).ok());
            continue;
        }
        let place = |prefix| {
            let place = kind.strip_prefix(prefix)?;
            place.parse::<usize>().ok()
        };
        let (place, how) = match (place('u'), place('s'), value) {
            (Some(place), _, value) => (place, Element::Set(value)),
            (_, Some(place), RawBsonRef::Document(diff)) => {
                is_known(diff, depth)?;
                (place, Element::Differs(diff))
            }
            _ => return Err(unknown(kind)),
        };
        highest = highest.max(Some(place));
        elements.insert(place, how);
    }
    let mut out = RawArrayBuf::new();
    let mut place = 0;
    for old in list {
        if length.is_some_and(|length| place >= length) {
            break;
        }
        let old = old.map_err(broken)?;
        match elements.get(&place) {
            None => out.push(old),
            Some(Element::Set(value)) => out.push(*value),
            Some(Element::Differs(diff)) => match differing(old, diff, depth)? {
                Differing::Document(new) => out.push(new),
                Differing::List(new) => out.push(new),
                Differing::Nothing => out.push(RawBsonRef::Null),
            },
        }
        place += 1;
    }
    let until = length
        .unwrap_or(0)
        .max(highest.map_or(0, |highest| highest + 1));
    if until > LIST_MAX {
        return Err(Unreplayable::new("a list of impossible length"));
    }
    while place < until {
        match elements.get(&place) {
            Some(Element::Set(value)) => out.push(*value),
            Some(Element::Differs(_)) | None => out.push(RawBsonRef::Null),
        }
        place += 1;
    }
    Ok(out)
}

/// A list with more elements does not fit into a document.
const LIST_MAX: usize = 16 * 1024 * 1024;

fn check_depth(depth: usize) -> Result<(), Unreplayable> {
    if depth > DEPTH_MAX {
        return Err(Unreplayable::new("a difference nested too deeply"));
    }
    Ok(())
}

fn unknown(part: &str) -> Unreplayable {
    let part: String = part.chars().take(32).collect();
    Unreplayable::new(format!(
        "its difference has a part that this build does not know: {part:?}"
    ))
}

#[cfg(test)]
mod tests {
    use bson::{Bson, Document, doc};
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::of_all_kinds(
        doc! {"_id": 1, "x": {"y": [1, 2, {"z": 1}]}, "k": 1},
        doc! {"d": {"k": false}, "i": {"l": [1], "n": {"m": 1}}, "sx": {"sy": {"a": true, "s2": {"u": {"z": 5}}}}},
        doc! {"_id": 1, "x": {"y": [1, 2, {"z": 5}]}, "l": [1], "n": {"m": 1}})]
    #[case::set_in_its_place(doc! {"a": 1, "b": 2}, doc! {"u": {"a": 3}}, doc! {"a": 3, "b": 2})]
    #[case::set_where_it_is_missing(doc! {"b": 2}, doc! {"u": {"a": 3}}, doc! {"b": 2, "a": 3})]
    #[case::inserted_at_the_end(doc! {"a": 1, "b": 2}, doc! {"i": {"a": 3}}, doc! {"b": 2, "a": 3})]
    #[case::a_list_cut(doc! {"a": [1, 2, 3]}, doc! {"sa": {"a": true, "l": 1}}, doc! {"a": [1]})]
    #[case::a_list_grown(doc! {"a": [1]}, doc! {"sa": {"a": true, "u3": 4}}, doc! {"a": [1, Bson::Null, Bson::Null, 4]})]
    #[case::another_kind_now(doc! {"a": 1}, doc! {"sa": {"u": {"b": 1}}}, doc! {"a": Bson::Null})]
    #[case::nothing_there(doc! {}, doc! {"sa": {"u": {"b": 1}}}, doc! {})]
    fn a_difference_does_what_the_server_does_with_it(
        #[case] document: Document,
        #[case] diff: Document,
        #[case] expected: Document,
    ) -> anyhow::Result<()> {
        let raw = |it: &Document| RawDocumentBuf::try_from(it);
        let new = apply(&raw(&document)?, &raw(&diff)?)?;
        assert_eq!(new, raw(&expected)?);
        Ok(())
    }

    #[rstest]
    #[case::at_the_top(doc! {"b": {"a": "x"}})]
    #[case::below(doc! {"sx": {"b": {"a": "x"}}})]
    #[case::in_a_list(doc! {"sx": {"a": true, "s0": {"b": {"a": "x"}}}})]
    #[case::huge(doc! {"sx": {"a": true, "u2000000000": 1}})]
    fn what_is_not_known_is_refused_whatever_it_is_applied_to(
        #[case] diff: Document,
    ) -> anyhow::Result<()> {
        let diff = RawDocumentBuf::try_from(&diff)?;
        assert!(apply(&RawDocumentBuf::new(), &diff).is_err());
        Ok(())
    }
}

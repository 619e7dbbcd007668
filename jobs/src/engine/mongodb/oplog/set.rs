//! An update as servers before 5.0 log it: fields set and removed by dotted paths (`{$v: 1, $set: …, $unset: …}`).

use bson::{Bson, Document, RawDocument, RawDocumentBuf};

use super::{Unreplayable, broken};

/// A list with more elements does not fit into a document.
const LIST_MAX: usize = 16 * 1024 * 1024;

pub(super) fn apply(
    document: &RawDocument,
    how: &RawDocument,
) -> Result<RawDocumentBuf, Unreplayable> {
    let mut new = Document::try_from(document).map_err(broken)?;
    let how = Document::try_from(how).map_err(broken)?;
    for (name, value) in &how {
        match (name.as_str(), value) {
            ("$v", _) => {}
            ("$set", Bson::Document(fields)) => {
                for (path, value) in fields {
                    let parts: Vec<_> = path.split('.').collect();
                    set(&mut new, &parts, value)?;
                }
            }
            ("$unset", Bson::Document(fields)) => {
                for path in fields.keys() {
                    let parts: Vec<_> = path.split('.').collect();
                    unset(&mut new, &parts);
                }
            }
            (other, _) => {
                let other: String = other.chars().take(32).collect();
                return Err(Unreplayable::new(format!(
                    "an update of a kind that this build does not know: {other:?}"
                )));
            }
        }
    }
    RawDocumentBuf::try_from(&new).map_err(broken)
}

fn set(document: &mut Document, path: &[&str], value: &Bson) -> Result<(), Unreplayable> {
    match path {
        [] => Ok(()),
        [name] => {
            document.insert(*name, value.clone());
            Ok(())
        }
        [name, rest @ ..] => {
            let below = document
                .entry((*name).to_owned())
                .or_insert_with(|| Bson::Document(Document::new()));
            set_below(below, rest, value)
        }
    }
}

fn set_below(below: &mut Bson, path: &[&str], value: &Bson) -> Result<(), Unreplayable> {
    if let Bson::Document(below) = below {
        return set(below, path, value);
    }
    // A value of another kind by now is put right by a later entry.
    let (Bson::Array(list), [place, rest @ ..]) = (below, path) else {
        return Ok(());
    };

    let place = place.parse::<usize>().ok().filter(|it| *it < LIST_MAX);
    let Some(place) = place else {
        return Ok(());
    };
    if list.len() <= place {
        list.resize(place + 1, Bson::Null);
    }
    match (list.get_mut(place), rest) {
        (Some(element), []) => *element = value.clone(),
        (Some(element), rest) => {
            if *element == Bson::Null {
                *element = Bson::Document(Document::new());
            }
            set_below(element, rest, value)?;
        }
        (None, _) => {}
    }
    Ok(())
}

fn unset(document: &mut Document, path: &[&str]) {
    match path {
        [] => {}
        [name] => {
            document.remove(*name);
        }
        [name, rest @ ..] => {
            if let Some(below) = document.get_mut(*name) {
                unset_below(below, rest);
            }
        }
    }
}

fn unset_below(below: &mut Bson, path: &[&str]) {
    if let Bson::Document(below) = below {
        unset(below, path);
    } else if let Bson::Array(list) = below
        && let [place, rest @ ..] = path
        && let Some(element) = place.parse().ok().and_then(|it: usize| list.get_mut(it))
    {
        if rest.is_empty() {
            *element = Bson::Null;
        } else {
            unset_below(element, rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::set(doc! {"a": 1}, doc! {"$v": 1, "$set": {"a": 2, "b.c": 3}}, doc! {"a": 2, "b": {"c": 3}})]
    #[case::unset(doc! {"a": 1, "b": {"c": 1, "d": 2}}, doc! {"$unset": {"a": true, "b.c": true}}, doc! {"b": {"d": 2}})]
    #[case::in_a_list(doc! {"a": [1, {"b": 1}]}, doc! {"$set": {"a.1.b": 2, "a.3": 4}},
        doc! {"a": [1, {"b": 2}, Bson::Null, 4]})]
    fn an_update_does_what_the_server_does_with_it(
        #[case] document: Document,
        #[case] how: Document,
        #[case] expected: Document,
    ) -> anyhow::Result<()> {
        let raw = |it: &Document| RawDocumentBuf::try_from(it);
        assert_eq!(apply(&raw(&document)?, &raw(&how)?)?, raw(&expected)?);
        Ok(())
    }
}

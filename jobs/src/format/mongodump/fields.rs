//! Parses the format's own small documents, field by field. Errors are a few words.

use bson::{
    RawBsonRef,
    raw::{RawDocument, RawElement},
};

/// Visits the fields of a document in order.
pub(super) fn each<'a>(
    document: &'a [u8],
    mut visit: impl FnMut(&str, &RawElement<'a>) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let document = RawDocument::from_bytes(document).map_err(|_| "a broken header")?;
    for element in document.iter_elements() {
        let element = element.map_err(|_| "a header with a broken field")?;
        visit(element.key().as_str(), &element)?;
    }
    Ok(())
}

/// Keeps a field's value; fails if the slot already has one.
pub(super) fn keep<T>(
    slot: &mut Option<T>,
    value: Result<T, &'static str>,
) -> Result<(), &'static str> {
    match slot.replace(value?) {
        None => Ok(()),
        Some(_) => Err("a header with a field twice"),
    }
}

pub(super) fn text<'a>(element: &RawElement<'a>) -> Result<&'a str, &'static str> {
    let value = element
        .value()
        .map_err(|_| "a header with text that is not UTF-8")?;
    value
        .as_str()
        .ok_or("a header without text where it belongs")
}

pub(super) fn truth(element: &RawElement<'_>) -> Result<bool, &'static str> {
    let value = element.value().ok().and_then(RawBsonRef::as_bool);
    value.ok_or("a header without a boolean where it belongs")
}

/// Parses an int64, and nothing else.
pub(super) fn long(element: &RawElement<'_>) -> Result<i64, &'static str> {
    let value = element.value().ok().and_then(RawBsonRef::as_i64);
    value.ok_or("a header without an int64 where it belongs")
}

/// Parses an int32 or an int64.
pub(super) fn integer(element: &RawElement<'_>) -> Result<i64, &'static str> {
    let value = element
        .value()
        .ok()
        .and_then(|it| it.as_i64().or_else(|| it.as_i32().map(i64::from)));
    value.ok_or("a header without an integer where it belongs")
}

/// Returns a document as its bytes.
pub(super) fn document(element: &RawElement<'_>) -> Result<Vec<u8>, &'static str> {
    let value = element.value().ok().and_then(RawBsonRef::as_document);
    let value = value.ok_or("a header without a document where it belongs")?;
    Ok(value.as_bytes().to_vec())
}

//! Takes a large value apart, element by element, for the commands that rebuild it.
//!
//! Holds one string at a time. Lists and streams are many strings of a few KiB each, small aggregates a single one.

mod stream;

use std::io::Read;

use super::{
    intset,
    layout::{FieldExpiry, Shape},
    listpack::Listpack,
    lzf::{Expander, HISTORY_BYTES},
    packed::{Entry, Packed},
    reader::{Length, READ_BYTES, Reader, Stop},
    skim::{NODE_PLAIN, node_container, parse_score, score_text},
    value::{Element, SplitError},
    ziplist::Ziplist,
    zipmap::Zipmap,
};

/// Receives the elements.
pub(super) type Give<'g, E> = dyn FnMut(Element<'_>) -> Result<(), SplitError<E>> + 'g;

/// Buffers for strings, reused from value to value.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// A packed value or a node of one.
    node: Vec<u8>,
    first: Vec<u8>,
    second: Vec<u8>,
    /// Where each of several strings in `first` ends.
    ends: Vec<usize>,
}

impl Scratch {
    /// Returns the buffer for a string that is not part of an element.
    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.node
    }
}

/// What could not be given as an element.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) idempotency_ids: u64,
}

/// Reads a value of this shape, and gives its elements.
pub(super) fn give_elements<R: Read, E>(
    reader: &mut Reader<R>,
    shape: Shape,
    scratch: &mut Scratch,
    give: &mut Give<'_, E>,
) -> Result<Dropped, SplitError<E>> {
    match shape {
        Shape::String => give_string(reader, &mut scratch.first, give)?,
        Shape::List => give_members(reader, scratch, give, |it| Element::ListItem(it))?,
        Shape::Set => give_members(reader, scratch, give, |it| Element::SetMember(it))?,
        Shape::Quicklist | Shape::Quicklist2 => give_nodes(reader, shape, scratch, give)?,
        Shape::ZsetText | Shape::ZsetDouble => give_scored(reader, shape, scratch, give)?,
        Shape::Hash => give_fields(reader, scratch, give)?,
        Shape::HashExpiring(expiry) => give_expiring_fields(reader, expiry, scratch, give)?,
        Shape::SetIntset => give_intset(reader, scratch, give)?,
        Shape::HashZipmap => give_zipmap(reader, scratch, give)?,
        Shape::ListZiplist
        | Shape::SetListpack
        | Shape::ZsetZiplist
        | Shape::ZsetListpack
        | Shape::HashZiplist
        | Shape::HashListpack => give_packed(reader, shape, scratch, give)?,
        Shape::HashListpackExpiring { skipped } => {
            reader.skip(skipped as u64)?;
            give_packed(reader, shape, scratch, give)?;
        }
        Shape::Stream(version) => return stream::give(reader, version, scratch, give),
        // Never happens: a module's value that is too large is refused.
        Shape::Module => return Err(reader.malformed("a module's value to be split").into()),
    }
    Ok(Dropped::default())
}

fn give_string<R: Read, E>(
    reader: &mut Reader<R>,
    text: &mut Vec<u8>,
    give: &mut Give<'_, E>,
) -> Result<(), SplitError<E>> {
    match reader.length_or_encoding()? {
        Length::Plain(mut left) => {
            while left > 0 {
                let chunk = reader.some(left)?;
                left -= chunk.len() as u64;
                give(Element::StringChunk(chunk))?;
            }
            Ok(())
        }
        Length::Integer(bytes) => {
            let integer = Entry::Integer(reader.integer(bytes)?);
            give(Element::StringChunk(integer.text(text)))
        }
        Length::Lzf => give_expanded(reader, text, give),
    }
}

fn give_expanded<R: Read, E>(
    reader: &mut Reader<R>,
    text: &mut Vec<u8>,
    give: &mut Give<'_, E>,
) -> Result<(), SplitError<E>> {
    text.clear();
    let mut expander = Expander::begin(reader)?;
    // How much has been given and is kept only for references.
    let mut given = 0;
    while expander.step(reader, text)? {
        if text.len() >= READ_BYTES {
            give(Element::StringChunk(text.get(given..).unwrap_or_default()))?;
            text.drain(..text.len() - HISTORY_BYTES);
            given = HISTORY_BYTES;
        }
    }
    match text.get(given..) {
        Some(rest @ [_, ..]) => give(Element::StringChunk(rest)),
        Some([]) | None => Ok(()),
    }
}

fn give_members<R: Read, E>(
    reader: &mut Reader<R>,
    scratch: &mut Scratch,
    give: &mut Give<'_, E>,
    element: fn(&[u8]) -> Element<'_>,
) -> Result<(), SplitError<E>> {
    let count = reader.length()?;
    for _ in 0..count {
        reader.string_into(&mut scratch.first)?;
        give(element(&scratch.first))?;
    }
    Ok(())
}

fn give_nodes<R: Read, E>(
    reader: &mut Reader<R>,
    shape: Shape,
    scratch: &mut Scratch,
    give: &mut Give<'_, E>,
) -> Result<(), SplitError<E>> {
    let nodes = reader.length()?;
    for _ in 0..nodes {
        let is_quicklist2 = shape == Shape::Quicklist2;
        if is_quicklist2 && node_container(reader)? == NODE_PLAIN {
            reader.string_into(&mut scratch.node)?;
            give(Element::ListItem(&scratch.node))?;
        } else {
            give_packed(reader, shape, scratch, give)?;
        }
    }
    Ok(())
}

fn give_scored<R: Read, E>(
    reader: &mut Reader<R>,
    shape: Shape,
    scratch: &mut Scratch,
    give: &mut Give<'_, E>,
) -> Result<(), SplitError<E>> {
    let count = reader.length()?;
    for _ in 0..count {
        reader.string_into(&mut scratch.first)?;
        let score = if shape == Shape::ZsetText {
            score_text(reader)?
        } else {
            f64::from_le_bytes(reader.array()?)
        };
        if score.is_nan() {
            return Err(reader.malformed("a score that is not a number").into());
        }
        let member = &scratch.first;
        give(Element::ZsetMember { member, score })?;
    }
    Ok(())
}

fn give_fields<R: Read, E>(
    reader: &mut Reader<R>,
    scratch: &mut Scratch,
    give: &mut Give<'_, E>,
) -> Result<(), SplitError<E>> {
    let count = reader.length()?;
    for _ in 0..count {
        reader.string_into(&mut scratch.first)?;
        reader.string_into(&mut scratch.second)?;
        give(field(&scratch.first, &scratch.second, None))?;
    }
    Ok(())
}

fn give_expiring_fields<R: Read, E>(
    reader: &mut Reader<R>,
    expiry: FieldExpiry,
    scratch: &mut Scratch,
    give: &mut Give<'_, E>,
) -> Result<(), SplitError<E>> {
    let earliest = match expiry {
        FieldExpiry::Relative => Some(reader.millis()?),
        FieldExpiry::Absolute | FieldExpiry::Trailing => None,
    };
    let count = reader.length()?;
    for _ in 0..count {
        let before = match expiry {
            FieldExpiry::Absolute | FieldExpiry::Relative => reader.length()?,
            FieldExpiry::Trailing => 0,
        };
        reader.string_into(&mut scratch.first)?;
        reader.string_into(&mut scratch.second)?;
        let expires_at_ms = match (expiry, before) {
            (FieldExpiry::Trailing, _) => trailing_expiry(reader)?,
            (FieldExpiry::Absolute | FieldExpiry::Relative, 0) => None,
            (FieldExpiry::Absolute, at) => Some(at),
            // Counted from one, because zero means no expiry.
            (FieldExpiry::Relative, after) => earliest
                .and_then(|earliest| earliest.checked_add(after - 1))
                .map(Some)
                .ok_or_else(|| reader.malformed("a field that expires too late"))?,
        };
        give(field(&scratch.first, &scratch.second, expires_at_ms))?;
    }
    Ok(())
}

fn trailing_expiry<R: Read>(reader: &mut Reader<R>) -> Result<Option<u64>, Stop> {
    match reader.i64_le()? {
        -1 => Ok(None),
        at => u64::try_from(at)
            .map(Some)
            .map_err(|_| reader.malformed("a field that expired before 1970")),
    }
}

fn give_intset<R: Read, E>(
    reader: &mut Reader<R>,
    scratch: &mut Scratch,
    give: &mut Give<'_, E>,
) -> Result<(), SplitError<E>> {
    if !reader.string_into(&mut scratch.node)? {
        return Ok(());
    }
    let members = intset::members(&scratch.node).map_err(|what| reader.malformed(what))?;
    for member in members {
        let member = Entry::Integer(member).text(&mut scratch.first);
        give(Element::SetMember(member))?;
    }
    Ok(())
}

fn give_zipmap<R: Read, E>(
    reader: &mut Reader<R>,
    scratch: &mut Scratch,
    give: &mut Give<'_, E>,
) -> Result<(), SplitError<E>> {
    if !reader.string_into(&mut scratch.node)? {
        return Ok(());
    }
    let damaged = |what| reader.malformed(what);
    let mut zipmap = Zipmap::new(&scratch.node).map_err(damaged)?;
    while let Some((name, value)) = zipmap.next().map_err(damaged)? {
        give(field(name, value, None))?;
    }
    Ok(())
}

/// Reads one string of packed entries, and gives them as the elements of this shape.
fn give_packed<R: Read, E>(
    reader: &mut Reader<R>,
    shape: Shape,
    scratch: &mut Scratch,
    give: &mut Give<'_, E>,
) -> Result<(), SplitError<E>> {
    if !reader.string_into(&mut scratch.node)? {
        return Ok(());
    }
    let damaged = |what| reader.malformed(what);
    let (first, second) = (&mut scratch.first, &mut scratch.second);
    let mut packed = packed(shape, &scratch.node).map_err(damaged)?;
    while let Some(entry) = packed.next().map_err(damaged)? {
        let text = entry.text(first);
        let element = match shape {
            Shape::ListZiplist | Shape::Quicklist | Shape::Quicklist2 => Element::ListItem(text),
            Shape::SetListpack => Element::SetMember(text),
            Shape::ZsetZiplist | Shape::ZsetListpack => {
                let score = parse_score(packed.expect().map_err(damaged)?.text(second));
                let score = score.ok_or_else(|| damaged("a score that is not a number"))?;
                Element::ZsetMember {
                    member: text,
                    score,
                }
            }
            Shape::HashZiplist | Shape::HashListpack => {
                field(text, packed.expect().map_err(damaged)?.text(second), None)
            }
            Shape::HashListpackExpiring { .. } => {
                let value = packed.expect().map_err(damaged)?.text(second);
                let at = packed.expect().map_err(damaged)?.integer();
                let at = at.and_then(|at| u64::try_from(at).ok());
                let at = at.ok_or_else(|| damaged("a field that expires at an impossible time"))?;
                field(text, value, (at > 0).then_some(at))
            }
            Shape::String
            | Shape::List
            | Shape::Set
            | Shape::SetIntset
            | Shape::ZsetText
            | Shape::ZsetDouble
            | Shape::Hash
            | Shape::HashZipmap
            | Shape::HashExpiring(_)
            | Shape::Stream(_)
            | Shape::Module => return Err(damaged("a value that is not packed").into()),
        };
        give(element)?;
    }
    Ok(())
}

fn packed(shape: Shape, bytes: &[u8]) -> Result<Packed<'_>, &'static str> {
    match shape {
        Shape::ListZiplist | Shape::ZsetZiplist | Shape::HashZiplist | Shape::Quicklist => {
            Ziplist::new(bytes).map(Packed::Ziplist)
        }
        Shape::String
        | Shape::List
        | Shape::Quicklist2
        | Shape::Set
        | Shape::SetIntset
        | Shape::SetListpack
        | Shape::ZsetText
        | Shape::ZsetDouble
        | Shape::ZsetListpack
        | Shape::Hash
        | Shape::HashZipmap
        | Shape::HashListpack
        | Shape::HashExpiring(_)
        | Shape::HashListpackExpiring { .. }
        | Shape::Stream(_)
        | Shape::Module => Listpack::new(bytes).map(Packed::Listpack),
    }
}

fn field<'a>(field: &'a [u8], value: &'a [u8], expires_at_ms: Option<u64>) -> Element<'a> {
    Element::HashField {
        field,
        value,
        expires_at_ms,
    }
}

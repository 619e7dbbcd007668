//! Finds where a value ends: reads its framing without looking into its strings.

use std::io::Read;

use super::{
    layout::{FieldExpiry, Shape, StreamVersion},
    reader::{Length, Reader, Stop},
    value::FormatError,
};

/// A list node of one plain element.
pub(super) const NODE_PLAIN: u64 = 1;
/// A list node that is a listpack.
pub(super) const NODE_PACKED: u64 = 2;

/// What was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Skimmed {
    Value,
    /// An empty aggregate, which no server keeps and `RESTORE` refuses.
    Empty,
}

/// Skips a value of this shape.
pub(super) fn skim<R: Read>(reader: &mut Reader<R>, shape: Shape) -> Result<Skimmed, Stop> {
    match shape {
        Shape::String => {
            reader.skip_string()?;
            Ok(Skimmed::Value)
        }
        Shape::ListZiplist | Shape::ZsetZiplist | Shape::HashZiplist => {
            skim_packed(reader, &EMPTY_ZIPLIST)
        }
        Shape::SetListpack | Shape::ZsetListpack | Shape::HashListpack => {
            skim_packed(reader, &EMPTY_LISTPACK)
        }
        Shape::SetIntset => skim_packed(reader, &EMPTY_INTSET),
        Shape::HashZipmap => skim_packed(reader, &EMPTY_ZIPMAP),
        Shape::HashListpackExpiring { skipped } => {
            reader.skip(skipped as u64)?;
            skim_packed(reader, &EMPTY_LISTPACK)
        }
        Shape::List | Shape::Set => counted(reader, Reader::skip_string),
        Shape::Quicklist => nodes(reader, |reader| skim_packed(reader, &EMPTY_ZIPLIST)),
        Shape::Quicklist2 => nodes(reader, |reader| {
            if node_container(reader)? == NODE_PACKED {
                return skim_packed(reader, &EMPTY_LISTPACK);
            }
            reader.skip_string()?;
            Ok(Skimmed::Value)
        }),
        Shape::ZsetText => counted(reader, |reader| {
            reader.skip_string()?;
            score_text(reader).map(drop)
        }),
        Shape::ZsetDouble => counted(reader, |reader| {
            reader.skip_string()?;
            reader.skip(8)
        }),
        Shape::Hash => counted(reader, skip_pair),
        Shape::HashExpiring(FieldExpiry::Trailing) => counted(reader, |reader| {
            skip_pair(reader)?;
            reader.skip(8)
        }),
        Shape::HashExpiring(FieldExpiry::Absolute) => counted(reader, skip_expiring_pair),
        Shape::HashExpiring(FieldExpiry::Relative) => {
            reader.skip(8)?;
            counted(reader, skip_expiring_pair)
        }
        Shape::Stream(version) => {
            skim_stream(reader, version)?;
            Ok(Skimmed::Value)
        }
        Shape::Module => {
            reader.length()?;
            skim_module_data(reader)?;
            Ok(Skimmed::Value)
        }
    }
}

/// What an empty packed value looks like: its length, and where its count of elements is.
struct EmptyPacked {
    bytes: usize,
    count_at: usize,
    count_bytes: usize,
}

/// Its own length (4), offset of the last entry (4), number of entries (2), an end.
const EMPTY_ZIPLIST: EmptyPacked = EmptyPacked {
    bytes: 11,
    count_at: 8,
    count_bytes: 2,
};
/// Its own length (4), number of entries (2), an end.
const EMPTY_LISTPACK: EmptyPacked = EmptyPacked {
    bytes: 7,
    count_at: 4,
    count_bytes: 2,
};
/// Width of its integers (4), their number (4).
const EMPTY_INTSET: EmptyPacked = EmptyPacked {
    bytes: 8,
    count_at: 4,
    count_bytes: 4,
};
/// Number of pairs (1), an end.
const EMPTY_ZIPMAP: EmptyPacked = EmptyPacked {
    bytes: 2,
    count_at: 0,
    count_bytes: 1,
};
/// How much has to be held to recognise an empty value: a few empty nodes of a list are more than servers ever wrote.
pub(super) const EMPTY_BYTES_MAX: usize = 64;

/// Skips a packed value, and finds out whether it is empty.
fn skim_packed<R: Read>(reader: &mut Reader<R>, empty: &EmptyPacked) -> Result<Skimmed, Stop> {
    match reader.length_or_encoding()? {
        Length::Plain(length) if length == empty.bytes as u64 => {
            let packed = reader.take(empty.bytes)?;
            let count = packed.iter().skip(empty.count_at).take(empty.count_bytes);
            Ok(if count.into_iter().all(|byte| *byte == 0) {
                Skimmed::Empty
            } else {
                Skimmed::Value
            })
        }
        // Servers never compress anything this short.
        encoding @ (Length::Plain(_) | Length::Integer(_) | Length::Lzf) => {
            reader.skip_encoded(encoding)?;
            Ok(Skimmed::Value)
        }
    }
}

/// Skips the nodes of a list. Servers drop empty nodes, and the list if all are empty.
fn nodes<R: Read>(
    reader: &mut Reader<R>,
    mut one: impl FnMut(&mut Reader<R>) -> Result<Skimmed, Stop>,
) -> Result<Skimmed, Stop> {
    let count = reader.length()?;
    let mut list = Skimmed::Empty;
    for _ in 0..count {
        if one(reader)? == Skimmed::Value {
            list = Skimmed::Value;
        }
    }
    Ok(list)
}

/// Skips what a module wrote, up to its end marker.
pub(super) fn skim_module_data<R: Read>(reader: &mut Reader<R>) -> Result<(), Stop> {
    loop {
        match reader.length()? {
            0 => return Ok(()),
            // Signed and unsigned integers are written alike.
            1 | 2 => {
                reader.length()?;
            }
            3 => reader.skip(4)?,
            4 => reader.skip(8)?,
            5 => reader.skip_string()?,
            _ => return Err(reader.malformed("an unknown kind of a module's data")),
        }
    }
}

/// Skips the metadata that modules keep about a key, after its opcode.
pub(super) fn skim_key_metadata<R: Read>(reader: &mut Reader<R>) -> Result<(), Stop> {
    let classes = reader.length()?;
    for _ in 0..classes {
        // The class: a name of four letters, a version and flags.
        reader.skip(4)?;
        skim_module_data(reader)?;
    }
    Ok(())
}

/// Reads the kind of the next node of a list.
pub(super) fn node_container<R: Read>(reader: &mut Reader<R>) -> Result<u64, Stop> {
    match reader.length()? {
        container @ (NODE_PLAIN | NODE_PACKED) => Ok(container),
        _ => Err(reader.malformed("an unknown kind of list node")),
    }
}

/// Reads a score as servers before 4.0 wrote it: a length and that many characters, or one of three special values.
pub(super) fn score_text<R: Read>(reader: &mut Reader<R>) -> Result<f64, Stop> {
    match reader.byte()? {
        253 => Err(reader.malformed("a score that is not a number")),
        254 => Ok(f64::INFINITY),
        255 => Ok(f64::NEG_INFINITY),
        length => {
            let score = parse_score(reader.take(usize::from(length))?);
            score.ok_or_else(|| reader.malformed("a score that is not a number"))
        }
    }
}

pub(super) fn parse_score(text: &[u8]) -> Option<f64> {
    let score: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!score.is_nan()).then_some(score)
}

fn counted<R: Read>(
    reader: &mut Reader<R>,
    mut one: impl FnMut(&mut Reader<R>) -> Result<(), Stop>,
) -> Result<Skimmed, Stop> {
    let count = reader.length()?;
    for _ in 0..count {
        one(reader)?;
    }
    Ok(if count == 0 {
        Skimmed::Empty
    } else {
        Skimmed::Value
    })
}

fn skip_pair<R: Read>(reader: &mut Reader<R>) -> Result<(), Stop> {
    reader.skip_string()?;
    reader.skip_string()
}

fn skip_expiring_pair<R: Read>(reader: &mut Reader<R>) -> Result<(), Stop> {
    reader.length()?;
    skip_pair(reader)
}

fn skip_lengths<R: Read>(reader: &mut Reader<R>, count: usize) -> Result<(), Stop> {
    for _ in 0..count {
        reader.length()?;
    }
    Ok(())
}

fn skim_stream<R: Read>(reader: &mut Reader<R>, version: StreamVersion) -> Result<(), Stop> {
    let nodes = reader.length()?;
    for _ in 0..nodes {
        skip_pair(reader)?;
    }
    // The number of entries, and the last id.
    skip_lengths(reader, 3)?;
    if version >= StreamVersion::Counted {
        // The first id, the greatest deleted id, and the number of entries added.
        skip_lengths(reader, 5)?;
    }
    skim_groups(reader, version)
}

/// Skips a stream's groups, and what follows them.
pub(super) fn skim_groups<R: Read>(
    reader: &mut Reader<R>,
    version: StreamVersion,
) -> Result<(), Stop> {
    let groups = reader.length()?;
    for _ in 0..groups {
        skim_group(reader, version)?;
    }
    if version >= StreamVersion::Idempotent {
        skim_idempotency(reader)?;
    }
    Ok(())
}

fn skim_group<R: Read>(reader: &mut Reader<R>, version: StreamVersion) -> Result<(), Stop> {
    reader.skip_string()?;
    skip_lengths(reader, 2)?;
    if version >= StreamVersion::Counted {
        reader.length()?;
    }
    let pending = reader.length()?;
    for _ in 0..pending {
        // An id and the time of delivery; then the number of deliveries.
        reader.skip(24)?;
        reader.length()?;
    }
    let consumers = reader.length()?;
    for _ in 0..consumers {
        reader.skip_string()?;
        reader.skip(consumer_times(version))?;
        let pending = reader.length()?;
        let bytes = pending.checked_mul(16);
        let impossible = || reader.malformed("an impossible number of pending entries");
        let bytes = bytes.ok_or_else(impossible)?;
        reader.skip(bytes)?;
    }
    Ok(())
}

/// Returns how many bytes of times follow a consumer's name.
pub(super) fn consumer_times(version: StreamVersion) -> u64 {
    if version >= StreamVersion::Active {
        16
    } else {
        8
    }
}

/// Skips what a stream knows about its producers. Returns how many of their ids it remembers.
pub(super) fn skim_idempotency<R: Read>(reader: &mut Reader<R>) -> Result<u64, Stop> {
    // For how long and how many ids are remembered.
    skip_lengths(reader, 2)?;
    let mut seen = 0;
    let producers = reader.length()?;
    for _ in 0..producers {
        reader.skip_string()?;
        let ids = reader.length()?;
        for _ in 0..ids {
            reader.skip_string()?;
            skip_lengths(reader, 2)?;
            seen += 1;
        }
    }
    // How many ids were ever added, and how many came twice.
    skip_lengths(reader, 2)?;
    Ok(seen)
}

/// Returns the nine characters of a module type's name.
pub(crate) fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let letter = |index: u32| {
        let letter = usize::try_from(id >> (58 - 6 * index) & 63).unwrap_or_default();
        LETTERS
            .get(letter)
            .map_or('?', |letter| char::from(*letter))
    };
    (0..9).map(letter).collect()
}

/// Returns the error for a module's value that is too large to be held and cannot be split.
pub(super) fn too_large_for_module<R: Read>(reader: &mut Reader<R>, limit: usize) -> Stop {
    match reader.length() {
        Ok(id) => Stop::Format(FormatError::ModuleTooLarge {
            module: module_name(id),
            limit,
        }),
        Err(stop) => stop,
    }
}

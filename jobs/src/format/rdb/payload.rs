//! The payload that `DUMP` returns and `RESTORE` takes: a value, its format version, and a checksum over both.

use crc_fast::{CrcAlgorithm, checksum};

use super::{
    Limits,
    layout::{OPCODE_FUNCTION, OPCODE_KEY_METADATA, Shape, StreamVersion, Version},
    reader::{READ_BYTES, Reader, Stop},
    skim::{skim, skim_key_metadata},
    value::{FormatError, Stored},
};

/// Two bytes of version, eight of checksum.
const FOOTER_BYTES: usize = 10;

/// Appends the payload that `RESTORE` takes to `out`.
pub(crate) fn restore_payload(stored: Stored<'_>, version: Version, out: &mut Vec<u8>) {
    let begin = out.len();
    out.reserve(stored.metadata.len() + 1 + stored.raw.len() + FOOTER_BYTES);
    out.extend_from_slice(stored.metadata);
    out.push(stored.type_byte);
    out.extend_from_slice(stored.raw);
    end_payload(begin, version, out);
}

/// Returns the payload of a stream that never had entries but has these groups, with everything that their consumers
/// have not acknowledged; `None` if the type is not a stream's.
///
/// No command can create a pending entry whose message is deleted. `groups` is the content of `Element::StreamGroups`.
pub(crate) fn stub_payload(type_byte: u8, groups: &[u8], version: Version) -> Option<Vec<u8>> {
    let stream = StreamVersion::of(type_byte)?;
    // No nodes, no length, no last id; then no first id, no deleted id, none added.
    let zeros: &[u8] = if stream >= StreamVersion::Counted {
        &[0; 9]
    } else {
        &[0; 4]
    };
    let mut out = Vec::with_capacity(1 + zeros.len() + groups.len() + FOOTER_BYTES);
    out.push(type_byte);
    out.extend_from_slice(zeros);
    out.extend_from_slice(groups);
    end_payload(0, version, &mut out);
    Some(out)
}

/// Returns the payload that `FUNCTION RESTORE` takes.
pub(crate) fn functions_payload(sources: &[Vec<u8>], version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    for source in sources {
        out.push(OPCODE_FUNCTION);
        out.push(0x81);
        out.extend_from_slice(&(source.len() as u64).to_be_bytes());
        out.extend_from_slice(source);
    }
    end_payload(0, version, &mut out);
    out
}

/// Appends the footer of every payload.
fn end_payload(begin: usize, version: Version, out: &mut Vec<u8>) {
    out.extend_from_slice(&version.number().to_le_bytes());
    let payload = out.get(begin..).unwrap_or_default();
    let sum = checksum(CrcAlgorithm::Crc64Redis, payload);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// Returns the id at the start of a module's raw value: the name of its type, and its version.
pub(crate) fn module_id(raw: &[u8]) -> Option<u64> {
    reader_of(raw).length().ok()
}

/// Returns the string in a raw value of type 0, if it is a short one.
pub(crate) fn string_of(raw: &[u8]) -> Option<Vec<u8>> {
    const SHORT_BYTES: usize = 1024;
    let mut text = Vec::new();
    if raw.len() > SHORT_BYTES {
        return None;
    }
    reader_of(raw).string_into(&mut text).ok()?;
    Some(text)
}

fn reader_of(bytes: &[u8]) -> Reader<&[u8]> {
    Reader::new(bytes, bytes.len().min(READ_BYTES), Limits::default())
}

/// Parses what `DUMP` returned, if it is whole and of a type that this build knows.
pub(crate) fn parse_dump_payload(payload: &[u8]) -> Result<(Stored<'_>, Version), FormatError> {
    let at = payload.len() as u64;
    let cut = FormatError::Truncated { at };
    let Some((summed, sum)) = payload.split_last_chunk::<8>() else {
        return Err(cut);
    };
    let Some((body, number)) = summed.split_last_chunk::<2>() else {
        return Err(cut);
    };
    if checksum(CrcAlgorithm::Crc64Redis, summed) != u64::from_le_bytes(*sum) {
        return Err(FormatError::Checksum);
    }
    let version = Version::new(u16::from_le_bytes(*number))?;
    let stored = stored(body, version).map_err(|stop| match stop {
        Stop::Format(error) => error,
        // Reading from a slice never fails, and nothing in it is longer than itself.
        Stop::Read(_) | Stop::Full { .. } => FormatError::TooLong { at },
    })?;
    Ok((stored, version))
}

fn stored(body: &[u8], version: Version) -> Result<Stored<'_>, Stop> {
    let mut reader = reader_of(body);
    let mut type_byte = reader.byte()?;
    let mut metadata: &[u8] = &[];
    if type_byte == OPCODE_KEY_METADATA && version.has_key_metadata() {
        skim_key_metadata(&mut reader)?;
        metadata = until(body, &reader);
        type_byte = reader.byte()?;
    }
    let shape = Shape::of(type_byte, version, metadata.len() as u64)?;
    let begin = until(body, &reader).len();
    skim(&mut reader, shape)?;
    reader.end()?;
    Ok(Stored {
        metadata,
        type_byte,
        raw: body.get(begin..).unwrap_or_default(),
    })
}

/// Returns the part of the body that has been read.
fn until<'a>(body: &'a [u8], reader: &Reader<&[u8]>) -> &'a [u8] {
    let at = usize::try_from(reader.at()).unwrap_or(body.len());
    body.get(..at).unwrap_or(body)
}

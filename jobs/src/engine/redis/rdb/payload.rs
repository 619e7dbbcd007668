//! What `DUMP` returns and `RESTORE` takes: a value, the version it is written in, and a checksum over both.

use crc_fast::{CrcAlgorithm, checksum};

use super::{
    layout::{OPCODE_KEY_METADATA, Shape, Version},
    reader::{READ_BYTES, Reader, Stop},
    skim::{skim, skim_key_metadata},
    told::{FormatError, Stored},
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
    out.extend_from_slice(&version.number().to_le_bytes());
    let payload = out.get(begin..).unwrap_or_default();
    let sum = checksum(CrcAlgorithm::Crc64Redis, payload);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// Takes apart what `DUMP` returned, if it is whole and of a type that this program knows.
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
        // A slice is always read, and nothing in it is longer than itself.
        Stop::Read(_) | Stop::Full { .. } => FormatError::TooLong { at },
    })?;
    Ok((stored, version))
}

fn stored(body: &[u8], version: Version) -> Result<Stored<'_>, Stop> {
    let mut reader = Reader::new(body, body.len().min(READ_BYTES));
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

/// Returns what of the body was read so far.
fn until<'a>(body: &'a [u8], reader: &Reader<&[u8]>) -> &'a [u8] {
    let at = usize::try_from(reader.at()).unwrap_or(body.len());
    body.get(..at).unwrap_or(body)
}

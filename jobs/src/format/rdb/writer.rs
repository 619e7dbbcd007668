//! Assembles an RDB file from values, for servers that only give them out one by one.

use crc_fast::{CrcAlgorithm, Digest};

use super::{
    layout::{
        Flavour, OPCODE_END, OPCODE_EXPIRES_MILLIS, OPCODE_FREQUENCY, OPCODE_FUNCTION, OPCODE_IDLE,
        OPCODE_SELECT_DB, Version,
    },
    value::Value,
};

/// A file that is being written. Each call appends to the `Vec` that the caller passes, which may be another one each
/// time.
///
/// Values must be of the version that the file was begun with, or of an older one of the same line. A server starts
/// from the result as from a file of its own.
#[derive(Debug)]
pub(crate) struct RdbWriter {
    digest: Digest,
    db: Option<u64>,
}

impl RdbWriter {
    pub(crate) fn begin(version: Version, out: &mut Vec<u8>) -> Self {
        let mut writer = Self {
            digest: Digest::new(CrcAlgorithm::Crc64Redis),
            db: None,
        };
        let header = match version.flavour() {
            Flavour::Redis => format!("REDIS{:04}", version.number()),
            Flavour::Valkey => format!("VALKEY{:03}", version.number()),
        };
        writer.append(out, |out| out.extend_from_slice(header.as_bytes()));
        writer
    }

    /// Writes what the file says about itself: `redis-ver`, `ctime`, …
    #[cfg(test)]
    pub(crate) fn aux(&mut self, field: &[u8], value: &[u8], out: &mut Vec<u8>) {
        self.append(out, |out| {
            out.push(super::layout::OPCODE_AUX);
            string(field, out);
            string(value, out);
        });
    }

    /// Writes a function library, from 7.0 on. Servers expect them before the first value.
    pub(crate) fn function(&mut self, source: &[u8], out: &mut Vec<u8>) {
        self.append(out, |out| {
            out.push(OPCODE_FUNCTION);
            string(source, out);
        });
    }

    pub(crate) fn value(&mut self, value: &Value<'_>, out: &mut Vec<u8>) {
        let Value { header, stored } = value;
        let is_other_db = self.db.replace(header.db) != Some(header.db);
        self.append(out, |out| {
            if is_other_db {
                out.push(OPCODE_SELECT_DB);
                length(header.db, out);
            }
            if let Some(at) = header.expires_at_ms {
                out.push(OPCODE_EXPIRES_MILLIS);
                out.extend_from_slice(&at.to_le_bytes());
            }
            if let Some(idle) = header.idle_seconds {
                out.push(OPCODE_IDLE);
                length(idle, out);
            }
            if let Some(frequency) = header.frequency {
                out.extend_from_slice(&[OPCODE_FREQUENCY, frequency]);
            }
            out.extend_from_slice(stored.metadata);
            out.push(stored.type_byte);
            string(header.key, out);
            out.extend_from_slice(stored.raw);
        });
    }

    /// Ends the file with its checksum.
    pub(crate) fn finish(mut self, out: &mut Vec<u8>) {
        self.append(out, |out| out.push(OPCODE_END));
        out.extend_from_slice(&self.digest.finalize().to_le_bytes());
    }

    fn append(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let begin = out.len();
        write(out);
        self.digest.update(out.get(begin..).unwrap_or_default());
    }
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    length(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Writes a length in the fewest bits: 6, 14, 32 or 64.
fn length(length: u64, out: &mut Vec<u8>) {
    match (u16::try_from(length), u32::try_from(length)) {
        (Ok(short @ ..0x40), _) => out.extend_from_slice(&short.to_be_bytes()[1..]),
        (Ok(short @ ..0x4000), _) => out.extend_from_slice(&(short | 0x4000).to_be_bytes()),
        (_, Ok(length)) => {
            out.push(0x80);
            out.extend_from_slice(&length.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(0x81);
            out.extend_from_slice(&length.to_be_bytes());
        }
    }
}

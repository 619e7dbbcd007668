//! Builds RDB files with values in the encodings of different servers.

use crate::format::rdb::{Header, RdbWriter, Stored, Value, Version};

/// A key with its value as it is stored.
pub(super) struct Key {
    db: u64,
    name: String,
    type_byte: u8,
    raw: Vec<u8>,
    expires_at_ms: Option<u64>,
}

impl Key {
    pub(super) fn new(name: &str, type_byte: u8, raw: Vec<u8>) -> Self {
        Self {
            db: 0,
            name: name.to_owned(),
            type_byte,
            raw,
            expires_at_ms: None,
        }
    }

    pub(super) fn within(self, db: u64) -> Self {
        Self { db, ..self }
    }

    pub(super) fn until(self, at_ms: u64) -> Self {
        Self {
            expires_at_ms: Some(at_ms),
            ..self
        }
    }
}

/// Writes a file of Redis 7.4.
pub(super) fn file(keys: &[Key]) -> Vec<u8> {
    file_of(12, keys)
}

pub(super) fn file_of(version: u16, keys: &[Key]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = RdbWriter::begin(Version::new(version).unwrap(), &mut out);
    for key in keys {
        let value = Value {
            header: Header {
                db: key.db,
                key: key.name.as_bytes(),
                expires_at_ms: key.expires_at_ms,
                idle_seconds: None,
                frequency: None,
            },
            stored: Stored {
                metadata: &[],
                type_byte: key.type_byte,
                raw: &key.raw,
            },
        };
        writer.value(&value, &mut out);
    }
    writer.finish(&mut out);
    out
}

fn length(length: usize) -> Vec<u8> {
    let length = u32::try_from(length).unwrap();
    [&[0x80][..], &length.to_be_bytes()].concat()
}

pub(super) fn string(text: &[u8]) -> Vec<u8> {
    [&length(text.len())[..], text].concat()
}

/// Compresses nothing: every instruction says that bytes follow as they are.
pub(super) fn lzf(text: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    for run in text.chunks(32) {
        packed.push(u8::try_from(run.len() - 1).unwrap());
        packed.extend_from_slice(run);
    }
    let lengths = [length(packed.len()), length(text.len())].concat();
    [&[0xc3][..], &lengths, &packed].concat()
}

pub(super) fn strings(members: &[Vec<u8>]) -> Vec<u8> {
    let strings = members.iter().map(|it| string(it)).collect::<Vec<_>>();
    [length(members.len()), strings.concat()].concat()
}

/// Each member is a field, and its value is it turned around.
pub(super) fn pairs(members: &[Vec<u8>]) -> Vec<u8> {
    let pairs = members
        .iter()
        .map(|it| [string(it), string(&turned(it))].concat());
    [length(members.len()), pairs.collect::<Vec<_>>().concat()].concat()
}

pub(super) fn hash_listpack(members: &[Vec<u8>]) -> Vec<u8> {
    let both = members.iter().flat_map(|it| [it.clone(), turned(it)]);
    listpack(&both.collect::<Vec<_>>())
}

fn turned(member: &[u8]) -> Vec<u8> {
    member.iter().rev().copied().collect()
}

/// Each member's score is its length and a half.
pub(super) fn scored(members: &[Vec<u8>]) -> Vec<u8> {
    let scored = members
        .iter()
        .map(|it| [&string(it)[..], &score(it).to_le_bytes()].concat());
    [length(members.len()), scored.collect::<Vec<_>>().concat()].concat()
}

pub(super) fn scored_listpack(members: &[Vec<u8>]) -> Vec<u8> {
    let both = members
        .iter()
        .flat_map(|it| [it.clone(), score(it).to_string().into_bytes()]);
    listpack(&both.collect::<Vec<_>>())
}

#[expect(clippy::cast_precision_loss, reason = "a few bytes")]
fn score(member: &[u8]) -> f64 {
    member.len() as f64 + 0.5
}

/// Nodes of some entries each, now packed, now plain.
pub(super) fn quicklist(members: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let at_once = usize::try_from(seed % 5).unwrap() + 1;
    let nodes = members.chunks(at_once).map(|some| match some {
        [only] => [length(1), string(only)].concat(),
        some => [length(2), string(&listpack(some))].concat(),
    });
    let nodes: Vec<_> = nodes.collect();
    [length(nodes.len()), nodes.concat()].concat()
}

/// Every other number is packed as an integer.
pub(super) fn listpack(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for entry in entries {
        let begin = body.len();
        let small = std::str::from_utf8(entry)
            .ok()
            .and_then(|it| it.parse::<u8>().ok());
        let is_plain = |it: &u8| *it < 0x80 && it.to_string().as_bytes() == entry;
        if let Some(integer) = small.filter(is_plain) {
            body.push(integer);
        } else {
            body.push(0x80 | u8::try_from(entry.len()).unwrap());
            body.extend_from_slice(entry);
        }
        body.push(u8::try_from(body.len() - begin).unwrap());
    }
    let total = u32::try_from(6 + body.len() + 1).unwrap();
    let count = u16::try_from(entries.len()).unwrap();
    [
        &total.to_le_bytes()[..],
        &count.to_le_bytes(),
        &body,
        &[255],
    ]
    .concat()
}

/// Returns them in an order that depends on the seed.
pub(super) fn shuffled(members: &[Vec<u8>], seed: u64) -> Vec<Vec<u8>> {
    let mut shuffled = members.to_vec();
    shuffled.sort_by_key(|it| xxhash_rust::xxh3::xxh3_64_with_seed(it, seed));
    shuffled
}

//! Rebuilds a value that is too large for one command, with the commands of a server's own append-only file.

use super::{
    batch::{Batch, decimal, word},
    encode::{Out, Unwanted},
};
use crate::format::rdb::{Element, Header, StreamId, StreamMeta, ValueKind};

/// The most words in one command.
const WORDS_MAX: usize = 1024;
/// About the most bytes in one command, unless a single element is larger.
const COMMAND_BYTES: usize = 256 * 1024;

/// A value that is being built. Its elements wait here until there are enough for a command.
#[derive(Debug)]
pub(super) struct Building {
    kind: ValueKind,
    key: Vec<u8>,
    expires_at_ms: Option<u64>,
    /// Encoded words that wait, and their number.
    words: Vec<u8>,
    waiting: usize,
    /// The same for fields that expire at one instant.
    expiring: Vec<u8>,
    expiring_fields: usize,
    expiring_at_ms: u64,
    has_expiring_fields: bool,
    /// By the worker's clock.
    now_ms: u64,
    /// Whether the stream's groups already exist.
    has_groups: bool,
}

impl Building {
    /// Starts from nothing, or from a stream that has groups but no entries.
    pub(super) fn begin(
        kind: ValueKind,
        header: Header<'_>,
        stub: Option<&[u8]>,
        now_ms: u64,
        out: &mut Out,
    ) -> Result<Self, Unwanted> {
        match stub {
            None => out.batch().command(&[b"UNLINK", header.key]),
            Some(stub) => {
                out.batch()
                    .command(&[b"RESTORE", header.key, b"0", stub, b"REPLACE"]);
            }
        }
        out.pass_on_if_full()?;
        Ok(Self {
            kind,
            key: header.key.to_vec(),
            expires_at_ms: header.expires_at_ms,
            words: Vec::new(),
            waiting: 0,
            expiring: Vec::new(),
            expiring_fields: 0,
            expiring_at_ms: 0,
            has_expiring_fields: false,
            now_ms,
            has_groups: stub.is_some(),
        })
    }

    pub(super) fn element(&mut self, element: Element<'_>, out: &mut Out) -> Result<(), Unwanted> {
        match element {
            Element::StringChunk(chunk) => out.batch().command(&[b"APPEND", &self.key, chunk]),
            Element::ListItem(member) | Element::SetMember(member) => {
                self.wait(&[member], out)?;
            }
            Element::ZsetMember { member, score } => {
                self.wait(&[score.to_string().as_bytes(), member], out)?;
            }
            Element::HashField {
                field,
                value,
                expires_at_ms,
            } => self.field(field, value, expires_at_ms, out)?,
            Element::StreamEntry { id, pairs } => {
                let words = pairs.fields_and_values().count();
                let id = id.to_string();
                out.batch().begin(3 + words);
                for it in [b"XADD".as_slice(), &self.key, id.as_bytes()] {
                    out.batch().word(it);
                }
                for it in pairs.fields_and_values() {
                    out.batch().word(it);
                }
            }
            Element::StreamMeta(meta) => self.stream_meta(meta, out),
            Element::StreamGroups { .. } => {}
            Element::StreamGroup {
                group,
                last_delivered,
                entries_read: None,
            } if self.has_groups => {
                // The dump is older than this counter. For a stream without entries, the server has made one up;
                // setting the id clears it.
                let id = last_delivered.to_string();
                let words: [&[u8]; 5] = [b"XGROUP", b"SETID", &self.key, group, id.as_bytes()];
                out.batch().command(&words);
            }
            Element::StreamGroup { .. }
            | Element::StreamConsumer { .. }
            | Element::StreamPending { .. }
                if self.has_groups => {}
            Element::StreamGroup {
                group,
                last_delivered,
                entries_read,
            } => {
                let (id, read) = (last_delivered.to_string(), entries_read.map(text));
                let mut words = vec![b"XGROUP", b"CREATE".as_slice(), &self.key, group];
                words.push(id.as_bytes());
                if let Some(read) = &read {
                    words.extend([b"ENTRIESREAD".as_slice(), read]);
                }
                out.batch().command(&words);
            }
            Element::StreamConsumer { group, consumer } => {
                let words: [&[u8]; 5] = [b"XGROUP", b"CREATECONSUMER", &self.key, group, consumer];
                out.batch().command(&words);
            }
            Element::StreamPending {
                group,
                consumer,
                id,
                delivered_at_ms,
                deliveries,
            } => {
                let (id, at) = (id.to_string(), text(delivered_at_ms));
                let deliveries = text(deliveries);
                let who: [&[u8]; 6] = [b"XCLAIM", &self.key, group, consumer, b"0", id.as_bytes()];
                let what: [&[u8]; 6] = [
                    b"TIME",
                    &at,
                    b"RETRYCOUNT",
                    &deliveries,
                    b"JUSTID",
                    b"FORCE",
                ];
                out.batch().command(&[who, what].concat());
            }
        }
        out.pass_on_if_full()
    }

    /// Returns whether the key, which does not expire itself, may disappear when its fields expire.
    pub(super) fn may_go_with_its_fields(&self) -> bool {
        self.expires_at_ms.is_none() && self.has_expiring_fields
    }

    pub(super) fn end(mut self, out: &mut Out) -> Result<(), Unwanted> {
        self.write_waiting(out)?;
        if let Some(at) = self.expires_at_ms {
            out.batch().command(&[b"PEXPIREAT", &self.key, &text(at)]);
        }
        out.batch().keys += 1;
        out.pass_on_if_full()
    }

    fn wait(&mut self, words: &[&[u8]], out: &mut Out) -> Result<(), Unwanted> {
        for it in words {
            word(it, &mut self.words);
        }
        self.waiting += words.len();
        if self.waiting >= WORDS_MAX || self.words.len() >= COMMAND_BYTES {
            self.write_waiting(out)?;
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: &[u8],
        value: &[u8],
        expires_at_ms: Option<u64>,
        out: &mut Out,
    ) -> Result<(), Unwanted> {
        self.has_expiring_fields |= expires_at_ms.is_some();
        if expires_at_ms.is_some_and(|at| at <= self.now_ms) {
            return Ok(());
        }
        let Some(at) = expires_at_ms else {
            return self.wait(&[field, value], out);
        };
        if self.expiring_at_ms != at && self.expiring_fields > 0 {
            self.write_waiting(out)?;
        }
        self.expiring_at_ms = at;
        word(field, &mut self.expiring);
        self.expiring_fields += 1;
        self.wait(&[field, value], out)
    }

    /// Writes what waits: first the fields, then their expiry.
    fn write_waiting(&mut self, out: &mut Out) -> Result<(), Unwanted> {
        if self.waiting > 0 {
            let command: &[u8] = match self.kind {
                ValueKind::List => b"RPUSH",
                ValueKind::Set => b"SADD",
                ValueKind::Zset => b"ZADD",
                ValueKind::Hash => b"HSET",
                // Their elements never wait.
                ValueKind::String | ValueKind::Stream => return Ok(()),
            };
            send(
                command,
                &[&self.key],
                &mut self.words,
                &mut self.waiting,
                out.batch(),
            );
        }
        if self.expiring_fields > 0 {
            let (at, fields) = (text(self.expiring_at_ms), text(self.expiring_fields as u64));
            let firsts: [&[u8]; 4] = [&self.key, &at, b"FIELDS", &fields];
            let (words, count) = (&mut self.expiring, &mut self.expiring_fields);
            send(b"HPEXPIREAT", &firsts, words, count, out.batch());
        }
        out.pass_on_if_full()
    }

    fn stream_meta(&self, meta: StreamMeta, out: &mut Out) {
        let last_id = meta.last_id.to_string();
        if meta.length == 0 && !self.has_groups {
            // Creates the empty stream: an entry is added, and `MAXLEN 0` trims it at once.
            let first = StreamId { ms: 0, seq: 1 };
            let id = meta.last_id.max(first).to_string();
            let words: [&[u8]; 7] = [
                b"XADD",
                &self.key,
                b"MAXLEN",
                b"0",
                id.as_bytes(),
                b"x",
                b"y",
            ];
            out.batch().command(&words);
        }
        let words: [&[u8]; 3] = [b"XSETID", &self.key, last_id.as_bytes()];
        match meta.history {
            None => out.batch().command(&words),
            Some(history) => {
                let added = text(history.entries_added);
                let deleted = history.max_deleted_id.to_string();
                let more: [&[u8]; 4] =
                    [b"ENTRIESADDED", &added, b"MAXDELETEDID", deleted.as_bytes()];
                out.batch().command(&[words.as_slice(), &more].concat());
            }
        }
    }
}

/// Writes a command of some first words and the waiting words, and clears those.
fn send(
    command: &[u8],
    firsts: &[&[u8]],
    words: &mut Vec<u8>,
    count: &mut usize,
    batch: &mut Batch,
) {
    batch.begin(1 + firsts.len() + *count);
    batch.word(command);
    for first in firsts {
        batch.word(first);
    }
    batch.encoded(words);
    words.clear();
    *count = 0;
}

fn text(number: u64) -> Vec<u8> {
    let mut digits = Vec::new();
    decimal(number, &mut digits);
    digits
}

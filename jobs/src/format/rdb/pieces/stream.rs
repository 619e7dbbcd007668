//! Takes a large stream apart: its entries, its counters, its groups, their consumers and pending entries.
//!
//! ```text
//! nodes: id of the first entry (16 bytes, big-endian), listpack…    length  last id
//! from 7.0: first id  greatest deleted id  entries added
//! groups: name  last id  [entries read]  pending: id, time, count…  consumers: name  times  ids of pending…
//! a node's listpack: entries, deleted ones, fields of the first entry: count, names…, 0
//!   entry: flags, milliseconds and sequence after the node's id, [count], [names and] values, how many of all these
//! ```

use std::io::Read;

use super::{Dropped, Give, Scratch};
use crate::format::rdb::{
    layout::StreamVersion,
    listpack::{DAMAGED, Listpack},
    reader::{Reader, Stop},
    skim::{consumer_times, skim_groups, skim_idempotency},
    value::{Element, EntryPairs, SplitError, StreamHistory, StreamId, StreamMeta},
};

/// The entry was deleted; its bytes are still there.
const FLAG_DELETED: i64 = 1;
/// The entry has the same fields as the node's first.
const FLAG_SAME_FIELDS: i64 = 2;

/// Groups that take more bytes are not given in stored form.
const GROUPS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The most pending entries of one group that are held at once: 512 MiB.
const PENDING_MAX: u64 = 16 * 1024 * 1024;

/// One entry that a consumer of a group has not acknowledged.
#[derive(Debug, Clone, Copy)]
struct Pending {
    id: StreamId,
    delivered_at_ms: u64,
    deliveries: u64,
}

pub(super) fn give<R: Read, E>(
    reader: &mut Reader<R>,
    version: StreamVersion,
    scratch: &mut Scratch,
    give: &mut Give<'_, E>,
) -> Result<Dropped, SplitError<E>> {
    let nodes = reader.length()?;
    for _ in 0..nodes {
        reader.string_into(&mut scratch.first)?;
        let node_id = StreamId::from_key(&scratch.first);
        let node_id = node_id.ok_or_else(|| reader.malformed("a stream node without its id"))?;
        if reader.string_into(&mut scratch.node)? {
            give_node(reader, node_id, scratch, give)?;
        }
    }
    give(Element::StreamMeta(meta(reader, version)?))?;
    give_groups_as_stored(reader, version, give)?;
    let groups = reader.length()?;
    for _ in 0..groups {
        give_group(reader, version, scratch, give)?;
    }
    let idempotency_ids = if version >= StreamVersion::Idempotent {
        skim_idempotency(reader)?
    } else {
        0
    };
    Ok(Dropped { idempotency_ids })
}

/// Gives everything from the groups on in stored form, and rewinds to the start of the groups.
fn give_groups_as_stored<R: Read, E>(
    reader: &mut Reader<R>,
    version: StreamVersion,
    give: &mut Give<'_, E>,
) -> Result<(), SplitError<E>> {
    reader.hold(GROUPS_BYTES_MAX);
    match skim_groups(reader, version) {
        Ok(()) => give(Element::StreamGroups {
            type_byte: version.type_byte(),
            raw: reader.held(),
        })?,
        Err(Stop::Full { .. }) => {}
        Err(stop) => return Err(stop.into()),
    }
    reader.rewind();
    Ok(())
}

fn meta<R: Read>(reader: &mut Reader<R>, version: StreamVersion) -> Result<StreamMeta, Stop> {
    let length = reader.length()?;
    let last_id = id(reader)?;
    let history = if version >= StreamVersion::Counted {
        // The first id follows from the entries.
        id(reader)?;
        Some(StreamHistory {
            max_deleted_id: id(reader)?,
            entries_added: reader.length()?,
        })
    } else {
        None
    };
    Ok(StreamMeta {
        length,
        last_id,
        history,
    })
}

fn id<R: Read>(reader: &mut Reader<R>) -> Result<StreamId, Stop> {
    let ms = reader.length()?;
    let seq = reader.length()?;
    Ok(StreamId { ms, seq })
}

fn raw_id<R: Read>(reader: &mut Reader<R>) -> Result<StreamId, Stop> {
    let ms = u64::from_be_bytes(reader.array()?);
    let seq = u64::from_be_bytes(reader.array()?);
    Ok(StreamId { ms, seq })
}

impl StreamId {
    fn from_key(key: &[u8]) -> Option<Self> {
        let (ms, seq) = key.split_first_chunk()?;
        Some(Self {
            ms: u64::from_be_bytes(*ms),
            seq: u64::from_be_bytes(seq.try_into().ok()?),
        })
    }

    /// Returns this id plus an offset. Wraps around, as servers do.
    fn after(self, ms: i64, seq: i64) -> Self {
        Self {
            ms: self.ms.wrapping_add_signed(ms),
            seq: self.seq.wrapping_add_signed(seq),
        }
    }
}

fn give_node<R: Read, E>(
    reader: &Reader<R>,
    node_id: StreamId,
    scratch: &mut Scratch,
    give: &mut Give<'_, E>,
) -> Result<(), SplitError<E>> {
    let damaged = |what| reader.malformed(what);
    let mut entries = Listpack::new(&scratch.node).map_err(damaged)?;
    let fields = begin_node(&mut entries).map_err(damaged)?;
    loop {
        scratch.first.clear();
        scratch.ends.clear();
        let mut pairs = Pairs {
            bytes: &mut scratch.first,
            ends: &mut scratch.ends,
            number: &mut scratch.second,
        };
        let entry = next_entry(&mut entries, &fields, &mut pairs).map_err(damaged)?;
        let Some(entry) = entry else {
            return Ok(());
        };
        if entry.is_deleted {
            continue;
        }
        let pairs = EntryPairs {
            bytes: &scratch.first,
            ends: &scratch.ends,
        };
        let id = node_id.after(entry.ms, entry.seq);
        give(Element::StreamEntry { id, pairs })?;
    }
}

/// The fields of a node's first entry, which other entries may share.
struct SharedFields<'a> {
    count: u64,
    names: Listpack<'a>,
}

/// Reads the start of a node's listpack.
fn begin_node<'a>(entries: &mut Listpack<'a>) -> Result<SharedFields<'a>, &'static str> {
    number(entries)?;
    number(entries)?;
    let count = count(entries)?;
    let names = entries.clone();
    for _ in 0..count {
        entries.expect()?;
    }
    if number(entries)? != 0 {
        return Err("a stream node whose first entry does not end");
    }
    Ok(SharedFields { count, names })
}

struct EntryHead {
    is_deleted: bool,
    ms: i64,
    seq: i64,
}

/// Buffers in which the fields and values of an entry are put together.
struct Pairs<'s> {
    bytes: &'s mut Vec<u8>,
    ends: &'s mut Vec<usize>,
    number: &'s mut Vec<u8>,
}

impl Pairs<'_> {
    fn add(&mut self, from: &mut Listpack<'_>) -> Result<(), &'static str> {
        let text = from.expect()?.text(self.number);
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
        Ok(())
    }
}

fn next_entry(
    entries: &mut Listpack<'_>,
    fields: &SharedFields<'_>,
    pairs: &mut Pairs<'_>,
) -> Result<Option<EntryHead>, &'static str> {
    let Some(flags) = entries.next()? else {
        return Ok(None);
    };
    let flags = flags.integer().ok_or(DAMAGED)?;
    let head = EntryHead {
        is_deleted: flags & FLAG_DELETED != 0,
        ms: number(entries)?,
        seq: number(entries)?,
    };
    if flags & FLAG_SAME_FIELDS != 0 {
        let mut names = fields.names.clone();
        for _ in 0..fields.count {
            pairs.add(&mut names)?;
            pairs.add(entries)?;
        }
    } else {
        for _ in 0..count(entries)? {
            pairs.add(entries)?;
            pairs.add(entries)?;
        }
    }
    // How many listpack entries this one took, for reading backwards.
    number(entries)?;
    Ok(Some(head))
}

fn number(entries: &mut Listpack<'_>) -> Result<i64, &'static str> {
    entries.expect()?.integer().ok_or(DAMAGED)
}

fn count(entries: &mut Listpack<'_>) -> Result<u64, &'static str> {
    u64::try_from(number(entries)?).map_err(|_| DAMAGED)
}

fn give_group<R: Read, E>(
    reader: &mut Reader<R>,
    version: StreamVersion,
    scratch: &mut Scratch,
    give: &mut Give<'_, E>,
) -> Result<(), SplitError<E>> {
    let (group, consumer) = (&mut scratch.first, &mut scratch.second);
    reader.string_into(group)?;
    let last_delivered = id(reader)?;
    let entries_read = if version >= StreamVersion::Counted {
        // All ones, which is -1 to the server, if it lost count.
        Some(reader.length()?).filter(|read| *read != u64::MAX)
    } else {
        None
    };
    give(Element::StreamGroup {
        group,
        last_delivered,
        entries_read,
    })?;
    let pending = pending(reader)?;
    let consumers = reader.length()?;
    for _ in 0..consumers {
        reader.string_into(consumer)?;
        // When the consumer was last seen; no command can set that.
        reader.skip(consumer_times(version))?;
        give(Element::StreamConsumer { group, consumer })?;
        let count = reader.length()?;
        for _ in 0..count {
            let id = raw_id(reader)?;
            let found = pending.binary_search_by_key(&id, |pending| pending.id);
            let found = found.ok().and_then(|index| pending.get(index));
            let found = found.ok_or_else(|| {
                reader.malformed("a consumer's pending entry that its group does not know")
            })?;
            give(Element::StreamPending {
                group,
                consumer,
                id,
                delivered_at_ms: found.delivered_at_ms,
                deliveries: found.deliveries,
            })?;
        }
    }
    Ok(())
}

/// Reads a group's pending entries, which come in the order of their ids and before the consumers that have them.
fn pending<R: Read>(reader: &mut Reader<R>) -> Result<Vec<Pending>, Stop> {
    let count = reader.length()?;
    if count > PENDING_MAX {
        return Err(reader.malformed("more pending entries in a group than can be held"));
    }
    let mut all: Vec<Pending> = Vec::new();
    for _ in 0..count {
        let id = raw_id(reader)?;
        if all.last().is_some_and(|last| last.id >= id) {
            return Err(reader.malformed("pending entries out of order"));
        }
        all.push(Pending {
            id,
            delivered_at_ms: reader.millis()?,
            deliveries: reader.length()?,
        });
    }
    Ok(all)
}

//! The hash of one value, whatever its encoding, and whatever order its server keeps it in.
//!
//! Permanent: a drill compares it with what an earlier build recorded.

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_64_with_seed, xxh3_128, xxh3_128_with_seed};

use crate::{
    contents::ItemHash,
    format::rdb::{Element, StreamHistory, StreamId, StreamMeta, ValueKind},
};

/// Every item of a list moves the hash of those before it on by this odd factor, so that their order counts.
const STEP: u128 = 0x2545_f491_4f6c_dd1d_9e37_79b9_7f4a_7c15;
/// What comes with a stream besides its entries.
const META: u64 = 1;
const GROUP: u64 = 2;
const CONSUMER: u64 = 3;
const PENDING: u64 = 4;

/// The hash of a value whose elements come one by one.
pub(super) struct ValueHash {
    sum: u128,
    /// The hash of a string that came at once.
    text: Option<u128>,
    /// Those pieces of a string that came one by one.
    pieces: Xxh3,
    has_pieces: bool,
    /// When the first of a hash's fields expires.
    pub(super) earliest_ms: Option<u64>,
    /// Whether a stream's groups are too large to be restored in full.
    pub(super) has_loose_groups: bool,
}

impl Default for ValueHash {
    fn default() -> Self {
        Self {
            sum: 0,
            text: None,
            pieces: Xxh3::new(),
            has_pieces: false,
            earliest_ms: None,
            has_loose_groups: false,
        }
    }
}

impl ValueHash {
    /// Forgets the value before.
    pub(super) fn begin(&mut self) {
        self.sum = 0;
        self.earliest_ms = None;
        self.has_loose_groups = false;
        self.text = None;
        if std::mem::take(&mut self.has_pieces) {
            self.pieces.reset();
        }
    }

    /// Takes a string that is whole.
    pub(super) fn whole_string(&mut self, text: &[u8]) {
        self.text = Some(xxh3_128(text));
    }

    /// Takes the next element.
    pub(super) fn add(&mut self, element: Element<'_>) {
        let member = match element {
            Element::StringChunk(chunk) => {
                self.pieces.update(chunk);
                self.has_pieces = true;
                return;
            }
            Element::ListItem(item) => {
                self.sum = step(self.sum, item);
                return;
            }
            Element::SetMember(member) => xxh3_128(member),
            Element::ZsetMember { member, score } => {
                // An encoding of some versions knows no negative zero.
                xxh3_128_with_seed(member, (score + 0.0).to_bits())
            }
            Element::HashField {
                field,
                value,
                expires_at_ms,
            } => {
                if let Some(at) = expires_at_ms {
                    self.earliest_ms = Some(self.earliest_ms.map_or(at, |it| it.min(at)));
                }
                let field = xxh3_64_with_seed(field, expires_at_ms.unwrap_or_default());
                xxh3_128_with_seed(value, field)
            }
            Element::StreamEntry { id, pairs } => {
                let words = pairs.fields_and_values().fold(0, step);
                let [low, high] = halves(words);
                of_numbers(0, &[id.ms, id.seq, low, high])
            }
            Element::StreamMeta(meta) => {
                self.has_loose_groups = true;
                of_meta(meta)
            }
            Element::StreamGroups { .. } => {
                self.has_loose_groups = false;
                return;
            }
            // Servers before 7.0 do not count what a group has read, and later ones lose count.
            Element::StreamGroup {
                group,
                last_delivered: StreamId { ms, seq },
                entries_read: _,
            } => of_numbers(GROUP, &[xxh3_64(group), ms, seq]),
            Element::StreamConsumer { group, consumer } => {
                of_numbers(CONSUMER, &[xxh3_64(group), xxh3_64(consumer)])
            }
            Element::StreamPending {
                group,
                consumer,
                id,
                delivered_at_ms,
                deliveries,
            } => {
                let (group, consumer) = (xxh3_64(group), xxh3_64(consumer));
                let StreamId { ms, seq } = id;
                let numbers = [group, consumer, ms, seq, delivered_at_ms, deliveries];
                of_numbers(PENDING, &numbers)
            }
        };
        self.sum = self.sum.wrapping_add(member);
    }

    /// Returns the hash of the value under its key, with its expiry. A module's value has no kind.
    pub(super) fn under(
        &self,
        key: &[u8],
        kind: Option<ValueKind>,
        expires_at_ms: Option<u64>,
    ) -> ItemHash {
        let text = match kind {
            Some(ValueKind::String) => self.text.unwrap_or_else(|| self.pieces.digest128()),
            Some(_) | None => 0,
        };
        let [low, high] = halves(self.sum.wrapping_add(text));
        let numbers = [
            low,
            high,
            number_of(kind),
            expires_at_ms.unwrap_or_default(),
        ];
        ItemHash(of_numbers(xxh3_64(key), &numbers))
    }
}

/// Servers from 7.0 on give a stream of an older one these counts.
fn of_meta(meta: StreamMeta) -> u128 {
    let StreamMeta {
        length,
        last_id,
        history,
    } = meta;
    let StreamHistory {
        entries_added,
        max_deleted_id,
    } = history.unwrap_or(StreamHistory {
        entries_added: length,
        max_deleted_id: StreamId { ms: 0, seq: 0 },
    });
    let (last, deleted) = (last_id, max_deleted_id);
    let ids = [last.ms, last.seq, deleted.ms, deleted.seq];
    let [last_ms, last_seq, deleted_ms, deleted_seq] = ids;
    of_numbers(
        META,
        &[
            length,
            entries_added,
            last_ms,
            last_seq,
            deleted_ms,
            deleted_seq,
        ],
    )
}

fn number_of(kind: Option<ValueKind>) -> u64 {
    match kind {
        Some(ValueKind::String) => 0,
        Some(ValueKind::List) => 1,
        Some(ValueKind::Set) => 2,
        Some(ValueKind::Zset) => 3,
        Some(ValueKind::Hash) => 4,
        Some(ValueKind::Stream) => 5,
        None => 6,
    }
}

fn step(before: u128, item: &[u8]) -> u128 {
    before.wrapping_mul(STEP).wrapping_add(xxh3_128(item))
}

fn halves(wide: u128) -> [u64; 2] {
    let low = u64::try_from(wide & u128::from(u64::MAX)).unwrap_or_default();
    let high = u64::try_from(wide >> 64).unwrap_or_default();
    [low, high]
}

/// Hashes numbers, at most six.
fn of_numbers(seed: u64, numbers: &[u64]) -> u128 {
    const EACH: usize = size_of::<u64>();
    let mut bytes = [0; 6 * EACH];
    for (room, number) in bytes.chunks_exact_mut(EACH).zip(numbers) {
        room.copy_from_slice(&number.to_le_bytes());
    }
    let used = bytes.get(..numbers.len() * EACH).unwrap_or(&bytes);
    xxh3_128_with_seed(used, seed)
}

//! Gathers what a dump needs of its target, while the archive is verified and before anything is written.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io::Read,
};

use crate::{
    engine::redis::{
        dump::census::{Census, Counter, MODULE, read_whole},
        mark,
    },
    format::{
        FormatError,
        rdb::{
            self, Element, Header, Limits, Stored, Value, ValueKind, Version, Visit, module_id,
            module_name, restore_payload, stub_payload,
        },
    },
};

/// The most bytes that are kept of all stubs. Streams beyond that are built by commands alone.
const STUBS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The most bytes that all functions may have.
const FUNCTIONS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The type bytes of hashes with expiring fields.
const EXPIRING_HASHES: std::ops::RangeInclusive<u8> = 22..=25;

/// What a dump has, and what it needs of a target.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) census: Census,
    /// The shortest payload of each kind.
    pub(super) samples: Vec<Sample>,
    /// The sources of the function libraries.
    pub(super) functions: Vec<Vec<u8>>,
    /// The kinds of values that are written in pieces, by commands.
    pub(super) large_kinds: Vec<ValueKind>,
    /// Whether a hash that is written in pieces has expiring fields.
    pub(super) has_large_expiring_hash: bool,
    /// Payloads without entries for streams that are written in pieces, by their index among all values in pieces.
    pub(super) stubs: BTreeMap<u64, Vec<u8>>,
    /// How many such streams have no stub, because their groups are too large.
    pub(super) without_stub: u64,
    /// The longest string, whether a single argument or assembled from several.
    pub(super) longest_bytes: u64,
    /// The longest single argument.
    pub(super) longest_argument_bytes: u64,
    /// How much memory the dump's server used for everything, less what has expired since; `None` if it did not say.
    pub(super) memory_bytes: Option<u64>,
    /// A customer's keys that have the names of marks.
    pub(super) own_marks: Vec<Vec<u8>>,
}

/// A value as a target will be asked to take it.
#[derive(Debug)]
pub(super) struct Sample {
    kind: Kind,
    pub(super) payload: Vec<u8>,
}

/// A kind of value, which a server may or may not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    type_byte: u8,
    /// The type and version of a module's value.
    module: Option<u64>,
    has_metadata: bool,
}

impl Sample {
    /// Returns the name of the module's type, if it is a module's value.
    pub(super) fn module(&self) -> Option<String> {
        self.kind.module.map(module_name)
    }

    /// Returns a description of the kind of value.
    pub(super) fn what(&self) -> String {
        let type_byte = self.kind.type_byte;
        if let Some(name) = self.module() {
            return format!("values of the module type {name}");
        }
        if self.kind.has_metadata {
            return "metadata that modules keep on keys".to_owned();
        }
        if EXPIRING_HASHES.contains(&type_byte) {
            return format!("hashes whose fields expire (RDB type {type_byte})");
        }
        format!("values of RDB type {type_byte}")
    }
}

/// Reads a dump to its end. Keys that expired before `now_ms` will not be written, and take no memory.
pub(super) fn take(dump: impl Read, now_ms: u64) -> Result<Survey, FormatError> {
    take_within(dump, now_ms, Limits::to_count())
}

/// Reads a dump as [`take`] does, within other limits.
pub(super) fn take_within(
    dump: impl Read,
    now_ms: u64,
    limits: Limits,
) -> Result<Survey, FormatError> {
    let mut surveyor = Surveyor {
        counter: Counter::default(),
        version: None,
        now_ms,
        samples: BTreeMap::new(),
        functions: Vec::new(),
        functions_bytes: 0,
        large_kinds: Vec::new(),
        has_large_expiring_hash: false,
        stubs: BTreeMap::new(),
        stubs_bytes: 0,
        large: 0,
        large_streams: 0,
        longest_bytes: 0,
        longest_string_bytes: 0,
        string_bytes: 0,
        used_memory: None,
        value_bytes: 0,
        expired_bytes: 0,
        is_expired: false,
        own_marks: Vec::new(),
    };
    let summary = read_whole(dump, &mut surveyor, limits)?;
    Ok(surveyor.finish(summary))
}

struct Surveyor {
    counter: Counter,
    version: Option<Version>,
    now_ms: u64,
    samples: BTreeMap<Kind, Vec<u8>>,
    functions: Vec<Vec<u8>>,
    functions_bytes: usize,
    large_kinds: Vec<ValueKind>,
    has_large_expiring_hash: bool,
    stubs: BTreeMap<u64, Vec<u8>>,
    stubs_bytes: usize,
    /// The number of values in pieces so far.
    large: u64,
    large_streams: u64,
    longest_bytes: u64,
    longest_string_bytes: u64,
    /// The bytes of the string that is being assembled.
    string_bytes: u64,
    used_memory: Option<u64>,
    value_bytes: u64,
    expired_bytes: u64,
    /// Whether the current value in pieces has expired.
    is_expired: bool,
    own_marks: Vec<Vec<u8>>,
}

impl Surveyor {
    fn finish(self, summary: rdb::Summary) -> Survey {
        let sample = |(kind, payload)| Sample { kind, payload };
        let stubs = self.stubs.len() as u64;
        let longest_argument_bytes = self.longest_bytes.max(summary.longest_bytes);
        Survey {
            samples: self.samples.into_iter().map(sample).collect(),
            functions: self.functions,
            large_kinds: self.large_kinds,
            has_large_expiring_hash: self.has_large_expiring_hash,
            stubs: self.stubs,
            without_stub: self.large_streams.saturating_sub(stubs),
            longest_bytes: longest_argument_bytes.max(self.longest_string_bytes),
            longest_argument_bytes,
            memory_bytes: self
                .used_memory
                .map(|used| share(used, self.expired_bytes, self.value_bytes)),
            own_marks: self.own_marks,
            census: self.counter.finish(summary),
        }
    }

    fn note_own_mark(&mut self, header: Header<'_>) {
        if header.db == 0 && mark::is_name(header.key) {
            self.own_marks.push(header.key.to_vec());
        }
    }

    fn is_expired(&self, header: Header<'_>) -> bool {
        header.expires_at_ms.is_some_and(|at| at <= self.now_ms)
    }

    fn count_bytes(&mut self, bytes: usize, is_expired: bool) {
        self.value_bytes += bytes as u64;
        if is_expired {
            self.expired_bytes += bytes as u64;
        }
    }

    fn note_argument(&mut self, bytes: usize) {
        self.longest_bytes = self.longest_bytes.max(bytes as u64);
    }

    /// Keeps the payload of the value, unless a shorter one of its kind is known.
    fn keep_sample(&mut self, stored: Stored<'_>) {
        let Some(version) = self.version else {
            return;
        };
        let is_of_module = stored.type_byte == MODULE;
        let kind = Kind {
            type_byte: stored.type_byte,
            module: is_of_module.then(|| module_id(stored.raw)).flatten(),
            has_metadata: !stored.metadata.is_empty(),
        };
        let bytes = stored.raw.len() + stored.metadata.len();
        let payload = |payload: &mut Vec<u8>| {
            payload.clear();
            payload.shrink_to_fit();
            restore_payload(stored, version, payload);
        };
        match self.samples.entry(kind) {
            Entry::Occupied(mut known) => {
                if known.get().len() > bytes + AROUND_BYTES {
                    payload(known.get_mut());
                }
            }
            Entry::Vacant(place) => payload(place.insert(Vec::new())),
        }
    }

    fn keep_stub(&mut self, type_byte: u8, groups: &[u8]) {
        let Some(version) = self.version else {
            return;
        };
        if self.stubs_bytes + groups.len() > STUBS_BYTES_MAX {
            return;
        }
        if let Some(stub) = stub_payload(type_byte, groups, version) {
            self.stubs_bytes += stub.len();
            self.note_argument(stub.len());
            self.stubs.insert(self.large, stub);
        }
    }
}

/// The type, version and checksum around a raw value.
const AROUND_BYTES: usize = 1 + 2 + 8;

/// Returns what is left of `whole` after subtracting the share that `part` has in `all`.
fn share(whole: u64, part: u64, all: u64) -> u64 {
    if all == 0 {
        return whole;
    }
    let left = u128::from(whole) * u128::from(all.saturating_sub(part)) / u128::from(all);
    u64::try_from(left).unwrap_or(whole)
}

impl Visit for Surveyor {
    type Error = rdb::FormatError;

    fn begin(&mut self, version: Version) -> Result<(), Self::Error> {
        self.version = Some(version);
        self.counter.begin(version)
    }

    fn aux(&mut self, field: &[u8], value: &[u8]) -> Result<(), Self::Error> {
        if field == b"used-mem" {
            let text = std::str::from_utf8(value).ok();
            self.used_memory = text.and_then(|text| text.parse().ok());
        }
        self.counter.aux(field, value)
    }

    fn function(&mut self, source: &[u8]) -> Result<(), Self::Error> {
        self.functions_bytes += source.len();
        if self.functions_bytes > FUNCTIONS_BYTES_MAX {
            let what = "more function libraries than a restore can hold";
            return Err(rdb::FormatError::Malformed { what, at: 0 });
        }
        self.functions.push(source.to_vec());
        self.counter.function(source)
    }

    fn value(&mut self, value: Value<'_>) -> Result<(), Self::Error> {
        let Value { header, stored } = value;
        let is_expired = self.is_expired(header);
        let bytes = header.key.len() + stored.metadata.len() + stored.raw.len() + AROUND_BYTES;
        self.count_bytes(bytes, is_expired);
        self.note_argument(bytes);
        if !mark::is_mark(header.db, header.key, stored) {
            self.note_own_mark(header);
        }
        if !is_expired {
            self.keep_sample(stored);
        }
        self.counter.value(value)
    }

    fn begin_large(&mut self, kind: ValueKind, header: Header<'_>) -> Result<(), Self::Error> {
        self.is_expired = self.is_expired(header);
        self.string_bytes = 0;
        self.large_streams += u64::from(kind == ValueKind::Stream);
        if !self.large_kinds.contains(&kind) {
            self.large_kinds.push(kind);
        }
        self.note_own_mark(header);
        self.counter.begin_large(kind, header)
    }

    fn element(&mut self, element: Element<'_>) -> Result<(), Self::Error> {
        let bytes = match element {
            Element::StringChunk(chunk) => {
                self.string_bytes += chunk.len() as u64;
                self.longest_string_bytes = self.longest_string_bytes.max(self.string_bytes);
                chunk.len()
            }
            Element::ListItem(item)
            | Element::SetMember(item)
            | Element::ZsetMember { member: item, .. } => {
                self.note_argument(item.len());
                item.len()
            }
            Element::HashField {
                field,
                value,
                expires_at_ms,
            } => {
                self.has_large_expiring_hash |= expires_at_ms.is_some();
                self.note_argument(field.len());
                self.note_argument(value.len());
                field.len() + value.len()
            }
            Element::StreamEntry { pairs, .. } => {
                let lengths = pairs.fields_and_values().map(<[u8]>::len);
                let (longest, all) = lengths.fold((0, 0), |(longest, all), length| {
                    (length.max(longest), length + all)
                });
                self.note_argument(longest);
                all
            }
            Element::StreamGroups { type_byte, raw } => {
                self.keep_stub(type_byte, raw);
                0
            }
            Element::StreamMeta(_)
            | Element::StreamGroup { .. }
            | Element::StreamConsumer { .. }
            | Element::StreamPending { .. } => 0,
        };
        self.count_bytes(bytes, self.is_expired);
        self.counter.element(element)
    }

    fn end_large(&mut self) -> Result<(), Self::Error> {
        self.large += 1;
        self.counter.end_large()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const REDIS_7: &[u8] = include_bytes!("../../../format/rdb/golden/redis-7.0.rdb");

    #[test]
    fn there_is_a_payload_of_every_type_and_the_shortest_of_each() -> anyhow::Result<()> {
        let survey = take(REDIS_7, 1)?;
        let types: Vec<u8> = survey.samples.iter().map(|it| it.kind.type_byte).collect();
        assert!(types.len() > 5 && types.is_sorted(), "{types:?}");
        for sample in &survey.samples {
            let (stored, _) = rdb::parse_dump_payload(&sample.payload)?;
            assert_eq!(stored.type_byte, sample.kind.type_byte);
        }
        assert!(survey.memory_bytes.is_some_and(|it| it > 500_000));
        assert_eq!(
            survey.functions.len() as u64,
            survey.census.summary.functions
        );
        Ok(())
    }

    #[rstest]
    #[case::nothing_expired(100, 0, 10, 100)]
    #[case::half(100, 5, 10, 50)]
    #[case::all(100, 10, 10, 0)]
    #[case::no_keys(100, 0, 0, 100)]
    #[case::huge(u64::MAX, 0, u64::MAX, u64::MAX)]
    fn what_expired_takes_no_memory(
        #[case] used: u64,
        #[case] expired: u64,
        #[case] all: u64,
        #[case] left: u64,
    ) {
        assert_eq!(share(used, expired, all), left);
    }
}

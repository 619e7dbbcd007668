//! Turns a dump into commands, on a thread of its own, for as long as somebody takes them.

use std::collections::BTreeMap;

use tokio::sync::mpsc;

use super::{
    batch::{BATCH_BYTES, Batch, decimal},
    pieces::Building,
    roll::Roll,
};
use crate::{
    engine::redis::mark,
    format::rdb::{self, Element, Header, Value, ValueKind, Version, restore_payload},
};

/// The type, version and checksum around a raw value.
const AROUND_RAW_BYTES: usize = 1 + 2 + 8;

/// Nobody takes the commands any more. The other end has the reason.
#[derive(Debug)]
pub(super) struct Unwanted;

/// Where commands go, one batch at a time.
#[derive(Debug)]
pub(super) struct Out {
    batch: Batch,
    to: mpsc::Sender<Batch>,
    database: u64,
}

impl Out {
    pub(super) fn new(to: mpsc::Sender<Batch>) -> Self {
        Self {
            batch: Batch::default(),
            to,
            database: 0,
        }
    }

    pub(super) fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    pub(super) fn pass_on_if_full(&mut self) -> Result<(), Unwanted> {
        if self.batch.is_full() {
            self.pass_on()?;
        }
        Ok(())
    }

    fn pass_on(&mut self) -> Result<(), Unwanted> {
        let next = Batch {
            bytes: Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 8),
            database: self.database,
            ..Batch::default()
        };
        let batch = std::mem::replace(&mut self.batch, next);
        self.to.blocking_send(batch).map_err(|_| Unwanted)
    }

    fn select(&mut self, database: u64) {
        if database != self.database {
            let mut digits = Vec::new();
            decimal(database, &mut digits);
            self.batch.command(&[b"SELECT", &digits]);
            self.database = database;
        }
    }
}

/// Turns what a splitter shows into commands.
#[derive(Debug)]
pub(super) struct Encoder {
    out: Out,
    version: Option<Version>,
    building: Option<Building>,
    /// By the worker's clock: keys that expired before this are left out.
    now_ms: u64,
    roll: Option<Roll>,
    counts: Counts,
    /// The initial values of streams, by their index among the values in pieces.
    stubs: BTreeMap<u64, Vec<u8>>,
    /// The number of values in pieces so far.
    large: u64,
}

/// What became of a dump's keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Keys that were encoded, and how many of those expire one day, by themselves or with the last of their fields.
    pub(super) keys: u64,
    pub(super) expiring: u64,
    /// Keys that were left out because they had expired.
    pub(super) expired: u64,
}

impl Encoder {
    /// Adds the keys that it encodes to `roll`, if there is one.
    pub(super) fn new(to: mpsc::Sender<Batch>, now_ms: u64, roll: Option<Roll>) -> Self {
        Self {
            out: Out::new(to),
            version: None,
            building: None,
            now_ms,
            roll,
            counts: Counts::default(),
            stubs: BTreeMap::new(),
            large: 0,
        }
    }

    /// Starts streams from what a [survey](super::survey::Survey) found of them.
    pub(super) fn with_stubs(self, stubs: BTreeMap<u64, Vec<u8>>) -> Self {
        Self { stubs, ..self }
    }

    /// Passes on the rest, and selects database 0 again.
    pub(super) fn finish(mut self) -> Result<(Counts, Option<Roll>), Unwanted> {
        self.out.select(0);
        self.out.pass_on()?;
        Ok((self.counts, self.roll))
    }

    /// Prepares for a key; `false` if the key is not to be written.
    fn begin_key(&mut self, header: Header<'_>) -> bool {
        if header.expires_at_ms.is_some_and(|at| at <= self.now_ms) {
            self.counts.expired += 1;
            return false;
        }
        self.counts.keys += 1;
        self.counts.expiring += u64::from(header.expires_at_ms.is_some());
        if let Some(roll) = &mut self.roll {
            roll.add(header.db, header.key);
        }
        self.out.select(header.db);
        true
    }
}

impl rdb::Visit for Encoder {
    type Error = Unwanted;

    fn begin(&mut self, version: Version) -> Result<(), Unwanted> {
        self.version = Some(version);
        Ok(())
    }

    fn aux(&mut self, _: &[u8], _: &[u8]) -> Result<(), Unwanted> {
        Ok(())
    }

    /// Functions are written all at once, after the keys.
    fn function(&mut self, _: &[u8]) -> Result<(), Unwanted> {
        Ok(())
    }

    fn value(&mut self, value: Value<'_>) -> Result<(), Unwanted> {
        let Value { header, stored } = value;
        if mark::is_mark(header.db, header.key, stored) {
            return Ok(());
        }
        let Some(version) = self.version.filter(|_| self.begin_key(header)) else {
            return Ok(());
        };
        self.counts.expiring +=
            u64::from(header.expires_at_ms.is_none() && stored.has_expiring_fields());
        restore(value, version, self.out.batch());
        self.out.pass_on_if_full()
    }

    fn begin_large(&mut self, kind: ValueKind, header: Header<'_>) -> Result<(), Unwanted> {
        if self.begin_key(header) {
            let stub = self.stubs.remove(&self.large);
            let building =
                Building::begin(kind, header, stub.as_deref(), self.now_ms, &mut self.out)?;
            self.building = Some(building);
        }
        Ok(())
    }

    fn element(&mut self, element: Element<'_>) -> Result<(), Unwanted> {
        match &mut self.building {
            Some(building) => building.element(element, &mut self.out),
            None => Ok(()),
        }
    }

    fn end_large(&mut self) -> Result<(), Unwanted> {
        self.large += 1;
        match self.building.take() {
            Some(building) => {
                self.counts.expiring += u64::from(building.may_go_with_its_fields());
                building.end(&mut self.out)
            }
            None => Ok(()),
        }
    }
}

/// `RESTORE key at payload REPLACE ABSTTL [IDLETIME seconds | FREQ n]`.
fn restore(value: Value<'_>, version: Version, batch: &mut Batch) {
    let Value { header, stored } = value;
    let use_of_key: Option<(&[u8], u64)> = match (header.frequency, header.idle_seconds) {
        (Some(frequency), _) => Some((b"FREQ", u64::from(frequency))),
        (None, Some(idle)) => Some((b"IDLETIME", idle)),
        (None, None) => None,
    };
    let mut digits = Vec::with_capacity(20);
    decimal(header.expires_at_ms.unwrap_or(0), &mut digits);
    batch.begin(if use_of_key.is_some() { 8 } else { 6 });
    batch.word(b"RESTORE");
    batch.word(header.key);
    batch.word(&digits);
    let length = stored.metadata.len() + stored.raw.len() + AROUND_RAW_BYTES;
    batch.word_of(length, |out| restore_payload(stored, version, out));
    batch.word(b"REPLACE");
    batch.word(b"ABSTTL");
    if let Some((name, number)) = use_of_key {
        digits.clear();
        decimal(number, &mut digits);
        batch.word(name);
        batch.word(&digits);
    }
    batch.keys += 1;
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::format::rdb::{Limits, split};

    /// Has three keys that expire, and two hashes with expiring fields.
    const VALKEY_9: &[u8] = include_bytes!("../../../format/rdb/golden/valkey-9.1.rdb");

    #[rstest]
    #[case::whole(usize::MAX)]
    #[case::in_pieces(1)]
    #[tokio::test]
    async fn a_hash_that_may_go_with_its_fields_is_not_missed(
        #[case] whole_value_bytes: usize,
    ) -> anyhow::Result<()> {
        let (to, mut batches) = mpsc::channel(1);
        let encoding = tokio::task::spawn_blocking(move || {
            let mut encoder = Encoder::new(to, 1, None);
            let limits = Limits {
                whole_value_bytes,
                ..Limits::default()
            };
            split(VALKEY_9, &mut encoder, limits)?;
            encoder.finish().map_err(rdb::SplitError::Visitor)
        });
        while batches.recv().await.is_some() {}
        let (counts, _) = encoding
            .await?
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        assert_eq!((counts.keys, counts.expiring), (41, 5));
        Ok(())
    }
}

//! Moves documents from the archive into collections: read once, in bounded memory, with several batches in flight.

use std::{sync::Arc, time::Duration};

use bson::{RawBsonRef, RawDocument, Timestamp};
use mongodb::Client;
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    batch::{Batch, Destination, EmptyTimestamps, Order},
    insert::{Inserted, insert},
    source::Source,
};
use crate::{
    archive,
    engine::mongodb::session::Session,
    error::{JobError, RestoreFault},
    format::mongodump::{FormatError, Prelude, Reader, Visit},
    worker::Worker,
};

/// How many bytes may be in flight to the server. The driver copies what it sends, so they take about three times as
/// much memory.
const BYTES_UNDER_WAY: usize = 8 * 1024 * 1024;
/// How many commands may be in flight.
const BATCHES_UNDER_WAY: usize = 4;
/// How many bytes may wait in unfinished batches: an archive may alternate between any number of collections.
const BYTES_OPEN: usize = 8 * 1024 * 1024;
/// How long a failed restore waits for the batches in flight.
const SETTLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Where the documents of each namespace go, by its index in the prelude; those of a `None` are skipped.
pub(super) type Destinations = Arc<[Option<Destination>]>;

/// Reads the archive and inserts the documents that have a destination.
///
/// Returns once the server has confirmed every document and their number matches the archive's.
pub(super) async fn fill(
    session: &Session,
    source: &Source<'_>,
    destinations: Destinations,
    worker: &Worker,
) -> Result<Filled, JobError> {
    let manifest = source.manifest;
    let mut reading = archive::open(
        &worker.storage,
        &*worker.keyring,
        &manifest.archive,
        &manifest.dump,
    )
    .await?;
    // Never holds more than one chunk of the archive yields, and the open batches.
    let (full, mut batches) = mpsc::unbounded_channel();
    let mut reader = Reader::new(Sorter {
        open: destinations.iter().map(|_| None).collect(),
        bytes_open: 0,
        timestamps_replaced: 0,
        destinations: Arc::clone(&destinations),
        full,
    });
    let mut inserts = Inserts::new(session, &destinations);
    let read = async {
        let mut pass = worker.progress.pass();
        while let Some(chunk) = reading.next().await {
            pass.add(chunk.len() as u64);
            reader.feed(&chunk).map_err(|why| source.damaged(why))?;
            while let Ok(batch) = batches.try_recv() {
                inserts.begin(batch).await?;
            }
        }
        reading.finish().await?;
        reader.finish().map_err(|why| source.damaged(why))
    };
    let sorter = match read.await {
        Ok((_, sorter)) => sorter,
        Err(error) => {
            inserts.settle().await;
            return Err(error);
        }
    };
    let (inserted, doubles) = inserts.finish().await?;
    compare(source, &destinations, &inserted)?;
    Ok(Filled {
        timestamps_replaced: sorter.timestamps_replaced,
        doubles,
    })
}

/// What to report about the inserted documents.
pub(super) struct Filled {
    /// In how many documents the server put the current time in place of an empty timestamp.
    pub(super) timestamps_replaced: u64,
    /// How many documents already existed, by index in the prelude.
    pub(super) doubles: Vec<u64>,
}

/// Fails unless the server confirmed as many documents as were read.
fn compare(
    source: &Source<'_>,
    destinations: &Destinations,
    inserted: &[u64],
) -> Result<(), JobError> {
    let told = source.summary.namespaces.iter();
    for ((destination, told), &found) in destinations.iter().zip(told).zip(inserted) {
        if let Some(destination) = destination
            && told.documents != found
        {
            return Err(RestoreFault::CountDiffers {
                namespace: destination.namespace(),
                expected: told.documents,
                found,
            }
            .into());
        }
    }
    Ok(())
}

/// Sorts documents into batches as the archive is read.
struct Sorter {
    destinations: Destinations,
    /// By index in the prelude.
    open: Vec<Option<Batch>>,
    bytes_open: usize,
    timestamps_replaced: u64,
    full: mpsc::UnboundedSender<Batch>,
}

impl Sorter {
    fn hand_over(&mut self, place: usize) {
        if let Some(batch) = self.open.get_mut(place).and_then(Option::take) {
            self.bytes_open = self.bytes_open.saturating_sub(batch.bytes());
            // The caller that feeds the reader holds the other end.
            let _taken = self.full.send(batch);
        }
    }
}

impl Visit for Sorter {
    fn prelude(&mut self, prelude: &Prelude) -> Result<(), FormatError> {
        if prelude.namespaces.len() == self.destinations.len() {
            return Ok(());
        }
        Err(refused("it is not the one that was verified"))
    }

    fn document(&mut self, place: usize, raw: &[u8]) -> Result<(), FormatError> {
        let destinations = Arc::clone(&self.destinations);
        let Some(Some(destination)) = destinations.get(place) else {
            return Ok(());
        };
        if matches!(self.open.get(place), Some(Some(batch)) if batch.is_full_for(raw)) {
            self.hand_over(place);
        }
        if let Some(slot) = self.open.get_mut(place) {
            let mut batch = match slot.take() {
                Some(batch) => batch,
                None => {
                    Batch::new(place, destination).map_err(|error| refused(&error.to_string()))?
                }
            };
            let before = batch.bytes();
            batch.push(raw);
            self.bytes_open += batch.bytes() - before;
            *slot = Some(batch);
        }
        if destination.empty_timestamps == EmptyTimestamps::Replaced && has_empty_timestamp(raw) {
            self.timestamps_replaced += 1;
        }
        if self.bytes_open > BYTES_OPEN {
            (0..self.open.len()).for_each(|place| self.hand_over(place));
        }
        Ok(())
    }

    fn end(&mut self, place: usize) -> Result<(), FormatError> {
        self.hand_over(place);
        Ok(())
    }
}

/// Returns whether a server would put the current time into a document. It does so only in top-level fields other than
/// `_id`.
fn has_empty_timestamp(raw: &[u8]) -> bool {
    let empty = RawBsonRef::Timestamp(Timestamp {
        time: 0,
        increment: 0,
    });
    let Ok(document) = RawDocument::from_bytes(raw) else {
        return false;
    };
    let mut fields = document.iter().map_while(Result::ok);
    fields.any(|(name, value)| name.as_str() != "_id" && value == empty)
}

fn refused(why: &str) -> FormatError {
    FormatError::Refused {
        why: why.to_owned(),
    }
}

/// The batches in flight to the server. Dropping this value stops them all.
struct Inserts {
    client: Client,
    destinations: Destinations,
    under_way: JoinSet<Result<Inserted, JobError>>,
    bytes_under_way: usize,
    /// By index in the prelude.
    inserted: Vec<u64>,
    doubles: Vec<u64>,
}

impl Inserts {
    fn new(session: &Session, destinations: &Destinations) -> Self {
        Self {
            client: session.client.clone(),
            destinations: Arc::clone(destinations),
            under_way: JoinSet::new(),
            bytes_under_way: 0,
            inserted: vec![0; destinations.len()],
            doubles: vec![0; destinations.len()],
        }
    }

    /// Sends a batch once there is room for it. Fails as soon as any batch has failed.
    async fn begin(&mut self, batch: Batch) -> Result<(), JobError> {
        let Some(Some(destination)) = self.destinations.get(batch.place).cloned() else {
            return Ok(());
        };
        let is_alone = destination.order == Order::Kept;
        while !self.under_way.is_empty() && (is_alone || !self.has_room_for(&batch)) {
            self.wait().await?;
        }
        self.bytes_under_way += batch.bytes();
        self.under_way
            .spawn(insert(self.client.clone(), destination, batch));
        if is_alone {
            self.wait().await?;
        }
        Ok(())
    }

    fn has_room_for(&self, batch: &Batch) -> bool {
        self.under_way.len() < BATCHES_UNDER_WAY
            && self.bytes_under_way + batch.bytes() <= BYTES_UNDER_WAY
    }

    async fn wait(&mut self) -> Result<(), JobError> {
        let Some(done) = self.under_way.join_next().await else {
            return Ok(());
        };
        let done = done.map_err(|_| JobError::Stopped {
            what: "inserting the documents",
        })??;
        self.bytes_under_way = self.bytes_under_way.saturating_sub(done.bytes);
        if let Some(inserted) = self.inserted.get_mut(done.place) {
            *inserted += done.documents;
        }
        if let Some(doubles) = self.doubles.get_mut(done.place) {
            *doubles += done.doubles;
        }
        Ok(())
    }

    /// Returns how many documents were confirmed and how many of those already existed, each by index in the prelude.
    async fn finish(mut self) -> Result<(Vec<u64>, Vec<u64>), JobError> {
        while !self.under_way.is_empty() {
            if let Err(error) = self.wait().await {
                self.settle().await;
                return Err(error);
            }
        }
        Ok((self.inserted, self.doubles))
    }

    /// Waits after a failure, up to a limit, for the batches in flight: one that arrived after the clean-up would
    /// create a dropped collection again.
    async fn settle(mut self) {
        let all = async { while self.under_way.join_next().await.is_some() {} };
        let _settled_or_not = tokio::time::timeout(SETTLE_TIMEOUT, all).await;
    }
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};
    use rstest::rstest;

    use super::*;

    const EMPTY: Timestamp = Timestamp {
        time: 0,
        increment: 0,
    };

    #[rstest]
    #[case::at_the_top(doc! {"_id": 1, "at": EMPTY}, true)]
    #[case::on_id(doc! {"_id": EMPTY}, false)]
    #[case::below(doc! {"_id": 1, "a": {"at": EMPTY}}, false)]
    #[case::another(doc! {"_id": 1, "at": Timestamp { time: 0, increment: 1 }}, false)]
    fn the_timestamps_are_found_that_a_server_would_replace(
        #[case] document: Document,
        #[case] found: bool,
    ) -> anyhow::Result<()> {
        let raw = bson::serialize_to_vec(&document)?;
        assert_eq!(has_empty_timestamp(&raw), found);
        Ok(())
    }
}

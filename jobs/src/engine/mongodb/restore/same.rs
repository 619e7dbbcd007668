//! Checks whether collections have the archive's own documents: an equal number of other documents must not pass for
//! them.

use bson::{RawDocumentBuf, doc};

use super::{
    plan::{Item, Plan, Shape},
    source::Source,
};
use crate::{
    archive,
    engine::mongodb::session::{Session, answer},
    error::JobError,
    format::{
        FormatError, Inspect,
        mongodump::{self, Prelude, Reader, Visit},
    },
    worker::Worker,
};

const DOING: &str = "compare documents";

/// Documents by their number and the sum of their hashes, in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    documents: u64,
    hashes: u128,
}

impl Sum {
    fn add(&mut self, document: &[u8]) {
        let hash = blake3::hash(document);
        let hash = hash.as_bytes().first_chunk();
        let hash = hash.map_or(0, |it| u128::from_le_bytes(*it));
        self.hashes = self.hashes.wrapping_add(hash);
        self.documents += 1;
    }
}

/// Returns whether each collection of the plan has exactly the archive's documents.
///
/// Returns false if that cannot be known: a time series shows other documents than its buckets, and an oplog changes
/// documents.
pub(super) async fn has_the_same(
    session: &Session,
    source: &Source<'_>,
    plan: &Plan,
    worker: &Worker,
) -> Result<bool, JobError> {
    if plan.oplog.is_some() || plan.items.iter().any(|it| it.shape == Shape::TimeSeries) {
        return Ok(false);
    }
    let inspector = Sums(Reader::new(Summing::default()));
    let archived = archive::verify(
        &worker.storage,
        &*worker.keyring,
        &source.manifest.archive,
        inspector,
    )
    .await?;
    for item in plan.items.iter().filter(|it| it.shape != Shape::View) {
        let archived = item.place.and_then(|place| archived.get(place));
        let archived = archived.copied().unwrap_or_default();
        if sum_of(session, item).await? != archived {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn sum_of(session: &Session, item: &Item) -> Result<Sum, JobError> {
    let database = session.client.database(&item.database);
    let collection = database.collection::<RawDocumentBuf>(&item.collection);
    let mut found = answer(DOING, collection.find(doc! {})).await?;
    let mut sum = Sum::default();
    while answer(DOING, found.advance()).await? {
        sum.add(found.current().as_bytes());
    }
    Ok(sum)
}

/// Sums up an archive's documents by their index in the prelude.
struct Sums(Reader<Summing>);

impl Inspect for Sums {
    type Contents = Vec<Sum>;

    fn inspect(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        Ok(self.0.feed(bytes)?)
    }

    fn finish(self) -> Result<Vec<Sum>, FormatError> {
        let (_, Summing(sums)) = self.0.finish()?;
        Ok(sums)
    }
}

#[derive(Default)]
struct Summing(Vec<Sum>);

impl Visit for Summing {
    fn prelude(&mut self, prelude: &Prelude) -> Result<(), mongodump::FormatError> {
        self.0 = vec![Sum::default(); prelude.namespaces.len()];
        Ok(())
    }

    fn document(&mut self, place: usize, raw: &[u8]) -> Result<(), mongodump::FormatError> {
        if let Some(sum) = self.0.get_mut(place) {
            sum.add(raw);
        }
        Ok(())
    }

    fn end(&mut self, _: usize) -> Result<(), mongodump::FormatError> {
        Ok(())
    }
}

//! Streams the documents of one namespace from the server into the archive, unchanged.

use std::time::Duration;

use bson::{RawDocumentBuf, Timestamp, raw::RawBsonRef, rawdoc};
use bytes::Bytes;
use futures::StreamExt as _;
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};

use super::super::{
    meaning::{code_of, fault, meaning},
    session::{Session, answer_within, odd_answer},
};
use super::{
    catalog::{self, Entry, Source, What},
    instant::is_refusal,
};
use crate::{
    engine::native::{Spout, Stopped},
    error::{DumpFault, JobError, MongodbError},
    format::mongodump::{self, Body, Header},
};

/// How long the next documents may take to arrive.
pub(super) const BATCH_TIMEOUT: Duration = Duration::from_mins(5);
/// The size of the smallest batches. They fit in the processor's cache.
const BATCH_BYTES_MIN: usize = 512 * 1024;
/// The size of the largest batches. The driver briefly holds each batch three times, while the next is already on its
/// way.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a fast network and a fast server send in a microsecond.
const BYTES_PER_MICROSECOND: u128 = 500;
/// How many documents are sampled to estimate the size of the others.
const SAMPLE: i32 = 100;
/// More documents than any batch has: the server ends each batch at 16 MiB, whatever was asked for.
const BATCH_DOCUMENTS: u32 = 1_000_000;
/// How much is written at a time.
pub(super) const BLOCK_BYTES: usize = 256 * 1024;
/// `Unauthorized`: a privilege is missing.
const DENIED: i32 = 13;
/// `SnapshotTooOld`: the server no longer keeps a snapshot of that time.
const SNAPSHOT_TOO_OLD: i32 = 239;
/// The error codes for a collection that is gone, or a cursor that the server has ended.
const CUT_SHORT: [i32; 6] = [26, 43, 175, 237, 11601, 28_617];
const DOING: &str = "read a collection";

/// How often a collection is read again because it was renamed or the server ended the read.
const READS_MAX: usize = 10;

/// How namespaces are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    /// From the snapshot of this time.
    Snapshot(Timestamp, Lacking),
    /// In their current state, at this time or later; the oplog is captured from this time on.
    Follow(Timestamp),
    /// In their current state.
    Loose,
}

/// What happens to a collection that the snapshot lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lacking {
    /// It fails the dump, unless it is capped: no snapshot has capped collections.
    Fails,
    /// It is read after the snapshot, and named in the manifest.
    ReadLater,
}

/// How a namespace was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The time that it was read at, as the server reported it.
    pub(super) at: Option<Timestamp>,
    /// Whether the server refused to read it from the snapshot.
    pub(super) is_outside: bool,
    /// Whether its end is missing.
    pub(super) is_cut: bool,
    pub(super) documents: u64,
}

/// Writes all documents of a namespace and its end marker. The next batch is fetched while the last is written.
pub(super) async fn namespace(
    session: &Session,
    header: &Header,
    entry: &Entry,
    how: How,
    spout: &Spout,
) -> Result<Read, Stopped> {
    let mut body = Body::new(header, &entry.namespace);
    let mut read = Read::default();
    if let Some(source) = &entry.source {
        match how {
            How::Follow(since) if entry.is_data() => {
                follow(session, entry, source, since, (&mut body, spout), &mut read).await?;
            }
            How::Snapshot(..) | How::Follow(_) | How::Loose => {
                once(session, entry, source, how, (&mut body, spout), &mut read).await?;
            }
        }
    }
    let mut end = Vec::new();
    body.end(&mut end);
    spout.write(end.into()).await?;
    Ok(read)
}

/// Where documents go.
type Out<'a> = (&'a mut Body, &'a Spout);

/// Reads a namespace from start to end.
async fn once(
    session: &Session,
    entry: &Entry,
    source: &Source,
    how: How,
    out: Out<'_>,
    read: &mut Read,
) -> Result<(), Stopped> {
    let mut cursor = open(session, entry, source, how, read).await?;
    let copied = copy(&mut cursor, entry, out, read).await;
    match copied {
        Err(Stopped::Failed(error)) if may_be_cut(how) && is_cut_short(&error) => {
            read.is_cut = true;
            Ok(())
        }
        copied => copied,
    }
}

/// Returns whether a collection whose end is missing is named in the manifest instead of failing the dump.
fn may_be_cut(how: How) -> bool {
    match how {
        How::Loose | How::Snapshot(_, Lacking::ReadLater) => true,
        How::Snapshot(_, Lacking::Fails) | How::Follow(_) => false,
    }
}

/// Reads a collection, under whatever name it has now, from start to end, or until it is dropped; the oplog has the
/// drop too.
///
/// A collection that is renamed half way is read again. Reading documents twice is harmless: a restore takes the first
/// of two documents with the same `_id`, and the oplog brings either to its final state.
async fn follow(
    session: &Session,
    entry: &Entry,
    source: &Source,
    since: Timestamp,
    (body, spout): Out<'_>,
    read: &mut Read,
) -> Result<(), Stopped> {
    let mut source = source.clone();
    for _ in 0..READS_MAX {
        let Some(name) = catalog::name_now(session, entry).await? else {
            return Ok(());
        };
        name.clone_into(&mut source.collection);
        let how = How::Follow(since);
        let mut cursor = open(session, entry, &source, how, read).await?;
        let first = match next(&mut cursor, entry).await {
            Err(error) if is_cut_short(&error) => continue,
            first => first?,
        };
        // Otherwise the name may already have belonged to another collection when the read began.
        if catalog::name_now(session, entry).await? != Some(name) {
            continue;
        }
        match copy_from(first, &mut cursor, entry, (&mut *body, spout), read).await {
            Err(Stopped::Failed(error)) if is_cut_short(&error) => {}
            copied => return copied,
        }
    }
    let namespace = entry.name();
    Err(MongodbError::Dump(DumpFault::Renamed { namespace }).into())
}

fn is_cut_short(error: &JobError) -> bool {
    matches!(
        error,
        JobError::Mongodb(MongodbError::Dump(DumpFault::CutShort { .. }))
    )
}

async fn copy(
    cursor: &mut RawBatchCursor,
    entry: &Entry,
    out: Out<'_>,
    read: &mut Read,
) -> Result<(), Stopped> {
    let first = next(cursor, entry).await?;
    read.at = first.as_ref().and_then(time_of);
    copy_from(first, cursor, entry, out, read).await
}

async fn copy_from(
    mut batch: Option<RawBatch>,
    cursor: &mut RawBatchCursor,
    entry: &Entry,
    (body, spout): Out<'_>,
    read: &mut Read,
) -> Result<(), Stopped> {
    while let Some(full) = batch {
        let write = write(&full, body, spout);
        let next = async { Ok::<_, Stopped>(next(cursor, entry).await) };
        let (documents, following) = tokio::try_join!(write, next)?;
        read.documents += documents;
        batch = following?;
    }
    Ok(())
}

/// Opens a cursor. A capped collection that the server does not read from the snapshot is read in its state after it.
async fn open(
    session: &Session,
    entry: &Entry,
    source: &Source,
    how: How,
    read: &mut Read,
) -> Result<RawBatchCursor, JobError> {
    let documents = batch_documents(session, source).await;
    let at = match how {
        How::Snapshot(at, _) => Some(ReadAt::Snapshot(at)),
        How::Follow(since) => Some(ReadAt::After(since)),
        How::Loose => None,
    };
    let first = find(session, source, at, documents).await?;
    let refused = match first {
        Ok(cursor) => return Ok(cursor),
        Err(error) => error,
    };
    match how {
        How::Snapshot(at, lacking)
            if (entry.is_capped || lacking == Lacking::ReadLater)
                && is_refusal(code_of(&refused)) =>
        {
            read.is_outside = true;
            let again = find(session, source, Some(ReadAt::After(at)), documents).await?;
            again.map_err(|error| explain(entry, &error))
        }
        How::Snapshot(..) | How::Follow(_) | How::Loose => Err(explain(entry, &refused)),
    }
}

/// What a read has to show.
#[derive(Debug, Clone, Copy)]
enum ReadAt {
    /// The state at this time.
    Snapshot(Timestamp),
    /// The state at this time or later.
    After(Timestamp),
}

/// Returns how many documents make a batch, from the size of the first few.
///
/// A source that cannot be sampled is read in the server's own batches. `collStats` knows the average, but some servers
/// read every document to compute it.
async fn batch_documents(session: &Session, source: &Source) -> u32 {
    if source.what != What::Documents {
        return BATCH_DOCUMENTS;
    }
    let collection = source.collection.as_str();
    let sample = rawdoc! {
        "find": collection, "limit": SAMPLE, "singleBatch": true, "hint": {"$natural": 1},
    };
    let on = session.client.database(&source.database);
    let asked = on
        .run_raw_cursor_command(sample)
        .selection_criteria(session.read.clone())
        .batch();
    let looking = async { asked.await?.next().await.transpose() };
    let Ok(Some(batch)) = answer_within(BATCH_TIMEOUT, DOING, looking).await else {
        return BATCH_DOCUMENTS;
    };
    let documents = batch.doc_slices().map_or(0, |it| it.into_iter().count());
    let sampled = batch.as_raw_document().as_bytes().len();
    documents_of(batch_bytes(session.server.round_trip), sampled, documents)
}

/// Returns the size to aim for in a batch: as much as arrives in the time that it takes to ask for the next one, twice
/// over, so that a distant server is not asked too often. The time is that of the nearest member that may be read, which
/// need not be the one that is.
fn batch_bytes(round_trip: Duration) -> usize {
    let bytes = (2 * BYTES_PER_MICROSECOND).saturating_mul(round_trip.as_micros());
    usize::try_from(bytes).map_or(BATCH_BYTES_MAX, |bytes| {
        bytes.clamp(BATCH_BYTES_MIN, BATCH_BYTES_MAX)
    })
}

/// Returns how many documents make a batch of `batch` bytes, if `documents` of them have `bytes`.
fn documents_of(batch: usize, bytes: usize, documents: usize) -> u32 {
    let Some(average) = bytes.checked_div(documents) else {
        return BATCH_DOCUMENTS;
    };
    u32::try_from(batch / average.max(1))
        .map_or(BATCH_DOCUMENTS, |many| many.clamp(1, BATCH_DOCUMENTS))
}

async fn find(
    session: &Session,
    source: &Source,
    at: Option<ReadAt>,
    documents: u32,
) -> Result<mongodb::error::Result<RawBatchCursor>, JobError> {
    let command = command(source, at, documents)
        .map_err(|_| odd_answer(DOING, "a name with a NUL byte in it"))?;
    let on = session.client.database(&source.database);
    let asked = on
        .run_raw_cursor_command(command)
        .selection_criteria(session.read.clone())
        .batch_size(documents)
        .batch();
    answer_within(BATCH_TIMEOUT, DOING, async { Ok(asked.await) }).await
}

fn command(
    source: &Source,
    at: Option<ReadAt>,
    documents: u32,
) -> bson::error::Result<RawDocumentBuf> {
    let mut find =
        rawdoc! {"find": source.collection.as_str(), "batchSize": documents.cast_signed()};
    if source.filter.is_empty() {
        // A full scan on purpose: some servers refuse one that is not explicit.
        find.append(bson::cstr!("hint"), rawdoc! {"$natural": 1});
    } else {
        let filter = RawDocumentBuf::try_from(&source.filter)?;
        find.append(bson::cstr!("filter"), filter);
    }
    if source.what == What::Buckets {
        find.append(bson::cstr!("rawData"), true);
    }
    let concern = match at {
        None => return Ok(find),
        Some(ReadAt::Snapshot(at)) => rawdoc! {"level": "snapshot", "atClusterTime": at},
        Some(ReadAt::After(at)) => rawdoc! {"level": "majority", "afterClusterTime": at},
    };
    find.append(bson::cstr!("readConcern"), concern);
    Ok(find)
}

/// Returns the next batch; `None` after the last.
async fn next(cursor: &mut RawBatchCursor, entry: &Entry) -> Result<Option<RawBatch>, JobError> {
    let Ok(batch) = tokio::time::timeout(BATCH_TIMEOUT, cursor.next()).await else {
        return Err(JobError::NoAnswer {
            doing: DOING,
            seconds: BATCH_TIMEOUT.as_secs(),
        });
    };
    batch.transpose().map_err(|error| explain(entry, &error))
}

/// Returns the time that a first batch was read at.
fn time_of(batch: &RawBatch) -> Option<Timestamp> {
    let cursor = batch.as_raw_document().get_document("cursor").ok()?;
    cursor.get_timestamp("atClusterTime").ok()
}

/// Writes a batch in blocks. Returns how many documents it had.
async fn write(batch: &RawBatch, body: &mut Body, spout: &Spout) -> Result<u64, Stopped> {
    let odd = || odd_answer(DOING, "no documents where they belong");
    let documents = batch.doc_slices().map_err(|_| odd())?;
    let (mut pieces, mut bytes, mut count) = (Vec::new(), 0, 0);
    for document in documents {
        let Ok(RawBsonRef::Document(document)) = document else {
            return Err(odd().into());
        };
        pieces.push(document.as_bytes());
        bytes += document.as_bytes().len();
        count += 1;
        if bytes >= BLOCK_BYTES {
            spout.write(block(body, &pieces, bytes)?).await?;
            pieces.clear();
            bytes = 0;
        }
    }
    if !pieces.is_empty() {
        spout.write(block(body, &pieces, bytes)?).await?;
    }
    Ok(count)
}

fn block(body: &mut Body, pieces: &[&[u8]], bytes: usize) -> Result<Bytes, JobError> {
    // 1024 bytes more, for the block's header and end marker.
    let mut out = Vec::with_capacity(bytes + 1024);
    body.block(pieces.iter().copied(), &mut out)
        .map_err(unwritable)?;
    Ok(out.into())
}

/// Returns the error for server data that the archive format cannot hold.
pub(super) fn unwritable(error: mongodump::FormatError) -> JobError {
    JobError::DumpNotWhole(error.into())
}

/// Returns what an error means that arrived instead of documents.
fn explain(entry: &Entry, error: &mongodb::error::Error) -> JobError {
    let Some(code) = code_of(error) else {
        return meaning(DOING, error);
    };
    let namespace = entry.name();
    let source = fault(error);
    let means = match code {
        DENIED if !entry.is_data() => DumpFault::AccountsDenied(source),
        SNAPSHOT_TOO_OLD => DumpFault::SnapshotTooOld { namespace, source },
        code if CUT_SHORT.contains(&code) => DumpFault::CutShort { namespace, source },
        code if is_refusal(Some(code)) => DumpFault::SnapshotUnavailable { namespace, source },
        _ => return meaning(DOING, error),
    };
    MongodbError::Dump(means).into()
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};
    use rstest::rstest;

    use super::*;

    const T: Timestamp = Timestamp {
        time: 7,
        increment: 1,
    };

    #[rstest]
    #[case::plain(Document::new(), What::Documents, None,
        doc! {"find": "c", "batchSize": 1_000_000, "hint": {"$natural": 1}})]
    #[case::snapshot(Document::new(), What::Documents, Some(ReadAt::Snapshot(T)),
        doc! {"find": "c", "batchSize": 1_000_000, "hint": {"$natural": 1},
            "readConcern": {"level": "snapshot", "atClusterTime": T}})]
    #[case::capped(Document::new(), What::Documents, Some(ReadAt::After(T)),
        doc! {"find": "c", "batchSize": 1_000_000, "hint": {"$natural": 1},
            "readConcern": {"level": "majority", "afterClusterTime": T}})]
    #[case::buckets(Document::new(), What::Buckets, None,
        doc! {"find": "c", "batchSize": 1_000_000, "hint": {"$natural": 1}, "rawData": true})]
    #[case::accounts(doc! {"db": "shop"}, What::Accounts, None,
        doc! {"find": "c", "batchSize": 1_000_000, "filter": {"db": "shop"}})]
    fn a_read_asks_for_what_it_has_to_show(
        #[case] filter: Document,
        #[case] what: What,
        #[case] at: Option<ReadAt>,
        #[case] asked: Document,
    ) -> anyhow::Result<()> {
        let source = Source {
            database: "d".to_owned(),
            collection: "c".to_owned(),
            filter,
            what,
        };
        assert_eq!(
            command(&source, at, 1_000_000)?,
            RawDocumentBuf::try_from(&asked)?
        );
        Ok(())
    }

    #[rstest]
    #[case::none(100, 0, 1_000_000)]
    #[case::tiny(100, 100, 1_000_000)]
    #[case::of_a_kilobyte(102_400, 100, 8192)]
    #[case::larger_than_a_batch(16_000_000, 1, 1)]
    fn a_batch_holds_as_many_documents_as_make_its_size(
        #[case] bytes: usize,
        #[case] documents: usize,
        #[case] batch: u32,
    ) {
        assert_eq!(documents_of(8 * 1024 * 1024, bytes, documents), batch);
    }

    #[rstest]
    #[case::on_this_machine(Duration::from_micros(200), BATCH_BYTES_MIN)]
    #[case::in_another_room(Duration::from_millis(2), 2_000_000)]
    #[case::on_another_continent(Duration::from_millis(150), BATCH_BYTES_MAX)]
    #[case::no_answer_takes_so_long(Duration::MAX, BATCH_BYTES_MAX)]
    fn distant_servers_get_larger_batches(#[case] round_trip: Duration, #[case] bytes: usize) {
        assert_eq!(batch_bytes(round_trip), bytes);
    }
}

//! Captures the oplog into an archive while the collections are read: every entry from before the first read to after
//! the last.

use std::time::Duration;

use bson::{RawDocument, RawDocumentBuf, Timestamp, raw::RawBsonRef, rawdoc};
use futures::StreamExt as _;
use mongodb::{options::ReadPreference, raw_batch_cursor::RawBatchCursor};
use tokio::sync::oneshot;

use super::super::{
    meaning::{code_of, fault, meaning},
    oplog,
    session::{Session, answer_within, odd_answer},
};
use super::{
    catalog::Wanted,
    instant::primary_time,
    read::{BATCH_TIMEOUT, BLOCK_BYTES, unwritable},
};
use crate::{
    engine::native::{Spout, Stopped},
    error::{DumpFault, JobError, MongodbError},
    format::mongodump::{Body, Kind, Namespace},
};

const DOING: &str = "read the oplog";
/// How long to wait for new entries once all existing ones have been read.
const PAUSE: Duration = Duration::from_millis(500);
/// `Unauthorized`: a privilege is missing.
const DENIED: i32 = 13;
/// `CappedPositionLost`: the entry that a read was to start with has been overwritten.
const CAPPED_POSITION_LOST: i32 = 136;
/// No transaction has more parts.
const PARTS_MAX: usize = 100_000;

/// Returns the namespace under which an archive holds the oplog's entries.
pub(super) fn namespace() -> Namespace {
    Namespace {
        database: String::new(),
        collection: oplog::COLLECTION.to_owned(),
        metadata: String::new(),
        exact: None,
        size: 0,
        kind: Kind::Collection,
    }
}

/// Returns the time of the newest entry that no election can roll back.
///
/// Fails if there is no oplog that we may read.
pub(super) async fn begin(session: &Session) -> Result<Timestamp, JobError> {
    let find = rawdoc! {
        "find": "oplog.rs", "sort": {"$natural": -1}, "limit": 1, "singleBatch": true, "readConcern": {"level": "majority"},
    };
    let none = |why: String| MongodbError::Dump(DumpFault::NoOplog { why });
    let mut cursor = match find_in_oplog(session, find).await? {
        Ok(cursor) => cursor,
        Err(error) if code_of(&error) == Some(DENIED) => {
            let why = "the role may not read it: grant it find on the collection oplog.rs of the database local";
            return Err(none(why.to_owned()).into());
        }
        Err(error) if code_of(&error).is_some() => {
            return Err(none(fault(&error).to_string()).into());
        }
        Err(error) => return Err(meaning(DOING, &error)),
    };
    let first = next(&mut cursor).await?;
    let newest = first.iter().find_map(|it| it.get_timestamp("ts").ok());
    newest.ok_or_else(|| none("it has no entries".to_owned()).into())
}

/// Returns the time of an entry after everything that was read so far.
pub(super) async fn end(session: &Session, since: Timestamp) -> Result<Timestamp, JobError> {
    // A majority may get it only a moment later; the capture waits for that when it reads up to this time.
    let now = primary_time(session).await?;
    Ok(now.map_or(since, |now| now.max(since)))
}

/// Writes every wanted entry into the archive, from `since` to the time that arrives on `until`. Returns their count.
pub(super) async fn follow(
    session: &Session,
    wanted: Wanted<'_>,
    since: Timestamp,
    mut until: oneshot::Receiver<Timestamp>,
    spout: &Spout,
) -> Result<u64, Stopped> {
    let mut follower = Follower {
        session,
        wanted: oplog::Wanted {
            database: wanted.database,
        },
        since,
        last: since,
        body: Body::new(wanted.header, &namespace()),
        waiting: Vec::new(),
        bytes: 0,
        count: 0,
        spout,
    };
    loop {
        let told = tokio::time::timeout(PAUSE, &mut until).await;
        match told {
            Err(_) => follower.read(None).await?,
            Ok(Ok(until)) => {
                follower.read(Some(until)).await?;
                break;
            }
            // The readers have failed, and report their own error.
            Ok(Err(_)) => return Err(Stopped::Closed),
        }
    }
    follower.write().await?;
    let mut end = Vec::new();
    follower.body.end(&mut end);
    spout.write(end.into()).await?;
    Ok(follower.count)
}

struct Follower<'a> {
    session: &'a Session,
    wanted: oplog::Wanted<'a>,
    since: Timestamp,
    /// The time of the last entry that was read.
    last: Timestamp,
    body: Body,
    /// Entries that are still to be written.
    waiting: Vec<RawDocumentBuf>,
    bytes: usize,
    count: u64,
    spout: &'a Spout,
}

impl Follower<'_> {
    /// Reads on from the last entry, up to the given time or to the end.
    async fn read(&mut self, until: Option<Timestamp>) -> Result<(), Stopped> {
        let mut find = rawdoc! {"find": "oplog.rs", "filter": {"ts": {"$gte": self.last}}};
        let concern = match until {
            None => rawdoc! {"level": "majority"},
            Some(until) => rawdoc! {"level": "majority", "afterClusterTime": until},
        };
        find.append(bson::cstr!("readConcern"), concern);
        let opened = find_in_oplog(self.session, find).await?;
        let mut cursor = opened.map_err(|error| explain(&error))?;
        let mut is_first = true;
        loop {
            let batch = next(&mut cursor).await?;
            if batch.is_empty() {
                break;
            }
            for entry in batch {
                let at = entry
                    .get_timestamp("ts")
                    .map_err(|_| odd_answer(DOING, "an entry without a time"))?;
                if std::mem::take(&mut is_first) {
                    // The last entry is still there, so nothing between it and the next is missing.
                    if at != self.last {
                        return Err(rolled_over().into());
                    }
                    if at != self.since || self.count > 0 {
                        continue;
                    }
                }
                if until.is_some_and(|until| at > until) {
                    return Ok(());
                }
                self.take(&entry).await?;
                self.last = at;
            }
        }
        if is_first {
            return Err(rolled_over().into());
        }
        Ok(())
    }

    async fn take(&mut self, entry: &RawDocument) -> Result<(), Stopped> {
        if let Some(before) = oplog::continues(entry).filter(|before| *before < self.since) {
            for part in self.parts(before).await? {
                self.keep(&part).await?;
            }
        }
        self.keep(entry).await
    }

    async fn keep(&mut self, entry: &RawDocument) -> Result<(), Stopped> {
        let refused = |why: oplog::Unreplayable| {
            MongodbError::Dump(DumpFault::OplogEntry {
                why: why.to_string(),
            })
        };
        let Some(kept) = oplog::keep(entry, self.wanted).map_err(refused)? else {
            return Ok(());
        };
        // A dump without the oplog is better than an oplog that no restore can replay.
        oplog::read(&kept).map_err(refused)?;
        self.bytes += kept.as_bytes().len();
        self.waiting.push(kept);
        self.count += 1;
        if self.bytes >= BLOCK_BYTES {
            self.write().await?;
        }
        Ok(())
    }

    /// Returns the parts, in order, of a transaction that began before the first captured entry.
    async fn parts(&self, last: Timestamp) -> Result<Vec<RawDocumentBuf>, JobError> {
        let mut parts = Vec::new();
        let mut at = Some(last);
        while let Some(wanted) = at {
            if parts.len() >= PARTS_MAX {
                return Err(odd_answer(DOING, "a transaction of too many parts"));
            }
            let find = rawdoc! {
                "find": "oplog.rs", "filter": {"ts": wanted}, "limit": 1, "singleBatch": true,
                "readConcern": {"level": "majority"},
            };
            let opened = find_in_oplog(self.session, find).await?;
            let mut cursor = opened.map_err(|error| explain(&error))?;
            let Some(part) = next(&mut cursor).await?.into_iter().next() else {
                return Err(rolled_over());
            };
            at = oplog::continues(&part);
            parts.push(part);
        }
        parts.reverse();
        Ok(parts)
    }

    async fn write(&mut self) -> Result<(), Stopped> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut out = Vec::with_capacity(self.bytes + 1024);
        let pieces = self.waiting.iter().map(|it| it.as_bytes());
        self.body.block(pieces, &mut out).map_err(unwritable)?;
        self.spout.write(out.into()).await?;
        self.waiting.clear();
        self.bytes = 0;
        Ok(())
    }
}

async fn find_in_oplog(
    session: &Session,
    find: RawDocumentBuf,
) -> Result<mongodb::error::Result<RawBatchCursor>, JobError> {
    let local = session.client.database("local");
    let asked = local
        .run_raw_cursor_command(find)
        .selection_criteria(ReadPreference::Primary.into())
        .batch();
    answer_within(BATCH_TIMEOUT, DOING, async { Ok(asked.await) }).await
}

/// Returns the next entries; empty after the last.
async fn next(cursor: &mut RawBatchCursor) -> Result<Vec<RawDocumentBuf>, JobError> {
    loop {
        let Ok(batch) = tokio::time::timeout(BATCH_TIMEOUT, cursor.next()).await else {
            return Err(JobError::NoAnswer {
                doing: DOING,
                seconds: BATCH_TIMEOUT.as_secs(),
            });
        };
        let Some(batch) = batch else {
            return Ok(Vec::new());
        };
        let batch = batch.map_err(|error| explain(&error))?;
        let odd = || odd_answer(DOING, "no entries where they belong");
        let mut entries = Vec::new();
        for entry in batch.doc_slices().map_err(|_| odd())? {
            let Ok(RawBsonRef::Document(entry)) = entry else {
                return Err(odd());
            };
            entries.push(entry.to_owned());
        }
        if !entries.is_empty() {
            return Ok(entries);
        }
    }
}

fn explain(error: &mongodb::error::Error) -> JobError {
    match code_of(error) {
        Some(CAPPED_POSITION_LOST) => rolled_over(),
        Some(DENIED) => MongodbError::Dump(DumpFault::NoOplog {
            why: fault(error).to_string(),
        })
        .into(),
        Some(_) | None => meaning(DOING, error),
    }
}

fn rolled_over() -> JobError {
    MongodbError::Dump(DumpFault::OplogRolledOver).into()
}

//! Dumps every collection, as of one instant where the deployment can, in the archive format of `mongodump`.

mod accounts;
mod capture;
mod catalog;
mod contents;
mod doubt;
mod instant;
mod metadata;
mod read;
mod verdict;
mod way;

use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::Utc;
use tokio::sync::oneshot;

use self::{
    catalog::{Entry, Wanted},
    contents::{Reads, Recording},
    instant::Frozen,
    read::{How, Read},
    verdict::Verdict,
    way::Way,
};
use super::{
    DRIVER,
    restore::MARK,
    session::{self, Session, Topology},
};
use crate::{
    engine::{
        address::mongodb::Address,
        answer::Dumped,
        native::{self, Spout, Stopped},
    },
    error::{JobError, MongodbError},
    format::{
        FormatError, Inspect,
        mongodump::{Header, Prelude, Reader, Summary},
    },
    manifest::{Details, Suspect, Suspicion},
    resource::ResourceOptions,
    worker::Worker,
};

/// The format's name in manifests.
pub(crate) const FORMAT: &str = "mongodump archive 0.1";
/// Less than the smallest archive: that of one empty collection has about 300 bytes.
const FLOOR_BYTES: u64 = 200;
/// What every backup of a shard is warned of.
const OF_A_SHARD: &str = "the server is one shard of a cluster: the backup shows no instant of the cluster, and may hold old \
                          copies of documents that have moved to another shard";
/// How many collections are read at once. Each holds two batches in memory.
const READ_AT_ONCE: usize = 2;

/// Dumps the database or deployment at `address` into `key`. A failure leaves no object.
///
/// If a snapshot does not last as long as the dump takes, the dump starts again in the next best [`Way`].
pub(crate) async fn dump(
    address: &Address,
    options: ResourceOptions,
    key: &str,
    worker: &Worker,
) -> Result<Dumped, JobError> {
    let session = session::connect(address, options).await?;
    let tool_version = format!("lastgood {}, {DRIVER}", env!("CARGO_PKG_VERSION"));
    let header = Header {
        concurrent_collections: i32::try_from(READ_AT_ONCE).unwrap_or(i32::MAX),
        server_version: session.server.version.clone(),
        tool_version,
    };
    let database = session.database.clone();
    let wanted = Wanted {
        database: database.as_deref(),
        header: &header,
        users_and_roles: options.users_and_roles,
        with_temporary: false,
    };
    // Asked before the instant is taken: a mark that is removed in between still existed at that instant.
    let half_restored = catalog::half_restored(&session, wanted.database).await?;
    let mut way = Way::Snapshot;
    loop {
        let error = match Box::pin(dump_by(&way, &session, wanted, key, worker)).await {
            Ok(mut dumped) => {
                let suspicions = half_restored
                    .iter()
                    .map(|it| half_restored_suspicion(it))
                    .collect();
                dumped.suspicions = suspicions;
                return Ok(dumped);
            }
            Err(error) => error,
        };
        way = way.after(error)?;
        tracing::warn!("the dump starts over: {way}");
    }
}

async fn dump_by(
    way: &Way,
    session: &Session,
    wanted: Wanted<'_>,
    key: &str,
    worker: &Worker,
) -> Result<Dumped, JobError> {
    // The way may change which member is read.
    let mut session = session.clone();
    let header = wanted.header;
    let frozen = instant::freeze(&mut session, wanted, way).await?;
    let mut prelude = Prelude {
        namespaces: frozen
            .entries
            .iter()
            .map(|it| it.namespace.clone())
            .collect(),
        header: header.clone(),
    };
    if frozen.follows.is_some() {
        prelude.namespaces.push(capture::namespace());
    }
    let collections = frozen.entries.iter().filter(|it| it.is_data());
    let collections: Vec<String> = collections.map(catalog::Entry::name).collect();
    let entries = frozen.entries.len();
    let recording = Recording::start(match frozen.how() {
        How::Snapshot(..) | How::Follow(_) => Reads::Once,
        How::Loose => Reads::Loosely,
    });
    let make = |spout| write(&session, wanted, &prelude, frozen, spout);
    let poured = native::pour(key, worker, recording, FLOOR_BYTES, make);
    let poured = Box::pin(poured).await?;
    let verdict = poured.maker;
    let mut warnings = verdict.doubts.warnings();
    if session.server.topology == Topology::Shard {
        warnings.push(OF_A_SHARD.to_owned());
    }
    let in_collections = poured.contents.namespaces.iter().take(entries);
    Ok(Dumped {
        format: FORMAT,
        consistent_at: verdict.consistent_at,
        consistency: verdict.doubts.consistency(&collections),
        warnings,
        suspicions: Vec::new(),
        object: poured.object,
        items: poured.items,
        recorded: poured.recorded,
        server_version: format!("MongoDB {}", session.server.version),
        tool_version: header.tool_version.clone(),
        details: Details::Mongodb {
            database: session.database.clone(),
            collections: collections.len() as u64,
            documents: in_collections.map(|it| it.documents).sum(),
            users_and_roles: wanted.users_and_roles,
            oplog_entries: verdict.oplog_entries,
            exceptions: verdict.doubts.exceptions(),
        },
        dump: poured.dump,
        archive: poured.archive,
    })
}

fn half_restored_suspicion(database: &str) -> Suspicion {
    Suspicion::new(
        Suspect::UnfinishedRestore,
        format!(
            "{database}: a restore into it was running or had failed, so it may have had only part of its documents (it \
             has the collection {MARK}; drop that if no restore is running)"
        ),
    )
}

async fn write(
    session: &Session,
    wanted: Wanted<'_>,
    prelude: &Prelude,
    frozen: Frozen,
    spout: Spout,
) -> Result<Verdict, Stopped> {
    let mut begin = Vec::new();
    prelude.write(&mut begin).map_err(read::unwritable)?;
    spout.write(begin.into()).await?;
    let Some(since) = frozen.follows else {
        let reads = read_all(session, &prelude.header, &frozen, &spout).await?;
        let after = catalog::list(session, wanted).await?;
        return Ok(verdict::reach(&frozen, &reads, &after).map_err(MongodbError::Dump)?);
    };
    let (end, until) = oneshot::channel();
    let reading = async {
        read_all(session, &prelude.header, &frozen, &spout).await?;
        let clock = Utc::now();
        let last = capture::end(session, since).await?;
        // If nobody listens, the capture has failed and reports its own error.
        let _told = end.send(last);
        Ok::<_, Stopped>((clock, last))
    };
    let following = capture::follow(session, wanted, since, until, &spout);
    let ((clock, last), entries) = tokio::try_join!(reading, following)?;
    Ok(verdict::replayed(clock, last, entries))
}

/// Reads all namespaces, several at once.
async fn read_all<'a>(
    session: &Session,
    header: &Header,
    frozen: &'a Frozen,
    spout: &Spout,
) -> Result<Vec<(&'a Entry, Read)>, Stopped> {
    let next = AtomicUsize::new(0);
    let reader = || read_on(session, header, frozen, &next, spout.clone());
    // As many as `READ_AT_ONCE`.
    let (mut reads, mut others) = tokio::try_join!(reader(), reader())?;
    reads.append(&mut others);
    Ok(reads)
}

/// Reads one namespace after another until none is left.
async fn read_on<'a>(
    session: &Session,
    header: &Header,
    frozen: &'a Frozen,
    next: &AtomicUsize,
    spout: Spout,
) -> Result<Vec<(&'a Entry, Read)>, Stopped> {
    let mut reads = Vec::new();
    while let Some(entry) = frozen.entries.get(next.fetch_add(1, Ordering::Relaxed)) {
        let read = read::namespace(session, header, entry, frozen.how(), &spout).await?;
        reads.push((entry, read));
    }
    Ok(reads)
}

/// Returns a reader that checks a whole archive: lengths, checksums and ends.
pub(crate) fn whole() -> impl Inspect {
    Whole(Reader::new(()))
}

/// Returns a reader that does the same, and records what the dump holds.
pub(crate) fn recording() -> impl Inspect {
    Recording::start(Reads::Once)
}

/// Reads the archive again as it streams by, and checks lengths, checksums and ends.
struct Whole(Reader<()>);

impl Inspect for Whole {
    type Contents = Summary;

    fn inspect(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        Ok(self.0.feed(bytes)?)
    }

    fn finish(self) -> Result<Summary, FormatError> {
        let (summary, ()) = self.0.finish()?;
        Ok(summary)
    }
}

#[cfg(test)]
mod tests;

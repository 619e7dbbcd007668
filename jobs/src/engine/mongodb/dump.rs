//! A dump: every collection as of one instant where the deployment can, in the archive format of `mongodump`.

mod accounts;
mod catalog;
mod doubt;
mod fault;
mod instant;
mod metadata;
mod read;
mod verdict;

use std::sync::atomic::{AtomicUsize, Ordering};

pub use self::fault::DumpFault;
use self::{
    catalog::{Entry, Wanted},
    instant::Frozen,
    read::Read,
    verdict::Verdict,
};
use super::{
    DRIVER,
    archive_format::{Header, Prelude, Reader, Summary},
    error::MongodbError,
    restore::MARK,
    session::{self, Session},
};
use crate::{
    archive::{FormatError, Inspect},
    backup::Dumped,
    engine::native::{self, Spout, Stopped},
    error::JobError,
    manifest::{Details, Suspect, Suspicion},
    resource::Resource,
    worker::Worker,
};

/// The format's name in manifests.
pub(crate) const FORMAT: &str = "mongodump archive 0.1";
/// Less than any archive: one of an empty collection has about three hundred bytes.
const FLOOR_BYTES: u64 = 200;
/// How many collections are read at once: each holds two batches.
const READ_AT_ONCE: usize = 2;

/// Dumps the resource's database or deployment into `key`. Any failure leaves no object.
pub(crate) async fn dump(
    resource: &Resource,
    key: &str,
    worker: &Worker,
) -> Result<Dumped, JobError> {
    let options = resource.options;
    let mut session = session::connect(&resource.url, options.read_preference).await?;
    let tool_version = format!("lastgood {}, {DRIVER}", env!("CARGO_PKG_VERSION"));
    let header = Header {
        concurrent_collections: i32::try_from(READ_AT_ONCE).unwrap_or(i32::MAX),
        server_version: session.server.version.clone(),
        tool_version: tool_version.clone(),
    };
    let database = session.database.clone();
    let wanted = Wanted {
        database: database.as_deref(),
        header: &header,
        users_and_roles: options.users_and_roles,
    };
    // Before the instant: a mark that is removed meanwhile was there at it.
    let half_restored = catalog::half_restored(&session, wanted.database).await?;
    let frozen = instant::freeze(&mut session, wanted).await?;
    let prelude = Prelude {
        namespaces: frozen
            .entries
            .iter()
            .map(|it| it.namespace.clone())
            .collect(),
        header: header.clone(),
    };
    let collections = frozen.entries.iter().filter(|it| it.is_data()).count();
    let make = |spout| write(&session, wanted, &prelude, frozen, spout);
    let poured = native::pour(key, worker, Whole(Reader::new(())), FLOOR_BYTES, make).await?;
    let verdict = poured.maker;
    Ok(Dumped {
        format: FORMAT,
        consistent_at: verdict.consistent_at,
        consistency: verdict.doubts.consistency(),
        warnings: verdict.doubts.warnings(),
        suspicions: half_restored
            .iter()
            .map(|it| half_restored_suspicion(it))
            .collect(),
        object: poured.object,
        server_version: format!("MongoDB {}", session.server.version),
        tool_version,
        details: Details::Mongodb {
            database: database.clone(),
            collections: collections as u64,
            documents: poured
                .contents
                .namespaces
                .iter()
                .map(|it| it.documents)
                .sum(),
            users_and_roles: options.users_and_roles,
        },
        dump: poured.dump,
        archive: poured.archive,
    })
}

fn half_restored_suspicion(database: &str) -> Suspicion {
    Suspicion::new(
        Suspect::UnfinishedRestore,
        format!(
            "{database}: a restore into it was at work, or had failed: it may have had a part of its documents only (it has \
             the collection {MARK}; drop that if no restore is at work)"
        ),
    )
}

/// Writes the archive.
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
    let next = AtomicUsize::new(0);
    let reader = || read_on(session, &prelude.header, &frozen, &next, spout.clone());
    // As many as `READ_AT_ONCE` says.
    let (mut reads, mut others) = tokio::try_join!(reader(), reader())?;
    reads.append(&mut others);
    let after = catalog::list(session, wanted).await?;
    let verdict = verdict::reach(&frozen, &reads, &after).map_err(MongodbError::Dump)?;
    Ok(verdict)
}

/// Takes up one namespace after another, until none is left.
async fn read_on<'a>(
    session: &Session,
    header: &Header,
    frozen: &'a Frozen,
    next: &AtomicUsize,
    spout: Spout,
) -> Result<Vec<(&'a Entry, Read)>, Stopped> {
    let mut reads = Vec::new();
    while let Some(entry) = frozen.entries.get(next.fetch_add(1, Ordering::Relaxed)) {
        let read = read::namespace(session, header, entry, frozen.at, &spout).await?;
        reads.push((entry, read));
    }
    Ok(reads)
}

/// Returns what reads a whole archive: lengths, checksums and ends.
pub(crate) fn whole() -> impl Inspect {
    Whole(Reader::new(()))
}

/// Reads the archive once more as it flies by: lengths, checksums and ends.
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

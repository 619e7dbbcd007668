//! Dumps a server: takes the snapshot that it sends to replicas, or reads key by key if it accepts no replica of ours.

pub(super) mod census;
mod contents;
mod recording;
mod replica;
mod scan;

use chrono::{DateTime, TimeDelta, Utc};

use self::{
    census::Census,
    recording::Recording,
    replica::{Begun, Ending},
};
use super::{
    connection::Connection,
    info::{self, Role, Server},
    mark::MARK,
};
use crate::{
    archive::Pulled,
    engine::{
        address::redis::Address,
        answer::Dumped,
        native::{self, Poured},
    },
    error::JobError,
    format::{Inspect, rdb::Checksum},
    manifest::{Consistency, Details, RedisRead, Suspect, Suspicion},
    worker::Worker,
};

/// The format's name in manifests.
pub(crate) const FORMAT: &str = "RDB";
/// Less than any dump: a header, an end and a checksum.
const FLOOR_BYTES: u64 = 18;
const TOOL: &str = concat!("lastgood ", env!("CARGO_PKG_VERSION"));

/// Dumps the server at `address` into `key`. A failure leaves no object.
///
/// The dump has all the server's databases and functions, but neither its users nor its configuration.
pub(crate) async fn dump(
    address: &Address,
    key: &str,
    worker: &Worker,
) -> Result<Dumped, JobError> {
    let mut connection = Connection::open(address).await?;
    let begin = Begin::note(&mut connection).await?;
    match replica::begin(&mut connection).await? {
        Begun::Sending(ending) => follow(connection, ending, begin, key, worker).await,
        Begun::Refused(fault) => {
            tracing::info!(said = %fault, "the server accepts no replicas: reading its keys one by one");
            drop(connection);
            scan(address, begin, key, worker).await
        }
    }
}

/// The zstd level for these dumps, one of the fast ones. Servers compress long values themselves (LZF), and at level 1
/// a dump takes longer than the server needs to send it.
const LEVEL: i32 = -3;

/// Returns a reader that checks a whole dump, up to its end and its checksum.
pub(crate) fn whole() -> impl Inspect<Contents = Census> {
    Pulled::start(census::take).at_level(LEVEL)
}

/// Returns a reader that does the same, and records what the dump holds.
pub(crate) fn recording() -> impl Inspect<Contents = Census> {
    Recording::start()
}

/// What was known before the dump was requested.
struct Begin {
    /// By the worker's clock, before the server's was read.
    at: DateTime<Utc>,
    /// By the server's clock, in microseconds.
    server_micros: Option<i64>,
    /// `None` if our role may not ask.
    server: Option<Server>,
}

impl Begin {
    async fn note(connection: &mut Connection) -> Result<Self, JobError> {
        let at = Utc::now();
        let server = info::ask(connection).await?;
        if let Some(server) = &server {
            info::refuse_cluster(server)?;
        }
        let server_micros = match server.as_ref().and_then(|it| it.clock_micros) {
            Some(micros) => Some(micros),
            None => info::clock_micros(connection).await?,
        };
        Ok(Self {
            at,
            server_micros,
            server,
        })
    }

    /// Returns an instant that a snapshot, made at `ctime` by the server's clock, is not older than.
    ///
    /// A server that is already saving for another replica sends us the same file, so the snapshot may be older than
    /// our request. Its age is computed from the server's clock alone, which therefore need not agree with the
    /// worker's.
    fn consistent_at(&self, ctime: Option<i64>) -> DateTime<Utc> {
        let Some(made_micros) = ctime.and_then(|it| it.checked_mul(1_000_000)) else {
            return self.at;
        };
        let now_micros = self.server_micros.unwrap_or(self.at.timestamp_micros());
        let age = TimeDelta::microseconds(now_micros.saturating_sub(made_micros));
        self.at
            .checked_sub_signed(age.max(TimeDelta::zero()))
            .unwrap_or(self.at)
    }

    fn warnings(&self) -> Vec<String> {
        match &self.server {
            None => vec![
                "the user may not run INFO, so lastgood could not check whether the server is part of a cluster: grant \
                 +info"
                    .to_owned(),
            ],
            Some(server) if server.role == Role::Replica => vec![
                "the server is a replica: the dump lacks what it had not yet received from its primary".to_owned(),
            ],
            Some(_) => Vec::new(),
        }
    }

    fn version(&self, census: &Census) -> String {
        let said = self.server.as_ref().map(|it| it.version.clone());
        let said = said.filter(|it| !it.is_empty());
        said.or_else(|| census.server.clone())
            .unwrap_or_else(|| "unknown".to_owned())
    }
}

/// Takes the snapshot that the server sends us as a replica.
async fn follow(
    mut connection: Connection,
    ending: Ending,
    begin: Begin,
    key: &str,
    worker: &Worker,
) -> Result<Dumped, JobError> {
    if let (Ending::Length(bytes), Some(limit_bytes)) = (&ending, worker.progress.dump_limit())
        && *bytes > limit_bytes
    {
        return Err(JobError::DumpTooLarge { limit_bytes });
    }
    let poured = native::pour(key, worker, recording(), FLOOR_BYTES, |spout| async move {
        replica::receive(&mut connection.replies, ending, &spout).await
    });
    let poured = poured.await?;
    Ok(Dumped {
        consistent_at: begin.consistent_at(poured.contents.ctime),
        consistency: Consistency::Snapshot,
        ..describe(poured, &begin, RedisRead::Replication)
    })
}

/// Reads the keys one by one.
async fn scan(
    address: &Address,
    begin: Begin,
    key: &str,
    worker: &Worker,
) -> Result<Dumped, JobError> {
    let mut connection = Connection::open(address).await?;
    let databases = begin
        .server
        .as_ref()
        .map(|it| it.keys.keys().copied().collect());
    let poured = native::pour(key, worker, recording(), FLOOR_BYTES, |spout| async move {
        scan::read(&mut connection, databases, &spout).await
    });
    let mut dumped = describe(poured.await?, &begin, RedisRead::Scan);
    dumped.warnings.push(
        "not point-in-time: the server refuses SYNC, and its keys were read one by one".to_owned(),
    );
    Ok(dumped)
}

fn describe<M>(poured: Poured<M, Census>, begin: &Begin, read_by: RedisRead) -> Dumped {
    let census = poured.contents;
    Dumped {
        format: FORMAT,
        consistent_at: begin.at,
        consistency: Consistency::None,
        dump: poured.dump,
        archive: poured.archive,
        object: poured.object,
        items: poured.items,
        recorded: poured.recorded,
        server_version: begin.version(&census),
        tool_version: TOOL.to_owned(),
        warnings: begin
            .warnings()
            .into_iter()
            .chain(oddities(&census))
            .collect(),
        suspicions: suspicions(&census),
        details: Details::Redis {
            rdb_version: census.summary.version.number().into(),
            keys: by_name(census.keys),
            functions: census.summary.functions,
            read_by,
        },
    }
}

/// Returns why nobody should rely on a dump that is whole.
fn suspicions(census: &Census) -> Vec<Suspicion> {
    let because = "a restore into the server was running or had failed, so it may have had only part of its keys";
    let marked = census.has_mark.then(|| {
        Suspicion::new(
            Suspect::UnfinishedRestore,
            format!("{because} (it has the mark of that restore, {MARK})"),
        )
    });
    marked.into_iter().collect()
}

/// Returns what is unusual about a dump that is whole.
fn oddities(census: &Census) -> Vec<String> {
    let summary = &census.summary;
    let mut odd = Vec::new();
    if summary.checksum != Checksum::Verified {
        odd.push(
            "the server wrote no checksum (rdbchecksum no): bytes changed in transit would go unnoticed"
                .to_owned(),
        );
    }
    let counted = [
        (
            census.module_values,
            "keys are of types that only modules know: the target of a restore needs the same modules",
        ),
        (
            summary.module_aux,
            "parts are data that modules keep beside the keys: a restore over the network cannot bring them back",
        ),
        (
            summary.slot_imports,
            "slot migrations were under way: the keys of those slots may be incomplete",
        ),
        (
            summary.too_long,
            "elements are longer than 512 MiB: a restore over the network needs a target that accepts them \
             (proto-max-bulk-len), and writes elements of at most 1 GiB",
        ),
        (
            summary.empty,
            "keys hold an empty list, set or hash: servers skip them, and so does a restore",
        ),
    ];
    odd.extend(
        counted
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}")),
    );
    odd
}

/// Returns the number of keys by database, as in a manifest.
fn by_name(keys: std::collections::BTreeMap<u64, u64>) -> std::collections::BTreeMap<String, u64> {
    let named = keys
        .into_iter()
        .map(|(database, keys)| (database.to_string(), keys));
    named.collect()
}

#[cfg(test)]
mod tests;

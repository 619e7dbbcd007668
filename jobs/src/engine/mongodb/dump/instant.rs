//! Fixes the instant that a dump shows, and makes sure that its list of collections is of that instant too.

use std::{collections::BTreeSet, time::Duration};

use bson::{Bson, Timestamp, doc};
use chrono::{DateTime, Utc};
use mongodb::options::ReadPreference;

use super::super::{
    meaning::{code_of, fault, meaning},
    session::{Server, Session, Topology, answer, odd_answer},
};
use super::{
    capture,
    catalog::{self, Entry, Wanted, What},
    doubt::Doubts,
    read::{How, Lacking},
    way::Way,
};
use crate::error::{DumpFault, JobError, MongodbError};

/// How often a new instant is taken because collections or indexes changed around the last.
const TRIES: usize = 3;
/// How often a new snapshot is taken while a secondary catches up with the primary, and the pause between: 10 s in all.
const CATCH_UP_TRIES: usize = 50;
const CATCH_UP_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 200 });
/// The first version of the wire protocol with snapshot reads outside transactions: MongoDB 5.0.
const WIRE_VERSION_SNAPSHOTS: i32 = 13;
/// The error codes of servers that read no snapshots, of this collection or at all: `IllegalOperation`,
/// `InvalidOptions`, `NotAReplicaSet`, `SnapshotUnavailable`, `OperationNotSupportedInTransaction`.
const NO_SNAPSHOT: [i32; 5] = [20, 72, 123, 246, 263];

/// What is dumped, and as of when.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) entries: Vec<Entry>,
    /// The cluster time to read at; `None` if nothing is read at a fixed time.
    pub(super) at: Option<Timestamp>,
    /// What happens to a collection that the snapshot lacks.
    pub(super) lacking: Lacking,
    /// The time of the oplog entry that the capture starts with, if the oplog is captured.
    pub(super) follows: Option<Timestamp>,
    /// The worker's clock before anything that the dump shows was read.
    pub(super) clock: DateTime<Utc>,
    pub(super) doubts: Doubts,
}

impl Frozen {
    /// Returns how namespaces are to be read.
    pub(super) fn how(&self) -> How {
        match (self.at, self.follows) {
            (_, Some(since)) => How::Follow(since),
            (Some(at), None) => How::Snapshot(at, self.lacking),
            (None, None) => How::Loose,
        }
    }
}

/// Fixes the instant that everything is read at, or the oplog entry that the capture starts with, where the deployment
/// can.
///
/// The collections, their options and indexes are listed before and after the instant is taken. If both lists are the
/// same, they hold at that instant too. The primary lists them. A secondary that has not caught up with the first list
/// might show a time before a collection was created, so it is waited for, and bypassed if it stays behind.
///
/// If no instant can be had, everything is read from primaries, because a secondary may lag by any amount.
pub(super) async fn freeze(
    session: &mut Session,
    wanted: Wanted<'_>,
    way: &Way,
) -> Result<Frozen, JobError> {
    let lacking = match way {
        Way::Snapshot => Lacking::Fails,
        Way::MostOfSnapshot => Lacking::ReadLater,
        Way::Oplog { .. } => return follow(session, wanted).await,
        Way::Loose { because } => return loose(session, wanted, because.clone()).await,
    };
    let mut why = match refusal(&session.server) {
        Some(why) => return without_snapshot(session, wanted, why).await,
        None => String::new(),
    };
    let mut entries = listed(session, wanted).await?;
    let mut settled = None;
    for _ in 0..TRIES {
        let clock = Utc::now();
        let at = match take_after(session, &entries).await? {
            Taken::At(at) => at,
            Taken::Behind => {
                tracing::warn!(
                    "the secondary is too far behind the primary: reading the primary instead"
                );
                session.read = ReadPreference::Primary.into();
                "no member offers a snapshot as new as the primary".clone_into(&mut why);
                continue;
            }
            Taken::Nothing(reason) => {
                why = reason;
                continue;
            }
        };
        let after = listed(session, wanted).await?;
        let unsettled = differing(&entries, &after);
        let is_settled = unsettled.is_empty();
        settled = Some(Frozen {
            entries: after.clone(),
            at: Some(at),
            lacking,
            follows: None,
            clock,
            doubts: Doubts {
                unsettled,
                ..Doubts::default()
            },
        });
        if is_settled {
            break;
        }
        entries = after;
    }
    match settled {
        Some(frozen) => Ok(frozen),
        None => without_snapshot(session, wanted, why).await,
    }
}

/// Continues without a snapshot: on a replica set the caller can capture the oplog instead, any other deployment is
/// read loosely.
async fn without_snapshot(
    session: &mut Session,
    wanted: Wanted<'_>,
    why: String,
) -> Result<Frozen, JobError> {
    if session.server.topology != Topology::Standalone {
        return Err(MongodbError::Dump(DumpFault::NoSnapshots { why }).into());
    }
    loose(session, wanted, why).await
}

/// Prepares a dump that captures the oplog, starting before the collections are listed.
async fn follow(session: &Session, wanted: Wanted<'_>) -> Result<Frozen, JobError> {
    let clock = Utc::now();
    let since = capture::begin(session).await?;
    let wanted = Wanted {
        with_temporary: true,
        ..wanted
    };
    Ok(Frozen {
        entries: listed(session, wanted).await?,
        at: None,
        lacking: Lacking::Fails,
        follows: Some(since),
        clock,
        doubts: Doubts::default(),
    })
}

/// Returns the names of the namespaces that are in only one of the lists, or differ between them.
pub(super) fn differing(before: &[Entry], after: &[Entry]) -> Vec<String> {
    let differ = |these: &[Entry], those: &[Entry]| {
        let new = these.iter().filter(|it| !those.contains(it));
        new.map(Entry::name).collect::<BTreeSet<_>>()
    };
    let mut names = differ(before, after);
    names.append(&mut differ(after, before));
    names.into_iter().collect()
}

/// Returns whether this error code means that the server does not read a snapshot.
pub(super) fn is_refusal(code: Option<i32>) -> bool {
    code.is_some_and(|code| NO_SNAPSHOT.contains(&code))
}

/// Returns why a server reads no snapshots, if that is known without asking it.
fn refusal(server: &Server) -> Option<String> {
    if server.topology == Topology::Standalone {
        let why = "a standalone server offers no snapshots: make it a replica set, which may have one member";
        return Some(why.to_owned());
    }
    if server.wire_version < WIRE_VERSION_SNAPSHOTS {
        let version = &server.version;
        return Some(format!(
            "MongoDB {version} offers snapshots only within a transaction: upgrade to 5.0 or newer"
        ));
    }
    None
}

/// Prepares a dump that is not of one instant.
async fn loose(session: &mut Session, wanted: Wanted<'_>, why: String) -> Result<Frozen, JobError> {
    session.read = ReadPreference::Primary.into();
    let clock = Utc::now();
    Ok(Frozen {
        entries: listed(session, wanted).await?,
        at: None,
        lacking: Lacking::ReadLater,
        follows: None,
        clock,
        doubts: Doubts {
            no_snapshots: Some(why),
            ..Doubts::default()
        },
    })
}

/// Lists the namespaces, and fails if there are none: an empty backup of a mistyped name would look like a good one.
async fn listed(session: &Session, wanted: Wanted<'_>) -> Result<Vec<Entry>, JobError> {
    let entries = catalog::list(session, wanted).await?;
    if entries.iter().any(Entry::is_data) {
        return Ok(entries);
    }
    Err(MongodbError::Dump(match wanted.database {
        Some(database) => DumpFault::NoCollections {
            database: database.to_owned(),
        },
        None => DumpFault::NoDatabases,
    })
    .into())
}

enum Taken {
    At(Timestamp),
    /// The member that is read does not catch up with the primary.
    Behind,
    Nothing(String),
}

/// Takes a snapshot that is at least as new as the primary's list.
async fn take_after(session: &Session, entries: &[Entry]) -> Result<Taken, JobError> {
    let listed = primary_time(session).await?;
    for _ in 0..CATCH_UP_TRIES {
        match take(session, entries).await? {
            Taken::At(at) if listed.is_some_and(|listed| at < listed) => {
                tokio::time::sleep(CATCH_UP_PAUSE).await;
            }
            taken @ (Taken::At(_) | Taken::Behind | Taken::Nothing(_)) => return Ok(taken),
        }
    }
    Ok(Taken::Behind)
}

/// Returns the primary's time, if it reports one; every member of a replica set does.
pub(super) async fn primary_time(session: &Session) -> Result<Option<Timestamp>, JobError> {
    let doing = "ask for the cluster's time";
    let admin = session.client.database("admin");
    let asked = admin
        .run_command(doc! {"ping": 1})
        .selection_criteria(ReadPreference::Primary.into());
    match answer(doing, async { Ok(asked.await) }).await? {
        Ok(reply) => Ok(reply.get_timestamp("operationTime").ok()),
        Err(error) => Err(meaning(doing, &error)),
    }
}

/// Asks for the time of a snapshot by reading one document from it. The server keeps that snapshot from then on.
async fn take(session: &Session, entries: &[Entry]) -> Result<Taken, JobError> {
    let doing = "take a snapshot";
    let sources = entries.iter().filter(|it| !it.is_capped);
    let mut sources = sources.filter_map(|it| it.source.as_ref());
    let Some(source) = sources.find(|it| it.what != What::Accounts) else {
        let why = "no collection is of a kind that a snapshot can be read of";
        return Ok(Taken::Nothing(why.to_owned()));
    };
    let mut find = doc! {
        "find": &source.collection,
        "projection": {"_id": 1},
        "limit": 1,
        "singleBatch": true,
        "readConcern": {"level": "snapshot"},
    };
    if source.what == What::Buckets {
        find.insert("rawData", true);
    }
    let on = session.client.database(&source.database);
    let asked = on
        .run_command(find)
        .selection_criteria(session.read.clone());
    match answer(doing, async { Ok(asked.await) }).await? {
        Ok(reply) => {
            let cursor = reply.get_document("cursor").ok();
            match cursor.and_then(|it| it.get("atClusterTime")) {
                Some(Bson::Timestamp(at)) => Ok(Taken::At(*at)),
                Some(_) => Err(odd_answer(
                    doing,
                    "something other than a timestamp where one belongs",
                )),
                None => Ok(Taken::Nothing(
                    "the server does not report the time of its snapshot".to_owned(),
                )),
            }
        }
        Err(error) if is_refusal(code_of(&error)) => {
            let refused = fault(&error);
            Ok(Taken::Nothing(format!(
                "the server offers no snapshots ({refused})"
            )))
        }
        Err(error) => Err(meaning(doing, &error)),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::standalone(Topology::Standalone, 21, Some("a replica set"))]
    #[case::old(Topology::ReplicaSet, 9, Some("5.0"))]
    #[case::member(Topology::ReplicaSet, 13, None)]
    #[case::shard(Topology::Shard, 17, None)]
    fn who_reads_no_snapshots_is_known_beforehand(
        #[case] topology: Topology,
        #[case] wire_version: i32,
        #[case] says: Option<&str>,
    ) {
        let why = refusal(&Server {
            version: "4.4.1".to_owned(),
            topology,
            wire_version,
            document_bytes_max: 0,
            message_bytes_max: 0,
            batch_max: 0,
            round_trip: Duration::ZERO,
        });
        assert_eq!(why.is_some(), says.is_some());
        assert!(why.unwrap_or_default().contains(says.unwrap_or_default()));
    }
}

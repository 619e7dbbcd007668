//! Judges a finished dump: which instant it is of, and what casts doubt on that.

use bson::Timestamp;
use chrono::{DateTime, Utc};

use super::{
    catalog::Entry,
    doubt::Doubts,
    instant::{Frozen, differing},
    read::{Lacking, Read},
};
use crate::error::DumpFault;

/// What a dump can promise.
#[derive(Debug)]
pub(super) struct Verdict {
    /// The dump shows nothing older than this.
    pub(super) consistent_at: DateTime<Utc>,
    pub(super) doubts: Doubts,
    /// How many oplog entries the archive holds, if a replay of them brings the dump to one instant.
    pub(super) oplog_entries: Option<u64>,
}

/// Judges a dump that captured the oplog: a restore replays it to the state at the last entry.
///
/// `clock` is the worker's clock before the time of the last entry was asked for.
pub(super) fn replayed(clock: DateTime<Utc>, last: Timestamp, entries: u64) -> Verdict {
    let last = DateTime::from_timestamp(i64::from(last.time), 0);
    Verdict {
        consistent_at: last.map_or(clock, |last| last.min(clock)),
        doubts: Doubts::default(),
        oplog_entries: Some(entries),
    }
}

/// Judges by what the server reported for each read, and by the list of namespaces after the last.
///
/// `consistent_at` is the earliest of the worker's clock before the instant was taken and the cluster times of the
/// instant and of the reads: a secondary shows what it has, which may be old, and clocks differ. Cluster time has whole
/// seconds, rounded down, and stands still while nobody writes. On a server that writes no heartbeats of its own, a
/// dump may look older than it is, but never newer.
pub(super) fn reach(
    frozen: &Frozen,
    reads: &[(&Entry, Read)],
    after: &[Entry],
) -> Result<Verdict, DumpFault> {
    let mut doubts = frozen.doubts.clone();
    if frozen.at.is_some() {
        for (entry, read) in reads.iter().filter(|(entry, _)| entry.source.is_some()) {
            if read.is_outside {
                doubts.outside.push(entry.name());
            } else if !is_as_asked(frozen, read) {
                doubts.elsewhen.push(entry.name());
            }
            if is_lost(entry, read, after) {
                let namespace = entry.name();
                if frozen.lacking == Lacking::Fails {
                    return Err(DumpFault::Dropped { namespace });
                }
                doubts.cut.push(namespace);
            } else if read.is_cut {
                doubts.cut.push(entry.name());
            }
        }
        doubts.outside.sort();
        doubts.elsewhen.sort();
    } else {
        doubts.changed = differing(&frozen.entries, after);
        let cut = reads.iter().filter(|(_, read)| read.is_cut);
        doubts.cut.extend(cut.map(|(entry, _)| entry.name()));
    }
    doubts.cut.sort();
    let told = reads
        .iter()
        .filter_map(|(_, read)| read.at)
        .chain(frozen.at);
    let instants = told.filter_map(|at| DateTime::from_timestamp(i64::from(at.time), 0));
    Ok(Verdict {
        consistent_at: instants.fold(frozen.clock, Ord::min),
        doubts,
        oplog_entries: None,
    })
}

/// Returns whether a read was of the instant that was asked for. A read that found nothing need not report one.
fn is_as_asked(frozen: &Frozen, read: &Read) -> bool {
    match read.at {
        Some(at) => Some(at) == frozen.at,
        None => read.documents == 0,
    }
}

/// Returns whether a collection was empty when its turn came because it no longer existed.
///
/// A collection that had documents was read whole, as of the instant; what happened to it later does not matter.
fn is_lost(entry: &Entry, read: &Read, after: &[Entry]) -> bool {
    read.documents == 0 && entry.is_data() && !after.iter().any(|it| it.is_same_as(entry))
}

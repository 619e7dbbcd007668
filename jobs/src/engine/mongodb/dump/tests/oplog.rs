//! A dump that cannot capture the whole oplog is made without it, and says so.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use bson::{Document, Timestamp, doc};

use super::{bank_but, is, lab::Lab};
use crate::{engine::mongodb::pretend::no, manifest::Consistency};

/// `CappedPositionLost`
const CAPPED_POSITION_LOST: i32 = 136;
/// `SnapshotTooOld`
const SNAPSHOT_TOO_OLD: i32 = 239;

/// Answers a read of the oplog. If the cursor's id is 0, there is no more to read.
fn answer(id: i64, entries: Vec<Document>) -> Document {
    doc! {"ok": 1.0, "cursor": {"id": id, "ns": "local.oplog.rs", "firstBatch": entries}}
}

fn noop(ts: Timestamp) -> Document {
    doc! {"ts": ts, "op": "n", "ns": "", "o": {"msg": "as the test wants it"}}
}

/// The end of a transaction that began before `ts`.
fn end_of_transaction(ts: Timestamp) -> Document {
    let before = Timestamp {
        time: ts.time - 1,
        ..ts
    };
    doc! {
        "ts": ts, "op": "c", "ns": "admin.$cmd", "lsid": {"id": 1}, "txnNumber": 1_i64,
        "prevOpTime": {"ts": before, "t": 1_i64},
        "o": {"applyOps": [{"op": "i", "ns": "bank.giving", "o": {"_id": 99}}]},
    }
}

/// Each case is what the server still has when the capture reads on from the entry at the given time.
#[rstest::rstest]
#[case::nothing(|_: Timestamp| answer(0, Vec::new()))]
#[case::newer_entries(|ts: Timestamp| answer(0, vec![noop(Timestamp { increment: 2, ..ts })]))]
#[case::nothing_after_the_first_batch(|ts: Timestamp| answer(7, vec![noop(ts)]))]
#[case::the_end_of_a_transaction(|ts: Timestamp| answer(0, vec![end_of_transaction(ts)]))]
#[tokio::test]
async fn an_oplog_that_rolled_over_is_done_without_and_told(
    #[case] left: fn(Timestamp) -> Document,
) -> Result<()> {
    let has_snapshot = AtomicBool::new(true);
    let server = bank_but(move |bank, command| {
        let since = bank.time(1);
        let of = |field: &str| command.get_str(field).is_ok_and(|it| it == "oplog.rs");
        if of("find") {
            return Some(match command.get_document("filter") {
                Err(_) => answer(0, vec![noop(since)]),
                Ok(from) if from.get_document("ts").is_ok() => left(since),
                // An earlier part of the transaction.
                Ok(_) => answer(0, Vec::new()),
            });
        }
        if of("collection") {
            return Some(no(CAPPED_POSITION_LOST));
        }
        let loses_snapshot = is(command, "getMore") && has_snapshot.swap(false, Ordering::SeqCst);
        loses_snapshot.then(|| no(SNAPSHOT_TOO_OLD))
    })
    .await?;
    let lab = Lab::new().await?;
    let dumped = lab.dump(&server).await?;
    assert_eq!(dumped.consistency, Consistency::None);
    assert_eq!(lab.documents()?.len(), 20);
    let warning = dumped.warnings.first().context("no warning")?;
    for part in ["minSnapshotHistoryWindowInSeconds", "replSetResizeOplog"] {
        assert!(warning.contains(part), "{warning}");
    }
    Ok(())
}

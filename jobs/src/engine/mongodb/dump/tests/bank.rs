//! Two collections between which money moves with every command, so that only reads of one instant add up.

use std::sync::atomic::{AtomicU32, Ordering};

use bson::{Bson, Document, Timestamp, doc};

use crate::engine::mongodb::pretend::{name, no};

/// What each account holds at first.
const BEGIN: i32 = 1000;
/// Accounts in each collection.
const ACCOUNTS: i32 = 10;
/// What all accounts together hold, at any instant.
pub(crate) const TOTAL: i32 = 2 * ACCOUNTS * BEGIN;

/// The bank's books, at every instant since it opened.
pub(crate) struct Bank {
    /// The seconds of all its timestamps.
    seconds: u32,
    /// The increment of its timestamps: how many commands have arrived, and what each account of `giving` has given.
    now: AtomicU32,
}

impl Bank {
    /// Opens a bank whose clock shows these seconds.
    pub(crate) fn at(seconds: u32) -> Self {
        Self {
            seconds,
            now: AtomicU32::new(1),
        }
    }

    /// Returns how many commands have arrived.
    pub(crate) fn now(&self) -> u32 {
        self.now.load(Ordering::SeqCst)
    }

    /// Returns the cluster time after this many commands.
    pub(crate) fn time(&self, increment: u32) -> Timestamp {
        let time = self.seconds;
        Timestamp { time, increment }
    }

    pub(crate) fn answer(&self, command: &Document) -> Document {
        self.now.fetch_add(1, Ordering::SeqCst);
        match name(command) {
            "listCollections" => cursor(
                "bank.$cmd.listCollections",
                vec![
                    collection("giving", "collection", doc! {}),
                    collection("taking", "collection", doc! {}),
                ],
            ),
            "listIndexes" => cursor(
                "bank.any",
                vec![doc! {"v": 2, "key": {"_id": 1}, "name": "_id_"}],
            ),
            "find" => self.find(command),
            "getMore" => get_more(command),
            "ping" => doc! {"ok": 1.0, "operationTime": self.time(self.now())},
            _ => no(59),
        }
    }

    /// Answers a read as of the time that it asks for, or as of now.
    fn find(&self, command: &Document) -> Document {
        let concern = command.get_document("readConcern").ok();
        let at = match concern.and_then(|it| it.get_timestamp("atClusterTime").ok()) {
            Some(at) => at.increment,
            None => self.now(),
        };
        let collection = command.get_str("find").unwrap();
        let mut reply = doc! {
            "id": if command.contains_key("singleBatch") { 0 } else { i64::from(at) },
            "ns": format!("bank.{collection}"),
            "firstBatch": accounts(collection, at, 0..ACCOUNTS / 2),
        };
        if concern.is_some_and(|it| it.get_str("level").is_ok_and(|it| it == "snapshot")) {
            reply.insert("atClusterTime", self.time(at));
        }
        doc! {"ok": 1.0, "cursor": reply}
    }
}

/// Answers with the rest, as of the time in the cursor's id.
fn get_more(command: &Document) -> Document {
    let collection = command.get_str("collection").unwrap();
    let at = u32::try_from(command.get_i64("getMore").unwrap()).unwrap();
    let rest = accounts(collection, at, ACCOUNTS / 2..ACCOUNTS);
    doc! {"ok": 1.0, "cursor": {"id": 0_i64, "ns": format!("bank.{collection}"), "nextBatch": rest}}
}

fn accounts(collection: &str, at: u32, numbers: std::ops::Range<i32>) -> Vec<Bson> {
    let moved = i32::try_from(at).unwrap();
    let holds = match collection {
        "giving" => BEGIN - moved,
        _ => BEGIN + moved,
    };
    numbers
        .map(|n| Bson::Document(doc! {"_id": n, "holds": holds}))
        .collect()
}

/// Returns an entry of a listing.
pub(crate) fn collection(name: &str, kind: &str, options: Document) -> Document {
    doc! {"name": name, "type": kind, "options": options, "info": {"readOnly": false}}
}

/// Returns a reply whose only batch has these documents.
pub(crate) fn cursor(ns: &str, documents: Vec<Document>) -> Document {
    doc! {"ok": 1.0, "cursor": {"id": 0_i64, "ns": ns, "firstBatch": documents}}
}

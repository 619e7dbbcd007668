//! Which stores have a key's escrow, and which do not? Checks all stores at once, for a few seconds at most.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use lastgood_jobs::{error::chain, escrow, storage::Patience};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    blocking::Calls,
    config::StorageArgs,
    nouns::Key,
    stores::{self, Candidate},
};

/// How long a list of keys waits for a store.
const WITHIN: Duration = Duration::from_secs(5);
/// Limits the reads of the stores file and of the keys that it names.
static READS: Calls = Calls::at_most(1);

/// A key and where its escrow is.
#[derive(Debug, Serialize)]
pub(in crate::cli::key) struct Escrowed {
    #[serde(flatten)]
    pub(in crate::cli::key) key: Key,
    /// The stores that have the escrow.
    escrow_in: Vec<String>,
    /// The stores that do not have it.
    escrow_missing_in: Vec<String>,
    /// The stores that could not be checked.
    escrow_unknown_in: Vec<Unknown>,
}

/// A store that could not be checked.
#[derive(Debug, Clone, Serialize)]
struct Unknown {
    store: String,
    because: String,
}

/// A store and the keys whose escrows it has, or why that is unknown.
struct Shelf {
    store: String,
    has: Result<BTreeSet<Uuid>, String>,
}

/// Returns where the escrow of each key is.
pub(in crate::cli::key) async fn whereabouts(
    keys: Vec<Key>,
    storage: &StorageArgs,
) -> Vec<Escrowed> {
    if keys.is_empty() {
        return Vec::new();
    }
    let shelves = shelves(storage).await;
    let unknown = shelves.iter().filter_map(|shelf| {
        Some(Unknown {
            store: shelf.store.clone(),
            because: shelf.has.as_ref().err()?.clone(),
        })
    });
    let unknown: Vec<Unknown> = unknown.collect();
    let escrowed = |key: Key| {
        let stores = |wanted: bool| {
            let those = shelves.iter().filter(|shelf| {
                let has = shelf.has.as_ref().map(|has| has.contains(&key.id));
                has == Ok(wanted)
            });
            those.map(|shelf| shelf.store.clone()).collect()
        };
        Escrowed {
            escrow_in: stores(true),
            escrow_missing_in: stores(false),
            escrow_unknown_in: unknown.clone(),
            key,
        }
    };
    keys.into_iter().map(escrowed).collect()
}

async fn shelves(storage: &StorageArgs) -> Vec<Shelf> {
    let args = storage.clone();
    let configured = move || stores::candidates(&args, Patience::brief(WITHIN));
    let because = match READS.answered(WITHIN, configured).await {
        Some(Ok(candidates)) => return join_all(candidates.iter().map(shelf)).await,
        Some(Err(error)) => chain(&error),
        None => {
            "the stores' configuration cannot be read: a file system does not answer".to_owned()
        }
    };
    vec![Shelf {
        store: "all stores".to_owned(),
        has: Err(because),
    }]
}

async fn shelf(candidate: &Candidate) -> Shelf {
    let looking = async {
        let opened = candidate.open().await.map_err(|error| chain(&error))?;
        let keys = escrow::list(&opened.storage).await;
        keys.map_err(|error| error.report())
    };
    let looked = tokio::time::timeout(WITHIN, looking).await;
    let has = looked.unwrap_or_else(|_| Err(format!("no answer within {} s", WITHIN.as_secs())));
    Shelf {
        store: candidate.name().to_owned(),
        has: has.map(|keys| keys.into_iter().collect()),
    }
}

impl Escrowed {
    /// Returns where the escrow is and is not, in a few words.
    pub(in crate::cli::key) fn told(&self) -> String {
        let join = |stores: &[String]| stores.join(", ");
        let is_shredded = self.key.shredded_at.is_some();
        let mut told = Vec::new();
        if !is_shredded && !self.escrow_missing_in.is_empty() {
            told.push(format!("MISSING in {}", join(&self.escrow_missing_in)));
        }
        if !self.escrow_in.is_empty() {
            let still = if is_shredded { "STILL " } else { "" };
            told.push(format!("{still}in {}", join(&self.escrow_in)));
        }
        for Unknown { store, because } in &self.escrow_unknown_in {
            told.push(format!("NOT LOOKED AT in {store}: {because}"));
        }
        if told.is_empty() {
            told.push("-".to_owned());
        }
        told.join("; ")
    }
}

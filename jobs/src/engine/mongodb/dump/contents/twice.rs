//! Which collections may have a document twice, because they were read while others wrote?

use std::{
    collections::{BTreeSet, HashSet},
    fmt::Write as _,
};

use bson::RawDocument;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const TWICE: &str = "it has a document twice: it was read while others wrote, and a restore keeps the first of both";
const TOO_MANY: &str = "it was read while others wrote, and with so many documents lastgood cannot tell whether one was \
                        read twice";
/// How many documents are told apart in all. Their hashes take about 40 MB.
const MOST: usize = 2_000_000;

/// The documents of a dump so far, as hashes of their ids.
#[derive(Debug, Default)]
pub(super) struct Twice {
    seen: HashSet<u64>,
    /// By index in the prelude.
    doubled: BTreeSet<usize>,
    lost_count: BTreeSet<usize>,
    text: String,
}

impl Twice {
    /// Notes a document of a namespace, which is given by its index in the prelude.
    pub(super) fn note(&mut self, place: usize, raw: &[u8]) {
        if self.seen.len() >= MOST {
            self.lost_count.insert(place);
            return;
        }
        let id = RawDocument::from_bytes(raw).and_then(|it| it.get("_id"));
        let Ok(Some(id)) = id else {
            return;
        };
        self.text.clear();
        // Writing to a string never fails.
        if write!(self.text, "{id:?}").is_ok()
            && !self
                .seen
                .insert(xxh3_64_with_seed(self.text.as_bytes(), place as u64))
        {
            self.doubled.insert(place);
        }
    }

    /// Returns why the number of a namespace's documents after a restore cannot be told, if so.
    pub(super) fn doubt(&self, place: usize) -> Option<&'static str> {
        if self.doubled.contains(&place) {
            Some(TWICE)
        } else if self.lost_count.contains(&place) {
            Some(TOO_MANY)
        } else {
            None
        }
    }
}

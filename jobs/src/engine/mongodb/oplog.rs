//! What the entries of a server's oplog mean, as far as a backup captures them and a restore replays them.
//!
//! `mongodump --oplog` puts the entries into an archive unchanged, as documents of the collection `oplog` in the
//! database with the empty name, and so do we. Entries are idempotent: replayed over documents that already have the
//! change, an entry does no harm that the entries after it do not undo. So documents that were read one after another,
//! together with every entry from before the first read to after the last, give the state at the last entry.

mod diff;
mod entry;
mod set;
mod transactions;

pub(crate) use self::{
    entry::{Change, Entry, Place, Wanted, continues, keep, read},
    transactions::Transactions,
};

use bson::{RawDocument, RawDocumentBuf};

/// The collection of an archive that holds the oplog, in the database with the empty name.
pub(crate) const COLLECTION: &str = "oplog";

/// An entry that cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Unreplayable {
    /// What is wrong with it.
    pub(crate) what: String,
}

impl Unreplayable {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into() }
    }

    /// An entry, or a document in it, that is not valid BSON.
    pub(crate) fn broken() -> Self {
        Self::new("it is broken")
    }
}

/// Applies an update from the oplog to the document that it is about.
pub(crate) fn apply(
    document: &RawDocument,
    how: &RawDocument,
) -> Result<RawDocumentBuf, Unreplayable> {
    match how.get_document("diff") {
        Ok(diff) => diff::apply(document, diff),
        Err(_) => set::apply(document, how),
    }
}

/// Fails if an update is of a kind that cannot be replayed.
fn check(how: &RawDocument) -> Result<(), Unreplayable> {
    // An empty document will do: an unknown part is refused before its field is looked up.
    apply(&RawDocumentBuf::new(), how).map(|_| ())
}

fn broken(_: impl std::error::Error) -> Unreplayable {
    Unreplayable::broken()
}

//! What the entries of a server's oplog say, as far as a backup captures and a restore replays them.
//!
//! `mongodump --oplog` puts them into an archive as they are, as documents of the collection `oplog` of the database with the
//! empty name, and so do we. An entry is idempotent: replayed over documents that have it already, it changes nothing that the
//! entries after it do not put right. So documents that were read one after another, and every entry from before the first read
//! to after the last, give what was there at the last entry.

mod diff;
mod entry;
mod set;
mod transactions;

pub(crate) use self::{
    entry::{Change, Entry, Place, Wanted, continues, keep, read},
    transactions::Transactions,
};

use bson::{RawDocument, RawDocumentBuf};

/// The collection of an archive that holds the oplog; its database has the empty name.
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

    /// An entry, or a document that it is about, that is no BSON.
    pub(crate) fn broken() -> Self {
        Self::new("it is broken")
    }
}

/// Applies an update as the oplog has it to the document that it is about.
pub(crate) fn apply(
    document: &RawDocument,
    how: &RawDocument,
) -> Result<RawDocumentBuf, Unreplayable> {
    match how.get_document("diff") {
        Ok(diff) => diff::apply(document, diff),
        Err(_) => set::apply(document, how),
    }
}

/// Fails where an update is of a kind that cannot be replayed.
fn check(how: &RawDocument) -> Result<(), Unreplayable> {
    // Whatever the document: a part that is not known is refused before it is looked for.
    apply(&RawDocumentBuf::new(), how).map(|_| ())
}

fn broken(_: impl std::error::Error) -> Unreplayable {
    Unreplayable::broken()
}

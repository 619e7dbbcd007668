//! What has been read of each namespace, and which have not ended.

use std::collections::HashMap;

use super::super::{NamespaceSummary, Summary, checksum::Checksum};

/// An account for each namespace, in the prelude's order.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By database, then by collection, so that a name can be looked up without copying it.
    places: HashMap<String, HashMap<String, usize>>,
    accounts: Vec<Account>,
    open: usize,
}

#[derive(Debug)]
struct Account {
    summary: NamespaceSummary,
    checksum: Checksum,
    has_ended: bool,
}

impl Ledger {
    /// Opens an account; `false` if that name already has one.
    pub(super) fn announce(&mut self, database: &str, collection: &str) -> bool {
        let place = self.accounts.len();
        let collections = match self.places.get_mut(database) {
            Some(collections) => collections,
            None => self.places.entry(database.to_owned()).or_default(),
        };
        if collections.insert(collection.to_owned(), place).is_some() {
            return false;
        }
        self.accounts.push(Account {
            summary: NamespaceSummary::default(),
            checksum: Checksum::new(),
            has_ended: false,
        });
        self.open += 1;
        true
    }

    /// Returns the index of a namespace.
    pub(super) fn find(&self, database: &str, collection: &str) -> Option<usize> {
        self.places.get(database)?.get(collection).copied()
    }

    /// Records documents that lie back to back.
    pub(super) fn add(&mut self, place: usize, documents: u64, bytes: &[u8]) {
        if let Some(account) = self.accounts.get_mut(place) {
            account.summary.documents += documents;
            account.summary.bytes += bytes.len() as u64;
            account.checksum.update(bytes);
        }
    }

    pub(super) fn has_ended(&self, place: usize) -> bool {
        self.accounts.get(place).is_none_or(|it| it.has_ended)
    }

    /// Closes an account; `false` if the checksum differs.
    pub(super) fn end(&mut self, place: usize, checksum: i64) -> bool {
        let account = self.accounts.get_mut(place);
        let Some(account) = account.filter(|it| it.checksum.value() == checksum) else {
            return false;
        };
        account.has_ended = true;
        self.open -= 1;
        true
    }

    /// Returns how many namespaces have not ended.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn into_summary(self, bytes: u64) -> Summary {
        let namespaces = self.accounts.into_iter().map(|it| it.summary).collect();
        Summary { namespaces, bytes }
    }
}

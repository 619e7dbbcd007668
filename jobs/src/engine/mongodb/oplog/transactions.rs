//! Transactions that span several entries: their changes take effect with the last entry, or never.

use std::collections::HashMap;

use super::{Change, Entry};

/// The transactions that have begun and not ended.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    open: HashMap<Vec<u8>, Vec<Change>>,
}

impl Transactions {
    /// Takes the next entry, and returns the changes that take effect with it.
    pub(crate) fn take(&mut self, entry: Entry) -> Vec<Change> {
        match entry {
            Entry::Nothing => Vec::new(),
            Entry::Done(changes) => changes,
            Entry::Part {
                transaction,
                changes,
            } => {
                self.open.entry(transaction).or_default().extend(changes);
                Vec::new()
            }
            Entry::Last {
                transaction,
                changes,
            } => {
                let mut all = self.open.remove(&transaction).unwrap_or_default();
                all.extend(changes);
                all
            }
            Entry::Aborted { transaction } => {
                self.open.remove(&transaction);
                Vec::new()
            }
        }
    }
}

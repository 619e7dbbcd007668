//! What a dump holds, recorded while it is made: collections, indexes, views, users and roles, as a restore brings them
//! back.

mod definition;
mod expiry;
mod twice;

use bson::{Document, RawDocument};
use chrono::DateTime;

use self::{expiry::Expiry, twice::Twice};
use super::super::restore::{
    AccessOf, Foreseen, Outlook, RestoredItem, RestoredShape as Shape, oplog_at,
};
use crate::{
    contents::{Contents, Item, ItemHash},
    format::{
        FormatError, Inspect,
        mongodump::{self, Prelude, Reader, Summary, Visit},
    },
};

const CHANGED: &str =
    "its documents were not read at one instant: a restore replays the oplog over them";
/// How many users and roles are recorded by name.
const MOST_ACCOUNTS: usize = 100_000;

/// How the documents of a dump are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// No document comes twice, unless an oplog follows that says so.
    Once,
    /// A document that is removed and inserted again meanwhile may come twice.
    Loosely,
}

/// Reads an archive as it streams by, checks lengths, checksums and ends, and records what it holds.
pub(super) struct Recording(Reader<Record>);

impl Recording {
    pub(super) fn start(reads: Reads) -> Self {
        Self(Reader::new(Record {
            twice: (reads == Reads::Loosely).then(Twice::default),
            ..Record::default()
        }))
    }
}

impl Inspect for Recording {
    type Contents = Summary;

    fn inspect(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        Ok(self.0.feed(bytes)?)
    }

    fn contents(&mut self) -> Contents {
        std::mem::take(self.0.visitor()).finish()
    }

    fn finish(self) -> Result<Summary, FormatError> {
        let (summary, _) = self.0.finish()?;
        Ok(summary)
    }
}

#[derive(Default)]
struct Record {
    /// `None` before the prelude, or if a restore would refuse that.
    foreseen: Option<Foreseen>,
    /// By index in the prelude.
    namespaces: Vec<Namespace>,
    twice: Option<Twice>,
    accounts: Vec<Item>,
}

/// What is known of the documents of one namespace.
#[derive(Default)]
struct Namespace {
    role: Role,
    /// `None` if its documents stay until somebody removes them.
    expiry: Option<Expiry>,
    documents: u64,
    hash: ItemHash,
}

/// What the documents of a namespace are.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Role {
    #[default]
    Data,
    Oplog,
    Accounts(AccessOf),
}

impl Visit for Record {
    fn prelude(&mut self, prelude: &Prelude) -> Result<(), mongodump::FormatError> {
        let oplog_at = oplog_at(prelude);
        let role = |place, namespace| match AccessOf::of(namespace) {
            _ if oplog_at == Some(place) => Role::Oplog,
            Some(of) => Role::Accounts(of),
            None => Role::Data,
        };
        let namespaces = prelude.namespaces.iter().enumerate();
        self.namespaces = namespaces
            .map(|(place, namespace)| Namespace {
                role: role(place, namespace),
                ..Namespace::default()
            })
            .collect();
        // An archive that a restore refuses is no reason to fail a backup that has begun.
        self.foreseen = Foreseen::of(prelude).ok();
        for item in self.foreseen.iter().flat_map(Foreseen::collections) {
            let namespace = item.place.and_then(|place| self.namespaces.get_mut(place));
            if let Some(namespace) = namespace {
                namespace.expiry = Expiry::of(item);
            }
        }
        Ok(())
    }

    fn document(&mut self, place: usize, raw: &[u8]) -> Result<(), mongodump::FormatError> {
        let Some(namespace) = self.namespaces.get_mut(place) else {
            return Ok(());
        };
        namespace.documents += 1;
        match namespace.role {
            Role::Data => {
                namespace.hash.add(ItemHash::of(raw));
                if let Some(expiry) = &mut namespace.expiry {
                    expiry.note(raw);
                }
                if let Some(twice) = &mut self.twice {
                    twice.note(place, raw);
                }
            }
            Role::Oplog => {
                if let (Some(foreseen), Ok(entry)) =
                    (&mut self.foreseen, RawDocument::from_bytes(raw))
                {
                    foreseen.replay(entry);
                }
            }
            Role::Accounts(of) if self.accounts.len() < MOST_ACCOUNTS => {
                let id = RawDocument::from_bytes(raw).ok();
                let id = id.and_then(|it| it.get_str("_id").ok());
                let kind = match of {
                    AccessOf::Users => "user",
                    AccessOf::Roles => "role",
                };
                self.accounts.extend(id.map(|id| Item::new(kind, id)));
            }
            Role::Accounts(_) => {}
        }
        Ok(())
    }

    fn end(&mut self, _: usize) -> Result<(), mongodump::FormatError> {
        Ok(())
    }
}

impl Record {
    fn finish(self) -> Contents {
        let foreseen = self.foreseen.map(Foreseen::finish).unwrap_or_default();
        let mut items = self.accounts;
        for (item, outlook) in foreseen {
            let namespace = item.place.and_then(|place| self.namespaces.get(place));
            let twice = self.twice.as_ref().zip(item.place);
            let unknown = match (outlook, twice) {
                (Outlook::Changed | Outlook::Unsure, _) => Some(CHANGED),
                (Outlook::Known, Some((twice, place))) => twice.doubt(place),
                (Outlook::Known, None) => None,
            };
            let own = of_collection(&item, namespace, unknown);
            items.push(match outlook {
                // It is never compared.
                Outlook::Unsure => Item {
                    until: Some(DateTime::UNIX_EPOCH),
                    ..own
                },
                Outlook::Known | Outlook::Changed => own,
            });
            let name = item.namespace();
            items.extend(item.indexes.iter().map(|index| of_index(&name, index)));
        }
        Contents { items }
    }
}

fn of_collection(
    item: &RestoredItem,
    namespace: Option<&Namespace>,
    unknown: Option<&str>,
) -> Item {
    let kind = match item.shape {
        Shape::View => "view",
        Shape::TimeSeries => "time series",
        Shape::Collection | Shape::Capped | Shape::Functions => "collection",
    };
    let told = namespace.filter(|_| unknown.is_none() && item.shape != Shape::View);
    Item {
        count: told.map(|it| it.documents),
        hash: told.map(|it| it.hash),
        value: definition::of_options(&item.options),
        until: namespace
            .and_then(|it| it.expiry.as_ref())
            .and_then(Expiry::until),
        unknown: unknown.map(str::to_owned),
        ..Item::new(kind, item.namespace())
    }
}

fn of_index(namespace: &str, index: &Document) -> Item {
    let name = index.get_str("name").unwrap_or_default();
    Item {
        value: Some(definition::of_index(index)),
        ..Item::new("index", format!("{namespace}.{name}"))
    }
}

#[cfg(test)]
mod tests;

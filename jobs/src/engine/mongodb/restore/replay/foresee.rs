//! What will be there after a restore of an archive? Told while the archive is made, from what streams by.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Document, RawBson, RawDocument};

use super::{
    super::plan::{Item, Plan, Shape},
    made_by,
    table::{Fate, Table},
};
use crate::{
    engine::mongodb::{
        OURS,
        oplog::{self, Change, Entry, Place},
    },
    error::JobError,
    format::mongodump::Prelude,
};

/// The collections and views of an archive, in the state that its oplog leaves them in.
pub(in crate::engine::mongodb) struct Foreseen {
    table: Table,
    /// The collections whose documents the oplog may have changed.
    touched: BTreeSet<usize>,
    /// By database and name.
    views: BTreeMap<(String, String), Item>,
    /// The views that the oplog may have changed.
    shaken: BTreeSet<(String, String)>,
    /// Whether there is an oplog to replay at all: an empty one is none.
    has_entries: bool,
    /// Whether it has an entry that this build does not understand.
    is_lost: bool,
}

/// What is known of a collection or view after a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::mongodb) enum Outlook {
    /// It comes back as it is in the archive.
    Known,
    /// It comes back, with documents that the oplog changes.
    Changed,
    /// It may come back or not.
    Unsure,
}

impl Foreseen {
    /// Begins with what comes before the documents.
    pub(in crate::engine::mongodb) fn of(prelude: &Prelude) -> Result<Self, JobError> {
        let plan = Plan::ahead(prelude)?;
        let (views, others): (Vec<Item>, Vec<Item>) = plan
            .items
            .into_iter()
            .partition(|it| it.shape == Shape::View);
        let named = |item: Item| {
            let name = item.collection.clone();
            (item, name)
        };
        let by_name = |it: Item| ((it.database.clone(), it.collection.clone()), it);
        Ok(Self {
            table: Table::new(others.into_iter().map(named).collect()),
            touched: BTreeSet::new(),
            views: views.into_iter().map(by_name).collect(),
            shaken: BTreeSet::new(),
            has_entries: false,
            is_lost: false,
        })
    }

    /// Returns the collections that exist so far.
    pub(in crate::engine::mongodb) fn collections(&self) -> impl Iterator<Item = &Item> {
        self.table.items()
    }

    /// Takes the next entry of the oplog. The changes of a transaction count as made, even if it is aborted later.
    pub(in crate::engine::mongodb) fn replay(&mut self, entry: &RawDocument) {
        self.has_entries = true;
        match oplog::read(entry) {
            Ok(Entry::Nothing | Entry::Aborted { .. }) => {}
            Ok(
                Entry::Done(changes) | Entry::Part { changes, .. } | Entry::Last { changes, .. },
            ) => {
                for change in changes {
                    self.apply(change);
                }
            }
            // The dump refuses such an entry.
            Err(_) => self.is_lost = true,
        }
    }

    /// Returns what will be there.
    pub(in crate::engine::mongodb) fn finish(self) -> Vec<(Item, Outlook)> {
        let mut all = Vec::new();
        for (tracked, item, _) in self.table.into_tracked() {
            if (item.is_temporary && self.has_entries) || item.collection.starts_with(OURS) {
                continue;
            }
            let outlook = if self.touched.contains(&tracked) {
                Outlook::Changed
            } else {
                Outlook::Known
            };
            all.push((item, outlook));
        }
        for (name, view) in self.views {
            if !self.shaken.contains(&name) {
                all.push((view, Outlook::Known));
            }
        }
        all.extend(
            self.shaken
                .into_iter()
                .map(|it| (a_view(it), Outlook::Unsure)),
        );
        if self.is_lost {
            for (_, outlook) in &mut all {
                *outlook = Outlook::Unsure;
            }
        }
        all
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Put(at, id, _) | Change::Update(at, id, _) | Change::Remove(at, id) => {
                if at.collection == "system.views" {
                    self.shake(&at, &id);
                } else if let Some(tracked) = self.find(&at) {
                    self.touched.insert(tracked);
                }
            }
            Change::Create(at, options) => self.create(&at, options),
            Change::Drop(at) => {
                if at.collection == "system.views" {
                    let of_it = self.views.keys().filter(|(of, _)| *of == at.database);
                    self.shaken.extend(of_it.cloned());
                } else if let Some(tracked) = self.find(&at) {
                    self.table.forget(tracked);
                }
            }
            Change::Rename {
                from,
                database,
                collection,
                is_temporary,
                replaces,
            } => {
                if let Some(replaced) = replaces.and_then(|it| self.table.by_uuid(it)) {
                    self.table.forget(replaced);
                }
                if let Some(tracked) = self.find(&from) {
                    // Its documents may have been read twice.
                    self.touched.insert(tracked);
                    let renamed = self
                        .table
                        .rename(tracked, &database, collection, is_temporary);
                    self.is_lost |= renamed.is_err();
                }
            }
            Change::AddIndexes(at, indexes) => {
                let Some(tracked) = self.find(&at) else {
                    return;
                };
                for index in indexes {
                    self.is_lost |= self.table.add_index(tracked, index).is_err();
                }
            }
            Change::RemoveIndex(at, index) => {
                if let Some(tracked) = self.find(&at) {
                    self.table.remove_index(tracked, &index);
                }
            }
            Change::Modify(at, mut how) => {
                if let Some(tracked) = self.find(&at) {
                    if let Some(index) = how.remove("index") {
                        self.table.modify_index(tracked, &index);
                    }
                    self.table.modify(tracked, how);
                }
            }
        }
    }

    fn find(&self, at: &Place) -> Option<usize> {
        let name = at.time_series().unwrap_or(&at.collection);
        self.table.find(at.uuid, &at.database, name)
    }

    fn create(&mut self, at: &Place, options: Document) {
        let is_known = at.uuid.is_some_and(|it| self.table.by_uuid(it).is_some());
        if is_known || self.find(at).is_some() || at.collection == "system.views" {
            return;
        }
        let item = made_by(at, &at.database, options);
        let is_in_place = matches!(item.shape, Shape::TimeSeries | Shape::Functions);
        let fate = if is_in_place && self.table.has_name(&item.database, &item.collection) {
            Fate::Gone
        } else {
            Fate::StandsAs(item.collection.clone())
        };
        let tracked = self.table.add(item, fate);
        self.touched.insert(tracked);
    }

    /// Notes a view by its id, `database.name`.
    fn shake(&mut self, at: &Place, id: &RawBson) {
        if let Some((_, name)) = id.as_str().and_then(|id| id.split_once('.')) {
            self.shaken.insert((at.database.clone(), name.to_owned()));
        }
    }
}

/// Returns a view of which only the name is known.
fn a_view((database, collection): (String, String)) -> Item {
    Item {
        place: None,
        database,
        collection,
        shape: Shape::View,
        options: Document::new(),
        indexes: Vec::new(),
        documents: 0,
        uuid: None,
        is_temporary: false,
    }
}

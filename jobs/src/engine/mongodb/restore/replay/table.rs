//! The collections that an oplog is replayed over: their final and their current names, and what waits to be written to
//! them.

use std::collections::HashMap;

use bson::{Bson, Document, RawBson, RawDocumentBuf};
use uuid::Uuid;

use super::{
    super::{metadata, plan::Item},
    pending::Pending,
};
use crate::engine::mongodb::oplog::Unreplayable;

/// How much may wait, in bytes and in documents.
const BYTES_WAITING: usize = 4 * 1024 * 1024;
const DOCUMENTS_WAITING: usize = 4000;

/// Whether a collection exists.
#[derive(Debug)]
pub(super) enum Fate {
    /// It exists under this name.
    StandsAs(String),
    /// It was dropped: later entries about it no longer matter.
    Gone,
}

struct Tracked {
    /// In its current state. Its database and name in the target are the final ones.
    item: Item,
    fate: Fate,
    pending: Pending,
}

pub(super) struct Table {
    all: Vec<Tracked>,
    by_uuid: HashMap<Uuid, usize>,
}

impl Table {
    /// Starts with what was created from the archive.
    pub(super) fn new(items: Vec<(Item, String)>) -> Self {
        let mut table = Self {
            all: Vec::new(),
            by_uuid: HashMap::new(),
        };
        for (item, name) in items {
            table.add(item, Fate::StandsAs(name));
        }
        table
    }

    /// Adds a collection, and returns its index.
    pub(super) fn add(&mut self, item: Item, fate: Fate) -> usize {
        let tracked = self.all.len();
        if let Some(uuid) = item.uuid {
            self.by_uuid.insert(uuid, tracked);
        }
        self.all.push(Tracked {
            item,
            fate,
            pending: Pending::default(),
        });
        tracked
    }

    /// Returns the collection with this UUID, whether it still exists or not.
    pub(super) fn by_uuid(&self, uuid: Uuid) -> Option<usize> {
        self.by_uuid.get(&uuid).copied()
    }

    /// Returns the collection that is meant, if it exists. Falls back to the name if either side has no UUID; an
    /// archive has none for a time series.
    pub(super) fn find(&self, uuid: Option<Uuid>, database: &str, name: &str) -> Option<usize> {
        let known = uuid.and_then(|it| self.by_uuid(it));
        let is_meant = |it: &Tracked| {
            (uuid.is_none() || it.item.uuid.is_none())
                && it.item.database == database
                && it.item.collection == name
                && matches!(it.fate, Fate::StandsAs(_))
        };
        let found = known.or_else(|| self.all.iter().position(is_meant))?;
        self.standing(found).map(|_| found)
    }

    /// Returns whether an existing collection has this name.
    pub(super) fn has_name(&self, database: &str, name: &str) -> bool {
        let mut standing = (0..self.all.len()).filter_map(|it| self.standing(it));
        standing.any(|(item, _)| item.database == database && item.collection == name)
    }

    /// Returns a collection and its current name; `None` if it was dropped.
    pub(super) fn standing(&self, tracked: usize) -> Option<(&Item, &str)> {
        let tracked = self.all.get(tracked)?;
        match &tracked.fate {
            Fate::StandsAs(name) => Some((&tracked.item, name)),
            Fate::Gone => None,
        }
    }

    /// Returns the collections that exist.
    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        let standing = (0..self.all.len()).filter_map(|it| self.standing(it));
        standing.map(|(item, _)| item)
    }

    /// Marks a collection as dropped. Returns it and its last current name.
    pub(super) fn forget(&mut self, tracked: usize) -> Option<(Item, String)> {
        let tracked = self.all.get_mut(tracked)?;
        tracked.pending = Pending::default();
        match std::mem::replace(&mut tracked.fate, Fate::Gone) {
            Fate::StandsAs(name) => Some((tracked.item.clone(), name)),
            Fate::Gone => None,
        }
    }

    pub(super) fn rename(
        &mut self,
        tracked: usize,
        database: &str,
        collection: String,
        is_temporary: bool,
    ) -> Result<(), Unreplayable> {
        let Some(tracked) = self.all.get_mut(tracked) else {
            return Ok(());
        };
        if tracked.item.database != database {
            return Err(Unreplayable::new(
                "a collection that was renamed into another database",
            ));
        }
        tracked.item.collection = collection;
        tracked.item.is_temporary = is_temporary;
        Ok(())
    }

    pub(super) fn put(&mut self, tracked: usize, id: RawBson, document: RawDocumentBuf) {
        if let Some(tracked) = self.all.get_mut(tracked) {
            tracked.pending.put(id, document);
        }
    }

    pub(super) fn update(
        &mut self,
        tracked: usize,
        id: RawBson,
        how: RawDocumentBuf,
    ) -> Result<(), Unreplayable> {
        match self.all.get_mut(tracked) {
            Some(tracked) => tracked.pending.update(id, how),
            None => Ok(()),
        }
    }

    pub(super) fn remove(&mut self, tracked: usize, id: RawBson) {
        if let Some(tracked) = self.all.get_mut(tracked) {
            tracked.pending.remove(id);
        }
    }

    /// Returns whether enough is waiting to be written.
    pub(super) fn is_full(&self) -> bool {
        let waiting = self.all.iter().map(|it| it.pending.measure());
        let (bytes, documents) = waiting.fold((0, 0), |all, it| (all.0 + it.0, all.1 + it.1));
        bytes > BYTES_WAITING || documents > DOCUMENTS_WAITING
    }

    /// Takes everything that waits, with the collection that it belongs to.
    pub(super) fn take_pending(&mut self) -> Vec<(Item, String, Pending)> {
        let mut taken = Vec::new();
        for tracked in &mut self.all {
            let pending = std::mem::take(&mut tracked.pending);
            if let Fate::StandsAs(name) = &tracked.fate
                && pending.measure().1 > 0
            {
                taken.push((tracked.item.clone(), name.clone(), pending));
            }
        }
        taken
    }

    pub(super) fn add_index(
        &mut self,
        tracked: usize,
        index: Document,
    ) -> Result<(), Unreplayable> {
        let Some(tracked) = self.all.get_mut(tracked) else {
            return Ok(());
        };
        let item = &mut tracked.item;
        let index = metadata::index(index, &item.options).map_err(Unreplayable::new)?;
        if let Some(index) = index {
            let name = index.get("name").cloned();
            item.indexes.retain(|it| it.get("name") != name.as_ref());
            item.indexes.push(index);
        }
        Ok(())
    }

    /// Removes an index by its name, or all of them by `*`.
    pub(super) fn remove_index(&mut self, tracked: usize, name: &Bson) {
        if let Some(tracked) = self.all.get_mut(tracked) {
            let indexes = &mut tracked.item.indexes;
            match name.as_str() {
                Some("*") => indexes.clear(),
                Some(_) | None => indexes.retain(|it| it.get("name") != Some(name)),
            }
        }
    }

    /// Records changed options of a collection.
    pub(super) fn modify(&mut self, tracked: usize, how: Document) {
        if let Some(tracked) = self.all.get_mut(tracked) {
            tracked.item.options.extend(how);
        }
    }

    pub(super) fn modify_index(&mut self, tracked: usize, how: &Bson) {
        let (Some(tracked), Some(how)) = (self.all.get_mut(tracked), how.as_document()) else {
            return;
        };
        let is_it = |it: &&mut Document| match (how.get("name"), how.get("keyPattern")) {
            (Some(name), _) => it.get("name") == Some(name),
            (None, Some(key)) => it.get("key") == Some(key),
            (None, None) => false,
        };
        let mut indexes = tracked.item.indexes.iter_mut();
        if let Some(index) = indexes.find(is_it) {
            for (name, value) in how {
                match name.as_str() {
                    "name" | "keyPattern" => {}
                    // As if it had never been set.
                    "hidden" | "prepareUnique" if *value == Bson::Boolean(false) => {
                        index.remove(name);
                    }
                    _ => {
                        index.insert(name, value.clone());
                    }
                }
            }
        }
    }

    /// Returns the collections that exist.
    pub(super) fn into_standing(self) -> Vec<(Item, String)> {
        let tracked = self.into_tracked().into_iter();
        tracked.map(|(_, item, name)| (item, name)).collect()
    }

    /// Returns the collections that exist, each with its index.
    pub(super) fn into_tracked(self) -> Vec<(usize, Item, String)> {
        let all = self.all.into_iter().enumerate();
        let standing = all.filter_map(|(tracked, it)| match it.fate {
            Fate::StandsAs(name) => Some((tracked, it.item, name)),
            Fate::Gone => None,
        });
        standing.collect()
    }
}

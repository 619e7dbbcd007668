//! Replays an archive's oplog over what was restored, with commands that the owner of a database may run.
//!
//! Collections are told apart by their UUIDs, not their names: a name in the archive may belong to another collection
//! than at the first entry. Collections that the oplog creates first get a name of ours, and their own at the end.
//! Indexes are built after all entries, so that no intermediate state can violate a unique one.

mod foresee;
mod pending;
mod table;

use std::collections::BTreeMap;

use bson::{Document, RawDocument, RawDocumentBuf, doc};
use tokio::sync::mpsc;

pub(in crate::engine::mongodb) use self::foresee::{Foreseen, Outlook};
use self::table::{Fate, Table};
use super::{
    collections::kept_views,
    plan::{Item, Plan, Shape},
    source::{Source, oplog_at},
    target::{self, has_code, run},
};
use crate::{
    archive,
    engine::mongodb::{
        oplog::{self, Change, Place, Transactions, Unreplayable},
        session::Session,
    },
    error::{JobError, RestoreFault},
    format::mongodump::{FormatError, Prelude, Reader, Visit},
    worker::Worker,
};

/// How an oplog is replayed.
#[derive(Clone, Copy)]
pub(super) struct Replaying<'a> {
    pub(super) plan: &'a Plan,
    pub(super) part: Part,
    /// The prefix of the names of what the oplog creates.
    pub(super) prefix: &'a str,
}

/// Which of the oplog's collections to create. In a restore in place, those that cannot have a temporary name first are
/// created apart from the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    All,
    /// Those that can be renamed.
    Beside,
    /// Those that cannot.
    InPlace,
}

impl Part {
    fn has(self, shape: Shape) -> bool {
        let is_renamable = match shape {
            Shape::Collection | Shape::Capped => true,
            Shape::View | Shape::TimeSeries | Shape::Functions => false,
        };
        match self {
            Self::All => true,
            Self::Beside => is_renamable,
            Self::InPlace => !is_renamable,
        }
    }
}

/// What exists after the last entry.
pub(super) struct Replayed {
    /// Collections, each with its current name.
    pub(super) items: Vec<(Item, String)>,
    pub(super) views: Option<Vec<Item>>,
    pub(super) notes: Vec<String>,
}

/// Replays the archive's oplog over these collections, which have their documents but no indexes.
pub(super) async fn replay(
    session: &Session,
    source: &Source<'_>,
    items: Vec<(Item, String)>,
    how: Replaying<'_>,
    worker: &Worker,
) -> Result<Replayed, JobError> {
    let mut replay = Replay {
        session,
        how,
        table: Table::new(items),
        views: kept_views(&how.plan.items),
        created: 0,
        notes: Vec::new(),
    };
    let manifest = source.manifest;
    let mut reading = archive::open(
        &worker.storage,
        &*worker.keyring,
        &manifest.archive,
        &manifest.dump,
    )
    .await?;
    // Never holds more than one chunk of the archive yields.
    let (entries, mut waiting) = mpsc::unbounded_channel();
    let mut reader = Reader::new(Entries {
        oplog_at: None,
        entries,
    });
    let mut transactions = Transactions::default();
    let mut pass = worker.progress.pass();
    while let Some(chunk) = reading.next().await {
        pass.add(chunk.len() as u64);
        reader.feed(&chunk).map_err(|why| source.damaged(why))?;
        while let Ok(entry) = waiting.try_recv() {
            let entry = oplog::read(&entry).map_err(unreplayable)?;
            for change in transactions.take(entry) {
                replay.apply(change).await?;
            }
        }
    }
    reading.finish().await?;
    reader.finish().map_err(|why| source.damaged(why))?;
    replay.finish().await
}

struct Replay<'a> {
    session: &'a Session,
    how: Replaying<'a>,
    table: Table,
    /// By database and name.
    views: BTreeMap<(String, String), Item>,
    /// How many collections were created.
    created: usize,
    notes: Vec<String>,
}

impl Replay<'_> {
    async fn apply(&mut self, change: Change) -> Result<(), JobError> {
        match change {
            Change::Put(at, id, document) => {
                if at.collection == "system.views" {
                    self.put_view(&at, &document);
                } else if let Some(tracked) = self.find(&at) {
                    self.table.put(tracked, id, document);
                    self.flush_if_full().await?;
                }
            }
            Change::Update(at, id, how) => {
                if at.collection == "system.views" {
                    self.update_view(&at, &id, &how)?;
                } else if let Some(tracked) = self.find(&at) {
                    self.table.update(tracked, id, how).map_err(unreplayable)?;
                    self.flush_if_full().await?;
                }
            }
            Change::Remove(at, id) => {
                if at.collection == "system.views" {
                    if let Some(name) = id.as_str().and_then(|id| self.view_name(&at, id)) {
                        self.views.remove(&name);
                    }
                } else if let Some(tracked) = self.find(&at) {
                    self.table.remove(tracked, id);
                    self.flush_if_full().await?;
                }
            }
            Change::Create(at, options) => self.create(&at, options).await?,
            Change::Drop(at) => {
                if at.collection == "system.views" {
                    let database = self.database(&at.database).to_owned();
                    self.views.retain(|(of, _), _| *of != database);
                } else if let Some(tracked) = self.find(&at) {
                    self.drop(tracked).await?;
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
                    self.drop(replaced).await?;
                }
                let database = self.database(&database).to_owned();
                if let Some(tracked) = self.find(&from) {
                    let renamed = self
                        .table
                        .rename(tracked, &database, collection, is_temporary);
                    renamed.map_err(unreplayable)?;
                }
            }
            Change::AddIndexes(at, indexes) => {
                if let Some(tracked) = self.find(&at) {
                    for index in indexes {
                        self.table.add_index(tracked, index).map_err(unreplayable)?;
                    }
                }
            }
            Change::RemoveIndex(at, index) => {
                if let Some(tracked) = self.find(&at) {
                    self.table.remove_index(tracked, &index);
                }
            }
            Change::Modify(at, how) => {
                if let Some(tracked) = self.find(&at) {
                    self.modify(tracked, how).await?;
                }
            }
        }
        Ok(())
    }

    /// Returns the current name of one of the archive's databases.
    fn database<'n>(&'n self, archived: &'n str) -> &'n str {
        self.how.plan.renamed.as_deref().unwrap_or(archived)
    }

    fn find(&self, at: &Place) -> Option<usize> {
        let name = at.time_series().unwrap_or(&at.collection);
        self.table.find(at.uuid, self.database(&at.database), name)
    }

    async fn create(&mut self, at: &Place, options: Document) -> Result<(), JobError> {
        let name = at.time_series().unwrap_or(&at.collection);
        let is_known = at.uuid.is_some_and(|it| self.table.by_uuid(it).is_some());
        if is_known || self.find(at).is_some() || at.collection == "system.views" {
            // It was created before its documents were read.
            return Ok(());
        }
        let item = made_by(at, self.database(&at.database), options);
        let shape = item.shape;
        if !self.how.part.has(shape) {
            return Ok(());
        }
        let stands_as = match shape {
            Shape::Collection | Shape::Capped | Shape::View => {
                self.created += 1;
                format!("{}o{}", self.how.prefix, self.created)
            }
            Shape::TimeSeries | Shape::Functions => {
                // A later collection already has this name, so this one was dropped before that was created.
                if self.table.has_name(&item.database, name) {
                    self.table.add(item, Fate::Gone);
                    return Ok(());
                }
                name.to_owned()
            }
        };
        target::drop(self.session, &item.database, &stands_as).await?;
        target::create(self.session, &item, &stands_as).await?;
        self.table.add(item, Fate::StandsAs(stands_as));
        Ok(())
    }

    async fn drop(&mut self, tracked: usize) -> Result<(), JobError> {
        if let Some((item, name)) = self.table.forget(tracked) {
            target::drop(self.session, &item.database, &name).await?;
        }
        Ok(())
    }

    /// Changes options of a collection or of an index.
    async fn modify(&mut self, tracked: usize, mut how: Document) -> Result<(), JobError> {
        if let Some(index) = how.remove("index") {
            self.table.modify_index(tracked, &index);
        }
        let Some((item, name)) = self.table.standing(tracked).filter(|_| !how.is_empty()) else {
            return Ok(());
        };
        let (database, namespace) = (item.database.clone(), item.namespace());
        let mut command = doc! {"collMod": name};
        command.extend(how.clone());
        command.insert("writeConcern", doc! {"w": "majority"});
        match run(
            self.session,
            "change a collection's options",
            &database,
            command,
        )
        .await
        {
            Ok(_) => self.table.modify(tracked, how),
            Err(error) if target::refusal(&error).is_some() => {
                let how = bson::Bson::from(how).into_relaxed_extjson();
                self.notes.push(format!(
                    "options of {namespace} were changed while it was backed up, and the server refuses the change now ({error}): \
                     {how}"
                ));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn view_name(&self, at: &Place, id: &str) -> Option<(String, String)> {
        let (_, name) = id.split_once('.')?;
        Some((self.database(&at.database).to_owned(), name.to_owned()))
    }

    fn put_view(&mut self, at: &Place, document: &RawDocument) {
        let Ok(mut options) = Document::try_from(document) else {
            return;
        };
        let id = options.remove("_id");
        let id = id.as_ref().and_then(|it| it.as_str());
        let Some(name) = id.and_then(|id| self.view_name(at, id)) else {
            return;
        };
        let shows = options.get_str("viewOn").unwrap_or_default();
        if shows.starts_with("system.buckets.") {
            // The view of a time series, which comes with it.
            return;
        }
        let (database, collection) = name.clone();
        let view = Item {
            place: None,
            database,
            collection,
            shape: Shape::View,
            options,
            indexes: Vec::new(),
            documents: 0,
            uuid: None,
            is_temporary: false,
        };
        self.views.insert(name, view);
    }

    fn update_view(
        &mut self,
        at: &Place,
        id: &bson::RawBson,
        how: &RawDocument,
    ) -> Result<(), JobError> {
        let Some(id) = id.as_str() else {
            return Ok(());
        };
        let view = self.view_name(at, id).and_then(|it| self.views.get(&it));
        let Some(view) = view else {
            return Ok(());
        };
        let mut before = doc! {"_id": id};
        before.extend(view.options.clone());
        let broken = |_| unreplayable(Unreplayable::broken());
        let before = RawDocumentBuf::try_from(&before).map_err(broken)?;
        let after = oplog::apply(&before, how).map_err(unreplayable)?;
        self.put_view(at, &after);
        Ok(())
    }

    async fn flush_if_full(&mut self) -> Result<(), JobError> {
        if self.table.is_full() {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), JobError> {
        for (item, name, pending) in self.table.take_pending() {
            pending::write(self.session, &item, &name, pending).await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Replayed, JobError> {
        self.flush().await?;
        let mut items = Vec::new();
        for (mut item, name) in self.table.into_standing() {
            if item.is_temporary || item.collection.starts_with(crate::engine::mongodb::OURS) {
                target::drop(self.session, &item.database, &name).await?;
                continue;
            }
            item.documents = count(self.session, &item, &name).await?;
            items.push((item, name));
        }
        Ok(Replayed {
            items,
            views: Some(self.views.into_values().collect()),
            notes: self.notes,
        })
    }
}

/// Returns the collection that an oplog creates here.
fn made_by(at: &Place, database: &str, mut options: Document) -> Item {
    let is_temporary = super::metadata::strip(&mut options);
    let shape = if at.time_series().is_some() {
        // The server itself adds the rest of what makes them buckets.
        options.remove("validator");
        options.remove("clusteredIndex");
        Shape::TimeSeries
    } else if at.collection == "system.js" {
        Shape::Functions
    } else if options.get_bool("capped").unwrap_or(false) {
        Shape::Capped
    } else {
        Shape::Collection
    };
    Item {
        place: None,
        database: database.to_owned(),
        collection: at.time_series().unwrap_or(&at.collection).to_owned(),
        shape,
        options,
        indexes: Vec::new(),
        documents: 0,
        uuid: at.uuid,
        is_temporary,
    }
}

/// Returns the number of documents that an item has.
async fn count(session: &Session, item: &Item, name: &str) -> Result<u64, JobError> {
    let Some(destination) = target::destination(session, item, name) else {
        return Ok(0);
    };
    let command = doc! {"count": &destination.collection};
    let counted = run(session, "count documents", &item.database, command).await;
    match counted {
        Ok(told) => {
            let found = crate::engine::mongodb::session::number(&told, "n");
            Ok(found
                .and_then(|it| u64::try_from(it).ok())
                .unwrap_or_default())
        }
        // A role that may fill a time series need not have the right to count its buckets.
        Err(JobError::Denied { .. }) => Ok(item.documents),
        Err(error) if has_code(&error, "13") => Ok(item.documents),
        Err(error) => Err(error),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what `map_err` hands over"
)]
fn unreplayable(why: Unreplayable) -> JobError {
    RestoreFault::OplogEntry {
        why: why.to_string(),
    }
    .into()
}

/// Passes on the entries of the oplog as the archive streams by.
struct Entries {
    oplog_at: Option<usize>,
    entries: mpsc::UnboundedSender<RawDocumentBuf>,
}

impl Visit for Entries {
    fn prelude(&mut self, prelude: &Prelude) -> Result<(), FormatError> {
        self.oplog_at = oplog_at(prelude);
        Ok(())
    }

    fn document(&mut self, place: usize, raw: &[u8]) -> Result<(), FormatError> {
        if self.oplog_at == Some(place) {
            let entry = RawDocumentBuf::from_bytes(raw.to_vec());
            let entry = entry.map_err(|error| FormatError::Refused {
                why: error.to_string(),
            })?;
            // The caller that feeds the reader holds the other end.
            let _taken = self.entries.send(entry);
        }
        Ok(())
    }

    fn end(&mut self, _: usize) -> Result<(), FormatError> {
        Ok(())
    }
}

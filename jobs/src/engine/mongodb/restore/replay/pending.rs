//! Document changes that wait to be written, and how they are: one write per document, however often it changed.

use std::collections::HashMap;

use bson::{Bson, Document, RawBson, RawDocument, RawDocumentBuf, doc};
use futures::TryStreamExt as _;

use super::super::{
    batch::{Batch, Destination, Stored},
    insert::insert,
    plan::{Item, Shape},
    target::{destination, run},
};
use crate::{
    engine::mongodb::{
        oplog::{self, Unreplayable},
        session::{Session, answer},
    },
    error::{JobError, RestoreFault, ServerFault},
};

/// How many documents are fetched or removed at once.
const IDS_AT_ONCE: usize = 500;
const DOING: &str = "replay the oplog";

/// The changes to one collection's documents, in the order in which the documents first changed.
#[derive(Default)]
pub(in crate::engine::mongodb::restore) struct Pending {
    /// By the bytes of `_id`.
    places: HashMap<Vec<u8>, usize>,
    documents: Vec<(RawBson, State)>,
    /// Stands in for a document that is missing; never used.
    none: Option<State>,
    bytes: usize,
}

/// What is known of a document.
enum State {
    Whole(RawDocumentBuf),
    Gone,
    /// Changes to the document that the server has.
    Changed(Vec<RawDocumentBuf>),
}

impl Pending {
    pub(super) fn put(&mut self, id: RawBson, document: RawDocumentBuf) {
        self.bytes += document.as_bytes().len();
        *self.of(id) = State::Whole(document);
    }

    pub(super) fn remove(&mut self, id: RawBson) {
        *self.of(id) = State::Gone;
    }

    pub(super) fn update(&mut self, id: RawBson, how: RawDocumentBuf) -> Result<(), Unreplayable> {
        self.bytes += how.as_bytes().len();
        match self.of(id) {
            State::Whole(document) => *document = oplog::apply(document, &how)?,
            // It is gone, so a later entry removes it or creates it again.
            State::Gone => {}
            State::Changed(all) => all.push(how),
        }
        Ok(())
    }

    /// Returns how much waits, in bytes and in documents.
    pub(super) fn measure(&self) -> (usize, usize) {
        (self.bytes, self.documents.len())
    }

    fn of(&mut self, id: RawBson) -> &mut State {
        let place = *self.places.entry(key(&id)).or_insert_with(|| {
            self.documents.push((id, State::Changed(Vec::new())));
            self.documents.len() - 1
        });
        match self.documents.get_mut(place) {
            Some((_, state)) => state,
            // Never: the index is always that of a pushed document.
            None => self.none.insert(State::Gone),
        }
    }
}

fn key(id: &RawBson) -> Vec<u8> {
    let mut document = RawDocumentBuf::new();
    document.append(bson::cstr!("_id"), id.as_raw_bson_ref());
    document.into_bytes()
}

/// Writes what waits for a collection.
pub(super) async fn write(
    session: &Session,
    item: &Item,
    name: &str,
    pending: Pending,
) -> Result<(), JobError> {
    let Some(destination) = destination(session, item, name) else {
        return Ok(());
    };
    let is_capped = item.shape == Shape::Capped;
    let is_asked = |state: &State| is_capped || matches!(state, State::Changed(_));
    let asked = pending.documents.iter().filter(|(_, it)| is_asked(it));
    let asked: Vec<Bson> = asked.map(|(id, _)| plain(id)).collect::<Result<_, _>>()?;
    let there = fetch(session, &destination, &asked).await?;
    let (mut removed, mut put, mut replaced) = (Vec::new(), Vec::new(), Vec::new());
    for (id, state) in pending.documents {
        let there = there.get(&key(&id));
        let new = match state {
            State::Whole(document) => Some(document),
            State::Gone => None,
            State::Changed(all) => match there {
                Some(there) => Some(apply_all(there, &all)?),
                // It was removed before its collection was read; a later entry removes it too.
                None => continue,
            },
        };
        match (new, there) {
            // A capped collection drops old documents by itself and keeps the order of the others.
            (None, _) if is_capped => {}
            (Some(new), Some(there)) if is_capped => {
                if new != *there {
                    replaced.push((id, new));
                }
            }
            (Some(new), None) if is_capped => put.push(new),
            (new, _) => {
                removed.push(plain(&id)?);
                put.extend(new);
            }
        }
    }
    remove(session, &destination, &removed).await?;
    for (id, new) in replaced {
        replace(session, &destination, &id, &new).await?;
    }
    insert_all(session, &destination, &put).await
}

fn plain(id: &RawBson) -> Result<Bson, JobError> {
    Bson::try_from(id.clone()).map_err(|error| refused(&error))
}

fn apply_all(there: &RawDocument, all: &[RawDocumentBuf]) -> Result<RawDocumentBuf, JobError> {
    let mut new = there.to_owned();
    for how in all {
        new = oplog::apply(&new, how).map_err(super::unreplayable)?;
    }
    Ok(new)
}

/// Returns the documents with these ids, by their keys.
async fn fetch(
    session: &Session,
    destination: &Destination,
    ids: &[Bson],
) -> Result<HashMap<Vec<u8>, RawDocumentBuf>, JobError> {
    let mut found = HashMap::new();
    let database = session.client.database(&destination.database);
    for ids in ids.chunks(IDS_AT_ONCE) {
        let mut find = doc! {"find": &destination.collection, "filter": {"_id": {"$in": ids}}};
        as_stored(&mut find, destination);
        let asked = database
            .run_cursor_command(find)
            .selection_criteria(session.read.clone());
        let cursor = answer(DOING, asked).await?.with_type::<RawDocumentBuf>();
        let documents: Vec<RawDocumentBuf> = answer(DOING, cursor.try_collect()).await?;
        for document in documents {
            let id = document.get("_id").ok().flatten().map(RawBson::from);
            if let Some(id) = id {
                found.insert(key(&id), document);
            }
        }
    }
    Ok(found)
}

async fn remove(
    session: &Session,
    destination: &Destination,
    ids: &[Bson],
) -> Result<(), JobError> {
    for ids in ids.chunks(IDS_AT_ONCE) {
        let those = doc! {"q": {"_id": {"$in": ids}}, "limit": 0};
        let mut command = doc! {
            "delete": &destination.collection, "deletes": [those], "writeConcern": {"w": "majority"},
        };
        as_stored(&mut command, destination);
        run(session, DOING, &destination.database, command).await?;
    }
    Ok(())
}

async fn replace(
    session: &Session,
    destination: &Destination,
    id: &RawBson,
    new: &RawDocument,
) -> Result<(), JobError> {
    let new = Document::try_from(new).map_err(|error| refused(&error))?;
    let update = doc! {"q": {"_id": plain(id)?}, "u": new};
    let command = doc! {
        "update": &destination.collection, "updates": [update], "bypassDocumentValidation": true,
        "writeConcern": {"w": "majority"},
    };
    run(session, DOING, &destination.database, command)
        .await
        .map(|_| ())
}

async fn insert_all(
    session: &Session,
    destination: &Destination,
    documents: &[RawDocumentBuf],
) -> Result<(), JobError> {
    let new = || Batch::new(0, destination).map_err(|error| refused(&error));
    let mut batch = new()?;
    for document in documents {
        let document = document.as_bytes();
        if batch.is_full_for(document) {
            let full = std::mem::replace(&mut batch, new()?);
            insert(session.client.clone(), destination.clone(), full).await?;
        }
        batch.push(document);
    }
    if batch.documents > 0 {
        insert(session.client.clone(), destination.clone(), batch).await?;
    }
    Ok(())
}

fn as_stored(command: &mut Document, destination: &Destination) {
    if destination.stored == Stored::AsRawData {
        command.insert("rawData", true);
    }
}

fn refused(error: &bson::error::Error) -> JobError {
    RestoreFault::OplogEntry {
        why: ServerFault::new(error.to_string(), None).to_string(),
    }
    .into()
}

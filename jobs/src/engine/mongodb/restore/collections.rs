//! Creates, fills and indexes collections and time series, and creates views.

use std::collections::BTreeMap;

use bson::doc;

use super::{
    batch::{Destination, Doubles},
    fill::fill,
    indexes,
    plan::{Item, Shape},
    replay::{Replaying, replay},
    source::Source,
    target::{create, destination, refusal, run},
};
use crate::{
    engine::mongodb::session::{Session, number},
    error::{JobError, MongodbError, RestoreFault},
    manifest::Consistency,
    worker::Worker,
};

/// An item and the name of the collection that is created for it.
pub(super) type Named<'a> = (&'a Item, String);

/// What to report about the collections that were created.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) notes: Vec<String>,
    /// How many indexes the server refused.
    pub(super) indexes_refused: usize,
    /// What was created except views, in its state after the oplog, if there is one, each with its current name.
    pub(super) items: Vec<(Item, String)>,
    /// The views in their state after the oplog, if there is one.
    pub(super) views: Option<Vec<Item>>,
}

impl Made {
    pub(super) fn just(notes: Vec<String>) -> Self {
        Self {
            notes,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.notes.extend(other.notes);
        self.indexes_refused += other.indexes_refused;
        self.items.extend(other.items);
        self.views = other.views.or(self.views.take());
    }
}

/// Creates these items, except views, under these names, fills them from the archive, replays the oplog over them, and
/// builds their indexes.
///
/// Documents of other namespaces of the archive go to the destinations in `besides`.
pub(super) async fn make(
    session: &Session,
    source: &Source<'_>,
    items: &[Named<'_>],
    besides: Vec<(usize, Destination)>,
    replaying: Replaying<'_>,
    worker: &Worker,
) -> Result<Made, JobError> {
    // The documents were read while others wrote.
    let may_double = source.oplog.is_some() || source.manifest.consistency == Consistency::None;
    let mut destinations = vec![None; source.prelude.namespaces.len()];
    let theirs = items.iter().filter_map(|(item, name)| {
        let mut destination = destination(session, item, name)?;
        if may_double {
            destination.doubles = Doubles::Passed;
        }
        Some((item.place?, destination))
    });
    for (place, destination) in theirs.chain(besides) {
        if let Some(slot) = destinations.get_mut(place) {
            *slot = Some(destination);
        }
    }
    for (item, name) in items.iter().filter(|it| it.0.shape != Shape::View) {
        create(session, item, name).await?;
    }
    let mut made = Made::default();
    let filled = fill(session, source, destinations.into(), worker).await?;
    let replaced = filled.timestamps_replaced;
    if replaced > 0 {
        made.notes.push(format!(
            "{replaced} documents had an empty timestamp, Timestamp(0, 0), which this server version replaced with the \
             time of the restore: if they matter, upgrade the server to 8.0 and restore once more"
        ));
    }
    for (item, name) in items.iter().filter(|it| it.0.shape == Shape::Collection) {
        let doubles = item.place.and_then(|place| filled.doubles.get(place));
        let expected = item.documents - doubles.copied().unwrap_or_default();
        make_sure_of(session, item, name, expected).await?;
    }
    let is_no_view = |it: &&Named<'_>| it.0.shape != Shape::View;
    let those = items.iter().filter(is_no_view);
    made.items = those
        .map(|(item, name)| ((*item).clone(), name.clone()))
        .collect();
    if source.oplog.is_some() {
        let outcome = replay(session, source, made.items, replaying, worker).await?;
        made.items = outcome.items;
        made.views = outcome.views;
        made.notes.extend(outcome.notes);
    }
    for (item, name) in &made.items {
        let (refused, notes) = indexes::build(session, item, name).await?;
        made.notes.extend(notes);
        made.indexes_refused += refused.len();
        made.notes.extend(refused);
    }
    Ok(made)
}

/// Fails if the server has fewer documents than it confirmed: dropping a collection while it is filled loses some of
/// them.
///
/// Checked before the indexes are built, because a TTL index may remove documents.
async fn make_sure_of(
    session: &Session,
    item: &Item,
    name: &str,
    expected: u64,
) -> Result<(), JobError> {
    let command = doc! {"count": name};
    let count = run(session, "count documents", &item.database, command).await?;
    let found = number(&count, "n").and_then(|it| u64::try_from(it).ok());
    let found = found.unwrap_or_default();
    if found >= expected {
        return Ok(());
    }
    Err(RestoreFault::CountDiffers {
        namespace: item.namespace(),
        expected,
        found,
    }
    .into())
}

/// Creates the views among these items, each after the views that it depends on.
pub(super) async fn make_views(session: &Session, items: &[Item]) -> Result<(), JobError> {
    let is_view = |item: &&Item| item.shape == Shape::View;
    let mut waiting: Vec<&Item> = items.iter().filter(is_view).collect();
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut refused = Vec::new();
        let mut first_error = None;
        for view in waiting {
            match create(session, view, &view.collection).await {
                Ok(()) => {}
                // It may depend on a view that does not exist yet.
                Err(error) if refusal(&error).is_some() || is_creation_refused(&error) => {
                    refused.push(view);
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        waiting = refused;
        if let Some(error) = first_error.filter(|_| waiting.len() == before) {
            return Err(error);
        }
    }
    Ok(())
}

fn is_creation_refused(error: &JobError) -> bool {
    matches!(
        error,
        JobError::Mongodb(MongodbError::Restore(RestoreFault::CreationRefused { .. }))
    )
}

/// Returns the views among these items by database and name.
pub(super) fn kept_views(items: &[Item]) -> BTreeMap<(String, String), Item> {
    let views = items.iter().filter(|it| it.shape == Shape::View);
    let named = views.map(|it| ((it.database.clone(), it.collection.clone()), it.clone()));
    named.collect()
}

/// Returns the number of indexes: those that were built, and the one on `_id` that every collection has.
pub(super) fn count_indexes(items: &[Item], refused: usize) -> u64 {
    let of = |item: &Item| match item.shape {
        Shape::View => 0,
        Shape::TimeSeries => item.indexes.len(),
        Shape::Collection | Shape::Capped | Shape::Functions => item.indexes.len() + 1,
    };
    let all: usize = items.iter().map(of).sum();
    all.saturating_sub(refused) as u64
}

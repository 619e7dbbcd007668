//! Collections and time series, made, filled and indexed; views.

use bson::doc;

use super::{
    batch::Destination,
    fill::fill,
    indexes,
    plan::{Item, Shape},
    source::Source,
    target::{create, destination, refusal, run},
};
use crate::{
    engine::mongodb::{
        MongodbError, RestoreFault,
        session::{Session, number},
    },
    error::JobError,
    worker::Worker,
};

/// An item, and the name of the collection that is made for it.
pub(super) type Named<'a> = (&'a Item, String);

/// What is to be told of collections that were made.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) notes: Vec<String>,
    /// How many indexes the server refused.
    pub(super) indexes_refused: usize,
}

impl Made {
    pub(super) fn just(notes: Vec<String>) -> Self {
        Self {
            notes,
            indexes_refused: 0,
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.notes.extend(other.notes);
        self.indexes_refused += other.indexes_refused;
    }
}

/// Makes these items under these names, all but views, fills them from the archive, and builds their indexes.
///
/// Documents of other places in the archive go to the destinations in `besides`.
pub(super) async fn make(
    session: &Session,
    source: &Source<'_>,
    items: &[Named<'_>],
    besides: Vec<(usize, Destination)>,
    worker: &Worker,
) -> Result<Made, JobError> {
    let mut destinations = vec![None; source.prelude.namespaces.len()];
    let theirs = items.iter().filter_map(|(item, name)| {
        let destination = destination(session, item, name)?;
        Some((item.place, destination))
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
    let replaced = fill(session, source, destinations.into(), worker).await?;
    if replaced > 0 {
        made.notes.push(format!(
            "{replaced} documents have an empty timestamp, Timestamp(0, 0), where this server version put the time of the \
             restore: upgrade the server to 8.0 and restore once more if they matter"
        ));
    }
    for (item, name) in items.iter().filter(|it| it.0.shape == Shape::Collection) {
        make_sure_of(session, item, name).await?;
    }
    for (item, name) in items.iter().filter(|it| it.0.shape != Shape::View) {
        let refused = indexes::build(session, item, name).await?;
        made.indexes_refused += refused.len();
        made.notes.extend(refused);
    }
    Ok(made)
}

/// Makes sure, before an index may expire any, that the server has as many documents as it has confirmed: whoever drops a
/// collection while it is filled takes some of them along.
async fn make_sure_of(session: &Session, item: &Item, name: &str) -> Result<(), JobError> {
    let command = doc! {"count": name};
    let count = run(session, "count documents", &item.database, command).await?;
    let found = number(&count, "n").and_then(|it| u64::try_from(it).ok());
    let (expected, found) = (item.documents, found.unwrap_or_default());
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

/// Makes the views among these items, each after what it shows.
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
                // It may show another view that is not there yet.
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

/// Returns how many indexes there are now: those that were built, and the one on `_id` that every collection has.
pub(super) fn count_indexes(items: &[Item], refused: usize) -> u64 {
    let of = |item: &Item| match item.shape {
        Shape::View => 0,
        Shape::TimeSeries => item.indexes.len(),
        Shape::Collection | Shape::Capped | Shape::Functions => item.indexes.len() + 1,
    };
    let all: usize = items.iter().map(of).sum();
    all.saturating_sub(refused) as u64
}

//! Restores into a target that must be empty: a database, or all the databases of an archive.
//!
//! The run's mark is set first and removed last. A failure drops what was created. If a worker is killed, the run's
//! next attempt recognises the leftovers by the mark, drops them and starts again.

use std::{collections::BTreeSet, time::Duration};

use bson::doc;

use super::{
    Target,
    access::{self, Merge},
    alive,
    collections::{self, Made},
    mark::{self, MARK},
    plan::{Item, Plan, Shape},
    replay::{Part, Replaying},
    restored,
    same::has_the_same,
    source::{self, Source},
    target::{self, Found, contents, prefix, run},
};
use crate::{
    attempt::Attempt,
    engine::{
        answer::Restored,
        mongodb::session::{Session, number},
    },
    error::{ErrorKind, JobError, RestoreFault},
    manifest::Manifest,
    worker::Worker,
};

/// How long the clean-up after a failure may take; otherwise the next attempt does it.
const UNDO_TIMEOUT: Duration = Duration::from_mins(2);
/// How many names of existing objects an error shows.
const EXAMPLES: usize = 5;

/// Restores into databases that hold nothing of their users'.
pub(super) async fn into_empty(
    attempt: Attempt,
    target: &Target,
    manifest: &Manifest,
    worker: &Worker,
) -> Result<Restored, JobError> {
    let session = &target.session;
    let known = target.renamed.as_deref().or(source::database(manifest)?);
    if let Some(database) = known.filter(|_| !attempt.epoch.has_predecessor()) {
        // Checked long before the archive is read: in a first attempt, everything that is there is somebody else's.
        let found = besides_mark(contents(session, database).await?);
        refuse(attempt, database, &found)?;
    }
    let source = Source::verify(manifest, worker).await?;
    let plan = Plan::new(&source, target.renamed.as_deref())?;
    let databases = plan.databases();
    let Some(home) = databases.first().copied() else {
        let notes = vec!["the backup has no collections".to_owned()];
        return Ok(restored(&source, &plan, known, Made::just(notes)));
    };
    match occupancy(session, &source, &plan, home, attempt, worker).await? {
        Occupancy::Nobody | Occupancy::ThisRun => {}
        Occupancy::Done => {
            let notes =
                vec!["an earlier attempt of this run had already finished the restore".to_owned()];
            return Ok(restored(&source, &plan, known, Made::just(notes)));
        }
    }
    let (merge, notes) = access::prepare(session, &plan, attempt.run).await?;
    alive(worker).await?;
    mark::set(session, home, attempt.run).await?;
    match make(attempt, session, &source, &plan, merge, worker).await {
        Ok(mut made) => {
            if !mark::is_set(session, home, attempt.run).await? {
                // The run that took over the target may have dropped what was filled.
                let database = home.to_owned();
                return Err(RestoreFault::TakenOver { database }.into());
            }
            mark::remove(session, home).await?;
            made.notes.extend(notes);
            Ok(restored(&source, &plan, known, made))
        }
        Err(error) => {
            undo(attempt, session, &plan, home, &error, worker).await;
            Err(error)
        }
    }
}

/// Who has filled the target.
enum Occupancy {
    /// The target is empty.
    Nobody,
    /// An earlier attempt of this run has started to fill it.
    ThisRun,
    /// An earlier attempt of this run has completed it: it holds the archive's documents and no others.
    Done,
}

async fn occupancy(
    session: &Session,
    source: &Source<'_>,
    plan: &Plan,
    home: &str,
    attempt: Attempt,
    worker: &Worker,
) -> Result<Occupancy, JobError> {
    let mut found = Vec::new();
    for database in plan.databases() {
        found.push((database, contents(session, database).await?));
    }
    if mark::is_set(session, home, attempt.run).await? {
        for (database, found) in found {
            let mut ours = plan.names(database);
            ours.extend((database == home).then_some(MARK));
            let prefix = prefix(attempt);
            let is_strange =
                |it: &Found| !ours.contains(it.name.as_str()) && !it.name.starts_with(&prefix);
            let strange: Vec<_> = found.into_iter().filter(is_strange).collect();
            refuse(attempt, database, &strange)?;
        }
        return Ok(Occupancy::ThisRun);
    }
    for (_, found) in &mut found {
        *found = besides_mark(std::mem::take(found));
    }
    if found.iter().all(|(_, found)| found.is_empty()) {
        return Ok(Occupancy::Nobody);
    }
    // Equal counts prove little: an earlier attempt may never have got this far, and the documents may be somebody's
    // who wants the state of the backup back.
    if attempt.epoch.has_predecessor()
        && is_done(session, plan, &found).await?
        && has_the_same(session, source, plan, worker).await?
    {
        return Ok(Occupancy::Done);
    }
    for (database, found) in found {
        refuse(attempt, database, &found)?;
    }
    Ok(Occupancy::Nobody)
}

/// Returns whether the databases have exactly the archive's collections, with the same number of documents.
async fn is_done(
    session: &Session,
    plan: &Plan,
    found: &[(&str, Vec<Found>)],
) -> Result<bool, JobError> {
    for (database, found) in found {
        let found: BTreeSet<_> = found.iter().map(|it| it.name.as_str()).collect();
        if found != plan.names(database) || !has_all(session, plan, database).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Ignores a mark if it is all there is: it is left over from a run that failed.
fn besides_mark(found: Vec<Found>) -> Vec<Found> {
    match &found[..] {
        [only] if only.name == MARK => Vec::new(),
        _ => found,
    }
}

/// Returns whether each collection of the plan has as many documents as in the archive.
async fn has_all(session: &Session, plan: &Plan, database: &str) -> Result<bool, JobError> {
    let counted = |it: &&Item| match it.shape {
        Shape::Collection | Shape::Capped | Shape::Functions => it.database == database,
        // A view shows the documents of others, and a time series shows other documents than its buckets.
        Shape::View | Shape::TimeSeries => false,
    };
    for item in plan.items.iter().filter(counted) {
        let command = doc! {"count": &item.collection};
        let count = run(session, "count documents", database, command).await?;
        if number(&count, "n").and_then(|it| u64::try_from(it).ok()) != Some(item.documents) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Fails if anything is in the way.
fn refuse(attempt: Attempt, database: &str, found: &[Found]) -> Result<(), JobError> {
    if found.is_empty() {
        return Ok(());
    }
    let shown = found.iter().take(EXAMPLES);
    let mut shown: Vec<_> = shown.map(|it| format!("{} {}", it.kind, it.name)).collect();
    if found.len() > EXAMPLES {
        shown.push(format!("{} more", found.len() - EXAMPLES));
    }
    let (database, found) = (database.to_owned(), shown.join(", "));
    Err(match attempt.epoch.0 {
        ..=1 => JobError::TargetNotEmpty { database, found },
        _ => JobError::PerhapsFilledBefore { database, found },
    })
}

/// Creates everything in the plan.
async fn make(
    attempt: Attempt,
    session: &Session,
    source: &Source<'_>,
    plan: &Plan,
    merge: Merge<'_>,
    worker: &Worker,
) -> Result<Made, JobError> {
    merge.clear(session).await?;
    let items: Vec<_> = plan
        .items
        .iter()
        .map(|item| (item, item.collection.clone()))
        .collect();
    // An earlier attempt may have filled them only half.
    for (item, name) in &items {
        target::drop(session, &item.database, name).await?;
    }
    let prefix = prefix(attempt);
    drop_oplogs(session, plan, &prefix).await?;
    let besides = merge.destinations(session);
    let replaying = Replaying {
        plan,
        part: Part::All,
        prefix: &prefix,
    };
    let mut made = collections::make(session, source, &items, besides, replaying, worker).await?;
    settle(session, &mut made.items, &prefix).await?;
    collections::make_views(session, made.views.as_ref().unwrap_or(&plan.items)).await?;
    merge.finish(session).await?;
    Ok(made)
}

/// Drops what a replay of the oplog has created.
async fn drop_oplogs(session: &Session, plan: &Plan, prefix: &str) -> Result<(), JobError> {
    if plan.oplog.is_none() {
        return Ok(());
    }
    for database in plan.databases() {
        let names = plan.names(database);
        for found in contents(session, database).await? {
            if names.contains(found.name.as_str()) || found.name.starts_with(prefix) {
                target::drop(session, database, &found.name).await?;
            }
        }
    }
    Ok(())
}

/// Gives each collection the name that it had at the end of the oplog. Two collections may have swapped names.
async fn settle(
    session: &Session,
    items: &mut [(Item, String)],
    prefix: &str,
) -> Result<(), JobError> {
    for (n, (item, name)) in items.iter_mut().enumerate() {
        if *name != item.collection && !name.starts_with(prefix) {
            let aside = format!("{prefix}s{n}");
            target::rename(session, &item.database, name, &aside).await?;
            *name = aside;
        }
    }
    for (item, name) in items {
        if *name != item.collection {
            target::rename(session, &item.database, name, &item.collection).await?;
            name.clone_from(&item.collection);
        }
    }
    Ok(())
}

/// Drops what a failed attempt has created. The next attempt drops the rest.
///
/// The mark stays if another attempt may follow: writes of the failed attempt may still arrive, and the mark tells that
/// they are this run's.
async fn undo(
    attempt: Attempt,
    session: &Session,
    plan: &Plan,
    home: &str,
    error: &JobError,
    worker: &Worker,
) {
    // Without the lease, the collections may be another attempt's work.
    if error.kind() == ErrorKind::Connect || !worker.lease.is_alive().await {
        return;
    }
    let dropping = async {
        for item in &plan.items {
            target::drop(session, &item.database, &item.collection).await?;
        }
        drop_oplogs(session, plan, &prefix(attempt)).await?;
        if error.is_permanent() {
            mark::remove(session, home).await
        } else {
            Ok(())
        }
    };
    match tokio::time::timeout(UNDO_TIMEOUT, dropping).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = %error.report(), "a failed restore left collections behind");
        }
        Err(_) => {
            tracing::warn!("a failed restore left collections behind: no answer from the server");
        }
    }
}

//! Restores over existing data: each collection of the archive is created beside the old one, and takes its name at the
//! end.
//!
//! Until the first old collection is replaced, a failure leaves everything as it was. Collections that cannot be
//! renamed are dropped and created in place, last of all: time series, views and stored functions, and, on servers that
//! lose options in a rename, collections that have options. Collections that are not in the archive stay as they are.

use std::collections::BTreeSet;

use bson::Document;

use super::{
    Target, access, alive,
    collections::{self, Made, Named},
    plan::{Item, Plan, Shape},
    replay::{Part, Replaying},
    restored,
    source::{self, Source},
    target::{self, contents, prefix},
};
use crate::{
    attempt::Attempt,
    engine::{
        answer::Restored,
        mongodb::{OURS, session::Session},
    },
    error::{ErrorKind, JobError, RestoreFault},
    manifest::Manifest,
    worker::Worker,
};

/// Restores over existing data. Idempotent: every attempt starts again and ends in the same state.
pub(super) async fn in_place(
    attempt: Attempt,
    target: &Target,
    manifest: &Manifest,
    worker: &Worker,
) -> Result<Restored, JobError> {
    let session = &target.session;
    let known = target.renamed.as_deref().or(source::database(manifest)?);
    let source = Source::verify(manifest, worker).await?;
    let plan = Plan::new(&source, target.renamed.as_deref())?;
    let (merge, mut notes) = access::prepare(session, &plan, attempt.run).await?;
    alive(worker).await?;
    let prefix = prefix(attempt);
    notes.extend(clear(session, &plan, &prefix).await?);
    merge.clear(session).await?;
    let parts = match Parts::of(session, &plan, &prefix).await {
        Ok(parts) => parts,
        Err(error) => {
            undo(session, &plan, &prefix, &error, worker).await;
            return Err(error);
        }
    };
    let besides = merge.destinations(session);
    let replaying = Replaying {
        plan: &plan,
        part: Part::Beside,
        prefix: &prefix,
    };
    let beside =
        collections::make(session, &source, &parts.renamed, besides, replaying, worker).await;
    let mut made = match beside {
        Ok(made) => made,
        Err(error) => {
            undo(session, &plan, &prefix, &error, worker).await;
            return Err(error);
        }
    };
    alive(worker).await?;
    let mut progress = Progress::default();
    let making = (&parts, &made.items[..], made.views.as_ref());
    let replaying = Replaying {
        part: Part::InPlace,
        ..replaying
    };
    let replaced = replace(session, &source, making, replaying, worker, &mut progress).await;
    match replaced {
        Ok(more) => made.add(more),
        Err(error) if progress.has_begun => return Err(half_replaced(&plan, &progress.new, error)),
        Err(error) => {
            undo(session, &plan, &prefix, &error, worker).await;
            return Err(error);
        }
    }
    merge.finish(session).await?;
    made.notes.extend(notes);
    made.notes
        .push("collections that the backup does not have were left as they were".to_owned());
    Ok(restored(&source, &plan, known, made))
}

/// Drops what an earlier attempt of this run left. Returns a note about the leftovers of other runs, which may still be
/// at work.
async fn clear(session: &Session, plan: &Plan, prefix: &str) -> Result<Vec<String>, JobError> {
    let mut others = Vec::new();
    for database in plan.databases() {
        for found in contents(session, database).await? {
            if found.name.starts_with(prefix) {
                target::drop(session, database, &found.name).await?;
            } else if found.name.starts_with(OURS) {
                others.push(format!("{database}.{}", found.name));
            }
        }
    }
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let others = others.join(", ");
    Ok(vec![format!(
        "another run left these collections behind, or is still running: {others}: drop them once it has ended"
    )])
}

/// The plan's items, by the way in which they are put in place.
struct Parts<'a> {
    /// Created under the temporary name given here, then renamed.
    renamed: Vec<Named<'a>>,
    /// Created in place.
    made: Vec<Named<'a>>,
}

impl<'a> Parts<'a> {
    async fn of(session: &Session, plan: &'a Plan, prefix: &str) -> Result<Self, JobError> {
        let has_options = |it: &&Item| is_renamable(it) && !it.options.is_empty();
        let options_stay = match plan.items.iter().find(has_options) {
            Some(item) => options_stay(session, item, prefix).await?,
            None => true,
        };
        let mut parts = Self {
            renamed: Vec::new(),
            made: Vec::new(),
        };
        for (n, item) in plan.items.iter().enumerate() {
            if is_renamable(item) && (options_stay || item.options.is_empty()) {
                parts.renamed.push((item, format!("{prefix}{n}")));
            } else if item.shape != Shape::View {
                parts.made.push((item, item.collection.clone()));
            }
        }
        Ok(parts)
    }
}

fn is_renamable(item: &Item) -> bool {
    match item.shape {
        Shape::Collection | Shape::Capped => true,
        Shape::View | Shape::TimeSeries | Shape::Functions => false,
    }
}

/// Tests whether a collection with this item's options keeps them when it is renamed. MongoDB's own server keeps them;
/// not every server that speaks its protocol does.
async fn options_stay(session: &Session, item: &Item, prefix: &str) -> Result<bool, JobError> {
    let (first, second) = (format!("{prefix}trial"), format!("{prefix}trial_renamed"));
    target::create(session, item, &first).await?;
    let before = options_of(session, &item.database, &first).await?;
    target::rename(session, &item.database, &first, &second).await?;
    let after = options_of(session, &item.database, &second).await?;
    target::drop(session, &item.database, &second).await?;
    Ok(before == after)
}

async fn options_of(
    session: &Session,
    database: &str,
    name: &str,
) -> Result<Option<Document>, JobError> {
    let mut found = contents(session, database).await?.into_iter();
    Ok(found.find(|it| it.name == name).map(|it| it.options))
}

/// How much of the old data has been replaced.
#[derive(Default)]
struct Progress {
    /// Whether any old data is gone.
    has_begun: bool,
    /// The namespaces that are in the state of the backup.
    new: Vec<String>,
}

/// Replaces the old collections by the new ones.
#[expect(
    clippy::type_complexity,
    reason = "three parts of one answer, named at once"
)]
async fn replace(
    session: &Session,
    source: &Source<'_>,
    (parts, beside, views): (&Parts<'_>, &[(Item, String)], Option<&Vec<Item>>),
    replaying: Replaying<'_>,
    worker: &Worker,
    progress: &mut Progress,
) -> Result<Made, JobError> {
    let plan = replaying.plan;
    let in_the_way = in_the_way(session, plan).await?;
    for (item, beside) in beside {
        if in_the_way.contains(&item.namespace()) {
            progress.has_begun = true;
            target::drop(session, &item.database, &item.collection).await?;
        }
        target::rename(session, &item.database, beside, &item.collection).await?;
        progress.has_begun = true;
        progress.new.push(item.namespace());
    }
    let mut made = Made::default();
    let brings_more = plan.oplog.as_ref().is_some_and(|it| it.makes_in_place);
    if !parts.made.is_empty() || brings_more {
        progress.has_begun = true;
        for (item, name) in &parts.made {
            target::drop(session, &item.database, name).await?;
        }
        let besides = Vec::new();
        made = collections::make(session, source, &parts.made, besides, replaying, worker).await?;
        let new = made.items.iter().map(|(item, _)| item.namespace());
        progress.new.extend(new);
    }
    let is_view = |item: &&Item| item.shape == Shape::View;
    let views = views.unwrap_or(&plan.items);
    for view in views.iter().filter(is_view) {
        progress.has_begun = true;
        target::drop(session, &view.database, &view.collection).await?;
    }
    collections::make_views(session, views).await?;
    Ok(made)
}

/// Returns the views and time series in the target's databases: nothing can be renamed over them.
async fn in_the_way(session: &Session, plan: &Plan) -> Result<BTreeSet<String>, JobError> {
    let mut all = BTreeSet::new();
    for database in plan.databases() {
        let found = contents(session, database).await?.into_iter();
        let others = found.filter(|it| it.kind != "collection");
        all.extend(others.map(|it| format!("{database}.{}", it.name)));
    }
    Ok(all)
}

fn half_replaced(plan: &Plan, new: &[String], error: JobError) -> JobError {
    let all = plan.items.iter().map(Item::namespace);
    let old: Vec<_> = all.filter(|it| !new.contains(it)).collect();
    RestoreFault::HalfReplaced {
        new: new.join(", "),
        old: old.join(", "),
        source: Box::new(error),
    }
    .into()
}

/// Drops what a failed attempt created beside the old data. The next attempt drops the rest.
async fn undo(session: &Session, plan: &Plan, prefix: &str, error: &JobError, worker: &Worker) {
    // Without the lease, the collections may be another attempt's work.
    if error.kind() == ErrorKind::Connect || !worker.lease.is_alive().await {
        return;
    }
    if let Err(error) = clear(session, plan, prefix).await {
        tracing::warn!(error = %error.report(), "a failed restore left collections behind");
    }
}

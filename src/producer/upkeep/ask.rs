//! Enqueues runs for upkeep. A run that the catalog refuses is left out and logged, and keeps no other from being enqueued.

use futures::FutureExt as _;
use lastgood_jobs::error::chain;

use crate::{
    catalog::{Catalog, CatalogError, leave_out},
    metrics,
    run::{RunKind, Trigger},
};

/// A run to be enqueued for upkeep.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The queue of its resource's engine.
    pub(super) queue: String,
    pub(super) resource_id: String,
    /// Its payload.
    pub(super) args: serde_json::Value,
}

/// Enqueues these runs of one kind, except those already queued or running. Returns how many are new.
pub(super) async fn enqueue(
    catalog: &Catalog,
    kind: RunKind,
    asked: Vec<Asked>,
) -> Result<u64, CatalogError> {
    let statement = |asked| enqueue_those(catalog, kind, asked).boxed();
    let (enqueued, left_out) = leave_out(asked, statement).await?;
    metrics::rows_left_out(kind.as_str(), left_out.len() as u64);
    for (asked, error) in left_out {
        tracing::error!(resource.id = %asked.resource_id, run.kind = %kind, error = chain(&error), "the catalog refuses this run: it is left out");
    }
    Ok(enqueued.iter().sum())
}

async fn enqueue_those(
    catalog: &Catalog,
    kind: RunKind,
    asked: Vec<Asked>,
) -> Result<u64, CatalogError> {
    let (mut queues, mut resources, mut args) = (Vec::new(), Vec::new(), Vec::new());
    for run in asked {
        queues.push(run.queue);
        resources.push(run.resource_id);
        args.push(run.args);
    }
    let enqueued = sqlx::query!(
        "insert into lastgood.runs (queue, kind, trigger, resource_id, priority, args)
         select asked.queue, $1, $2, asked.resource_id, lastgood.priority($1, $2), asked.args
         from unnest($3::text[], $4::text[], $5::jsonb[]) as asked (queue, resource_id, args)
         on conflict do nothing",
        kind.as_str(),
        Trigger::Upkeep.as_str(),
        &queues,
        &resources,
        &args
    )
    .execute(catalog.pool())
    .await?;
    Ok(enqueued.rows_affected())
}

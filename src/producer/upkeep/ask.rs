//! Enqueues what upkeep asks for. A run that the catalog refuses is left out, and told: it keeps no other from being asked for.

use futures::FutureExt as _;
use lastgood_jobs::error::chain;

use crate::{
    catalog::{Catalog, CatalogError, leave_out},
    metrics,
};

/// A run that upkeep asks for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The queue of its resource's engine.
    pub(super) queue: String,
    /// Its resource.
    pub(super) resource_id: String,
    /// What it is to do.
    pub(super) args: serde_json::Value,
}

/// Enqueues these runs of one kind, but for those that wait or run already; returns how many are new.
pub(super) async fn enqueue(
    catalog: &Catalog,
    kind: &'static str,
    priority: i16,
    asked: Vec<Asked>,
) -> Result<u64, CatalogError> {
    let statement = |asked| enqueue_those(catalog, kind, priority, asked).boxed();
    let (enqueued, left_out) = leave_out(asked, statement).await?;
    metrics::rows_left_out(kind, left_out.len() as u64);
    for (asked, error) in left_out {
        tracing::error!(resource.id = %asked.resource_id, run.kind = kind, error = chain(&error), "the catalog refuses this run: it is left out");
    }
    Ok(enqueued.iter().sum())
}

async fn enqueue_those(
    catalog: &Catalog,
    kind: &str,
    priority: i16,
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
         select asked.queue, $1, 'upkeep', asked.resource_id, $2, asked.args
         from unnest($3::text[], $4::text[], $5::jsonb[]) as asked (queue, resource_id, args)
         on conflict do nothing",
        kind,
        priority,
        &queues,
        &resources,
        &args
    )
    .execute(catalog.pool())
    .await?;
    Ok(enqueued.rows_affected())
}

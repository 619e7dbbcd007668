//! What is asked for on behalf of restore points that were made: copies.
//!
//! Any number of producers may ask: the database lets each thing be asked for once at a time.

use std::time::Duration;

use lastgood_jobs::error::chain;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::{Catalog, CatalogError, answered},
    metrics,
};

/// What takes longer is given up until the next time.
const UPKEEP_WITHIN: Duration = Duration::from_mins(5);
/// How many copies may wait at once: a new mirror of many points must not fill the queue.
const COPIES_WAITING_MAX: i64 = 1000;

/// Asks for what is missing until `stop`. `stores` are the names of all stores, the primary's first.
pub(super) async fn upkeep_until(
    catalog: Catalog,
    stores: Vec<String>,
    every: Duration,
    stop: CancellationToken,
) {
    let mut timer = tokio::time::interval(every);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_adopted = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timer.tick() => {}
        }
        let upkeep = async {
            if !is_adopted {
                adopt(&catalog, &stores).await?;
            }
            copies(&catalog, &stores).await
        };
        match answered(UPKEEP_WITHIN, upkeep).await {
            Ok(()) => is_adopted = true,
            Err(error) => tracing::warn!(error = chain(&error), "cannot ask for upkeep"),
        }
    }
}

/// Records that the primary store holds the points of which no store is recorded: those of before stores had names.
pub async fn adopt(catalog: &Catalog, stores: &[String]) -> Result<(), CatalogError> {
    let Some(primary) = stores.first() else {
        return Ok(());
    };
    sqlx::query!(
        "insert into lastgood.copies (point_id, store)
         select p.id, $1 from lastgood.restore_points as p
         where not exists (select from lastgood.copies as c where c.point_id = p.id)
         on conflict do nothing",
        primary
    )
    .execute(catalog.pool())
    .await?;
    Ok(())
}

async fn copies(catalog: &Catalog, stores: &[String]) -> Result<(), CatalogError> {
    let mirrors = stores.get(1..).unwrap_or_default();
    if mirrors.is_empty() {
        return Ok(());
    }
    let enqueued = ask_for_copies(catalog, mirrors).await?;
    if enqueued > 0 {
        tracing::info!(copies.enqueued = enqueued, "copies enqueued");
    }
    metrics::missing_copies(&catalog.missing_copies(mirrors).await?);
    Ok(())
}

/// Enqueues a copy into each mirror for each usable point that it lacks; returns how many. What failed waits a while.
pub async fn ask_for_copies(catalog: &Catalog, mirrors: &[String]) -> Result<u64, CatalogError> {
    let asked = sqlx::query_file!("src/producer/copies.sql", mirrors, COPIES_WAITING_MAX)
        .execute(catalog.pool())
        .await?;
    Ok(asked.rows_affected())
}

//! Enqueues the drills that are due.

use lastgood_jobs::{engine::Capability, resource::Engine};

use super::ask::{Asked, enqueue};
use crate::{
    catalog::{Catalog, CatalogError},
    plan::Plans,
    run::RunKind,
};

/// How many drills of one engine may wait: more would only be out of date by the time they run.
const DRILLS_WAITING: i32 = 20;
/// What consumers that run drills say that they do.
const DRILL: &str = "drill";

/// Returns the engines of which a live consumer runs drills: for others, runs would only pile up.
async fn drillable(catalog: &Catalog) -> Result<Vec<String>, CatalogError> {
    let alive = catalog.live_capabilities().await?;
    let drills = |engine: &Engine| {
        alive.iter().any(|(queues, capabilities)| {
            queues.iter().any(|queue| queue == engine.as_str())
                && serde_json::from_value::<Vec<Capability>>(capabilities.clone())
                    .unwrap_or_default()
                    .iter()
                    .any(|it| it.engine == *engine && it.operations.iter().any(|it| it == DRILL))
        })
    };
    let engines = Engine::ALL.into_iter().filter(drills);
    Ok(engines.map(|engine| engine.to_string()).collect())
}

/// Enqueues the drills that are due by these plans, and returns how many.
///
/// Each resource of a tier with `drill_within_days` is drilled twice in that time: its newest trusted point, and an older one.
pub async fn ask_for_drills(catalog: &Catalog, plans: &Plans) -> Result<u64, CatalogError> {
    let (tiers, days) = plans.drilled();
    let engines = drillable(catalog).await?;
    let due = sqlx::query_file_as!(
        Asked,
        "src/producer/upkeep/drill.sql",
        &tiers,
        &days,
        DRILLS_WAITING,
        &engines
    )
    .fetch_all(catalog.pool())
    .await?;
    enqueue(catalog, RunKind::Drill, due).await
}

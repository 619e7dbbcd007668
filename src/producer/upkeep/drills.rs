//! Enqueues the drills that are due.

use lastgood_jobs::resource::Engine;

use super::ask::{Asked, enqueue};
use crate::{
    catalog::{Catalog, CatalogError},
    plan::Plans,
    run::RunKind,
};

/// How many drills of one engine may wait: more would only be out of date by the time they run.
const DRILLS_WAITING: i32 = 20;

/// Returns the engines of which a live consumer runs drills: for others, runs would only pile up.
async fn drillable(catalog: &Catalog) -> Result<Vec<String>, CatalogError> {
    let mut engines = Vec::new();
    for engine in Engine::ALL {
        if catalog.is_drilled(engine.as_str()).await? {
            engines.push(engine.to_string());
        }
    }
    Ok(engines)
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

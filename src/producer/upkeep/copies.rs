//! Which restore points lack a copy, and in which store?

use crate::{
    catalog::{Catalog, CatalogError},
    metrics,
};

/// How many copies may wait at once: a new mirror of many points must not fill the queue.
const COPIES_WAITING_MAX: i64 = 1000;

/// Records that the primary store holds the points of which no store is recorded: those of before stores had names, and those of
/// a catalog that was rebuilt.
pub async fn adopt(catalog: &Catalog, primary: &str) -> Result<(), CatalogError> {
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

/// Enqueues a copy into each mirror for each usable point that it lacks; returns how many. What failed waits a while.
pub async fn ask_for_copies(catalog: &Catalog, mirrors: &[String]) -> Result<u64, CatalogError> {
    if mirrors.is_empty() {
        return Ok(0);
    }
    let asked = sqlx::query_file!(
        "src/producer/upkeep/copies.sql",
        mirrors,
        COPIES_WAITING_MAX
    )
    .execute(catalog.pool())
    .await?;
    metrics::missing_copies(&catalog.missing_copies(mirrors).await?);
    Ok(asked.rows_affected())
}

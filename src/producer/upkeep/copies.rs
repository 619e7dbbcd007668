//! Which restore points lack a copy, and in which store?

use super::ask::{Asked, enqueue};
use crate::{
    catalog::{Catalog, CatalogError},
    metrics,
};

/// How many copies may wait at once: a new mirror of many points must not fill the queue.
const COPIES_WAITING_MAX: i64 = 1000;
/// How many points are looked at by one statement when a store is new.
const FILLED_AT_ONCE: i64 = 20_000;

/// Records that the primary store holds the points of before stores had names.
pub async fn adopt(catalog: &Catalog, primary: &str) -> Result<(), CatalogError> {
    sqlx::query!(
        "with unplaced as (delete from lastgood.unplaced_points returning point_id)
         insert into lastgood.copies (point_id, store) select point_id, $1 from unplaced
         on conflict do nothing",
        primary
    )
    .execute(catalog.pool())
    .await?;
    Ok(())
}

/// Records which stores each point is to be in, and looks through all points for what a new one lacks. What stands in no stores
/// file any more is missed nowhere.
async fn want(catalog: &Catalog, stores: &[String]) -> Result<(), CatalogError> {
    let known = sqlx::query!("select name, is_filled from lastgood.stores order by name")
        .fetch_all(catalog.pool())
        .await?;
    if known.iter().any(|it| !stores.contains(&it.name)) {
        sqlx::query!("delete from lastgood.stores where name <> all($1)", stores)
            .execute(catalog.pool())
            .await?;
    }
    for store in stores {
        let it = known.iter().find(|it| it.name == *store);
        if it.is_none() {
            add(catalog, store).await?;
        }
        if it.is_none_or(|it| !it.is_filled) {
            while !fill(catalog, store).await? {}
        }
    }
    Ok(())
}

/// Adds a store. Whoever is recording a point at this moment does not see it yet: they are waited for, and those that come after
/// see it.
async fn add(catalog: &Catalog, store: &str) -> Result<(), CatalogError> {
    let mut transaction = catalog.pool().begin().await?;
    // Whoever waits for a lock makes others wait behind: the next look tries again.
    sqlx::query("set local lock_timeout = '5s'")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("lock table lastgood.restore_points in share mode")
        .execute(&mut *transaction)
        .await?;
    sqlx::query!(
        "insert into lastgood.stores (name) values ($1) on conflict do nothing",
        store
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

async fn fill(catalog: &Catalog, store: &str) -> Result<bool, CatalogError> {
    let filled = sqlx::query_file_scalar!("src/producer/upkeep/fill.sql", store, FILLED_AT_ONCE)
        .fetch_optional(catalog.pool())
        .await?;
    // Gone meanwhile: another producer has other stores.
    Ok(filled.unwrap_or(true))
}

/// Enqueues a copy into each store for each usable point that it lacks; returns how many. What failed waits a while.
pub async fn ask_for_copies(catalog: &Catalog, stores: &[String]) -> Result<u64, CatalogError> {
    want(catalog, stores).await?;
    let due = sqlx::query_file_as!(
        Asked,
        "src/producer/upkeep/copies.sql",
        stores,
        COPIES_WAITING_MAX
    )
    .fetch_all(catalog.pool())
    .await?;
    let asked = enqueue(catalog, "copy", -10, due).await?;
    metrics::missing_copies(&catalog.missing_copies(stores).await?);
    Ok(asked)
}

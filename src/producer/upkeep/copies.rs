//! Which restore points lack a copy, and in which store?

use super::ask::{Asked, enqueue};
use crate::{
    catalog::{Catalog, CatalogError},
    metrics,
    run::RunKind,
};

/// How many copies may wait at once: a new mirror for many points must not fill the queue.
const COPIES_WAITING_MAX: i64 = 1000;
/// How many points one statement looks at when a store is new.
const FILLED_AT_ONCE: i64 = 20_000;

/// Records which stores each point should be in, and finds all points that a new store lacks. Stores that the stores file no longer names
/// are forgotten, and lack nothing.
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

/// Adds a store. Transactions that are recording a point do not see it yet, so this waits for them; later ones see it.
async fn add(catalog: &Catalog, store: &str) -> Result<(), CatalogError> {
    let mut transaction = catalog.pool().begin().await?;
    // While this waits for the lock, others queue behind it. So it waits only briefly, and the next look tries again.
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
    // `None`: the store is gone, because another producer has other stores.
    Ok(filled.unwrap_or(true))
}

/// Enqueues a copy of each usable point into each store that lacks it,
/// and returns how many. A failed copy is tried again after 15 minutes.
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
    let asked = enqueue(catalog, RunKind::Copy, due).await?;
    metrics::missing_copies(&catalog.missing_copies(stores).await?);
    Ok(asked)
}

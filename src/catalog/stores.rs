//! Under which names are stores on record, and what happens when one is renamed or lost?

mod identities;

use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;

pub use self::identities::{Installations, StoreIdentity};
use super::{Audit, Catalog, CatalogError, record};

/// A store in which restore points are on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreOnRecord {
    /// Its name.
    pub store: String,
    /// How many points it holds, including expired ones.
    pub points: i64,
}

/// What was forgotten together with a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    /// Points that were on record there.
    pub points: i64,
    /// How many of these were usable and on record nowhere else, and are quarantined now.
    pub lost: i64,
}

/// What to do about usable points whose only recorded copy is in the store to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnlyCopy {
    /// Forget nothing, and fail with [`CatalogError::OnlyCopies`].
    Refused,
    /// Lose them with the store: they are quarantined, so that nobody counts on them.
    Lost,
}

impl Catalog {
    /// Returns the stores on record that are not in `known`, with the number
    /// of their points. The query steps from name to name in the index.
    pub async fn unknown_stores(
        &self,
        known: &[String],
    ) -> Result<Vec<StoreOnRecord>, CatalogError> {
        let rows = sqlx::query_file_as!(StoreOnRecord, "src/catalog/stores/unknown.sql", known)
            .fetch_all(self.pool())
            .await?;
        Ok(rows)
    }

    /// Returns those of `names` that are on record: they hold restore points, or have an identity.
    pub async fn stores_on_record(&self, names: &[String]) -> Result<Vec<String>, CatalogError> {
        let found = sqlx::query_scalar!(
            r#"select name as "name!" from unnest($1::text[]) as given (name)
               where exists (select from lastgood.copies where store = name)
                   or exists (select from lastgood.store_identities as known where known.name = given.name)"#,
            names
        )
        .fetch_all(self.pool())
        .await?;
        Ok(found)
    }

    /// Returns the manifest keys of the 20 newest usable points on record in a store, by which the store can be recognised.
    pub async fn manifest_keys_in(&self, store: &str) -> Result<Vec<String>, CatalogError> {
        let keys = sqlx::query_scalar!(
            r#"select point.manifest_key as "manifest_key!" from lastgood.copies as copy
               join lastgood.usable_points as point on point.id = copy.point_id
               where copy.store = $1
               order by point.created_at desc limit 20"#,
            store
        )
        .fetch_all(self.pool())
        .await?;
        Ok(keys)
    }

    /// Renames a store and records that. Returns how many points are on record in it.
    ///
    /// The caller has checked that it is the same store.
    pub async fn rename_store(&self, old: &str, new: &str) -> Result<u64, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        sqlx::query!(
            "insert into lastgood.copies (point_id, store, stored_at, verified_at)
             select point_id, $2, stored_at, verified_at from lastgood.copies where store = $1
             on conflict do nothing",
            old,
            new
        )
        .execute(&mut *transaction)
        .await?;
        let renamed = sqlx::query!("delete from lastgood.copies where store = $1", old)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        // If the new name has an identity already, that one stays: it was read from the store.
        sqlx::query!(
            "update lastgood.store_identities set name = $2
             where name = $1 and not exists (select from lastgood.store_identities where name = $2)",
            old,
            new
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!("delete from lastgood.store_identities where name = $1", old)
            .execute(&mut *transaction)
            .await?;
        forget_listing(&mut transaction, old).await?;
        let audit = Audit::new(
            "rename_store",
            json!({ "from": old, "to": new, "points": renamed }),
        );
        record(&mut transaction, &audit).await?;
        transaction.commit().await?;
        Ok(renamed)
    }

    /// Forgets a store that is gone, and records that. Removes nothing from any store.
    pub async fn forget_store(
        &self,
        store: &str,
        only_copy: OnlyCopy,
    ) -> Result<Forgotten, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        // Resources before points, the lock order everywhere.
        sqlx::query_file!("src/catalog/stores/lock_resources.sql", store)
            .fetch_all(&mut *transaction)
            .await?;
        let lost = sqlx::query_file_scalar!("src/catalog/stores/lose.sql", store)
            .fetch_one(&mut *transaction)
            .await?;
        if lost > 0 && only_copy == OnlyCopy::Refused {
            return Err(CatalogError::OnlyCopies {
                store: store.to_owned(),
                points: lost,
            });
        }
        let points = sqlx::query!("delete from lastgood.copies where store = $1", store)
            .execute(&mut *transaction)
            .await?
            .rows_affected();
        sqlx::query!(
            "delete from lastgood.store_identities where name = $1",
            store
        )
        .execute(&mut *transaction)
        .await?;
        forget_listing(&mut transaction, store).await?;
        let forgotten = Forgotten {
            points: points.cast_signed(),
            lost,
        };
        let audit = Audit::new(
            "forget_store",
            json!({ "store": store, "forgotten": forgotten }),
        );
        record(&mut transaction, &audit).await?;
        transaction.commit().await?;
        Ok(forgotten)
    }
}

/// Deletes a store's last listing, whose missing points are no longer on record there.
async fn forget_listing(connection: &mut PgConnection, store: &str) -> Result<(), CatalogError> {
    sqlx::query!(
        "delete from lastgood.store_listings where store = $1",
        store
    )
    .execute(connection)
    .await?;
    Ok(())
}

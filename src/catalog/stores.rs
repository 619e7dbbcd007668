//! Under which names are stores on record, and what becomes of one that is called otherwise now, or is lost?

use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;

use super::{Audit, Catalog, CatalogError, record};

/// A store that restore points are on record in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreOnRecord {
    /// Its name.
    pub store: String,
    /// How many points it holds, expired ones included.
    pub points: i64,
}

/// What was forgotten with a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    /// Points that were on record there.
    pub points: i64,
    /// Of these, usable ones that were on record nowhere else, and are quarantined now.
    pub lost: i64,
}

/// What becomes of a usable point that is on record in no other store than the one that is to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnlyCopy {
    /// Nothing is forgotten because of it: [`CatalogError::OnlyCopies`].
    Refused,
    /// It is lost with the store: quarantined, so that nobody counts on it.
    Lost,
}

impl Catalog {
    /// Returns the stores on record that are not among `known`, with what they hold. Jumps from name to name.
    pub async fn unknown_stores(
        &self,
        known: &[String],
    ) -> Result<Vec<StoreOnRecord>, CatalogError> {
        let rows = sqlx::query_file_as!(StoreOnRecord, "src/catalog/stores/unknown.sql", known)
            .fetch_all(self.pool())
            .await?;
        Ok(rows)
    }

    /// Returns those of the names under which a store with restore points is on record.
    pub async fn stores_on_record(&self, names: &[String]) -> Result<Vec<String>, CatalogError> {
        let found = sqlx::query_scalar!(
            r#"select name as "name!" from unnest($1::text[]) as given (name)
               where exists (select from lastgood.copies where store = name)"#,
            names
        )
        .fetch_all(self.pool())
        .await?;
        Ok(found)
    }

    /// Returns the manifests' keys of a few usable points that are on record in a store, the newest: by them it is known again.
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

    /// Calls a store otherwise, and records that; returns how many points are on record in it.
    ///
    /// Whether it is the same store, the caller has made sure of.
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
        forget_listing(&mut transaction, old).await?;
        let audit = Audit {
            action: "rename_store",
            resource_id: None,
            point_id: None,
            detail: json!({ "from": old, "to": new, "points": renamed }),
        };
        record(&mut transaction, &audit).await?;
        transaction.commit().await?;
        Ok(renamed)
    }

    /// Forgets a store that is gone, and records that. Nothing is removed from any store.
    pub async fn forget_store(
        &self,
        store: &str,
        only_copy: OnlyCopy,
    ) -> Result<Forgotten, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        // Resources before points, as everybody else.
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
        forget_listing(&mut transaction, store).await?;
        let forgotten = Forgotten {
            points: points.cast_signed(),
            lost,
        };
        let audit = Audit {
            action: "forget_store",
            resource_id: None,
            point_id: None,
            detail: json!({ "store": store, "forgotten": forgotten }),
        };
        record(&mut transaction, &audit).await?;
        transaction.commit().await?;
        Ok(forgotten)
    }
}

/// What was missing there is on record there no more.
async fn forget_listing(connection: &mut PgConnection, store: &str) -> Result<(), CatalogError> {
    sqlx::query!(
        "delete from lastgood.store_listings where store = $1",
        store
    )
    .execute(connection)
    .await?;
    Ok(())
}

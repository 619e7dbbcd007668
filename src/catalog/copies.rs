//! Which stores hold which restore points.

use std::collections::HashMap;

use serde::Serialize;
use uuid::Uuid;

use super::{Catalog, CatalogError};

/// How many usable points a store lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MissingCopies {
    /// The store's name.
    pub store: String,
    /// Points that it lacks.
    pub points: i64,
    /// How many of these failed to be copied within the last day and wait for another try.
    pub failed: i64,
}

impl Catalog {
    /// Records that a store holds a point. Returns whether the point is still to be kept.
    ///
    /// Waits for a transaction that is letting the point go.
    pub async fn record_copy(&self, point: Uuid, store: &str) -> Result<bool, CatalogError> {
        let kept = sqlx::query_scalar!(
            r#"with point as (
                 select id from lastgood.restore_points where id = $1 and expired_at is null for share
             ),
             copy as (
                 insert into lastgood.copies (point_id, store) select id, $2 from point on conflict do nothing
             ),
             -- Also where it was on record already, and missed by mistake.
             found as (
                 delete from lastgood.missing_copies where point_id = $1 and store = $2
             )
             select count(*) > 0 as "kept!" from point"#,
            point,
            store
        )
        .fetch_one(self.pool())
        .await?;
        Ok(kept)
    }

    /// Returns the names of the stores that hold each of these points. A point without a recorded copy is left out.
    pub async fn stores_of(
        &self,
        points: &[Uuid],
    ) -> Result<HashMap<Uuid, Vec<String>>, CatalogError> {
        let rows = sqlx::query!(
            "select point_id, store from lastgood.copies where point_id = any($1) order by point_id, store",
            points
        )
        .fetch_all(self.pool())
        .await?;
        let mut stores = HashMap::<_, Vec<_>>::new();
        for row in rows {
            stores.entry(row.point_id).or_default().push(row.store);
        }
        Ok(stores)
    }

    /// Returns how many usable points each of these stores lacks, including the stores that lack none.
    pub async fn missing_copies(
        &self,
        stores: &[String],
    ) -> Result<Vec<MissingCopies>, CatalogError> {
        let rows = sqlx::query_file_as!(MissingCopies, "src/catalog/missing_copies.sql", stores)
            .fetch_all(self.pool())
            .await?;
        Ok(rows)
    }
}

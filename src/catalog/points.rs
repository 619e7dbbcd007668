//! Restore points as the catalog indexes them; the manifests in the store are the truth.

use chrono::{DateTime, Utc};
use lastgood_jobs::manifest::Manifest;
use serde::{Deserialize as _, Serialize};
use uuid::Uuid;

use super::{Catalog, CatalogError};

/// A restore point as stored.
#[derive(Debug, Clone, Serialize)]
pub struct PointRow {
    /// Its id: the run that made it.
    pub id: Uuid,
    /// Its resource.
    pub resource_id: String,
    /// The instant a restore brings back.
    pub consistent_at: DateTime<Utc>,
    /// Where its manifest is.
    pub manifest_key: String,
    /// What the manifest says.
    pub manifest: serde_json::Value,
    /// Bytes before compression.
    pub dump_bytes: i64,
    /// Bytes in the store.
    pub stored_bytes: i64,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
    /// When all of it was last read back and found whole.
    pub verified_at: Option<DateTime<Utc>>,
    /// When it was found damaged.
    pub quarantined_at: Option<DateTime<Utc>>,
    /// What is wrong with it.
    pub quarantined_because: Option<String>,
    /// When retention let it go.
    pub expired_at: Option<DateTime<Utc>>,
    /// When an operator pinned it.
    pub pinned_at: Option<DateTime<Utc>>,
    /// When it was put on legal hold.
    pub held_at: Option<DateTime<Utc>>,
}

impl PointRow {
    /// Returns the manifest as it was recorded.
    pub fn recorded(&self) -> Result<Manifest, serde_json::Error> {
        Manifest::deserialize(&self.manifest)
    }

    /// Returns whether a restore may be made from it without further words.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.quarantined_at.is_none() && self.expired_at.is_none()
    }
}

impl Catalog {
    /// Returns one restore point.
    pub async fn point(&self, id: Uuid) -> Result<PointRow, CatalogError> {
        sqlx::query_as!(
            PointRow,
            "select id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes, created_at,
                 verified_at, quarantined_at, quarantined_because, expired_at, pinned_at, held_at
             from lastgood.restore_points where id = $1",
            id
        )
        .fetch_optional(self.pool())
        .await?
        .ok_or_else(|| CatalogError::NotFound {
            what: "restore point",
            id: id.to_string(),
            list: "backup list",
        })
    }

    /// Returns the newest usable restore point of a resource that is not younger than `at`; `None`: the newest of all.
    pub async fn newest_point(
        &self,
        resource_id: &str,
        at: Option<DateTime<Utc>>,
    ) -> Result<Option<PointRow>, CatalogError> {
        let row = sqlx::query_as!(
            PointRow,
            "select id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes, created_at,
                 verified_at, quarantined_at, quarantined_because, expired_at, pinned_at, held_at
             from lastgood.restore_points
             where resource_id = $1 and consistent_at <= coalesce($2, 'infinity'::timestamptz)
                 and quarantined_at is null and expired_at is null
             order by consistent_at desc limit 1",
            resource_id,
            at
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row)
    }

    /// Returns restore points, newest first.
    pub async fn points(
        &self,
        resource_id: Option<&str>,
        limit: i64,
    ) -> Result<Vec<PointRow>, CatalogError> {
        let rows = sqlx::query_as!(
            PointRow,
            "select id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes, created_at,
                 verified_at, quarantined_at, quarantined_because, expired_at, pinned_at, held_at
             from lastgood.restore_points
             where ($1::text is null or resource_id = $1)
             order by consistent_at desc limit $2",
            resource_id,
            limit
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns a resource's restore points of before an instant, newest first.
    pub async fn points_before(
        &self,
        resource_id: &str,
        before: Option<DateTime<Utc>>,
        limit: i64,
    ) -> Result<Vec<PointRow>, CatalogError> {
        let rows = sqlx::query_as!(
            PointRow,
            "select id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes, created_at,
                 verified_at, quarantined_at, quarantined_because, expired_at, pinned_at, held_at
             from lastgood.restore_points
             where resource_id = $1 and consistent_at < coalesce($2, 'infinity'::timestamptz)
             order by consistent_at desc limit $3",
            resource_id,
            before,
            limit
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }
}

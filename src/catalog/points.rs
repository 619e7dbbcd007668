//! The catalog's index of restore points. The manifests in the stores are the truth.

use chrono::{DateTime, Utc};
use lastgood_jobs::manifest::Manifest;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Audit, Catalog, CatalogError, Order, audit::record_by};
use crate::{
    nouns::SuspectPoint,
    standing::{Marks, Standing},
};

/// A restore point as recorded.
#[derive(Debug, Clone)]
pub struct PointRow {
    /// Its id: that of the run that made it.
    pub id: Uuid,
    /// Its resource.
    pub resource_id: String,
    /// The instant that a restore brings back.
    pub consistent_at: DateTime<Utc>,
    /// Where its manifest is.
    pub manifest_key: String,
    /// The manifest's contents.
    pub manifest: serde_json::Value,
    /// Size of the dump, in bytes before compression.
    pub dump_bytes: i64,
    /// Size of the archive, in bytes in the store.
    pub stored_bytes: i64,
    /// When it was recorded.
    pub created_at: DateTime<Utc>,
    /// When it was last read back completely and found intact.
    pub verified_at: Option<DateTime<Utc>>,
    /// When it was quarantined.
    pub quarantined_at: Option<DateTime<Utc>>,
    /// Why it is quarantined.
    pub quarantined_because: Option<String>,
    /// Since when it is suspect: it is no default for a restore, and counts for no promise.
    pub suspected_at: Option<DateTime<Utc>>,
    /// The reasons, in the manifest's words. They remain after it is confirmed.
    pub suspected_of: Option<Vec<String>>,
    /// What was observed, for an operator to read.
    pub suspected_because: Option<String>,
    /// When somebody confirmed that it is good all the same.
    pub confirmed_at: Option<DateTime<Utc>>,
    /// Why they confirmed it.
    pub confirmed_because: Option<String>,
    /// When retention let it expire.
    pub expired_at: Option<DateTime<Utc>>,
    /// When an operator pinned it.
    pub pinned_at: Option<DateTime<Utc>>,
    /// When it was put on legal hold.
    pub held_at: Option<DateTime<Utc>>,
}

impl PointRow {
    /// Parses the recorded manifest.
    pub fn recorded(&self) -> Result<Manifest, serde_json::Error> {
        Manifest::deserialize(&self.manifest)
    }

    /// Returns what the point may be used for.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing::of(Marks {
            suspected_at: self.suspected_at,
            quarantined_at: self.quarantined_at,
            expired_at: self.expired_at,
        })
    }
}

/// Which restore points to list, newest first.
#[derive(Debug, Clone, Default)]
pub struct PointFilter {
    /// Of one resource.
    pub resource_id: Option<String>,
    /// Of one team's resources.
    pub team: Option<String>,
    /// Consistent before this instant.
    pub before: Option<DateTime<Utc>>,
    /// At most this many.
    pub limit: i64,
}

impl Catalog {
    /// Returns one restore point.
    pub async fn point(&self, id: Uuid) -> Result<PointRow, CatalogError> {
        sqlx::query_as!(
            PointRow,
            "select id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes, created_at,
                 verified_at, quarantined_at, quarantined_because, suspected_at, suspected_of, suspected_because,
                 confirmed_at, confirmed_because, expired_at, pinned_at, held_at
             from lastgood.restore_points where id = $1",
            id
        )
        .fetch_optional(self.pool())
        .await?
        .ok_or_else(|| CatalogError::not_found("restore point", &id, "point list"))
    }

    /// Returns a resource's newest trusted restore point at or before `at`; `None`: the newest of all.
    ///
    /// A suspect point is never a default, and nothing is compared with it.
    pub async fn newest_point(
        &self,
        resource_id: &str,
        at: Option<DateTime<Utc>>,
    ) -> Result<Option<PointRow>, CatalogError> {
        let row = sqlx::query_as!(
            PointRow,
            r#"select id as "id!", resource_id as "resource_id!", consistent_at as "consistent_at!",
                 manifest_key as "manifest_key!", manifest as "manifest!", dump_bytes as "dump_bytes!",
                 stored_bytes as "stored_bytes!", created_at as "created_at!", verified_at, quarantined_at,
                 quarantined_because, suspected_at, suspected_of, suspected_because, confirmed_at, confirmed_because,
                 expired_at, pinned_at, held_at
               from lastgood.trusted_points
               where resource_id = $1 and consistent_at <= coalesce($2, 'infinity'::timestamptz)
               order by consistent_at desc limit 1"#,
            resource_id,
            at
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row)
    }

    /// Returns restore points, newest first.
    pub async fn points(&self, filter: &PointFilter) -> Result<Vec<PointRow>, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        // A plan made for any filter uses the index of none.
        sqlx::query("set local plan_cache_mode = force_custom_plan")
            .execute(&mut *transaction)
            .await?;
        let rows = sqlx::query_as!(
            PointRow,
            "select id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes, created_at,
                 verified_at, quarantined_at, quarantined_because, suspected_at, suspected_of, suspected_because,
                 confirmed_at, confirmed_because, expired_at, pinned_at, held_at
             from lastgood.restore_points
             where ($1::text is null or resource_id = $1)
               and ($2::text is null or resource_id in (select id from lastgood.resources where team = $2))
               and consistent_at < coalesce($3, 'infinity'::timestamptz)
             order by consistent_at desc limit $4",
            filter.resource_id,
            filter.team,
            filter.before,
            filter.limit
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(rows)
    }

    /// Returns suspect points, newest first.
    pub async fn suspects(&self, limit: i64) -> Result<Vec<SuspectPoint>, CatalogError> {
        let rows = sqlx::query_as!(
            SuspectPoint,
            r#"select point.id as "id!", point.resource_id as "resource!", point.consistent_at as "consistent_at!",
                 point.suspected_of as "suspected_of!", point.suspected_because as "suspected_because!",
                 r.status <> 'removed' and point.consistent_at > coalesce(r.newest_consistent_at, '-infinity') as "is_newest!"
               from lastgood.usable_points as point join lastgood.resources as r on r.id = point.resource_id
               where point.suspected_at is not null
               order by point.consistent_at desc limit $1"#,
            limit
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Counts each engine's suspect points, its resources with nothing newer to count on, and its resources whose newest trusted point is
    /// consistent to no single instant. Uses partial indexes only.
    pub async fn suspect_counts(&self) -> Result<Vec<SuspectCount>, CatalogError> {
        let rows = sqlx::query_file_as!(SuspectCount, "src/catalog/suspect_counts.sql")
            .fetch_all(self.pool())
            .await?;
        Ok(rows)
    }

    /// Trusts a suspect point because somebody has checked it.
    ///
    /// From then on it is like any other: a default for restores, the end of an
    /// exposure, a reason for older ones to expire. The audit log records it.
    pub async fn confirm(
        &self,
        point: Uuid,
        because: &str,
        order: &Order,
    ) -> Result<(), CatalogError> {
        let known = self.point(point).await?;
        let mut transaction = self.pool().begin().await?;
        // The resource before the point, the same order as a finishing run.
        sqlx::query!(
            "select id from lastgood.resources where id = $1 for no key update",
            known.resource_id
        )
        .fetch_one(&mut *transaction)
        .await?;
        let confirmed = sqlx::query_file_scalar!("src/catalog/confirm.sql", point, because)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(was) = confirmed else {
            return Err(CatalogError::NotSuspect(point));
        };
        let audit = Audit {
            action: "confirm",
            resource_id: Some(&known.resource_id),
            point_id: Some(point),
            detail: serde_json::json!({ "reason": because, "was_suspected_because": was }),
        };
        record_by(&mut transaction, order.by(), &audit).await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// How many of an engine's points and resources promise less than they should.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SuspectCount {
    /// The engine.
    pub engine: String,
    /// Suspect points.
    pub points: i64,
    /// Resources, except removed ones, with no trusted point newer than their newest suspect one.
    pub resources: i64,
    /// Resources whose newest trusted point is consistent to no single instant.
    pub of_no_instant: i64,
}

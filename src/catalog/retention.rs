//! The catalog's side of retention: what was promised, the points to judge, and the careful steps from a verdict to a removal.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::{Audit, Catalog, CatalogError, record, resource_not_found};
use crate::{
    nouns::ResourceStatus,
    plan::Plans,
    retention::{Life, Point, Policy, Promise, Record, TierKnown},
};

/// How many old points of one resource are judged at a time, unless its promise needs all of them.
pub const JUDGED_AT_ONCE: i64 = 5000;

/// If a resource is looked at this much too late, its promises are treated as first seen now. Looks are an hour apart, so either no
/// producer looked or the clock jumped.
const LONG_UNSEEN: TimeDelta = TimeDelta::days(1);

/// What retention knows about a resource.
#[derive(Debug, Clone)]
pub struct Retained {
    /// Its id.
    pub id: String,
    /// Its tier.
    pub tier: String,
    /// Whether it is backed up.
    pub status: ResourceStatus,
    /// Its own retention in days, which overrides the tier's.
    pub retention_days: Option<i32>,
    /// Whether it has a connection. A resource that was rebuilt from manifests has none at first.
    pub is_connected: bool,
    /// The record of its promises, as stored.
    pub record: Option<serde_json::Value>,
    /// When retention was due to look at it.
    pub look_at: Option<DateTime<Utc>>,
}

/// A point and its resource.
#[derive(Debug, Clone)]
pub struct JudgedPoint {
    /// The resource.
    pub resource_id: String,
    /// The point.
    pub point: Point,
}

/// An expired point whose removal has begun.
#[derive(Debug, Clone)]
pub struct Doomed {
    /// Its resource.
    pub resource_id: String,
    /// Where its manifest is.
    pub manifest_key: String,
    /// Where its archive is, according to its manifest.
    pub archive_key: Option<String>,
}

/// Why an operator keeps a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Custody {
    /// It is pinned: somebody may need it.
    Pin,
    /// It is under a legal hold.
    Hold,
}

/// Counts of the points that wait for their removal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Removals {
    /// Expired points that still exist.
    pub awaiting: i64,
    /// How many of these expired more than a day ago and were not refused by their store.
    pub overdue: i64,
    /// How many of these the store refuses to remove.
    pub refused: i64,
}

impl Retained {
    /// Returns the policy by which the resource's points are judged at `now`. Its record already includes the current promise.
    pub fn policy(
        &self,
        plans: &Plans,
        grace: TimeDelta,
        now: DateTime<Utc>,
    ) -> Result<Policy, CatalogError> {
        let before: Option<Record> = self
            .record
            .clone()
            .map(serde_json::from_value)
            .transpose()
            .map_err(|error| CatalogError::BadRow {
                what: format!("promises of resource {:?}", self.id),
                why: error.to_string(),
            })?;
        let life = match self.status {
            ResourceStatus::Removed => Life::Removed,
            ResourceStatus::Active | ResourceStatus::Paused if !self.is_connected => {
                Life::Unconnected
            }
            ResourceStatus::Active | ResourceStatus::Paused => Life::Live,
        };
        let before = match self.look_at {
            Some(look_at) if now - look_at > LONG_UNSEEN => before.map(|it| it.seen_anew(now)),
            Some(_) | None => before,
        };
        let plan = plans.iter().find(|plan| plan.tier.as_str() == self.tier);
        let promise = plan.map(|plan| Promise::of(plan, self.retention_days));
        Ok(Policy {
            tier: match promise {
                Some(_) => TierKnown::Known,
                None => TierKnown::Unknown,
            },
            record: Record::after(before, promise, life, grace, now),
            life,
            grace,
        })
    }
}

/// Returns the points of these resources that their policies need to know.
pub(crate) async fn points_to_judge(
    executor: impl PgExecutor<'_>,
    subjects: &[(&Retained, &Policy)],
) -> Result<Vec<JudgedPoint>, CatalogError> {
    let ids: Vec<String> = subjects.iter().map(|(it, _)| it.id.clone()).collect();
    let seconds: Vec<Option<f64>> = subjects
        .iter()
        .map(|(_, policy)| policy.oldest_needed().map(TimeDelta::as_seconds_f64))
        .collect();
    let protected: Vec<i64> = subjects
        .iter()
        .map(|(_, policy)| policy.minimum_kept().max(1).into())
        .collect();
    let rows = sqlx::query_file!(
        "src/catalog/retention/points_to_judge.sql",
        &ids,
        &seconds as &[Option<f64>],
        &protected,
        JUDGED_AT_ONCE
    )
    .fetch_all(executor)
    .await?;
    let judged = rows.into_iter().map(|row| JudgedPoint {
        resource_id: row.resource_id,
        point: Point {
            id: row.id,
            consistent_at: row.consistent_at,
            recorded_at: row.recorded_at,
            verified_at: row.verified_at,
            pinned_at: row.pinned_at,
            held_at: row.held_at,
            suspected_at: row.suspected_at,
            is_shrunk: row.is_shrunk,
            quarantined_at: row.quarantined_at,
            expired_at: row.expired_at,
            is_in_restore: row.is_in_restore,
        },
    });
    Ok(judged.collect())
}

/// Lets points expire, each with its reason, except those for which this has become unsafe. Returns how many expired.
///
/// The caller has locked the resources.
pub(crate) async fn let_go(
    connection: &mut PgConnection,
    points: &[Uuid],
    because: &[String],
) -> Result<u64, CatalogError> {
    // A separate statement takes the locks, so that the next one sees what earlier lock holders did.
    sqlx::query_file!("src/catalog/retention/keepers.sql", points)
        .fetch_all(&mut *connection)
        .await?;
    let gone = sqlx::query_file!("src/catalog/retention/let_go.sql", points, because)
        .execute(&mut *connection)
        .await?;
    Ok(gone.rows_affected())
}

impl Catalog {
    /// Returns what retention knows about a resource.
    pub async fn retained(&self, resource_id: &str) -> Result<Retained, CatalogError> {
        sqlx::query_as!(
            Retained,
            r#"select r.id, r.tier, r.status, r.retention_days, known.record as "record?", known.look_at as "look_at?",
                 num_nonnulls(r.connection_ref, r.connection_sealed) = 1 as "is_connected!"
               from lastgood.resources as r left join lastgood.retention as known on known.resource_id = r.id
               where r.id = $1"#,
            resource_id
        )
        .fetch_optional(self.pool())
        .await?
        .ok_or_else(|| resource_not_found(resource_id))
    }

    /// Returns the next resources with restore points after `after`, by id; removed ones too.
    pub async fn retained_after(
        &self,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Retained>, CatalogError> {
        let rows = sqlx::query_as!(
            Retained,
            r#"select r.id, r.tier, r.status, r.retention_days, known.record as "record?", known.look_at as "look_at?",
                 num_nonnulls(r.connection_ref, r.connection_sealed) = 1 as "is_connected!"
               from lastgood.resources as r left join lastgood.retention as known on known.resource_id = r.id
               where ($1::text is null or r.id > $1)
                   and exists (select from lastgood.restore_points as point where point.resource_id = r.id)
               order by r.id limit $2"#,
            after,
            limit
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns all restore points of a resource, newest first, with when and why each expired.
    pub async fn points_with_fate(&self, resource_id: &str) -> Result<Vec<Fate>, CatalogError> {
        let rows = sqlx::query_file!("src/catalog/retention/points_with_fate.sql", resource_id)
            .fetch_all(self.pool())
            .await?;
        let fates = rows.into_iter().map(|row| Fate {
            point: Point {
                id: row.id,
                consistent_at: row.consistent_at,
                recorded_at: row.created_at,
                verified_at: row.verified_at,
                pinned_at: row.pinned_at,
                held_at: row.held_at,
                suspected_at: row.suspected_at,
                is_shrunk: row.is_shrunk,
                quarantined_at: row.quarantined_at,
                expired_at: row.expired_at,
                is_in_restore: row.is_in_restore,
            },
            stored_bytes: row.stored_bytes,
            kept_because: row.kept_because,
            expired_because: row.expired_because,
            refused_because: row.refused_because,
        });
        Ok(fates.collect())
    }

    /// Begins an expired point's removal. `None`: it may not be removed now, or is gone already.
    ///
    /// Pins, holds and restores keep the point. Its removal waits while it is being copied or verified, and after a disappearance
    /// en masse from any store.
    pub async fn begin_removal(&self, point: Uuid) -> Result<Option<Doomed>, CatalogError> {
        let doomed = sqlx::query_file_as!(Doomed, "src/catalog/retention/begin_removal.sql", point)
            .fetch_optional(self.pool())
            .await?;
        Ok(doomed)
    }

    /// Deletes the record of a point that no store holds any more, and records its removal in the audit log.
    pub async fn finish_removal(&self, point: Uuid) -> Result<(), CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let gone = sqlx::query!(
            r#"delete from lastgood.restore_points where id = $1 and removal_began_at is not null
               returning resource_id, consistent_at, manifest_key, stored_bytes, expired_because as "because!""#,
            point
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some(gone) = gone {
            let audit = Audit {
                action: "expire",
                resource_id: Some(&gone.resource_id),
                point_id: Some(point),
                detail: serde_json::json!({
                    "because": gone.because,
                    "consistent_at": gone.consistent_at,
                    "manifest_key": gone.manifest_key,
                    "stored_bytes": gone.stored_bytes,
                }),
            };
            record(&mut transaction, &audit).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Records that a store refuses to remove a point. `still_whole` means that its manifest still exists, so that it may yet be kept.
    pub async fn refuse_removal(
        &self,
        point: Uuid,
        because: &str,
        still_whole: bool,
    ) -> Result<(), CatalogError> {
        sqlx::query!(
            "update lastgood.restore_points
             set refused_at = now(), refused_because = $2,
                 removal_began_at = case when $3 then null else removal_began_at end
             where id = $1 and expired_at is not null",
            point,
            because.replace('\0', "\u{fffd}"),
            still_whole
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Pins a point or puts it on hold, even one that has expired, unless its removal has begun. The audit log records it.
    pub async fn keep(
        &self,
        point: Uuid,
        custody: Custody,
        because: &str,
    ) -> Result<(), CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let (pin, hold) = match custody {
            Custody::Pin => (Some(because), None),
            Custody::Hold => (None, Some(because)),
        };
        // The resource before the point, the same order as when points expire.
        sqlx::query!(
            "select r.id from lastgood.resources as r
             where r.id = (select resource_id from lastgood.restore_points where id = $1) for no key update",
            point
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let kept = sqlx::query_file_scalar!("src/catalog/retention/keep.sql", point, pin, hold)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(resource_id) = kept else {
            // The point does not exist, or its removal has begun.
            self.point(point).await?;
            return Err(CatalogError::TooLateToKeep(point));
        };
        let audit = Audit {
            action: match custody {
                Custody::Pin => "pin",
                Custody::Hold => "hold",
            },
            resource_id: Some(&resource_id),
            point_id: Some(point),
            detail: serde_json::json!({ "reason": because }),
        };
        record(&mut transaction, &audit).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Ends what [`Catalog::keep`] began, so that the promise alone decides again. The audit log records it.
    pub async fn keep_no_more(&self, point: Uuid, custody: Custody) -> Result<(), CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let (unpin, release) = match custody {
            Custody::Pin => (true, false),
            Custody::Hold => (false, true),
        };
        let before = sqlx::query_file!(
            "src/catalog/retention/keep_no_more.sql",
            point,
            unpin,
            release
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(before) = before else {
            self.point(point).await?;
            return Ok(());
        };
        if let Some(because) = before.because {
            let audit = Audit {
                action: match custody {
                    Custody::Pin => "unpin",
                    Custody::Hold => "release",
                },
                resource_id: Some(&before.resource_id),
                point_id: Some(point),
                detail: serde_json::json!({ "was_kept_because": because }),
            };
            record(&mut transaction, &audit).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Counts the expired points that wait for their removal.
    pub async fn removals(&self) -> Result<Removals, CatalogError> {
        let row = sqlx::query_as!(
            Removals,
            r#"select count(*) as "awaiting!",
                 count(*) filter (where refused_at is null and expired_at < now() - interval '1 day') as "overdue!",
                 count(*) filter (where refused_at is not null) as "refused!"
               from lastgood.restore_points where expired_at is not null"#
        )
        .fetch_one(self.pool())
        .await?;
        Ok(row)
    }
}

/// A restore point and why it is kept or expired.
#[derive(Debug, Clone)]
pub struct Fate {
    /// The point.
    pub point: Point,
    /// Size of its archive, in bytes in the store.
    pub stored_bytes: i64,
    /// Why an operator keeps it.
    pub kept_because: Option<String>,
    /// Why it expired.
    pub expired_because: Option<String>,
    /// Why the store refused to remove it.
    pub refused_because: Option<String>,
}

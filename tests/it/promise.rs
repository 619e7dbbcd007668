//! How the promises were kept is counted from the facts on record, once for all, whatever became of the facts since.

mod counting;
mod facts;
mod histories;
mod reports;
mod slices;

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};
use lastgood::{plan::Plans, producer::count_promises};
use uuid::Uuid;

use crate::database::TestCatalog;

/// The midnight at which these fleets begin.
const MIDNIGHT: &str = "2031-03-05T00:00:00Z";

/// Three tiers, two of which promise something.
const PLANS: &str = "version: 1\ntiers:\n\
    \x20 pro: {rpo_minutes: 60, backup_retention_days: 30, objective: 99.5}\n\
    \x20 hobby: {rpo_minutes: 1440, backup_retention_days: 30}\n\
    \x20 free: {rpo_minutes: 0, backup_retention_days: 0}\n";

/// A catalog whose clock stands where the test puts it.
struct Fleet {
    db: TestCatalog,
    midnight: DateTime<Utc>,
}

impl Fleet {
    /// Returns a catalog at midnight, with its promises on record.
    async fn begin() -> Result<Self> {
        let midnight = MIDNIGHT.parse()?;
        let db = TestCatalog::with_clock(midnight).await?;
        db.catalog.record_terms(&plans()?).await?;
        Ok(Self { db, midnight })
    }

    /// Returns a fleet with one resource, `shop` of team `acme` on tier `pro`.
    async fn with_shop() -> Result<Self> {
        let fleet = Self::begin().await?;
        fleet.db.add("shop", "acme", "pro").await?;
        Ok(fleet)
    }

    fn at(&self, minute: i64) -> DateTime<Utc> {
        self.midnight + TimeDelta::minutes(minute)
    }

    /// Sets the clock to so many minutes after midnight.
    async fn clock(&self, minute: i64) -> Result<()> {
        self.db.set_clock(self.at(minute)).await
    }

    /// Adds a restore point that is consistent to one minute and comes to exist in another.
    async fn point(&self, resource: &str, consistent: i64, exists: i64) -> Result<Uuid> {
        let id = sqlx::query_scalar(
            "insert into lastgood.restore_points
                 (id, resource_id, consistent_at, created_at, manifest_key, manifest, dump_bytes, stored_bytes)
             values (gen_random_uuid(), $1, $2, $3, gen_random_uuid() || '.json', '{}', 1, 1) returning id",
        )
        .bind(resource)
        .bind(self.at(consistent))
        .bind(self.at(exists))
        .fetch_one(self.db.pool())
        .await?;
        sqlx::query(
            "update lastgood.resources set newest_consistent_at = greatest(newest_consistent_at, $2) where id = $1",
        )
        .bind(resource)
        .bind(self.at(consistent))
        .execute(self.db.pool())
        .await?;
        Ok(id)
    }

    /// Adds a point at each hour of a day, from `from` on, each of which takes 5 minutes.
    async fn points_each_hour(&self, resource: &str, from: i64, hours: i64) -> Result<()> {
        for hour in 0..hours {
            let minute = from + 60 * hour;
            self.point(resource, minute, minute + 5).await?;
        }
        Ok(())
    }

    /// Counts whatever is due.
    async fn count(&self) -> Result<()> {
        for _ in 0..12 {
            count_promises(&self.db.catalog).await?;
        }
        Ok(())
    }

    /// Returns the minutes promised, late, broken, paused, down, and of the worst exposure, on a day after the first.
    async fn minutes(&self, resource: &str, day: i64) -> Result<[i64; 6]> {
        let row: (i32, i32, i32, i32, i32, i64) = sqlx::query_as(
            "select promised_seconds, late_seconds, broken_seconds, paused_seconds, down_seconds, worst_exposure_seconds
             from lastgood.promise_days where resource_id = $1 and day = $2",
        )
        .bind(resource)
        .bind((self.midnight + TimeDelta::days(day)).date_naive())
        .fetch_optional(self.db.pool())
        .await?
        .with_context(|| format!("day {day} of {resource} is not counted"))?;
        let parts = [row.0, row.1, row.2, row.3, row.4].map(i64::from);
        let [promised, late, broken, paused, down] = parts.map(|seconds| seconds / 60);
        Ok([promised, late, broken, paused, down, row.5 / 60])
    }
}

fn plans() -> Result<Plans> {
    Ok(Plans::parse(PLANS)?)
}

/// Minutes of a day.
const DAY: i64 = 24 * 60;

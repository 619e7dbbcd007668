//! What a failure right now would lose, per resource and per tier, and which resources and runs need attention.

#![expect(
    clippy::allow_attributes_without_reason,
    reason = "sqlx's macros expand to such attributes"
)]

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Catalog, CatalogError};
use crate::{
    nouns::{QueueDepth, StuckRun, Suspended, UnknownTier},
    run::{RunKind, RunState},
};

/// One active resource of a tier that is backed up.
#[derive(Debug, Clone)]
pub struct ResourceExposure {
    /// Its id.
    pub id: String,
    /// Its owner.
    pub team: String,
    /// Its tier.
    pub tier: String,
    /// Its engine.
    pub engine: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// The newest restorable instant.
    pub newest_consistent_at: Option<DateTime<Utc>>,
    /// How many scheduled backups have failed in a row.
    pub failures_in_a_row: i32,
    /// When it is due next.
    pub next_due_at: Option<DateTime<Utc>>,
    /// When a drill last proved one of its points.
    pub proven_at: Option<DateTime<Utc>>,
    /// How long the last restore that was measured took.
    pub restore_seconds: Option<f64>,
    /// What its newest restore point promises about its instant, in the manifest's words.
    pub consistency: Option<String>,
    /// Why a newer restore point is suspect, and so does not count, in the manifest's words; null if there is none.
    pub suspected_of: Option<Vec<String>>,
}

/// A tier's exposure in figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TierExposure {
    /// The tier.
    pub tier: String,
    /// Its active resources.
    pub resources: i64,
    /// Those with no restore point at all.
    pub never_backed_up: i64,
    /// How long ago the oldest of those was registered, in seconds; 0 if there are none.
    pub oldest_never_seconds: f64,
    /// Those whose exposure has passed the RPO and the tolerance.
    pub broken: i64,
    /// The longest exposure, in seconds.
    pub worst_seconds: i64,
    /// Exposure in seconds at the quantiles 0.5, 0.9, 0.99 and 1; what was never backed up counts from registration.
    pub quantiles: Vec<f64>,
}

impl Catalog {
    /// Returns the active resources on `tiers`, starting with those that have used up most of the exposure their tier allows.
    pub async fn exposures(
        &self,
        tiers: &[String],
        allowed_seconds: &[f64],
        team: Option<&str>,
        limit: i64,
    ) -> Result<Vec<ResourceExposure>, CatalogError> {
        if team.is_none() && !self.has_future_exposures(tiers).await? {
            let rows = sqlx::query_file_as!(
                ResourceExposure,
                "src/catalog/exposures.sql",
                tiers,
                allowed_seconds,
                limit
            )
            .fetch_all(self.pool())
            .await?;
            return Ok(rows);
        }
        let rows = sqlx::query_as!(
            ResourceExposure,
            "select id, team, r.tier, engine, created_at, newest_consistent_at, failures_in_a_row, next_due_at,
                 drill_proven_at as proven_at, restore_seconds,
                 (select point.manifest ->> 'consistency' from lastgood.trusted_points as point
                  where point.resource_id = r.id order by point.consistent_at desc limit 1) as consistency,
                 (select point.suspected_of from lastgood.usable_points as point
                  where point.resource_id = r.id and point.suspected_at is not null
                    and point.consistent_at > coalesce(r.newest_consistent_at, '-infinity')
                  order by point.consistent_at desc limit 1) as suspected_of
             from lastgood.resources as r join unnest($1::text[], $2::float8[]) as plan (tier, allowed) on plan.tier = r.tier
             where status = 'active' and coalesce(retention_days, 1) > 0 and ($4::text is null or team = $4)
             order by extract(epoch from now() - lastgood.exposed_since(newest_consistent_at, created_at)) / plan.allowed desc, id
             limit $3",
            tiers,
            allowed_seconds,
            limit,
            team
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns whether an exposure is dated in the future. The index sorts
    /// such resources to its wrong end until the producer corrects them.
    async fn has_future_exposures(&self, tiers: &[String]) -> Result<bool, CatalogError> {
        let has = sqlx::query_scalar!(
            r#"select exists (
                   select from unnest($1::text[]) as paid (tier)
                   cross join lateral (
                       select from lastgood.resources as r
                       where r.tier = paid.tier and r.status = 'active' and coalesce(r.retention_days, 1) > 0
                           and r.exposed_since > now() + interval '5 minutes'
                       limit 1
                   ) as ahead
               ) as "has!""#,
            tiers
        )
        .fetch_one(self.pool())
        .await?;
        Ok(has)
    }

    /// Returns each tier's exposure. `allowed_seconds` holds, tier by tier, the RPO plus the tolerance.
    pub async fn tier_exposures(
        &self,
        tiers: &[String],
        allowed_seconds: &[f64],
        team: Option<&str>,
    ) -> Result<Vec<TierExposure>, CatalogError> {
        let rows = if team.is_some() || self.has_future_exposures(tiers).await? {
            sqlx::query_file_as!(
                TierExposure,
                "src/catalog/team_exposures.sql",
                tiers,
                allowed_seconds,
                team
            )
            .fetch_all(self.pool())
            .await?
        } else {
            sqlx::query_file_as!(
                TierExposure,
                "src/catalog/tier_exposures.sql",
                tiers,
                allowed_seconds
            )
            .fetch_all(self.pool())
            .await?
        };
        Ok(rows)
    }

    /// Returns the tiers of active resources that are not in `known`. The query steps from tier to tier in the index, so its cost does not
    /// grow with the number of resources.
    pub async fn unknown_tiers(&self, known: &[String]) -> Result<Vec<UnknownTier>, CatalogError> {
        let rows = sqlx::query_file_as!(UnknownTier, "src/catalog/unknown_tiers.sql", known)
            .fetch_all(self.pool())
            .await?;
        Ok(rows)
    }

    /// Returns how many resources on `tiers` are paused, and how many are vetoed by their own retention.
    pub async fn suspended(
        &self,
        tiers: &[String],
        team: Option<&str>,
    ) -> Result<Suspended, CatalogError> {
        let row = sqlx::query_as!(
            Suspended,
            r#"select count(*) filter (where status = 'paused') as "paused!",
                 count(*) filter (where status = 'active' and retention_days <= 0) as "vetoed!"
               from lastgood.resources
               where tier = any($1) and ($2::text is null or team = $2)
                 and (status = 'paused' or (status = 'active' and retention_days <= 0))"#,
            tiers,
            team
        )
        .fetch_one(self.pool())
        .await?;
        Ok(row)
    }

    /// Returns how many resources on each of `tiers` are suspended: paused, or vetoed by their own retention.
    pub async fn suspended_by_tier(
        &self,
        tiers: &[String],
    ) -> Result<Vec<(String, i64)>, CatalogError> {
        let rows = sqlx::query!(
            r#"select tier, count(*) as "resources!" from lastgood.resources
               where tier = any($1) and (status = 'paused' or (status = 'active' and retention_days <= 0))
               group by tier"#,
            tiers
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.tier, row.resources))
            .collect())
    }

    /// Returns the depth of each queue that is not empty.
    pub async fn queue_depths(&self) -> Result<Vec<QueueDepth>, CatalogError> {
        let rows = sqlx::query_file_as!(QueueDepth, "src/catalog/queue_depths.sql")
            .fetch_all(self.pool())
            .await?;
        Ok(rows)
    }

    /// Returns up to 100 stuck runs: those that could have been claimed for `patience_seconds` and were not, and those whose lease ran out
    /// that long ago. Upkeep waits by design, and paused runs wait by order: neither is stuck.
    pub async fn stuck_runs(&self, patience_seconds: f64) -> Result<Vec<StuckRun>, CatalogError> {
        let rows = sqlx::query_file_as!(StuckRun, "src/catalog/stuck_runs.sql", patience_seconds)
            .fetch_all(self.pool())
            .await?;
        Ok(rows)
    }
}

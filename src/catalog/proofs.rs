//! What is proven about restore points, and what is not: verifications asked for, damage found, proofs overdue.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use super::{Catalog, CatalogError};

/// The most verifications that are asked for at once: a run for each of millions of points would bury the queue.
pub const ASKED_AT_ONCE: i64 = 10_000;

/// One engine's restore points, counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProofCount {
    /// The engine.
    pub engine: String,
    /// Found damaged.
    pub quarantined: i64,
    /// Of these, those of resources that are not removed and have no usable point that is newer.
    pub unreplaced: i64,
    /// Usable, and not read back for longer than they should be.
    pub overdue: i64,
}

/// A restore point that was found damaged.
#[derive(Debug, Clone, Serialize)]
pub struct QuarantinedPoint {
    /// Its id.
    pub id: Uuid,
    /// Its resource.
    pub resource_id: String,
    /// The instant it would bring back.
    pub consistent_at: DateTime<Utc>,
    /// When the damage was found.
    pub quarantined_at: DateTime<Utc>,
    /// What is wrong with it.
    pub because: String,
}

/// Which usable restore points to read back.
#[derive(Debug, Clone, Default)]
pub struct Selection<'a> {
    /// One point, also a quarantined one.
    pub point: Option<Uuid>,
    /// Those of one resource.
    pub resource_id: Option<&'a str>,
    /// At random, this part of them, from 0 to 1, and one at least; `None`: all.
    pub part: Option<f64>,
}

/// A verification that waits or is under way.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    /// Its run.
    pub run: Uuid,
    /// The restore point.
    pub point: Uuid,
    /// The resource.
    pub resource_id: String,
}

/// What an ended verification showed.
#[derive(Debug, Clone)]
pub struct ProofVerdict {
    /// Its run.
    pub run: Uuid,
    /// `succeeded`, `failed` or `cancelled`.
    pub state: String,
    /// Why it failed.
    pub error: Option<String>,
    /// Whether it read the point to its last byte.
    pub is_proof: bool,
    /// Whether the point is quarantined.
    pub is_condemned: bool,
}

impl Catalog {
    /// Returns what those of the verifications have shown that have ended.
    pub async fn verdicts(&self, runs: &[Uuid]) -> Result<Vec<ProofVerdict>, CatalogError> {
        let rows = sqlx::query_as!(
            ProofVerdict,
            r#"select run.id as "run!", run.state as "state!", run.error, coalesce(run.result ? 'verified', false) as "is_proof!",
                 point.quarantined_at is not null as "is_condemned!"
               from lastgood.runs as run
               left join lastgood.restore_points as point on point.id = (run.args ->> 'point')::uuid
               where run.id = any($1) and run.finished_at is not null"#,
            runs
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Enqueues verifications of the selected points, and returns their runs. A point that is waiting already goes to the
    /// front of the queue with the others: somebody asked.
    pub async fn ask_for_verifications(
        &self,
        selection: &Selection<'_>,
    ) -> Result<Vec<Asked>, CatalogError> {
        let asked = sqlx::query_file_as!(
            Asked,
            "src/catalog/ask_for_verifications.sql",
            selection.point,
            selection.resource_id,
            selection.part,
            ASKED_AT_ONCE,
        )
        .fetch_all(self.pool())
        .await?;
        Ok(asked)
    }

    /// Returns each engine's damaged points, and its usable ones that were not proven within `within`; without one, none is
    /// overdue.
    pub async fn proof_counts(
        &self,
        within: Option<Duration>,
    ) -> Result<Vec<ProofCount>, CatalogError> {
        let rows = sqlx::query_file_as!(
            ProofCount,
            "src/catalog/proof_counts.sql",
            within.map(interval)
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns the restore points that were found damaged, the newest finding first.
    pub async fn quarantined(&self, limit: i64) -> Result<Vec<QuarantinedPoint>, CatalogError> {
        let rows = sqlx::query_as!(
            QuarantinedPoint,
            r#"select id, resource_id, consistent_at, quarantined_at as "quarantined_at!",
                 quarantined_because as "because!"
               from lastgood.restore_points where quarantined_at is not null
               order by quarantined_at desc limit $1"#,
            limit
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns the manifests' keys of a few usable points other than `point` that `store` should hold, the newest there: whoever
    /// misses that one can tell by them whether the store is the right one.
    pub async fn other_manifest_keys(
        &self,
        point: Uuid,
        store: &str,
    ) -> Result<Vec<String>, CatalogError> {
        let keys = sqlx::query_scalar!(
            r#"select p.manifest_key as "manifest_key!"
               from lastgood.copies as c join lastgood.usable_points as p on p.id = c.point_id
               where c.store = $2 and p.id <> $1
               order by c.stored_at desc limit 5"#,
            point,
            store
        )
        .fetch_all(self.pool())
        .await?;
        Ok(keys)
    }
}

/// Returns a duration as the catalog counts it.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}

//! What is proven about restore points: verifications that were asked for, damage that was found, proofs that are overdue.

use std::time::Duration;

use lastgood_jobs::attempt::RunId;
use serde::{Deserialize, Serialize};
use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use super::{Catalog, CatalogError};
use crate::{nouns::QuarantinedPoint, run::RunState};

/// The most verifications asked for at once: a run for each of millions of points would bury the queue.
pub const ASKED_AT_ONCE: i64 = 10_000;

/// Counts of one engine's restore points.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProofCount {
    /// The engine.
    pub engine: String,
    /// Quarantined points.
    pub quarantined: i64,
    /// How many of these have no newer trusted point and belong to a resource that was not removed.
    pub unreplaced: i64,
    /// Usable points that some store has not read back in time.
    pub overdue: i64,
}

/// Which restore points to read back.
#[derive(Debug, Clone, Default)]
pub struct Selection<'a> {
    /// This point, even if it is quarantined.
    pub point: Option<Uuid>,
    /// Those of this resource. Unless only a part is chosen, quarantined ones too, except those whose key was shredded.
    pub resource_id: Option<&'a str>,
    /// A random part of the usable ones, from 0 to 1, but at least one point; `None`: all.
    pub part: Option<f64>,
}

/// A verification that is queued or running.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    /// Its run.
    pub run: RunId,
    /// The restore point.
    pub point: Uuid,
    /// The resource.
    pub resource: String,
}

/// The result of an ended verification.
#[derive(Debug, Clone)]
pub struct ProofVerdict {
    /// How the run ended.
    pub run: RunId,
    /// How it ended.
    pub state: RunState,
    /// Why it failed.
    pub error: Option<String>,
    /// Whether it read the point to its last byte.
    pub is_proof: bool,
    /// Whether the point is quarantined.
    pub is_condemned: bool,
}

impl Catalog {
    /// Returns the results of those of the verifications that have ended.
    pub async fn verdicts(&self, runs: &[RunId]) -> Result<Vec<ProofVerdict>, CatalogError> {
        let rows = sqlx::query_as!(
            ProofVerdict,
            r#"select run.id as "run!", run.state as "state!", run.error, coalesce(run.result ? 'verified', false) as "is_proof!",
                 point.quarantined_at is not null as "is_condemned!"
               from lastgood.runs as run
               left join lastgood.restore_points as point on point.id = (run.args ->> 'point')::uuid
               where run.id = any($1) and run.finished_at is not null"#,
            runs as &[RunId]
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Enqueues verifications of the selected points and returns their runs. A point whose verification is queued already is raised to the
    /// same priority, and its run is returned too.
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

    /// Counts each engine's quarantined points, and its usable points not proven within `within`. `None`: no point is overdue.
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

    /// Returns the quarantined restore points, most recently quarantined first.
    pub async fn quarantined(&self, limit: i64) -> Result<Vec<QuarantinedPoint>, CatalogError> {
        let rows = sqlx::query_as!(
            QuarantinedPoint,
            r#"select id, resource_id as resource, consistent_at, quarantined_at as "quarantined_at!",
                 quarantined_because as "quarantined_because!"
               from lastgood.restore_points where quarantined_at is not null
               order by quarantined_at desc limit $1"#,
            limit
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns the manifest keys of up to five usable points other than `point` that `store` should hold, the most recently stored first. A
    /// caller that misses `point` can tell by them whether this is the right store.
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

/// Converts a duration to a PostgreSQL interval.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}

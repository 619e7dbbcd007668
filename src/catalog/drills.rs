//! What drills have found, and who may drill a point again.

use lastgood_jobs::{attempt::RunId, resource::Engine};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Catalog, CatalogError};
use crate::capabilities::OldestProof;

/// A point that a drill found wanting, as the next consumer sees it.
#[derive(Debug, Clone, Copy)]
pub struct Doubt {
    /// Whether this consumer found that itself, and no drill has proven the point since.
    pub is_mine: bool,
    /// How many other live consumers run drills of the engine.
    pub others: i64,
}

/// A drill that somebody asked for.
#[derive(Debug, Clone)]
pub struct AskedDrill {
    /// Its run.
    pub run: RunId,
    /// Whether it is new; else an earlier one waits or runs.
    pub is_new: bool,
}

/// Whose proof is missing or overdue, of one engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnprovenCount {
    /// The engine.
    pub engine: String,
    /// Resources that no drill has proven within their tier's time.
    pub overdue: i64,
    /// Resources whose last drill found a difference, or failed.
    pub wanting: i64,
    /// Resources that no consumer could drill the last time.
    pub not_possible: i64,
}

impl Catalog {
    /// Returns what is known of earlier drills of a point, to the consumer `worker` that is to drill it.
    pub async fn drill_doubt(
        &self,
        point: Uuid,
        engine: &str,
        worker: &str,
    ) -> Result<Doubt, CatalogError> {
        let doubt = sqlx::query_as!(
            Doubt,
            r#"select
                 exists (
                     select from lastgood.proofs as mine
                     join lastgood.restore_points as p on p.id = $1 and p.resource_id = mine.resource_id
                     where mine.point = $1 and mine.kind = 'drill' and mine.outcome in ('differs', 'failed') and mine.worker = $3
                         and p.drill_outcome in ('differs', 'failed')
                 ) as "is_mine!",
                 (
                     select count(*) from lastgood.consumers as c
                     where c.id <> $3 and c.state = 'running' and c.seen_at > now() - interval '30 seconds'
                         and $2 = any (c.queues)
                         and exists (
                             select from jsonb_array_elements(c.capabilities) as can
                             where can ->> 'engine' = $2 and can -> 'operations' ? 'drill'
                         )
                 ) as "others!""#,
            point,
            engine,
            worker
        )
        .fetch_one(self.pool())
        .await?;
        Ok(doubt)
    }

    /// Returns whether a live consumer runs drills of the engine.
    pub async fn is_drilled(&self, engine: &str) -> Result<bool, CatalogError> {
        let is_drilled = sqlx::query_scalar!(
            r#"select exists (
                 select from lastgood.consumers as c
                 cross join lateral jsonb_array_elements(c.capabilities) as can
                 where c.state = 'running' and c.seen_at > now() - interval '30 seconds' and $1 = any (c.queues)
                     and can ->> 'engine' = $1 and can -> 'operations' ? 'drill'
               ) as "is!""#,
            engine
        )
        .fetch_one(self.pool())
        .await?;
        Ok(is_drilled)
    }

    /// Enqueues a drill of a point that somebody asked for. If one of its resource waits already, that one is returned, and raised to
    /// the same priority if it is of the same point.
    pub async fn ask_for_drill(&self, point: Uuid) -> Result<AskedDrill, CatalogError> {
        let asked = sqlx::query_as!(
            AskedDrill,
            r#"insert into lastgood.runs as run (queue, kind, trigger, resource_id, priority, args)
               select r.engine, 'drill', 'adhoc', r.id, lastgood.priority('drill', 'adhoc'), lastgood.job('drill', $1)
               from lastgood.restore_points as point join lastgood.resources as r on r.id = point.resource_id
               where point.id = $1
               on conflict (resource_id) where kind = 'drill' and state in ('queued', 'running')
                   do update set priority = greatest(run.priority, excluded.priority)
               returning run.id as "run!: RunId", xmax = 0 as "is_new!""#,
            point
        )
        .fetch_one(self.pool())
        .await?;
        Ok(asked)
    }

    /// Counts each engine's resources that are not proven restorable. `tiers` and `days`: within how many days each tier's are to be.
    pub async fn unproven_counts(
        &self,
        tiers: &[String],
        days: &[i32],
    ) -> Result<Vec<UnprovenCount>, CatalogError> {
        let rows = sqlx::query_file_as!(
            UnprovenCount,
            "src/catalog/unproven_counts.sql",
            tiers,
            days
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns the oldest proof by a drill among the resources of each of these tiers and each engine that have restore points.
    pub async fn oldest_proofs(&self, tiers: &[String]) -> Result<Vec<OldestProof>, CatalogError> {
        let engines = Engine::ALL.map(|engine| engine.to_string());
        let rows = sqlx::query_as!(
            OldestProof,
            r#"select tier.name as "tier!", engine.name as "engine!", oldest.drill_proven_at as at
               from unnest($1::text[]) as tier (name) cross join unnest($2::text[]) as engine (name)
               cross join lateral (
                   select r.drill_proven_at from lastgood.resources as r
                   where r.tier = tier.name and r.engine = engine.name and r.newest_consistent_at is not null
                       and r.status <> 'removed'
                   order by r.drill_proven_at nulls first limit 1
               ) as oldest"#,
            tiers,
            &engines
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }
}

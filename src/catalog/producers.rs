//! Producers: which of them tick, and by which plans. Without a live producer nothing is scheduled.

use std::time::Duration;

use super::{Catalog, CatalogError};
use crate::plan::Plans;

/// The settings that a producer schedules by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoesBy {
    plans_blake3: String,
    verify_within: Option<Duration>,
}

impl GoesBy {
    /// Returns the settings to record: a hash of the plans in force, and how often restore points are read back (`None`: never).
    #[must_use]
    pub fn of(plans: &Plans, verify_within: Option<Duration>) -> Self {
        Self {
            plans_blake3: hash(plans),
            verify_within,
        }
    }
}

/// The producers that tick now, with their settings.
#[derive(Debug, Clone, Default)]
pub struct Scheduling {
    producers: Vec<LiveProducer>,
}

#[derive(Debug, Clone)]
struct LiveProducer {
    plans_blake3: String,
    verify_within_seconds: i64,
}

impl Scheduling {
    /// Returns whether any producer ticks.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.producers.is_empty()
    }

    /// Returns whether some producer uses plans other than these.
    #[must_use]
    pub fn differs_from(&self, plans: &Plans) -> bool {
        let here = hash(plans);
        self.producers
            .iter()
            .any(|producer| producer.plans_blake3 != here)
    }

    /// Returns whether some producer has restore points read back.
    #[must_use]
    pub fn is_verifying(&self) -> bool {
        self.producers
            .iter()
            .any(|producer| producer.verify_within_seconds > 0)
    }
}

/// Hashes the plans' fingerprint, which depends on their promises alone, not on their order or spelling. Fields that later versions add
/// enter the fingerprint only where a plan uses them.
fn hash(plans: &Plans) -> String {
    blake3::hash(plans.fingerprint().as_bytes())
        .to_hex()
        .to_string()
}

impl Catalog {
    /// Records that a producer has just ticked, with its settings, and forgets producers that have not ticked for a week.
    pub async fn producer_ticked(
        &self,
        id: &str,
        every: Duration,
        goes_by: &GoesBy,
    ) -> Result<(), CatalogError> {
        let seconds = i32::try_from(every.as_secs()).unwrap_or(i32::MAX).max(1);
        // 0 stands for never, so less than a second counts as one.
        let verify_within = goes_by.verify_within.map_or(0, |within| {
            i64::try_from(within.as_secs()).unwrap_or(i64::MAX).max(1)
        });
        sqlx::query!(
            "with gone as (delete from lastgood.producers where ticked_at < now() - interval '7 days' and id <> $1)
             insert into lastgood.producers (id, version, tick_seconds, plans_blake3, verify_within_seconds)
             values ($1, $2, $3, $4, $5)
             on conflict (id) do update
             set ticked_at = now(), plans_blake3 = excluded.plans_blake3,
                 verify_within_seconds = excluded.verify_within_seconds",
            id,
            env!("CARGO_PKG_VERSION"),
            seconds,
            goes_by.plans_blake3,
            verify_within
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Records that a producer has stopped.
    pub async fn producer_stopped(&self, id: &str) -> Result<(), CatalogError> {
        sqlx::query!("delete from lastgood.producers where id = $1", id)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Returns the producers that tick: those whose last tick was within
    /// three of their tick intervals, or within 30 seconds if that is longer.
    pub async fn scheduling(&self) -> Result<Scheduling, CatalogError> {
        let producers = sqlx::query_as!(
            LiveProducer,
            "select plans_blake3, verify_within_seconds from lastgood.producers
             where ticked_at > now() - greatest(make_interval(secs => 3.0 * tick_seconds), interval '30 seconds')"
        )
        .fetch_all(self.pool())
        .await?;
        Ok(Scheduling { producers })
    }

    /// Records the plans of a producer that has a plans file. Writes nothing if the same plans are on record.
    pub async fn record_plans(&self, plans: &PlansOnRecord) -> Result<(), CatalogError> {
        sqlx::query!(
            "insert into lastgood.plans_on_record as recorded (known, tiers, cadences, rpos, strict) values ($1, $2, $3, $4, $5)
             on conflict (is_only) do update
             set known = excluded.known, tiers = excluded.tiers, cadences = excluded.cadences, rpos = excluded.rpos,
                 strict = excluded.strict, recorded_at = now()
             where (recorded.known, recorded.tiers, recorded.cadences, recorded.rpos, recorded.strict)
                 is distinct from (excluded.known, excluded.tiers, excluded.cadences, excluded.rpos, excluded.strict)",
            &plans.known,
            &plans.tiers,
            &plans.cadences,
            &plans.rpos,
            &plans.strict
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Returns the plans of the last producer that had a plans file; `None`: there never was one.
    pub async fn plans_on_record(&self) -> Result<Option<PlansOnRecord>, CatalogError> {
        let recorded = sqlx::query_as!(
            PlansOnRecord,
            "select known, tiers, cadences, rpos, strict from lastgood.plans_on_record"
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(recorded)
    }
}

/// The plans of a producer that has a plans file. `tiers`, `cadences` and `rpos` are parallel lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlansOnRecord {
    /// Every tier in the file.
    pub known: Vec<String>,
    /// The tiers that are backed up.
    pub tiers: Vec<String>,
    /// Their cadences in minutes.
    pub cadences: Vec<i32>,
    /// Their RPOs in minutes.
    pub rpos: Vec<i32>,
    /// Which of them are held strictly.
    pub strict: Vec<String>,
}

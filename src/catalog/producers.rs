//! Producers: which of them tick. Without one nothing is scheduled.

use std::time::Duration;

use super::{Catalog, CatalogError};

impl Catalog {
    /// Records that a producer has just ticked, and forgets those that have not for a week.
    pub async fn producer_ticked(&self, id: &str, every: Duration) -> Result<(), CatalogError> {
        let seconds = i32::try_from(every.as_secs()).unwrap_or(i32::MAX).max(1);
        sqlx::query!(
            "with gone as (delete from lastgood.producers where ticked_at < now() - interval '7 days' and id <> $1)
             insert into lastgood.producers (id, version, tick_seconds) values ($1, $2, $3)
             on conflict (id) do update set ticked_at = now()",
            id,
            env!("CARGO_PKG_VERSION"),
            seconds
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

    /// Returns whether any producer ticks: its last tick is no longer ago than three of them take, or 30 seconds.
    pub async fn is_scheduling(&self) -> Result<bool, CatalogError> {
        let alive = sqlx::query_scalar!(
            r#"select exists (
                 select from lastgood.producers
                 where ticked_at > now() - greatest(make_interval(secs => 3.0 * tick_seconds), interval '30 seconds')
               ) as "alive!""#
        )
        .fetch_one(self.pool())
        .await?;
        Ok(alive)
    }
}

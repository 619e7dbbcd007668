//! How fast are error budgets burning? The last hours, counted a few minutes at a time.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::super::{Catalog, CatalogError, ended};

/// The shortest slice, and the first.
const SHORTEST_SECONDS: i64 = 120;
/// What is further back than the longest window is not counted.
const LONGEST_HOURS: i64 = 6;

/// In which share of its time a tier's promise was broken, from 0 to 1; `None`: nothing was promised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// The tier.
    pub tier: String,
    /// In the last hour.
    pub share_1h: Option<f64>,
    /// In the last six hours.
    pub share_6h: Option<f64>,
    /// For how many seconds it was broken in the last 30 days.
    pub broken_seconds: Option<f64>,
    /// For how many seconds something was promised in the last 30 days.
    pub promised_seconds: Option<f64>,
}

impl Catalog {
    /// Counts the time since the last slice, if that is long enough ago. `tiers` holds the paid tiers and `allowed_seconds` the exposure
    /// that each allows. Returns whether a slice was counted.
    pub async fn count_slice(
        &self,
        tiers: &[String],
        allowed_seconds: &[f64],
    ) -> Result<bool, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        // One at a time: the next one sees what this one has counted.
        sqlx::query("lock table lastgood.promise_slices in share row exclusive mode")
            .execute(&mut *transaction)
            .await?;
        let row = sqlx::query!(
            r#"select now() as "now!", max(until) as last from lastgood.promise_slices where until <= now()"#
        )
        .fetch_one(&mut *transaction)
        .await?;
        let shortest = TimeDelta::seconds(SHORTEST_SECONDS);
        let from = row.last.unwrap_or(row.now - shortest);
        let from = from.max(row.now - TimeDelta::hours(LONGEST_HOURS));
        if row.now - from < shortest {
            transaction.rollback().await?;
            return Ok(false);
        }
        let counted = sqlx::query_file!(
            "src/catalog/promise/slice.sql",
            tiers,
            allowed_seconds,
            from,
            row.now
        )
        .execute(&mut *transaction)
        .await;
        Ok(ended(transaction, counted).await?.rows_affected() > 0)
    }

    /// Returns in which share of its time each tier's promise was broken.
    pub async fn promise_rates(&self) -> Result<Vec<Rate>, CatalogError> {
        let rates = sqlx::query_file_as!(Rate, "src/catalog/promise/rates.sql")
            .fetch_all(self.pool())
            .await?;
        Ok(rates)
    }
}

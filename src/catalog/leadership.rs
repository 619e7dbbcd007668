//! Which producer does the work that only one needs to do, and what the measuring producer found.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use super::{Catalog, CatalogError, interval};

/// Fleet-wide work. Any number of producers may safely do it at once: that is only expensive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Computing the figures that the gauges show.
    Measure,
    /// Upkeep of restore points: copies, verifications and the like.
    Upkeep,
    /// Letting restore points expire. A producer without its plans file must not do this.
    Retention,
    /// Finding the cadences of resources whose RPO is held to the minute. Likewise.
    Hold,
    /// Counting how promises were kept.
    Promise,
}

impl Work {
    fn as_str(self) -> &'static str {
        match self {
            Self::Measure => "measure",
            Self::Upkeep => "upkeep",
            Self::Retention => "retention",
            Self::Hold => "hold",
            Self::Promise => "promise",
        }
    }
}

impl Catalog {
    /// Returns whether `holder` leads this work for the next `lease`. If it dies, another one takes over once the lease has run out.
    ///
    /// A lease that ends more than ten times `lease` from now was granted by a clock that ran ahead, and counts for nothing.
    pub async fn leads(
        &self,
        work: Work,
        holder: &str,
        lease: Duration,
    ) -> Result<bool, CatalogError> {
        let leads = sqlx::query_scalar!(
            r#"insert into lastgood.leadership as led (work, holder, until) values ($1, $2, now() + $3)
               on conflict (work) do update set holder = excluded.holder, until = excluded.until
               where led.holder = excluded.holder or led.until <= now() or led.until > now() + 10 * $3::interval
               returning true as "leads!""#,
            work.as_str(),
            holder,
            interval(lease)
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(leads.unwrap_or(false))
    }

    /// Gives up all of `holder`'s leases, so that another producer can lead at once.
    pub async fn leads_no_more(&self, holder: &str) -> Result<(), CatalogError> {
        sqlx::query!("delete from lastgood.leadership where holder = $1", holder)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Records the measured figures, for the other producers to show.
    pub async fn record_measured(&self, figures: &impl Serialize) -> Result<(), CatalogError> {
        let figures =
            serde_json::to_value(figures).map_err(|error| sqlx::Error::Encode(error.into()))?;
        sqlx::query!(
            "insert into lastgood.measured (at, figures) values (clock_timestamp(), $1)
             on conflict (is_only) do update set at = excluded.at, figures = excluded.figures",
            figures
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Returns the figures measured no longer ago than `within`, if this build understands them.
    pub async fn measured<T: DeserializeOwned>(
        &self,
        within: Duration,
    ) -> Result<Option<T>, CatalogError> {
        let figures = sqlx::query_scalar!(
            "select figures from lastgood.measured where at > now() - $1::interval and at < now() + $1::interval",
            interval(within)
        )
        .fetch_optional(self.pool())
        .await?;
        // Figures that another version wrote and this one cannot read count as missing.
        Ok(figures.and_then(|figures| serde_json::from_value(figures).ok()))
    }
}

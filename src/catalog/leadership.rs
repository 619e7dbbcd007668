//! Which producer does what only one needs to do, and what the one that measures found.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};

use super::{Catalog, CatalogError, interval};

/// Work that reads or changes things of the whole fleet. Any number of producers may do it at once: it is only dear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The figures that the gauges show.
    Measure,
    /// What restore points need after they were made.
    Upkeep,
    /// What retention lets go: not for a producer whose plans file is away.
    Retention,
}

impl Work {
    fn as_str(self) -> &'static str {
        match self {
            Self::Measure => "measure",
            Self::Upkeep => "upkeep",
            Self::Retention => "retention",
        }
    }
}

impl Catalog {
    /// Returns whether `holder` is the one to do this work for so long from now. One that dies is followed when that has passed; a lease
    /// that a clock which was ahead has given for longer is nobody's.
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

    /// Lets another one lead at once.
    pub async fn leads_no_more(&self, holder: &str) -> Result<(), CatalogError> {
        sqlx::query!("delete from lastgood.leadership where holder = $1", holder)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Records what was measured, for the other producers to show.
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

    /// Returns what was measured no longer ago than `within`, if this build understands it.
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
        // Of another version, it is as if there were none.
        Ok(figures.and_then(|figures| serde_json::from_value(figures).ok()))
    }
}

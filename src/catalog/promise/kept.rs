//! How the promises were kept over some days: sums of what was counted.

use chrono::NaiveDate;

use super::super::{Catalog, CatalogError};

/// Which figures are meant. `None` is any.
#[derive(Debug, Clone, Copy)]
pub struct KeptFilter<'a> {
    /// The first day.
    pub from: NaiveDate,
    /// The last day.
    pub to: NaiveDate,
    /// One team's.
    pub team: Option<&'a str>,
    /// Those of one tier.
    pub tier: Option<&'a str>,
}

/// How a promise was kept, in seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The team, where the sums are by team.
    pub team: Option<String>,
    /// The tier.
    pub tier: String,
    /// The most resources on one day.
    pub resources: i64,
    /// For how long something was promised, all resources together.
    pub promised_seconds: i64,
    /// For how much of it the exposure was longer than the RPO.
    pub late_seconds: i64,
    /// For how much of that it was longer than the RPO and its tolerance.
    pub broken_seconds: i64,
    /// For how long it was paused.
    pub paused_seconds: i64,
    /// For how much of the promised time no producer was alive.
    pub down_seconds: i64,
    /// The longest exposure.
    pub worst_exposure_seconds: i64,
}

/// How the promise of one resource was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOfResource {
    /// The resource.
    pub resource: String,
    /// Its figures.
    pub kept: Kept,
}

impl Catalog {
    /// Returns how the promises were kept by tier, or by team and tier, those first that were kept worst.
    pub async fn kept(
        &self,
        filter: &KeptFilter<'_>,
        by_team: bool,
        limit: i64,
    ) -> Result<Vec<Kept>, CatalogError> {
        let rows = sqlx::query_file_as!(
            Kept,
            "src/catalog/promise/report.sql",
            filter.from,
            filter.to,
            filter.team,
            filter.tier,
            by_team,
            limit
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns the resources whose promise was broken for longest.
    pub async fn worst_kept(
        &self,
        filter: &KeptFilter<'_>,
        limit: i64,
    ) -> Result<Vec<KeptOfResource>, CatalogError> {
        let rows = sqlx::query_file_as!(
            Row,
            "src/catalog/promise/worst.sql",
            filter.from,
            filter.to,
            filter.team,
            filter.tier,
            limit
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(Row::kept).collect())
    }

    /// Returns how the promise of one resource was kept, for each team and tier that it had.
    pub async fn kept_of(
        &self,
        resource: &str,
        filter: &KeptFilter<'_>,
    ) -> Result<Vec<KeptOfResource>, CatalogError> {
        let rows = sqlx::query_file_as!(
            Row,
            "src/catalog/promise/of_resource.sql",
            filter.from,
            filter.to,
            filter.team,
            filter.tier,
            resource
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(Row::kept).collect())
    }

    /// Returns how many of these days are counted for good.
    pub async fn days_counted(&self, from: NaiveDate, to: NaiveDate) -> Result<i64, CatalogError> {
        let days = sqlx::query_scalar!(
            r#"select count(*) as "days!" from lastgood.promise_passes
               where day between $1 and $2 and is_final and ended_at is not null"#,
            from,
            to
        )
        .fetch_one(self.pool())
        .await?;
        Ok(days)
    }

    /// Returns up to when the last of these days that was counted is counted; `None`: none was.
    pub async fn counted_until(
        &self,
        from: NaiveDate,
        to: NaiveDate,
    ) -> Result<Option<chrono::DateTime<chrono::Utc>>, CatalogError> {
        let until = sqlx::query_scalar!(
            "select max(until) from lastgood.promise_passes
             where day between $1 and $2 and (ended_at is not null or after > '')",
            from,
            to
        )
        .fetch_one(self.pool())
        .await?;
        Ok(until)
    }
}

struct Row {
    resource_id: String,
    team: String,
    tier: String,
    promised_seconds: i64,
    late_seconds: i64,
    broken_seconds: i64,
    paused_seconds: i64,
    down_seconds: i64,
    worst_exposure_seconds: i64,
}

impl Row {
    fn kept(self) -> KeptOfResource {
        KeptOfResource {
            resource: self.resource_id,
            kept: Kept {
                team: Some(self.team),
                tier: self.tier,
                resources: 1,
                promised_seconds: self.promised_seconds,
                late_seconds: self.late_seconds,
                broken_seconds: self.broken_seconds,
                paused_seconds: self.paused_seconds,
                down_seconds: self.down_seconds,
                worst_exposure_seconds: self.worst_exposure_seconds,
            },
        }
    }
}

//! What is on record about how promises were kept: the facts, what was counted from them, and how far the counting is.

#![expect(
    clippy::allow_attributes_without_reason,
    reason = "sqlx's macros expand to such attributes"
)]

mod facts;
mod kept;
mod slices;

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};

pub use self::{
    kept::{Kept, KeptFilter, KeptOfResource},
    slices::Rate,
};
use super::{Catalog, CatalogError, ended, interval};
use crate::{
    plan::{Plans, Protection},
    promise::{Day, Figures},
};

/// The time without a tick after which producers count as having been down, in ticks; 30 seconds at least.
const MISSED_TICKS: u32 = 3;

/// How far one day has been counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayPass {
    /// The day.
    pub day: NaiveDate,
    /// The instant up to which it is counted.
    pub until: DateTime<Utc>,
    /// The last resource that was counted; empty: none yet.
    pub after: String,
    /// Whether the day had ended, so that it is counted for good.
    pub is_final: bool,
    /// When all resources were counted; `None`: they are being counted.
    pub ended_at: Option<DateTime<Utc>>,
}

/// The figures of one resource's day, for each team and tier that it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayRow {
    /// The resource.
    pub resource: String,
    /// Its team.
    pub team: String,
    /// Its tier.
    pub tier: String,
    /// Its figures.
    pub figures: Figures,
}

/// A resource of whose past something came to light.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recount {
    /// The resource.
    pub resource_id: String,
    /// The first day that it concerns.
    pub day: NaiveDate,
    /// When it was marked last.
    pub marked_at: DateTime<Utc>,
}

impl Catalog {
    /// Records what the plans promise from now on, where that is new.
    pub async fn record_terms(&self, plans: &Plans) -> Result<(), CatalogError> {
        let (mut tiers, mut rpos, mut tolerances) = (Vec::new(), Vec::new(), Vec::new());
        for plan in plans.iter() {
            let rpo = match plan.protection {
                Protection::Every(_) => plan.rpo.minutes(),
                Protection::Never(_) => 0,
            };
            tiers.push(plan.tier.to_string());
            rpos.push(rpo);
            tolerances.push(i32::try_from(plan.tolerance.num_minutes()).unwrap_or(i32::MAX));
        }
        sqlx::query_file!(
            "src/catalog/promise/record_terms.sql",
            &tiers,
            &rpos,
            &tolerances
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Records that some producer ticks, as each does every `tick`, and, where none had for a while, when there was none.
    pub async fn heartbeat(&self, tick: Duration) -> Result<(), CatalogError> {
        let patience = (tick * MISSED_TICKS).max(Duration::from_secs(30));
        sqlx::query_file!("src/catalog/promise/heartbeat.sql", interval(patience))
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Returns the newest day that has been counted, or is being counted, and the first day that can be.
    pub async fn newest_pass(
        &self,
    ) -> Result<(Option<DayPass>, Option<DateTime<Utc>>), CatalogError> {
        let pass = sqlx::query_as!(
            DayPass,
            "select day, until, after, is_final, ended_at from lastgood.promise_passes order by day desc limit 1"
        )
        .fetch_optional(self.pool())
        .await?;
        let since = sqlx::query_scalar!("select min(since) from lastgood.tier_promises")
            .fetch_one(self.pool())
            .await?;
        Ok((pass, since))
    }

    /// Begins to count a day up to an instant. Whoever counts it already goes on, and so does who has counted it for good.
    pub async fn begin_pass(
        &self,
        day: Day,
        until: DateTime<Utc>,
        is_final: bool,
    ) -> Result<(), CatalogError> {
        sqlx::query!(
            "insert into lastgood.promise_passes as pass (day, until, is_final) values ($1, $2, $3)
             on conflict (day) do update
             set until = excluded.until, is_final = excluded.is_final, after = '', ended_at = null
             where not pass.is_final and pass.ended_at is not null and pass.until < excluded.until",
            day.0,
            until,
            is_final
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Records how far a day was counted, unless somebody else has. `None`: to the end.
    pub async fn go_on_with_pass(
        &self,
        pass: &DayPass,
        after: Option<&str>,
    ) -> Result<(), CatalogError> {
        sqlx::query!(
            "update lastgood.promise_passes
             set after = coalesce($4, after), ended_at = case when $4::text is null then now() end
             where day = $1 and until = $2 and after = $3 and ended_at is null",
            pass.day,
            pass.until,
            pass.after,
            after
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Returns the ids of the next resources after one, in their order.
    pub async fn resources_after(&self, id: &str, most: i64) -> Result<Vec<String>, CatalogError> {
        let ids = sqlx::query_scalar!(
            "select id from lastgood.resources where id > $1 order by id limit $2",
            id,
            most
        )
        .fetch_all(self.pool())
        .await?;
        Ok(ids)
    }

    /// Makes what is on record of these resources' day what was counted.
    pub async fn write_days(
        &self,
        day: Day,
        resources: &[String],
        rows: &[DayRow],
    ) -> Result<(), CatalogError> {
        let column = |of: fn(&Figures) -> i64| -> Vec<i32> {
            let cells = rows.iter().map(|row| of(&row.figures));
            cells
                .map(|cell| i32::try_from(cell).unwrap_or(i32::MAX))
                .collect()
        };
        let text = |of: fn(&DayRow) -> &String| -> Vec<String> {
            rows.iter().map(|row| of(row).clone()).collect()
        };
        let worst: Vec<i64> = rows
            .iter()
            .map(|row| row.figures.worst.num_seconds())
            .collect();
        let mut transaction = self.pool().begin().await?;
        let written = sqlx::query_file!(
            "src/catalog/promise/write_days.sql",
            day.0,
            resources,
            &text(|row| &row.resource),
            &text(|row| &row.team),
            &text(|row| &row.tier),
            &column(|it| it.rpo.num_minutes()),
            &column(|it| it.promised.num_seconds()),
            &column(|it| it.late.num_seconds()),
            &column(|it| it.broken.num_seconds()),
            &column(|it| it.paused.num_seconds()),
            &column(|it| it.down.num_seconds()),
            &worst
        )
        .execute(&mut *transaction)
        .await;
        ended(transaction, written).await?;
        Ok(())
    }

    /// Sums up a day: for some teams, or for all.
    pub async fn write_totals(
        &self,
        day: Day,
        teams: Option<&[String]>,
    ) -> Result<(), CatalogError> {
        sqlx::query_file!("src/catalog/promise/write_totals.sql", day.0, teams)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Returns resources of whose past something came to light, those first that were marked first.
    pub async fn recounts(&self, most: i64) -> Result<Vec<Recount>, CatalogError> {
        let marked = sqlx::query_as!(
            Recount,
            "select resource_id, day, marked_at from lastgood.promise_recounts order by marked_at, resource_id limit $1",
            most
        )
        .fetch_all(self.pool())
        .await?;
        Ok(marked)
    }

    /// Strikes out what was counted anew, unless it was marked again meanwhile.
    pub async fn recounted(&self, done: &[Recount]) -> Result<(), CatalogError> {
        let resources: Vec<_> = done.iter().map(|it| it.resource_id.clone()).collect();
        let marked: Vec<_> = done.iter().map(|it| it.marked_at).collect();
        sqlx::query!(
            "delete from lastgood.promise_recounts as known
             using unnest($1::text[], $2::timestamptz[]) as done (resource_id, marked_at)
             where known.resource_id = done.resource_id and known.marked_at = done.marked_at",
            &resources,
            &marked
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Returns the teams that these resources' days are on record for.
    pub async fn teams_of_day(
        &self,
        day: Day,
        resources: &[String],
    ) -> Result<Vec<String>, CatalogError> {
        let teams = sqlx::query_scalar!(
            "select distinct team from lastgood.promise_days where day = $1 and resource_id = any ($2)",
            day.0,
            resources
        )
        .fetch_all(self.pool())
        .await?;
        Ok(teams)
    }

    /// Removes at most `most` rows of each kind that nothing needs any more: figures after 400 days, facts that no open day needs.
    pub async fn prune_promises(&self, most: i64) -> Result<u64, CatalogError> {
        let gone = sqlx::query_file!("src/catalog/promise/prune.sql", most)
            .fetch_one(self.pool())
            .await?;
        Ok(gone.rows.unsigned_abs())
    }
}

//! Rows from the future: what a clock that was ahead has written is mended once it is right again, and told.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgTransaction;

use crate::{
    catalog::{Catalog, CatalogError, interval},
    metrics,
    schedule::BELIEVED_AHEAD,
};

/// How many resources a log line names.
const NAMED: usize = 10;

/// How many rows were mended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mended {
    /// Restore points, and copies of them.
    pub points: usize,
    /// Resources.
    pub resources: usize,
    /// Runs.
    pub runs: usize,
    /// Consumers and producers that seemed to be alive.
    pub processes: usize,
}

/// Mends the rows whose times are further ahead than clocks can differ. `lease` is the one that consumers use.
///
/// Safe to repeat, by any number of producers. What a tick, a finish or the reaper holds is mended the next time.
pub async fn mend_future(catalog: &Catalog, lease: Duration) -> Result<Mended, CatalogError> {
    let ahead = interval(BELIEVED_AHEAD);
    let mut transaction = catalog.pool().begin().await?;
    let points = sqlx::query_file_scalar!("src/producer/future_points.sql", ahead)
        .fetch_all(&mut *transaction)
        .await?;
    let resources = sqlx::query_file_scalar!("src/producer/future_resources.sql", ahead)
        .fetch_all(&mut *transaction)
        .await?;
    let runs = sqlx::query_file_scalar!("src/producer/future_runs.sql", ahead, interval(lease))
        .fetch_all(&mut *transaction)
        .await?;
    let processes = processes(&mut transaction).await?;
    transaction.commit().await?;
    tell("restore_points", &points);
    tell("resources", &resources);
    tell("runs", &runs);
    metrics::future_rows("processes", processes as u64);
    Ok(Mended {
        points: points.len(),
        resources: resources.len(),
        runs: runs.len(),
        processes,
    })
}

/// A process that was seen in the future would seem to be alive until then.
async fn processes(transaction: &mut PgTransaction<'_>) -> Result<usize, CatalogError> {
    let ahead = interval(BELIEVED_AHEAD);
    let consumers = sqlx::query!(
        "update lastgood.consumers set seen_at = now() where seen_at > now() + $1::interval",
        ahead
    )
    .execute(&mut **transaction)
    .await?;
    let producers = sqlx::query!(
        "update lastgood.producers set ticked_at = now() where ticked_at > now() + $1::interval",
        interval(BELIEVED_AHEAD)
    )
    .execute(&mut **transaction)
    .await?;
    Ok(usize::try_from(consumers.rows_affected() + producers.rows_affected()).unwrap_or(0))
}

fn tell(table: &'static str, resources: &[String]) {
    metrics::future_rows(table, resources.len() as u64);
    if resources.is_empty() {
        return;
    }
    let named: Vec<&str> = resources.iter().take(NAMED).map(String::as_str).collect();
    tracing::error!(
        table,
        rows = resources.len(),
        resources = named.join(" "),
        "rows from the future were mended: the catalog's clock was ahead; check NTP on the catalog's server"
    );
}

/// The catalog's clock, as this producer last saw it.
#[derive(Debug, Default)]
pub(super) struct Clock(Option<DateTime<Utc>>);

impl Clock {
    /// Notes the catalog's time; returns whether it has gone back: what was written before may be from the future.
    pub(super) fn has_gone_back(&mut self, now: DateTime<Utc>) -> bool {
        let before = self.0.replace(now);
        before.is_some_and(|before| (before - now).to_std().is_ok_and(|by| by > BELIEVED_AHEAD))
    }
}

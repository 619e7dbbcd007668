//! Rows from the future: once a catalog clock that ran ahead is right again, corrects what was written meanwhile, and reports it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{FutureExt as _, future::BoxFuture};

use super::{begin, resource_by_resource};
use crate::{
    catalog::{Catalog, CatalogError, ended, interval},
    metrics,
    schedule::BELIEVED_AHEAD,
};

/// How many resources a log line names.
const NAMED: usize = 10;

/// How many rows were corrected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mended {
    /// Resources with corrected restore points, or copies of them.
    pub points: usize,
    /// Resources.
    pub resources: usize,
    /// Runs.
    pub runs: usize,
    /// Consumers and producers that would have seemed alive.
    pub processes: usize,
}

/// Corrects the rows whose times are further ahead than clocks can differ. `lease` is the one that consumers use.
///
/// Idempotent, and safe for any number of producers at once. Rows locked by a tick, a finish or the reaper are corrected the next time.
pub async fn mend_future(catalog: &Catalog, lease: Duration) -> Result<Mended, CatalogError> {
    let points = mend(catalog, "future_points", |only| {
        points(catalog, only).boxed()
    })
    .await?;
    let resources = mend(catalog, "future_resources", |only| {
        resources(catalog, only).boxed()
    })
    .await?;
    let runs = mend(catalog, "future_runs", |only| {
        runs(catalog, lease, only).boxed()
    })
    .await?;
    let processes = processes(catalog).await?;
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

/// Corrects all rows of a table, except those that the catalog refuses to change. Returns the resources that they belong to.
async fn mend<'a>(
    catalog: &Catalog,
    statement: &'static str,
    mended: impl Fn(Option<Vec<String>>) -> BoxFuture<'a, Result<Vec<String>, CatalogError>>
    + Send
    + Sync,
) -> Result<Vec<String>, CatalogError> {
    match mended(None).await {
        Err(error) if error.is_of_a_row() => {
            let parts = resource_by_resource(catalog, statement, |ids| mended(Some(ids))).await?;
            Ok(parts.concat())
        }
        mended => mended,
    }
}

async fn points(catalog: &Catalog, only: Option<Vec<String>>) -> Result<Vec<String>, CatalogError> {
    let ahead = interval(BELIEVED_AHEAD);
    let mut transaction = begin(catalog).await?;
    let mended = sqlx::query_file_scalar!("src/producer/future_points.sql", ahead, only.as_deref())
        .fetch_all(&mut *transaction)
        .await;
    Ok(ended(transaction, mended).await?)
}

async fn resources(
    catalog: &Catalog,
    only: Option<Vec<String>>,
) -> Result<Vec<String>, CatalogError> {
    let ahead = interval(BELIEVED_AHEAD);
    let mut transaction = begin(catalog).await?;
    let mended =
        sqlx::query_file_scalar!("src/producer/future_resources.sql", ahead, only.as_deref())
            .fetch_all(&mut *transaction)
            .await;
    Ok(ended(transaction, mended).await?)
}

async fn runs(
    catalog: &Catalog,
    lease: Duration,
    only: Option<Vec<String>>,
) -> Result<Vec<String>, CatalogError> {
    let mut transaction = begin(catalog).await?;
    let mended = sqlx::query_file_scalar!(
        "src/producer/future_runs.sql",
        interval(BELIEVED_AHEAD),
        interval(lease),
        only.as_deref()
    )
    .fetch_all(&mut *transaction)
    .await;
    Ok(ended(transaction, mended).await?)
}

/// Corrects processes last seen in the future, which would seem alive until then.
async fn processes(catalog: &Catalog) -> Result<usize, CatalogError> {
    let ahead = interval(BELIEVED_AHEAD);
    let consumers = sqlx::query!(
        "update lastgood.consumers set seen_at = now() where seen_at > now() + $1::interval",
        ahead
    )
    .execute(catalog.pool())
    .await?;
    let producers = sqlx::query!(
        "update lastgood.producers set ticked_at = now() where ticked_at > now() + $1::interval",
        interval(BELIEVED_AHEAD)
    )
    .execute(catalog.pool())
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
        "corrected rows dated in the future: the catalog's clock was ahead; check NTP on the catalog's server"
    );
}

/// The catalog's time when this producer last read it.
#[derive(Debug, Default)]
pub(super) struct Clock(Option<DateTime<Utc>>);

impl Clock {
    /// Notes the catalog's time. Returns whether the clock has gone back, so that rows written before may be from the future.
    pub(super) fn has_gone_back(&mut self, now: DateTime<Utc>) -> bool {
        let before = self.0.replace(now);
        before.is_some_and(|before| (before - now).to_std().is_ok_and(|by| by > BELIEVED_AHEAD))
    }
}

//! What the planner knows of the fleet: each protected resource, and what its backups took.

use chrono::TimeDelta;

use super::{Catalog, CatalogError};
use crate::{
    planner::{History, QUANTILES, Resource, Trend},
    schedule::{Spread, Taken},
};

/// How many resources are read at once.
const AT_ONCE: i64 = 1000;
/// How many of the last days tell how large a backup is now.
const RECENT_DAYS: usize = 7;

/// The fleet, as far as it is known.
#[derive(Debug, Default)]
pub struct KnownFleet {
    /// The protected resources.
    pub resources: Vec<Resource>,
    /// How many have an engine that this build does not know. They are not among the resources.
    pub of_unknown_engines: u64,
}

struct Row {
    id: String,
    team: String,
    tier: String,
    engine: String,
    server: Option<String>,
    retention_days: Option<i32>,
    spread: i32,
    team_spread: i32,
    backups: i64,
    seconds: Option<Vec<f64>>,
    p99_seconds: Option<f64>,
    last_seconds: Option<f64>,
    days: Option<Vec<f64>>,
    day_seconds: Option<Vec<f64>>,
    day_bytes: Option<Vec<f64>>,
}

impl Catalog {
    /// Reads the fleet, a batch at a time. `told` is called after each with the number of resources read so far.
    pub async fn fleet(&self, told: impl Fn(usize)) -> Result<KnownFleet, CatalogError> {
        let mut fleet = KnownFleet::default();
        let mut after = String::new();
        loop {
            let rows =
                sqlx::query_file_as!(Row, "src/catalog/fleet.sql", after, AT_ONCE, &QUANTILES[..])
                    .fetch_all(self.pool())
                    .await?;
            let Some(last) = rows.last() else {
                return Ok(fleet);
            };
            after.clone_from(&last.id);
            for row in rows {
                match row.resource() {
                    Some(resource) => fleet.resources.push(resource),
                    None => fleet.of_unknown_engines += 1,
                }
            }
            told(fleet.resources.len());
        }
    }
}

impl Row {
    fn resource(self) -> Option<Resource> {
        Some(Resource {
            engine: self.engine.parse().ok()?,
            tier: self.tier.parse().ok()?,
            history: self.history(),
            spread: Spread {
                resource: self.spread.unsigned_abs(),
                team: self.team_spread.unsigned_abs(),
            },
            id: self.id,
            team: self.team,
            server: self.server,
            retention_days: self.retention_days,
        })
    }

    fn history(&self) -> Option<History> {
        let seconds =
            |it: Option<f64>| TimeDelta::milliseconds(milliseconds(it.unwrap_or_default()));
        let sizes = self.day_bytes.as_deref()?;
        let mut recent = sizes
            .get(sizes.len().saturating_sub(RECENT_DAYS)..)?
            .to_vec();
        recent.sort_by(f64::total_cmp);
        Some(History {
            seconds: self.seconds.as_deref()?.try_into().ok()?,
            taken: Taken {
                backups: u32::try_from(self.backups).unwrap_or(u32::MAX),
                p99: seconds(self.p99_seconds),
                last: seconds(self.last_seconds),
            },
            stored_bytes: recent.get(recent.len() / 2).copied()?,
            seconds_trend: self.trend(self.day_seconds.as_ref()),
            bytes_trend: self.trend(self.day_bytes.as_ref()),
        })
    }

    fn trend(&self, figures: Option<&Vec<f64>>) -> Option<Trend> {
        let days = self.days.iter().flatten().copied();
        let figures = days.zip(figures.into_iter().flatten().copied());
        Trend::of(&figures.collect::<Vec<_>>())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a float that is too large becomes the largest number"
)]
fn milliseconds(seconds: f64) -> i64 {
    (seconds.min(1e12) * 1000.0).ceil() as i64
}

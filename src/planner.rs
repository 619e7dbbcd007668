//! What will the plans need, and which promises will break? The fleet is simulated, from what its backups took.
//!
//! A year is thirteen days: now, and one after each month of 30 days, for what a fleet does is the same each day but for its growth.

mod changes;
mod day;
mod fleet;
mod forecast;
mod growth;
mod scene;
mod stored;
#[cfg(test)]
mod tests;
mod trend;

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use chrono::{DateTime, Utc};
use lastgood_jobs::resource::Engine;

pub use self::{
    changes::{Change, FieldChange, TierChange, changes},
    day::QUANTILES,
    fleet::{History, Resource},
    forecast::{
        Assumed, BrokenPromise, EngineNow, EngineThen, Forecast, Hour, Month, Outlook, Range,
        Waits, WithoutHistory,
    },
    growth::{Growth, Rate, RateError},
    trend::{Bound, Trend},
};
use self::{
    day::{ENGINES, HourOf, Limits},
    scene::{Fleet, Scene, Seen},
};
use crate::plan::Plans;

/// How many months are looked ahead.
const MONTHS: u32 = 12;
/// How many days a month has here.
const MONTH_DAYS: u32 = 30;
/// At which days broken promises are named.
const NAMED_AT: [u32; 3] = [0, 30, 90];
/// Bytes in the gigabyte that stores charge for.
const GB: f64 = 1e9;

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// The plans.
    pub plans: &'a Plans,
    /// The active resources.
    pub fleet: &'a [Resource],
    /// How many backups of each engine execute at once, in the order of [`Engine::ALL`].
    pub slots: [u32; Engine::ALL.len()],
    /// How many of one team in one engine's queue; `None`: half of its slots, two at least.
    pub team_slots: Option<u32>,
    /// How many of one server.
    pub server_slots: u32,
    /// How durations and sizes grow.
    pub growth: Growth,
    /// What a store charges for 1,000,000,000 bytes in a month.
    pub price_per_gb_month: Option<f64>,
    /// The beginning of the first simulated day.
    pub midnight: DateTime<Utc>,
    /// How many resources are named at most, of each kind.
    pub named: usize,
}

/// Answers the question. It takes as many threads as there are processors, and some seconds for 100,000 resources.
#[must_use]
pub fn forecast(question: &Question<'_>) -> Forecast {
    let fleet = Fleet::new(question);
    let scenes = scenes(question.growth);
    let seen = at_once(&fleet, &scenes);
    let of = |days: u32, bound: Bound| seen.iter().find(|it| it.scene == Scene::At { days, bound });
    let unlimited = seen.iter().find(|it| it.scene == Scene::Unlimited);
    let mut counts = stored::Kept::default();
    let months: Vec<Month> = (0..=MONTHS)
        .map(|month| month * MONTH_DAYS)
        .filter_map(|days| Some((days, of(days, Bound::Middle)?)))
        .map(|(days, seen)| {
            let stored = fleet.stored_bytes(days, &mut counts);
            let cost = |price: f64| (stored / GB * price * 100.0).round() / 100.0;
            Month {
                days,
                engines: engines_then(&fleet, seen),
                broken: seen.broken.len(),
                stored_bytes: whole(stored).unsigned_abs(),
                cost_per_month: question.price_per_gb_month.map(cost),
            }
        })
        .collect();
    let promises = NAMED_AT
        .into_iter()
        .filter_map(|days| {
            let seen = of(days, Bound::Middle)?;
            let count = |bound| of(days, bound).map_or(seen.broken.len(), |it| it.broken.len());
            Some(Outlook {
                days,
                broken: seen.broken.len(),
                broken_at_least: count(Bound::Low).min(seen.broken.len()),
                broken_at_most: count(Bound::High).max(seen.broken.len()),
                resources: fleet.named(seen, question.named),
            })
        })
        .collect();
    Forecast {
        resources: fleet.len(),
        unplanned: fleet.unplanned,
        engines: engines_now(&fleet, of(0, Bound::Middle), unlimited, question),
        months,
        promises,
        without_history: fleet.without_history(question.named),
    }
}

/// Returns the days to simulate. The first takes longest, for nothing waits in it.
fn scenes(growth: Growth) -> Vec<Scene> {
    let mut scenes = vec![Scene::Unlimited];
    for month in 0..=MONTHS {
        scenes.push(Scene::At {
            days: month * MONTH_DAYS,
            bound: Bound::Middle,
        });
    }
    if growth == Growth::Own {
        for days in NAMED_AT.into_iter().filter(|days| *days > 0) {
            for bound in [Bound::Low, Bound::High] {
                scenes.push(Scene::At { days, bound });
            }
        }
    }
    scenes
}

/// Simulates the days, as many at once as there are processors.
fn at_once(fleet: &Fleet<'_>, scenes: &[Scene]) -> Vec<Seen> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, seen) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(scenes.len()) {
            scope.spawn(|| {
                while let Some(scene) = scenes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let day = fleet.see(*scene);
                    if let Ok(mut seen) = seen.lock() {
                        seen.push(day);
                    }
                }
            });
        }
    });
    seen.into_inner().unwrap_or_default()
}

fn engines_now(
    fleet: &Fleet<'_>,
    now: Option<&Seen>,
    unlimited: Option<&Seen>,
    question: &Question<'_>,
) -> Vec<EngineNow> {
    let hours = |index: usize| unlimited.and_then(|seen| seen.hours.get(index));
    fleet
        .engines()
        .map(|(index, engine, resources)| EngineNow {
            engine: engine.as_str(),
            resources,
            slots: question.slots.get(index).copied().unwrap_or_default(),
            wait_seconds: now.map(|seen| seen.waits(index)).unwrap_or_default(),
            hours: hours(index)
                .into_iter()
                .flatten()
                .enumerate()
                .map(|(hour, of)| Hour {
                    hour,
                    busy_slots: slots(*of),
                    peak_slots: of.peak,
                })
                .collect(),
        })
        .collect()
}

fn engines_then(fleet: &Fleet<'_>, seen: &Seen) -> Vec<EngineThen> {
    fleet
        .engines()
        .map(|(index, engine, _)| EngineThen {
            engine: engine.as_str(),
            wait_seconds: seen.waits(index),
            busiest_hour_slots: seen
                .hours
                .get(index)
                .into_iter()
                .flatten()
                .map(|of| slots(*of))
                .fold(0.0, f64::max),
        })
        .collect()
}

/// Returns how many slots an hour used on average, to the tenth.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of an hour stay far below 2^52"
)]
fn slots(hour: HourOf) -> f64 {
    (hour.busy as f64 / 360_000.0).round() / 10.0
}

/// Returns a figure as a whole number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float that is too large becomes the largest number"
)]
fn whole(figure: f64) -> i64 {
    figure.round() as i64
}

/// Returns the limits of the fleet's slots, as a consumer without other flags has them.
fn limits(question: &Question<'_>) -> Limits {
    let team = |slots: u32| question.team_slots.unwrap_or(slots.div_ceil(2).max(2));
    let per_team: [u32; ENGINES] = question.slots.map(team);
    Limits {
        slots: question.slots,
        per_team,
        per_server: question.server_slots,
    }
}

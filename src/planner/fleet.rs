//! What is known of each resource's backups, and what is assumed of those that have none.

use std::collections::HashMap;

use lastgood_jobs::resource::{Engine, Tier};

use super::{day::QUANTILES, trend::Trend};
use crate::schedule::{Spread, Taken};

/// An active resource and what its backups took.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Its id.
    pub id: String,
    /// Its owner.
    pub team: String,
    /// Its tier.
    pub tier: Tier,
    /// Its engine.
    pub engine: Engine,
    /// Its server, if a consumer has learned it.
    pub server: Option<String>,
    /// Its own retention.
    pub retention_days: Option<i32>,
    /// Where in its slots it runs.
    pub spread: Spread,
    /// What its scheduled backups took; `None`: none is on record.
    pub history: Option<History>,
}

/// What the scheduled backups of one resource took in the last 30 days.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct History {
    /// How many seconds they took, at [`QUANTILES`], without their waits.
    pub seconds: [f64; QUANTILES.len()],
    /// What they took with their waits.
    pub taken: Taken,
    /// What one of them occupies in a store, by the median of the last days.
    pub stored_bytes: f64,
    /// How the durations grow; `None`: too few days.
    pub seconds_trend: Option<Trend>,
    /// How the sizes grow.
    pub bytes_trend: Option<Trend>,
}

/// What is assumed of a resource that has no history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Typical {
    pub(super) seconds: [f64; QUANTILES.len()],
    pub(super) stored_bytes: f64,
}

/// The medians of the resources that have a history, by tier and engine, by engine, and of all.
pub(super) struct Medians(HashMap<(Option<Tier>, Option<Engine>), Typical>);

impl Medians {
    pub(super) fn of(fleet: &[Resource]) -> Self {
        let mut groups: HashMap<_, Vec<&History>> = HashMap::new();
        for resource in fleet {
            let Some(history) = &resource.history else {
                continue;
            };
            let (tier, engine) = (Some(resource.tier.clone()), Some(resource.engine));
            for key in [(tier, engine), (None, engine), (None, None)] {
                groups.entry(key).or_default().push(history);
            }
        }
        let typical = |(key, group): (_, Vec<&History>)| Some((key, Typical::of(&group)?));
        Self(groups.into_iter().filter_map(typical).collect())
    }

    /// Returns what is typical of the resource's tier and engine, or of its engine, or of all; `None` if nothing is known of any.
    pub(super) fn like(&self, resource: &Resource) -> Option<Typical> {
        let (tier, engine) = (Some(resource.tier.clone()), Some(resource.engine));
        [(tier, engine), (None, engine), (None, None)]
            .iter()
            .find_map(|key| self.0.get(key))
            .copied()
    }
}

impl Typical {
    fn of(group: &[&History]) -> Option<Self> {
        let mut seconds = [0.0; QUANTILES.len()];
        for (index, typical) in seconds.iter_mut().enumerate() {
            *typical = median(group.iter().filter_map(|it| it.seconds.get(index)))?;
        }
        Some(Self {
            seconds,
            stored_bytes: median(group.iter().map(|it| &it.stored_bytes))?,
        })
    }
}

fn median<'a>(values: impl Iterator<Item = &'a f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.copied().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

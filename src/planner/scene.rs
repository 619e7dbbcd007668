//! Which resources does a day simulate, how long do their backups take then, and which promises does it show broken?

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use lastgood_jobs::resource::Engine;

use super::{
    Bound, Growth, History, Question, Resource,
    day::{Day, ENGINES, HourOf, Job, Limits, QUANTILES, TICK_SECONDS, simulate},
    fleet::{Medians, Typical},
    forecast::{Assumed, BrokenPromise, Range, Waits, WithoutHistory},
    limits,
    stored::Kept,
    whole,
};
use crate::{
    plan::{Cadence, Hold, Plan},
    retention::Promise,
    schedule::{Before, Held, Infeasible, Taken, Terms},
};

/// A day to simulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    /// Today, with so many slots that nothing waits.
    Unlimited,
    /// After so many days of growth.
    At { days: u32, bound: Bound },
}

impl Scene {
    fn grown(self) -> (u32, Bound) {
        match self {
            Self::Unlimited => (0, Bound::Middle),
            Self::At { days, bound } => (days, bound),
        }
    }
}

/// What a day showed.
pub(super) struct Seen {
    pub(super) scene: Scene,
    /// By engine: the waits at the quantiles.
    waits: [Waits; ENGINES],
    pub(super) hours: [[HourOf; 24]; ENGINES],
    /// The promises that are not kept, those that are missed by most first.
    pub(super) broken: Vec<Broken>,
}

pub(super) struct Broken {
    planned: usize,
    exposure: i64,
    infeasible: Option<Infeasible>,
}

/// A resource that the plans back up.
struct Planned<'a> {
    resource: &'a Resource,
    plan: &'a Plan,
    cadence: Cadence,
    typical: Typical,
    team: usize,
    server: Option<usize>,
}

/// The resources that the plans back up.
pub(super) struct Fleet<'a> {
    planned: Vec<Planned<'a>>,
    teams: usize,
    servers: usize,
    pub(super) unplanned: usize,
    /// Of nothing is known, nor of any other resource.
    unknown: Vec<&'a Resource>,
    growth: Growth,
    limits: Limits,
    midnight: DateTime<Utc>,
}

impl<'a> Fleet<'a> {
    pub(super) fn new(question: &Question<'a>) -> Self {
        let plans: HashMap<&str, &Plan> = question
            .plans
            .iter()
            .map(|plan| (plan.tier.as_str(), plan))
            .collect();
        let medians = Medians::of(question.fleet);
        let (mut teams, mut servers) = (Numbers::default(), Numbers::default());
        let mut fleet = Self {
            planned: Vec::with_capacity(question.fleet.len()),
            teams: 0,
            servers: 0,
            unplanned: 0,
            unknown: Vec::new(),
            growth: question.growth,
            limits: limits(question),
            midnight: question.midnight,
        };
        for resource in question.fleet {
            let Some(plan) = plans.get(resource.tier.as_str()) else {
                fleet.unplanned += 1;
                continue;
            };
            let Some(cadence) = plan.protection.cadence() else {
                continue;
            };
            let own = resource.history.as_ref().map(typical);
            let Some(typical) = own.or_else(|| medians.like(resource)) else {
                fleet.unknown.push(resource);
                continue;
            };
            fleet.planned.push(Planned {
                resource,
                plan,
                cadence,
                typical,
                team: teams.of(&resource.team),
                server: resource.server.as_deref().map(|server| servers.of(server)),
            });
        }
        (fleet.teams, fleet.servers) = (teams.0.len(), servers.0.len());
        fleet
    }

    pub(super) fn len(&self) -> usize {
        self.planned.len() + self.unknown.len()
    }

    /// Returns the engines that have resources: with their places in [`Engine::ALL`], and how many.
    pub(super) fn engines(&self) -> impl Iterator<Item = (usize, Engine, usize)> {
        Engine::ALL
            .into_iter()
            .enumerate()
            .filter_map(|(index, engine)| {
                let of = |it: &&Planned<'_>| it.resource.engine == engine;
                let count = self.planned.iter().filter(of).count();
                (count > 0).then_some((index, engine, count))
            })
    }

    /// Simulates a day. Where an RPO is held strictly, the cadences are found from the waits of that day, as a producer finds them from
    /// those of the last 30.
    pub(super) fn see(&self, scene: Scene) -> Seen {
        let (jobs, mut infeasible) = self.jobs(scene, None);
        let mut day = self.simulated(scene, &jobs);
        if scene != Scene::Unlimited && self.planned.iter().any(Planned::is_strict) {
            let (again, without) = self.jobs(scene, Some(&day.took));
            let is_as_before = |(a, b): (&Job, &Job)| a.cadence == b.cadence;
            if !jobs.iter().zip(&again).all(is_as_before) {
                day = self.simulated(scene, &again);
            }
            infeasible = without;
        }
        Seen {
            scene,
            hours: day.hours,
            broken: self.broken(&day, infeasible),
            waits: day.waits.map(quantiles),
        }
    }

    fn simulated(&self, scene: Scene, jobs: &[Job]) -> Day {
        let limits = match scene {
            Scene::Unlimited => &Limits::NONE,
            Scene::At { .. } => &self.limits,
        };
        simulate(jobs, (self.teams, self.servers), limits, self.midnight)
    }

    /// Returns the resources as the simulation sees them, and which of them no cadence holds. `took`: what their backups took with waits.
    fn jobs(&self, scene: Scene, took: Option<&[i64]>) -> (Vec<Job>, Vec<Option<Infeasible>>) {
        let (days, bound) = scene.grown();
        self.planned
            .iter()
            .enumerate()
            .map(|(index, it)| {
                let took = took.and_then(|took| took.get(index)).copied();
                it.job(
                    self.growth,
                    f64::from(days),
                    bound,
                    took.unwrap_or_default(),
                )
            })
            .unzip()
    }

    fn broken(&self, day: &Day, infeasible: Vec<Option<Infeasible>>) -> Vec<Broken> {
        let seen = self.planned.iter().zip(&day.worst).zip(infeasible);
        let mut broken: Vec<_> = seen
            .enumerate()
            .filter(|(_, ((it, worst), infeasible))| infeasible.is_some() || **worst > it.allowed())
            .map(|(planned, ((_, worst), infeasible))| Broken {
                planned,
                exposure: *worst,
                infeasible,
            })
            .collect();
        let missed_by = |it: &Broken| {
            self.planned
                .get(it.planned)
                .map(|of| of.allowed() - it.exposure)
        };
        broken.sort_by_key(missed_by);
        broken
    }

    /// Names the promises that are missed by most.
    pub(super) fn named(&self, seen: &Seen, at_most: usize) -> Vec<BrokenPromise> {
        let (days, _) = seen.scene.grown();
        seen.broken
            .iter()
            .take(at_most)
            .filter_map(|broken| {
                let it = self.planned.get(broken.planned)?;
                Some(it.broken(broken, self.growth, f64::from(days)))
            })
            .collect()
    }

    /// Returns what all kept restore points occupy in one store, as if each were as large as the newest.
    pub(super) fn stored_bytes(&self, days: u32, kept: &mut Kept) -> f64 {
        let days = f64::from(days);
        self.planned
            .iter()
            .map(|it| {
                let (_, cadence, _) = it.held(self.growth, days, Bound::Middle, 0);
                let promise = Promise::of(it.plan, it.resource.retention_days);
                let points = kept.of(&promise, cadence, self.midnight);
                let trend = it.resource.history.and_then(|it| it.bytes_trend);
                let grown = self.growth.factor(trend, days, Bound::Middle);
                float(points) * it.typical.stored_bytes * grown
            })
            .sum()
    }

    pub(super) fn without_history(&self, at_most: usize) -> WithoutHistory {
        let assumed = self
            .planned
            .iter()
            .filter(|it| it.resource.history.is_none());
        let assumed = assumed.map(|it| (it.resource, Some(&it.typical)));
        let unknown = self.unknown.iter().map(|resource| (*resource, None));
        let mut all: Vec<_> = assumed.chain(unknown).collect();
        all.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        WithoutHistory {
            resources: all.len(),
            left_out: self.unknown.len(),
            named: all
                .into_iter()
                .take(at_most)
                .map(|(resource, typical)| Assumed {
                    resource: resource.id.clone(),
                    tier: resource.tier.to_string(),
                    takes_seconds: typical.map(|it| whole(longest(&it.seconds))),
                    stored_bytes: typical.map(|it| whole(it.stored_bytes).unsigned_abs()),
                })
                .collect(),
        }
    }
}

impl Planned<'_> {
    /// Returns the exposure above which the promise counts as broken, in milliseconds. What is held strictly has no tolerance.
    fn allowed(&self) -> i64 {
        match self.plan.hold {
            Hold::Strict => self.plan.rpo.as_delta().num_milliseconds(),
            Hold::Cadence => self.plan.allowed().num_milliseconds(),
        }
    }

    fn factor(&self, growth: Growth, days: f64, bound: Bound) -> f64 {
        let trend = self.resource.history.and_then(|it| it.seconds_trend);
        growth.factor(trend, days, bound)
    }

    fn is_strict(&self) -> bool {
        self.plan.hold == Hold::Strict
    }

    /// Returns what grown backups take, the cadence, and why no cadence holds the RPO strictly, if none does. `took`: what they took with
    /// waits, in milliseconds, where that is known.
    fn held(
        &self,
        growth: Growth,
        days: f64,
        bound: Bound,
        took: i64,
    ) -> (f64, Cadence, Option<Infeasible>) {
        let grown = self.factor(growth, days, bound);
        let Some(terms) = Terms::of(self.plan, TimeDelta::seconds(TICK_SECONDS)) else {
            return (grown, self.cadence, None);
        };
        let took = TimeDelta::milliseconds(took);
        let taken = if let Some(history) = &self.resource.history {
            Taken {
                p99: times(history.taken.p99, grown).max(took),
                last: times(history.taken.last, grown),
                ..history.taken
            }
        } else {
            let longest = TimeDelta::seconds(whole(longest(&self.typical.seconds) * grown));
            Taken {
                backups: u32::MAX,
                p99: longest.max(took),
                last: longest,
            }
        };
        match terms.hold(taken, Before::Nothing) {
            Held::Every(cadence) | Held::Unknown(cadence) => (grown, cadence, None),
            Held::Infeasible(cadence, why) => (grown, cadence, Some(why)),
        }
    }

    fn job(&self, growth: Growth, days: f64, bound: Bound, took: i64) -> (Job, Option<Infeasible>) {
        let (grown, cadence, infeasible) = self.held(growth, days, bound, took);
        let engine = Engine::ALL
            .iter()
            .position(|it| *it == self.resource.engine);
        let milliseconds = |seconds: f64| whole(seconds * grown * 1000.0).max(1);
        let job = Job {
            engine: engine.unwrap_or_default(),
            team: self.team,
            server: self.server,
            cadence,
            spread: self.resource.spread,
            rpo: self.plan.rpo.as_delta().num_milliseconds(),
            takes: self.typical.seconds.map(milliseconds),
        };
        (job, infeasible)
    }

    fn broken(&self, broken: &Broken, growth: Growth, days: f64) -> BrokenPromise {
        let longest = longest(&self.typical.seconds);
        let takes = |bound| whole(longest * self.factor(growth, days, bound));
        let estimate = takes(Bound::Middle);
        let (_, cadence, _) = self.held(growth, days, Bound::Middle, 0);
        let is_slow = cadence.as_delta().num_milliseconds() + estimate * 1000 > self.allowed();
        BrokenPromise {
            resource: self.resource.id.clone(),
            team: self.resource.team.clone(),
            tier: self.resource.tier.to_string(),
            engine: self.resource.engine.as_str(),
            rpo_minutes: self.plan.rpo.minutes(),
            exposure_seconds: broken.exposure / 1000,
            takes_seconds: Range {
                estimate,
                low: takes(Bound::Low),
                high: takes(Bound::High),
            },
            is_assumed: self.resource.history.is_none(),
            broken_because: match broken.infeasible {
                Some(why) => why.to_string(),
                None if is_slow => "its backups take too long for its cadence".to_owned(),
                None => "its backups wait too long for a slot".to_owned(),
            },
        }
    }
}

impl Seen {
    pub(super) fn waits(&self, engine: usize) -> Waits {
        self.waits.get(engine).copied().unwrap_or_default()
    }
}

/// Numbers names from 0.
#[derive(Default)]
struct Numbers<'a>(HashMap<&'a str, usize>);

impl<'a> Numbers<'a> {
    fn of(&mut self, name: &'a str) -> usize {
        let next = self.0.len();
        *self.0.entry(name).or_insert(next)
    }
}

fn typical(history: &History) -> Typical {
    Typical {
        seconds: history.seconds,
        stored_bytes: history.stored_bytes,
    }
}

fn longest(seconds: &[f64; QUANTILES.len()]) -> f64 {
    seconds.iter().copied().fold(0.0, f64::max)
}

fn times(delta: TimeDelta, factor: f64) -> TimeDelta {
    TimeDelta::seconds(whole(delta.as_seconds_f64() * factor))
}

fn quantiles(mut waits: Vec<u32>) -> Waits {
    let mut at = |share: usize| {
        let last = waits.len().checked_sub(1)?;
        let rank = (waits.len() * share)
            .div_ceil(100)
            .saturating_sub(1)
            .min(last);
        let (_, wait, _) = waits.select_nth_unstable(rank);
        Some(wait.div_ceil(1000))
    };
    Waits {
        p50: at(50).unwrap_or_default(),
        p95: at(95).unwrap_or_default(),
        p99: at(99).unwrap_or_default(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn float(count: usize) -> f64 {
    count as f64
}

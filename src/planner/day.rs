//! What happens in one day? Each backup of each resource in the product's own claim order, from event to event.
//!
//! Ticks enqueue what is due; a free slot takes the waiting run whose promise breaks first, within the limits per team and server, as
//! `lastgood.claim` does. The day is preceded by a few hours that fill the queue, which are not counted.

#![expect(
    clippy::indexing_slicing,
    reason = "jobs, teams, servers and engines are numbered from 0, and each table is as long as there are numbers"
)]

use std::{cmp::Reverse, collections::BinaryHeap};

use chrono::{DateTime, Utc};
use lastgood_jobs::resource::Engine;

use crate::{
    plan::Cadence,
    schedule::{Slot, Spread, next_due},
};

/// How many engines there are.
pub(super) const ENGINES: usize = Engine::ALL.len();
/// How often the producer looks for due backups, if nobody sets it otherwise.
pub(super) const TICK_SECONDS: i64 = 60;

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
const DAY: i64 = 24 * HOUR;
/// Before the day: long enough for the queue to be as full as it is each day.
const BEFORE: i64 = 4 * HOUR;
const TICK: i64 = TICK_SECONDS * SECOND;

/// Which shares of a resource's backups take how long: the end of each share, in thousandths.
const SHARES: [u64; QUANTILES.len()] = [200, 400, 600, 800, 980, 1000];
/// The quantile that stands for each share.
pub const QUANTILES: [f64; 6] = [0.1, 0.3, 0.5, 0.7, 0.9, 0.99];

/// One resource, as the simulation sees it.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) engine: usize,
    pub(super) team: usize,
    /// Backups of one server are limited together.
    pub(super) server: Option<usize>,
    pub(super) cadence: Cadence,
    pub(super) spread: Spread,
    /// In milliseconds: when its promise breaks, which is the order of claims.
    pub(super) rpo: i64,
    /// How long its backups take, in milliseconds, at [`QUANTILES`].
    pub(super) takes: [i64; QUANTILES.len()],
}

/// How many runs execute at once.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) slots: [u32; ENGINES],
    /// Of one team in one engine's queue.
    pub(super) per_team: [u32; ENGINES],
    /// Of one server, whatever the engine.
    pub(super) per_server: u32,
}

impl Limits {
    /// No limit at all: what runs at once where nothing has to wait.
    pub(super) const NONE: Self = Self {
        slots: [u32::MAX; ENGINES],
        per_team: [u32::MAX; ENGINES],
        per_server: u32::MAX,
    };
}

/// What one hour of the day needed of one engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HourOf {
    /// Slot-milliseconds that were used.
    pub(super) busy: i64,
    /// The most runs at once.
    pub(super) peak: u32,
}

/// What the day showed.
#[derive(Debug, Default)]
pub(super) struct Day {
    /// The longest exposure of each job, in milliseconds.
    pub(super) worst: Vec<i64>,
    /// The longest time from when one of its backups was enqueued to its end, in milliseconds.
    pub(super) took: Vec<i64>,
    /// How long each run waited, in milliseconds, per engine; in no order.
    pub(super) waits: [Vec<u32>; ENGINES],
    /// By hour in UTC.
    pub(super) hours: [[HourOf; 24]; ENGINES],
}

/// Simulates the day that begins at `midnight`. `teams` and `servers` are how many there are.
pub(super) fn simulate(
    jobs: &[Job],
    (teams, servers): (usize, usize),
    limits: &Limits,
    midnight: DateTime<Utc>,
) -> Day {
    let mut fleet = Fleet::new(jobs, teams, servers, limits, midnight);
    for now in (0..BEFORE + DAY).step_by(usize::try_from(TICK).unwrap_or(1)) {
        fleet.finish_until(now);
        fleet.tick(now);
    }
    fleet.finish_until(BEFORE + DAY);
    fleet.end()
}

/// What claims go by: the promise that breaks first, then what was enqueued first.
type Key = (i64, i64, u32);
type Line = BinaryHeap<Reverse<Key>>;

struct State {
    /// The next turn.
    turn: i64,
    /// To when the newest point brings the data back: when its backup began.
    consistent: i64,
    enqueued: i64,
    started: i64,
    runs: u64,
}

struct Fleet<'a> {
    jobs: &'a [Job],
    limits: &'a Limits,
    states: Vec<State>,
    /// By tick: whom it finds due.
    due: Vec<Vec<u32>>,
    running: BinaryHeap<Reverse<(i64, u32)>>,
    /// Runs that can be claimed, by engine.
    free: [Line; ENGINES],
    /// Runs that are held back, by team and engine, and by server.
    of_team: Vec<Line>,
    of_server: Vec<Line>,
    in_engine: [u32; ENGINES],
    in_team: Vec<u32>,
    in_server: Vec<u32>,
    day: Day,
}

impl<'a> Fleet<'a> {
    fn new(
        jobs: &'a [Job],
        teams: usize,
        servers: usize,
        limits: &'a Limits,
        midnight: DateTime<Utc>,
    ) -> Self {
        let ticks = usize::try_from((BEFORE + DAY) / TICK).unwrap_or(0) + 1;
        let mut fleet = Self {
            jobs,
            limits,
            states: Vec::with_capacity(jobs.len()),
            due: vec![Vec::new(); ticks],
            running: BinaryHeap::new(),
            free: Default::default(),
            of_team: (0..teams * ENGINES).map(|_| Line::new()).collect(),
            of_server: (0..servers).map(|_| Line::new()).collect(),
            in_engine: [0; ENGINES],
            in_team: vec![0; teams * ENGINES],
            in_server: vec![0; servers],
            day: Day {
                worst: vec![0; jobs.len()],
                took: vec![0; jobs.len()],
                ..Day::default()
            },
        };
        let begin = midnight - chrono::TimeDelta::milliseconds(BEFORE);
        for (number, job) in (0..).zip(jobs) {
            let turn = next_due(job.cadence, job.spread, begin, Slot::Taken);
            let turn = (turn - begin).num_milliseconds();
            fleet.states.push(State {
                turn,
                // As if its last turn had gone well.
                consistent: turn - length(job.cadence),
                enqueued: 0,
                started: 0,
                runs: 0,
            });
            fleet.is_due(number, turn);
        }
        fleet
    }

    /// Notes that a job is due at `at`: the next tick finds it.
    fn is_due(&mut self, job: u32, at: i64) {
        let tick = usize::try_from((at + TICK - 1) / TICK).unwrap_or(usize::MAX);
        if let Some(found) = self.due.get_mut(tick) {
            found.push(job);
        }
    }

    fn tick(&mut self, now: i64) {
        let tick = usize::try_from(now / TICK).unwrap_or(usize::MAX);
        let due = self.due.get_mut(tick).map(std::mem::take);
        for job in due.unwrap_or_default() {
            let index = job as usize;
            let engine = self.jobs[index].engine;
            let state = &mut self.states[index];
            state.enqueued = now;
            let due_by = state.consistent + self.jobs[index].rpo;
            self.free[engine].push(Reverse((due_by, now, job)));
        }
        for engine in 0..ENGINES {
            self.claim(engine, now);
        }
    }

    /// Fills the engine's free slots with what is most urgent, and puts aside what a limit holds back.
    fn claim(&mut self, engine: usize, now: i64) {
        while self.in_engine[engine] < self.limits.slots[engine] {
            let Some(Reverse(key)) = self.free[engine].pop() else {
                return;
            };
            let job = &self.jobs[key.2 as usize];
            let team = job.team * ENGINES + engine;
            if self.in_team[team] >= self.limits.per_team[engine] {
                self.of_team[team].push(Reverse(key));
                continue;
            }
            if let Some(server) = job.server
                && self.in_server[server] >= self.limits.per_server
            {
                self.of_server[server].push(Reverse(key));
                continue;
            }
            self.start(key.2, now);
        }
    }

    fn start(&mut self, number: u32, now: i64) {
        let job = &self.jobs[number as usize];
        let state = &mut self.states[number as usize];
        state.started = now;
        state.runs += 1;
        let takes = job.takes[share(u64::from(number), state.runs)];
        self.running.push(Reverse((now + takes, number)));
        self.in_engine[job.engine] += 1;
        self.in_team[job.team * ENGINES + job.engine] += 1;
        if let Some(server) = job.server {
            self.in_server[server] += 1;
        }
        if let Some(hour) = hour(now) {
            let of = &mut self.day.hours[job.engine][hour];
            of.peak = of.peak.max(self.in_engine[job.engine]);
            let wait = u32::try_from(now - state.enqueued).unwrap_or(u32::MAX);
            self.day.waits[job.engine].push(wait);
        }
    }

    fn finish_until(&mut self, now: i64) {
        while let Some(Reverse((at, number))) = self.running.peek().copied() {
            if at > now {
                return;
            }
            self.running.pop();
            self.finish(number, at);
        }
    }

    fn finish(&mut self, number: u32, now: i64) {
        let job = &self.jobs[number as usize];
        let every = length(job.cadence);
        let state = &mut self.states[number as usize];
        let (exposed, took) = (now - state.consistent, now - state.enqueued);
        state.consistent = state.started;
        let started = state.started;
        // The slot that the run had when it was claimed: missed ones coalesce.
        state.turn += (started - state.turn).max(0) / every * every;
        let next = state.turn + every;
        // A run that outlasts its slot: the present one is free, and due at once.
        let due = next.max(now);
        state.turn += (due - state.turn) / every * every;
        self.is_due(number, due);
        if now >= BEFORE {
            let worst = &mut self.day.worst[number as usize];
            *worst = (*worst).max(exposed);
            let longest = &mut self.day.took[number as usize];
            *longest = (*longest).max(took);
        }
        busy(&mut self.day.hours[job.engine], started, now);
        let team = job.team * ENGINES + job.engine;
        self.in_engine[job.engine] -= 1;
        self.in_team[team] -= 1;
        // What the limits held back has its turn again: as many as there is room for.
        if let Some(Reverse(key)) = self.of_team[team].pop() {
            self.free[job.engine].push(Reverse(key));
        }
        if let Some(server) = job.server {
            self.in_server[server] -= 1;
            if let Some(Reverse(key)) = self.of_server[server].pop() {
                let other = self.jobs[key.2 as usize].engine;
                self.free[other].push(Reverse(key));
                if other != job.engine {
                    self.claim(other, now);
                }
            }
        }
        self.claim(job.engine, now);
    }

    /// Counts what is still running, and what has not been backed up to the end.
    fn end(mut self) -> Day {
        let end = BEFORE + DAY;
        for Reverse((_, number)) in self.running {
            let engine = self.jobs[number as usize].engine;
            busy(
                &mut self.day.hours[engine],
                self.states[number as usize].started,
                end,
            );
        }
        for (worst, state) in self.day.worst.iter_mut().zip(&self.states) {
            *worst = (*worst).max(end - state.consistent);
        }
        self.day
    }
}

fn length(cadence: Cadence) -> i64 {
    cadence.as_delta().num_milliseconds()
}

/// Returns the hour of the day; `None` before it begins, and after it has ended.
fn hour(at: i64) -> Option<usize> {
    usize::try_from((at - BEFORE).div_euclid(HOUR))
        .ok()
        .filter(|hour| *hour < 24)
}

/// Adds the slot time of a run to the hours that it ran in.
fn busy(hours: &mut [HourOf; 24], started: i64, ended: i64) {
    let (started, ended) = (started.max(BEFORE), ended.min(BEFORE + DAY));
    let mut from = started;
    while from < ended {
        let until = (from.div_euclid(HOUR) + 1) * HOUR;
        if let Some(hour) = hour(from) {
            hours[hour].busy += until.min(ended) - from;
        }
        from = until;
    }
}

/// Draws which share of its durations a run has: the same in every simulation.
fn share(job: u64, run: u64) -> usize {
    let mut x = job.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ run.wrapping_mul(0xd1b5_4a32_d192_ed03);
    x = (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let drawn = (x >> 32) % 1000;
    SHARES
        .iter()
        .position(|end| drawn < *end)
        .unwrap_or(SHARES.len() - 1)
}

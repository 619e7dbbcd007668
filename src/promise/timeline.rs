//! What was promised of a resource, and since when was it exposed, at each instant of a span?

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Change, Counted, Fleet, Record, Service, Span, Terms};

/// A stretch of time in which nothing changes but the exposure, which grows with the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// When.
    pub span: Span,
    /// What the resource was. Its tier promised something, and it was not removed.
    pub change: &'a Change,
    /// What its tier promised.
    pub terms: Terms,
    /// Whether somebody had ordered that it be not backed up: what was promised counts neither as kept nor as broken.
    pub is_paused: bool,
    /// Whether no producer was alive.
    pub is_down: bool,
    /// The newest instant that could have been restored.
    pub exposed_since: DateTime<Utc>,
}

impl Piece<'_> {
    /// Returns the part in which the exposure was longer than `limit`, if there is one.
    pub(super) fn over(&self, limit: TimeDelta) -> Option<Span> {
        let from = (self.exposed_since + limit).max(self.span.from);
        (from < self.span.until).then_some(Span {
            from,
            until: self.span.until,
        })
    }

    /// Returns the exposure at the end, its longest.
    pub(super) fn worst(&self) -> TimeDelta {
        self.span.until - self.exposed_since
    }
}

/// Returns the pieces of a span in which something was promised, oldest first.
///
/// Facts from after the span change nothing, so whoever asks for the past may ask at any time.
#[must_use]
pub fn timeline<'a>(fleet: &Fleet, record: &'a Record, span: Span) -> Vec<Piece<'a>> {
    let cuts = cuts(fleet, record, span);
    let mut points = Points::of(&record.points);
    let ends = cuts.iter().skip(1);
    cuts.iter()
        .zip(ends)
        .filter_map(|(from, until)| {
            let exposed_since = points.newest_at(*from).unwrap_or(record.registered_at);
            let change = record.changes.iter().rev().find(|it| it.at <= *from)?;
            let terms = fleet.terms_at(&change.tier, *from)?;
            let is_suspended = match change.service {
                Service::Active => false,
                Service::Suspended => true,
                Service::Removed => return None,
            };
            Some(Piece {
                span: Span {
                    from: *from,
                    until: *until,
                },
                change,
                terms,
                is_paused: is_suspended || fleet.pauses.iter().any(|it| it.covers(change, *from)),
                is_down: fleet.down.iter().any(|it| it.has(*from)),
                exposed_since,
            })
        })
        .collect()
}

/// Returns the instants at which something may change, with the span's own ends.
fn cuts(fleet: &Fleet, record: &Record, span: Span) -> Vec<DateTime<Utc>> {
    let spans = fleet.pauses.iter().map(|it| it.span);
    let spans = spans.chain(fleet.down.iter().copied());
    let tiers = record.changes.iter().map(|it| &it.tier);
    let terms = tiers.filter_map(|tier| fleet.terms.get(tier)).flatten();
    let mut cuts: Vec<_> = spans
        .flat_map(|it| [it.from, it.until])
        .chain(terms.map(|it| it.since))
        .chain(record.changes.iter().map(|it| it.at))
        .chain(
            record
                .points
                .iter()
                .flat_map(|it| [Some(begin(it)), it.until])
                .flatten(),
        )
        .filter(|at| span.has(*at))
        .chain([span.from, span.until])
        .collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// Returns from when a point counts: a clock that was ahead makes none count early.
fn begin(point: &Counted) -> DateTime<Utc> {
    point.from.max(point.consistent_at)
}

/// The points that count, as time goes on.
struct Points {
    /// What begins or ceases to count, the latest first.
    to_come: Vec<(DateTime<Utc>, Turn)>,
    /// The instants that can be restored now, and by how many points each.
    counted: BTreeMap<DateTime<Utc>, usize>,
}

enum Turn {
    Begins(DateTime<Utc>),
    Ceases(DateTime<Utc>),
}

impl Points {
    fn of(points: &[Counted]) -> Self {
        let mut to_come = Vec::new();
        for point in points {
            let begins = begin(point);
            if point.until.is_some_and(|until| until <= begins) {
                continue;
            }
            to_come.push((begins, Turn::Begins(point.consistent_at)));
            to_come.extend(
                point
                    .until
                    .map(|at| (at, Turn::Ceases(point.consistent_at))),
            );
        }
        to_come.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Self {
            to_come,
            counted: BTreeMap::new(),
        }
    }

    /// Returns the newest instant that can be restored at `at`, which never goes back from call to call.
    fn newest_at(&mut self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        while let Some((_, turn)) = self.to_come.pop_if(|(when, _)| *when <= at) {
            match turn {
                Turn::Begins(instant) => *self.counted.entry(instant).or_default() += 1,
                Turn::Ceases(instant) => {
                    if let Some(points) = self.counted.get_mut(&instant) {
                        *points -= 1;
                        if *points == 0 {
                            self.counted.remove(&instant);
                        }
                    }
                }
            }
        }
        self.counted.last_key_value().map(|(instant, _)| *instant)
    }
}

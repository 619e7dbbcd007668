//! Which restore points are kept and which expire, and why: a pure function of the recorded points, a policy and `now`.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

mod promise;
#[cfg(test)]
mod tests;
mod verdict;
mod windows;

pub use promise::{Former, Life, Promise, Record};
pub use verdict::{Decision, Expired, Kept, Verdict};
pub use windows::Window;

use windows::Windows;

use crate::standing::{Marks, Standing};

/// Points younger than this are never thinned out, whatever `keep:` says.
pub const NEVER_THINNED: TimeDelta = TimeDelta::hours(24);

/// What retention needs to know about a restore point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Its id.
    pub id: Uuid,
    /// The instant that it brings back, by the clock of the machine that made it.
    pub consistent_at: DateTime<Utc>,
    /// When the catalog recorded it, by the catalog's clock.
    pub recorded_at: DateTime<Utc>,
    /// When it was last proven.
    pub verified_at: Option<DateTime<Utc>>,
    /// Since when an operator has it pinned.
    pub pinned_at: Option<DateTime<Utc>>,
    /// Since when it is under a legal hold.
    pub held_at: Option<DateTime<Utc>>,
    /// Since when it is suspect.
    pub suspected_at: Option<DateTime<Utc>>,
    /// Whether it is suspect because it shrank. Until somebody has checked it, older points may be all that is left of the data.
    pub is_shrunk: bool,
    /// Since when it is quarantined.
    pub quarantined_at: Option<DateTime<Utc>>,
    /// Since when it is expired.
    pub expired_at: Option<DateTime<Utc>>,
    /// Whether a restore from it is queued or running.
    pub is_in_restore: bool,
}

/// The policy by which one resource's points are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What was and is promised; `None`: its tier is unknown and nothing was ever recorded.
    pub record: Option<Record>,
    /// Whether the plans know its tier.
    pub tier: TierKnown,
    /// Whether the resource is live, without a connection, or removed.
    pub life: Life,
    /// How long after a change the former promise still holds.
    pub grace: TimeDelta,
}

/// Whether the plans name a resource's tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TierKnown {
    /// They name it.
    Known,
    /// They do not: none of the resource's points expires.
    Unknown,
}

/// Returns a verdict for each point, in the order of the points. All of them must belong to one resource.
///
/// Some points of a live resource never expire, whatever the policy says:
///
/// - the newest trusted point (without one, the newest usable point), and the newest proven one;
/// - trusted points older than a suspect one that shrank, for as long as that one is kept.
///
/// Points that are pinned, held or being restored from are kept whatever the policy says. So are points dated in the future, which only
/// a wrong clock can have made.
///
/// Points are ordered by `consistent_at`, then by `recorded_at`. A point's age counts from the later of the two, which come from two
/// clocks, so that a machine whose clock is behind does not make points that are old at birth.
///
/// A suspect point never makes another one expire: it is not the newest, stands for no window and does not count towards the minimum.
///
/// Without `keep:`, the verdicts on old points need only those points, the newest usable, the newest proven, the newest that shrank and
/// the `minimum_kept` newest: see [`Policy::oldest_needed`].
#[must_use]
pub fn decide(points: &[Point], policy: &Policy, now: DateTime<Utc>) -> Vec<Verdict> {
    let judge = Judge::new(points, policy, now);
    points
        .iter()
        .map(|point| Verdict {
            point: point.id,
            decision: judge.decide(point),
        })
        .collect()
}

impl Policy {
    /// Returns the age from which on points may expire; `None`: thinning needs every point.
    ///
    /// Younger points need not be read, except the newest usable, the newest
    /// proven, the newest that shrank and the [`Policy::minimum_kept`] newest.
    #[must_use]
    pub fn oldest_needed(&self) -> Option<TimeDelta> {
        let promises = self.record.as_ref().map(Record::promises);
        let mut shortest = None;
        for promise in promises.into_iter().flatten() {
            if !promise.promises_something() {
                continue;
            }
            if promise.keep.is_some() {
                return None;
            }
            let days = TimeDelta::days(promise.retention_days.into());
            shortest = Some(shortest.map_or(days, |other: TimeDelta| other.min(days)));
        }
        Some(shortest.unwrap_or_else(TimeDelta::zero))
    }

    /// Returns how many of the newest trusted points are kept, however old.
    #[must_use]
    pub fn minimum_kept(&self) -> u32 {
        match (self.life, &self.record) {
            (Life::Live | Life::Unconnected, Some(record)) => record.promise.minimum_kept.max(1),
            (Life::Live | Life::Unconnected, None) => 1,
            // With a minimum, they would stay for ever.
            (Life::Removed, _) => 0,
        }
    }
}

/// What is known about all points before any one of them is judged.
struct Judge<'a> {
    policy: &'a Policy,
    now: DateTime<Utc>,
    newest: Option<Uuid>,
    proven: Option<Uuid>,
    minimum: HashSet<Uuid>,
    /// The newest point that shrank, that nobody has confirmed, and that is kept.
    shrunk: Option<&'a Point>,
    /// Which points stand for which windows, for each promise: the current one first, then the former ones.
    windows: Vec<Windows>,
}

impl<'a> Judge<'a> {
    fn new(points: &'a [Point], policy: &'a Policy, now: DateTime<Utc>) -> Self {
        let (mut trusted, mut suspect) = (Vec::new(), Vec::new());
        for point in points.iter().filter(|point| !point.is_ahead_of(now)) {
            match point.standing() {
                Standing::Trusted => trusted.push(point),
                Standing::Suspect => suspect.push(point),
                Standing::Quarantined | Standing::Expired => {}
            }
        }
        for points in [&mut trusted, &mut suspect] {
            points.sort_by_key(|point| std::cmp::Reverse(point.order()));
        }
        let live = policy.life != Life::Removed;
        let minimum = usize::try_from(policy.minimum_kept()).unwrap_or(usize::MAX);
        let windows = policy.record.iter().flat_map(Record::promises);
        let mut judge = Self {
            policy,
            now,
            newest: trusted
                .first()
                .or(suspect.first())
                .filter(|_| live)
                .map(|point| point.id),
            proven: trusted
                .iter()
                .find(|point| point.verified_at.is_some())
                .filter(|_| live)
                .map(|point| point.id),
            minimum: trusted.iter().take(minimum).map(|point| point.id).collect(),
            windows: windows
                .map(|promise| Windows::of(&trusted, promise.keep))
                .collect(),
            shrunk: None,
        };
        // A shrunk point that expires now no longer holds older points.
        judge.shrunk = suspect
            .iter()
            .copied()
            .filter(|point| live && point.is_shrunk)
            .find(|point| judge.decide(point).is_keep());
        judge
    }

    fn decide(&self, point: &Point) -> Decision {
        if point.expired_at.is_some() {
            return Decision::Expire(Expired::Already);
        }
        let protected = self.protected(point);
        match self.promised(point) {
            Decision::Keep(kept) => {
                Decision::Keep(protected.filter(Kept::is_asked_for).unwrap_or(kept))
            }
            Decision::Expire(why) => protected.map_or(Decision::Expire(why), Decision::Keep),
        }
    }

    /// Returns what keeps a point whatever was promised.
    fn protected(&self, point: &Point) -> Option<Kept> {
        let is = |id: Option<Uuid>| id == Some(point.id);
        if point.held_at.is_some() {
            Some(Kept::Held)
        } else if point.pinned_at.is_some() {
            Some(Kept::Pinned)
        } else if point.is_in_restore {
            Some(Kept::InRestore)
        } else if point.is_ahead_of(self.now) {
            Some(Kept::InFuture)
        } else if is(self.newest) {
            Some(Kept::Newest)
        } else if is(self.proven) {
            Some(Kept::NewestProven)
        } else if self.minimum.contains(&point.id) {
            Some(Kept::Minimum {
                number: self.policy.minimum_kept(),
            })
        } else if self.is_held_by_a_shrunk_one(point) {
            Some(Kept::BeforeShrunk)
        } else {
            None
        }
    }

    /// Returns whether a later point shrank, so that this one may be the better of the two.
    fn is_held_by_a_shrunk_one(&self, point: &Point) -> bool {
        match point.standing() {
            Standing::Trusted => self
                .shrunk
                .is_some_and(|shrunk| shrunk.order() > point.order()),
            Standing::Suspect | Standing::Quarantined | Standing::Expired => false,
        }
    }

    /// Returns the decision by the current promise and the former ones.
    fn promised(&self, point: &Point) -> Decision {
        if self.policy.life == Life::Unconnected {
            return Decision::Keep(Kept::Unconnected);
        }
        let Some(record) = &self.policy.record else {
            return Decision::Keep(Kept::UnknownTier);
        };
        if self.policy.tier == TierKnown::Unknown && self.policy.life == Life::Live {
            return Decision::Keep(Kept::UnknownTier);
        }
        let mut windows = self.windows.iter();
        let mut told = |promise: &Promise| {
            let windows = windows.next()?;
            promise.keeps(point, windows, self.now)
        };
        let now = told(&record.promise);
        let before: Vec<_> = record
            .former
            .iter()
            .map(|it| (it, told(&it.promise)))
            .collect();
        if let Some(kept) = now {
            return Decision::Keep(kept);
        }
        let decided = if record.promise.promises_something() {
            Decision::Expire(self.why_expired(point, &record.promise))
        } else {
            self.vetoed(point, record, &before)
        };
        if decided.is_keep() {
            return decided;
        }
        let grace = before.iter().filter_map(|(former, kept)| {
            let until = later(former.ended_at, self.policy.grace);
            let kept = kept.as_ref().filter(|_| self.now < until)?;
            Some(kept.until().map_or(until, |own| own.min(until)))
        });
        if let Some(until) = grace.max() {
            return Decision::Keep(Kept::Grace { until });
        }
        let until = later(record.since, self.policy.grace);
        if self.now < until {
            Decision::Keep(Kept::FirstSeen { until })
        } else {
            decided
        }
    }

    /// Returns the decision under a retention of zero or less, which vetoes new
    /// backups: existing points are kept for as long as was promised before.
    fn vetoed(
        &self,
        point: &Point,
        record: &Record,
        before: &[(&Former, Option<Kept>)],
    ) -> Decision {
        let last = before
            .iter()
            .rev()
            .find(|(it, _)| it.promise.promises_something());
        match last {
            Some((_, Some(kept))) => Decision::Keep(match kept.until() {
                Some(until) => Kept::Former { until },
                None => kept.clone(),
            }),
            Some((former, None)) => Decision::Expire(self.why_expired(point, &former.promise)),
            None => match record.removed_at.map(|at| later(at, self.policy.grace)) {
                Some(until) if until <= self.now => Decision::Expire(Expired::NeverPromised),
                Some(until) => Decision::Keep(Kept::Grace { until }),
                None => Decision::Keep(Kept::NoPromise),
            },
        }
    }

    fn why_expired(&self, point: &Point, promise: &Promise) -> Expired {
        let days = promise.retention_days;
        if later(point.counted_from(), TimeDelta::days(days.into())) > self.now {
            Expired::Thinned
        } else {
            Expired::TooOld { days }
        }
    }
}

impl Point {
    fn standing(&self) -> Standing {
        Standing::of(Marks {
            suspected_at: self.suspected_at,
            quarantined_at: self.quarantined_at,
            expired_at: self.expired_at,
        })
    }

    fn is_ahead_of(&self, now: DateTime<Utc>) -> bool {
        self.counted_from() > now
    }

    fn counted_from(&self) -> DateTime<Utc> {
        self.consistent_at.max(self.recorded_at)
    }

    /// Returns the point's place in the order: by its data's instant, then by when it was recorded. The id only makes ties stable.
    fn order(&self) -> (DateTime<Utc>, DateTime<Utc>, Uuid) {
        (self.consistent_at, self.recorded_at, self.id)
    }
}

/// Returns the instant `by` later, or the end of time.
fn later(at: DateTime<Utc>, by: TimeDelta) -> DateTime<Utc> {
    at.checked_add_signed(by)
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

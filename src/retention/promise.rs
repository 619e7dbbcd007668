//! What is promised about a resource's restore points, and what was before: a promise is recorded when it is first seen, so
//! that a change, wherever it was made, shortens nothing at once.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Kept, NEVER_THINNED, Point, later, windows::Windows};
use crate::{
    plan::{Keep, Plan},
    standing::Standing,
};

/// What is promised about the restore points of one resource. Stored; the names are permanent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// How many days they are kept; zero or less promises nothing.
    pub retention_days: i32,
    /// Which of them; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// How many of the newest, however old.
    pub minimum_kept: u32,
}

impl Promise {
    /// Returns what a plan promises to a resource, which may have a retention of its own.
    ///
    /// An own retention that reaches further back than the plan's windows would be thinned to nothing there: all is kept.
    #[must_use]
    pub fn of(plan: &Plan, own_days: Option<i32>) -> Self {
        let retention_days = own_days.unwrap_or(plan.retention_days);
        let reaches = |keep: &Keep| i64::from(keep.reach_days()) >= i64::from(retention_days);
        Self {
            retention_days,
            keep: plan.keep.filter(reaches),
            minimum_kept: plan.minimum_kept,
        }
    }

    pub(super) fn promises_something(&self) -> bool {
        self.retention_days > 0
    }

    /// Returns why it keeps a point now, or `None`.
    pub(super) fn keeps(
        &self,
        point: &Point,
        windows: &Windows,
        now: DateTime<Utc>,
    ) -> Option<Kept> {
        if !self.promises_something() {
            return None;
        }
        let stands_for_windows = match point.standing() {
            Standing::Trusted => self.keep.is_some(),
            // They stand for no window: they are evidence, and go when all of their age have gone.
            Standing::Suspect | Standing::Quarantined | Standing::Expired => false,
        };
        if !stands_for_windows {
            let days = self.retention_days;
            let until = later(point.counted_from(), TimeDelta::days(days.into()));
            return (now < until).then_some(Kept::Within { days, until });
        }
        let window = windows
            .that_stand(point.id)
            .filter(|(_, until)| now < *until)
            .max_by_key(|(_, until)| *until)
            .map(|(window, until)| Kept::Stands { window, until });
        let young = later(point.counted_from(), NEVER_THINNED);
        window.or_else(|| (now < young).then_some(Kept::Young { until: young }))
    }
}

/// Whether a resource lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Active or paused.
    Live,
    /// Back from manifests, and nobody has given it a connection yet: what else was on its row, a retention of its own say, is
    /// not known either.
    Unconnected,
    /// Removed: its points stay until they expire by what was promised then.
    Removed,
}

/// A promise that holds no more, but for its grace period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Former {
    /// What was promised.
    pub promise: Promise,
    /// When it was first seen to have changed.
    pub ended_at: DateTime<Utc>,
}

/// What was and is promised to a resource, as retention has seen it. Stored; the names are permanent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What is promised now.
    pub promise: Promise,
    /// What was, the oldest first, while it still matters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Former>,
    /// Since when this is recorded without a long pause. Nothing expires in the grace period after that: what was promised before,
    /// and what was pinned before a catalog was rebuilt, nobody knows; and a clock that jumped would make everything old.
    pub since: DateTime<Utc>,
    /// When the resource was first seen to be removed; from then on the promise changes no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<DateTime<Utc>>,
}

impl Record {
    /// The most former promises that are remembered: whoever changes a tier more often within a grace period is not
    /// promised each of them.
    const MOST_FORMER: usize = 32;

    /// Returns the record after a look at what is promised now. `None` as promise: the tier is unknown, so nothing is learnt.
    #[must_use]
    pub fn after(
        before: Option<Self>,
        promise: Option<Promise>,
        life: Life,
        grace: TimeDelta,
        now: DateTime<Utc>,
    ) -> Option<Self> {
        let mut record = match (before, promise) {
            (None, None) => return None,
            // Learnt when it has a connection, so that the grace period begins then.
            (before, _) if life == Life::Unconnected => return before,
            (None, Some(promise)) => Self {
                promise,
                former: Vec::new(),
                since: now,
                removed_at: None,
            },
            (Some(before), Some(promise)) if life == Life::Live => before.turned_to(promise, now),
            (Some(before), _) => before,
        };
        match life {
            Life::Live | Life::Unconnected => record.removed_at = None,
            Life::Removed => record.removed_at = record.removed_at.or(Some(now)),
        }
        record.is_not_of_the_future(now);
        record.forget(grace, now);
        Some(record)
    }

    /// Returns the record of a resource that retention has not looked at for long: the clock may have jumped. What the grace
    /// period is for a first look, it is now.
    #[must_use]
    pub fn seen_anew(self, now: DateTime<Utc>) -> Self {
        Self { since: now, ..self }
    }

    /// What a clock wrote that was ahead for a while would else hold for as long.
    fn is_not_of_the_future(&mut self, now: DateTime<Utc>) {
        self.since = self.since.min(now);
        self.removed_at = self.removed_at.map(|at| at.min(now));
        for former in &mut self.former {
            former.ended_at = former.ended_at.min(now);
        }
    }

    fn turned_to(mut self, promise: Promise, now: DateTime<Utc>) -> Self {
        if self.promise != promise {
            let promise = std::mem::replace(&mut self.promise, promise);
            let ended_at = now;
            self.former.push(Former { promise, ended_at });
        }
        self
    }

    /// Forgets what matters no more: what ended more than a grace period ago, but for the last real promise under a veto.
    fn forget(&mut self, grace: TimeDelta, now: DateTime<Utc>) {
        let vetoed = !self.promise.promises_something();
        let last = self
            .former
            .iter()
            .rposition(|it| it.promise.promises_something());
        let last = last.filter(|_| vetoed);
        let mut index = 0;
        self.former.retain(|former| {
            let matters = now < later(former.ended_at, grace) || last == Some(index);
            index += 1;
            matters
        });
        if self.former.len() > Self::MOST_FORMER {
            // Those that promised most go last.
            self.former
                .sort_by_key(|it| std::cmp::Reverse(it.promise.retention_days));
            self.former.truncate(Self::MOST_FORMER);
            self.former.sort_by_key(|it| it.ended_at);
        }
    }

    /// Returns the promise of now and then the former ones.
    pub(super) fn promises(&self) -> impl Iterator<Item = &Promise> {
        std::iter::once(&self.promise).chain(self.former.iter().map(|former| &former.promise))
    }
}

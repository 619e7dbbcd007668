//! What is promised about a resource's restore points, and what was promised before. A promise is recorded when it is first seen, so
//! that a change, wherever it was made, shortens nothing at once.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Kept, NEVER_THINNED, Point, later, windows::Windows};
use crate::{
    plan::{Keep, Plan},
    standing::Standing,
};

/// What is promised about the restore points of one resource. It is stored, so its field names must never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// How many days points are kept; zero or less promises nothing.
    pub retention_days: i32,
    /// Which points are kept; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// How many of the newest points are kept, however old.
    pub minimum_kept: u32,
}

impl Promise {
    /// Returns what a plan promises to a resource, which may have its own retention.
    ///
    /// If that retention reaches further back than the plan's windows, nothing would be left there, so the points are not thinned at all.
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

    /// Returns why the promise keeps a point now, or `None` if it does not.
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
            // These stand for no window. They are evidence, and expire with the last points of their age.
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

/// Whether a resource is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Active or paused.
    Live,
    /// Rebuilt from manifests, and still without a connection. What else was
    /// on its row, such as its own retention, is not known either.
    Unconnected,
    /// Removed: its points stay until they expire under the promise of that time.
    Removed,
}

/// A promise that no longer holds, except in its grace period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Former {
    /// The promise.
    pub promise: Promise,
    /// When it was first seen to have changed.
    pub ended_at: DateTime<Utc>,
}

/// What was and is promised to a resource, as retention has seen it. It is stored, so its field names must never change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The current promise.
    pub promise: Promise,
    /// The former promises that still matter, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Former>,
    /// Since when this has been recorded without a long pause. In the grace period that follows nothing expires: nobody knows what was
    /// promised or pinned before a catalog was rebuilt, and a clock that jumped would make everything old.
    pub since: DateTime<Utc>,
    /// When the resource was first seen removed. From then on the promise no longer changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_at: Option<DateTime<Utc>>,
}

impl Record {
    /// How many former promises are remembered. If a tier changes more often within a grace period, not every promise is kept.
    const MOST_FORMER: usize = 32;

    /// Returns the record after a look at the current promise. Without a `promise` the tier is unknown, and the record does not change.
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
            // The promise is recorded once the resource has a connection, so that the grace period begins then.
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

    /// Returns the record of a resource that retention has not looked at for long, because the clock may have jumped: the grace period of a
    /// first look begins again.
    #[must_use]
    pub fn seen_anew(self, now: DateTime<Utc>) -> Self {
        Self { since: now, ..self }
    }

    /// Corrects times in the future, written by a clock that ran ahead, which would hold points that much longer.
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

    /// Forgets promises that ended more than a grace period ago, except, under a veto, the last one that promised something.
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
            // The ones that promised least are dropped.
            self.former
                .sort_by_key(|it| std::cmp::Reverse(it.promise.retention_days));
            self.former.truncate(Self::MOST_FORMER);
            self.former.sort_by_key(|it| it.ended_at);
        }
    }

    /// Returns the current promise, then the former ones.
    pub(super) fn promises(&self) -> impl Iterator<Item = &Promise> {
        std::iter::once(&self.promise).chain(self.former.iter().map(|former| &former.promise))
    }
}

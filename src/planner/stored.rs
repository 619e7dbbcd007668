//! How many restore points does a promise keep? Retention itself is asked, about the points that a cadence makes.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    plan::{Cadence, Keep},
    retention::{Life, NEVER_THINNED, Point, Policy, Promise, Record, TierKnown, decide},
};

/// How many points stand at any time, for each promise and cadence that was asked about.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<(Promise, Cadence, usize)>);

impl Kept {
    pub(super) fn of(&mut self, promise: &Promise, cadence: Cadence, now: DateTime<Utc>) -> usize {
        let known =
            |(other, every, _): &&(Promise, Cadence, usize)| other == promise && *every == cadence;
        if let Some((_, _, kept)) = self.0.iter().find(known) {
            return *kept;
        }
        let kept = kept(promise, cadence, now);
        self.0.push((promise.clone(), cadence, kept));
        kept
    }
}

fn kept(promise: &Promise, cadence: Cadence, now: DateTime<Utc>) -> usize {
    let Some(keep) = promise.keep else {
        // All of that age, and the one that is about to become too old.
        let minutes = i64::from(promise.retention_days.max(0)) * 1440;
        let all = minutes / i64::from(cadence.minutes());
        let all = usize::try_from(all).unwrap_or_default();
        return all.max(usize::try_from(promise.minimum_kept).unwrap_or_default());
    };
    let points = points(keep, cadence, now);
    let policy = Policy {
        record: Some(Record {
            promise: promise.clone(),
            former: Vec::new(),
            since: now - TimeDelta::days(365_000),
            removed_at: None,
        }),
        tier: TierKnown::Known,
        life: Life::Live,
        grace: TimeDelta::zero(),
    };
    decide(&points, &policy, now)
        .iter()
        .filter(|verdict| verdict.decision.is_keep())
        .count()
}

/// Returns the points that may be kept, newest first: each that is too young for thinning, and at least one in each window.
fn points(keep: Keep, cadence: Cadence, now: DateTime<Utc>) -> Vec<Point> {
    let (hour, day) = (TimeDelta::hours(1), TimeDelta::days(1));
    let count = |windows: u32| i32::try_from(windows.saturating_add(1)).unwrap_or(i32::MAX);
    let spans = [
        (NEVER_THINNED + hour, TimeDelta::zero()),
        (hour * count(keep.hourly), hour),
        (day * count(keep.daily), day),
        (day * 7 * count(keep.weekly), day * 7),
        // Each month has at least one of these.
        (day * 31 * count(keep.monthly), day * 28),
    ];
    let mut points = Vec::new();
    let mut age = TimeDelta::zero();
    for (reach, step) in spans {
        while age < reach {
            age += cadence.as_delta().max(step);
            points.push(point(points.len(), now - age));
        }
    }
    points
}

fn point(number: usize, at: DateTime<Utc>) -> Point {
    Point {
        id: Uuid::from_u128(number as u128),
        consistent_at: at,
        recorded_at: at,
        verified_at: None,
        pinned_at: None,
        held_at: None,
        suspected_at: None,
        is_shrunk: false,
        quarantined_at: None,
        expired_at: None,
        is_in_restore: false,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn promise(retention_days: i32, keep: Option<Keep>) -> Promise {
        Promise {
            retention_days,
            keep,
            minimum_kept: 1,
        }
    }

    fn windows(hourly: u32, daily: u32, weekly: u32, monthly: u32) -> Keep {
        Keep {
            hourly,
            daily,
            weekly,
            monthly,
        }
    }

    #[rstest]
    #[case::hourly_for_a_month(promise(30, None), 60, 720)]
    #[case::daily_for_a_week(promise(7, None), 1440, 7)]
    #[case::every_five_minutes_for_a_day(promise(1, None), 5, 288)]
    #[case::of_fifty_five_minutes(promise(1, None), 55, 26)]
    fn without_windows_all_are_kept(
        #[case] promise: Promise,
        #[case] cadence: i32,
        #[case] count: usize,
    ) {
        let now = "2026-06-15T12:00:00Z".parse().unwrap();
        let cadence = Cadence::held(cadence).unwrap();
        assert_eq!(kept(&promise, cadence, now), count);
        // As retention itself would have it, asked about every point.
        let all: Vec<_> = (1..10_000)
            .map(|number| {
                point(
                    number,
                    now - cadence.as_delta() * i32::try_from(number).unwrap(),
                )
            })
            .collect();
        let policy = Policy {
            record: Some(Record {
                promise,
                former: Vec::new(),
                since: now - TimeDelta::days(9999),
                removed_at: None,
            }),
            tier: TierKnown::Known,
            life: Life::Live,
            grace: TimeDelta::zero(),
        };
        let judged = decide(&all, &policy, now);
        let by_retention = judged.iter().filter(|it| it.decision.is_keep()).count();
        assert!(by_retention.abs_diff(count) <= 1, "{by_retention}");
    }

    /// As many windows as `keep` says, the current one, and what is younger than a day.
    #[rstest]
    #[case::days(windows(0, 30, 0, 0), 60, 24 + 29)]
    #[case::days_of_daily(windows(0, 30, 0, 0), 1440, 30)]
    #[case::all_of_them(windows(48, 30, 8, 12), 60, 48 + 28 + 4 + 10)]
    fn windows_keep_one_each(#[case] keep: Keep, #[case] cadence: i32, #[case] about: usize) {
        let now = "2026-06-15T12:00:00Z".parse().unwrap();
        let count = kept(
            &promise(30, Some(keep)),
            Cadence::held(cadence).unwrap(),
            now,
        );
        assert!(count.abs_diff(about) <= 3, "{count}");
    }

    #[test]
    fn a_century_of_months_is_counted_in_no_time() {
        let now = "2026-06-15T12:00:00Z".parse().unwrap();
        let count = kept(
            &promise(30, Some(windows(0, 30, 0, 1200))),
            Cadence::held(5).unwrap(),
            now,
        );
        assert!((1200..1600).contains(&count), "{count}");
    }
}

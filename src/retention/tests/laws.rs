//! What retention never does, whatever happens: laws over random points, and over years of backups, failures, changes of
//! promise and clocks that step.

use std::collections::HashSet;

use proptest::{collection::vec, option, prelude::*, sample::Index};

use super::*;

fn any_promise() -> impl Strategy<Value = Promise> {
    let keep =
        (0_u32..50, 0_u32..20, 0_u32..6, 0_u32..6).prop_map(|(hourly, daily, weekly, monthly)| {
            Keep {
                hourly,
                daily,
                weekly,
                monthly,
            }
        });
    (-1_i32..60, option::of(keep), 1_u32..4).prop_map(|(retention_days, keep, minimum_kept)| {
        Promise {
            retention_days,
            keep: keep.filter(|keep| i64::from(keep.reach_days()) >= i64::from(retention_days)),
            minimum_kept,
        }
    })
}

fn any_life() -> impl Strategy<Value = Life> {
    prop_oneof![3 => Just(Life::Live), 1 => Just(Life::Removed)]
}

/// Promises that followed one another, with the hours between them.
fn any_policy() -> impl Strategy<Value = Policy> {
    let known = prop_oneof![9 => Just(TierKnown::Known), 1 => Just(TierKnown::Unknown)];
    (vec((any_promise(), 0_i64..400), 0..4), any_life(), known).prop_map(|(changes, life, tier)| {
        let hours: i64 = changes.iter().map(|(_, hours)| hours).sum();
        let mut at = now() - TimeDelta::hours(hours);
        let first = changes.first().map(|(promise, _)| promise.clone());
        // Some resources are new to retention; most are not.
        let seen = if hours % 5 == 0 { at } else { at - GRACE };
        let mut record = Record::after(None, first, Life::Live, GRACE, seen);
        for (promise, hours) in changes {
            record = Record::after(record, Some(promise), Life::Live, GRACE, at);
            at += TimeDelta::hours(hours);
        }
        Policy {
            record: Record::after(record, None, life, GRACE, at),
            tier,
            life,
            grace: GRACE,
        }
    })
}

fn any_point() -> impl Strategy<Value = Point> {
    let age = prop_oneof![8 => 0_i64..100 * 24 * 60, 1 => -3 * 24 * 60_i64..0];
    let rarely = || prop::bool::weighted(0.08);
    let flags = (
        prop::bool::weighted(0.2),
        rarely(),
        rarely(),
        rarely(),
        rarely(),
        rarely(),
        rarely(),
        rarely(),
    );
    (age, -600_i64..600, flags).prop_map(
        |(
            minutes,
            recorded,
            (verified, pinned, held, quarantined, expired, is_in_restore, suspected, is_shrunk),
        )| {
            let since = |is: bool| is.then(now);
            let point = point(TimeDelta::minutes(minutes));
            Point {
                recorded_at: point.consistent_at + TimeDelta::minutes(recorded),
                verified_at: since(verified),
                pinned_at: since(pinned),
                held_at: since(held),
                suspected_at: since(suspected),
                is_shrunk,
                quarantined_at: since(quarantined),
                expired_at: since(expired),
                is_in_restore,
                ..point
            }
        },
    )
}

fn expired(points: &[Point], policy: &Policy, at: DateTime<Utc>) -> HashSet<Uuid> {
    let verdicts = decide(points, policy, at);
    let goes = |verdict: &Verdict| match verdict.decision {
        Decision::Expire(Expired::Already) | Decision::Keep(_) => None,
        Decision::Expire(_) => Some(verdict.point),
    };
    verdicts.iter().filter_map(goes).collect()
}

/// The newest trusted point that is not in the future, found by another algorithm than retention's.
fn newest(points: &[Point], at: DateTime<Utc>, also: impl Fn(&Point) -> bool) -> Option<&Point> {
    let mut best: Option<&Point> = None;
    for point in points.iter().filter(|it| {
        it.quarantined_at.is_none()
            && it.suspected_at.is_none()
            && it.expired_at.is_none()
            && it.consistent_at <= at
            && it.recorded_at <= at
            && also(it)
    }) {
        let key = |it: &Point| (it.consistent_at, it.recorded_at, it.id);
        if best.is_none_or(|best| key(point) > key(best)) {
            best = Some(point);
        }
    }
    best
}

/// The later of the two times of a point, which come from two clocks.
fn counted_from(point: &Point) -> DateTime<Utc> {
    point.consistent_at.max(point.recorded_at)
}

proptest! {
    #[test]
    fn the_newest_and_the_newest_proven_of_a_live_resource_never_expire(points in vec(any_point(), 0..40), policy in any_policy()) {
        prop_assume!(policy.life == Life::Live);
        let gone = expired(&points, &policy, now());
        for protected in [newest(&points, now(), |_| true), newest(&points, now(), |it| it.verified_at.is_some())] {
            prop_assert!(protected.is_none_or(|it| !gone.contains(&it.id)));
        }
    }

    #[test]
    fn what_is_suspect_lets_nothing_go(points in vec(any_point(), 0..40), policy in any_policy()) {
        let without: Vec<Point> = points.iter().filter(|it| it.suspected_at.is_none()).cloned().collect();
        let gone = expired(&points, &policy, now());
        let gone_without = expired(&without, &policy, now());
        prop_assert!(without.iter().all(|it| !gone.contains(&it.id) || gone_without.contains(&it.id)));
    }

    #[test]
    fn what_is_pinned_held_in_restore_or_in_the_future_never_expires(points in vec(any_point(), 0..40), policy in any_policy()) {
        let gone = expired(&points, &policy, now());
        for point in &points {
            let protected = point.pinned_at.is_some() || point.held_at.is_some() || point.is_in_restore
                || point.consistent_at > now() || point.recorded_at > now();
            prop_assert!(!(protected && gone.contains(&point.id)));
        }
    }

    #[test]
    fn as_many_of_the_newest_as_the_minimum_says_never_expire(points in vec(any_point(), 0..40), policy in any_policy()) {
        prop_assume!(policy.life == Life::Live);
        let gone = expired(&points, &policy, now());
        let mut left = points.clone();
        let minimum = policy.record.as_ref().map_or(1, |record| record.promise.minimum_kept);
        for _ in 0..minimum {
            let Some(id) = newest(&left, now(), |_| true).map(|it| it.id) else { break };
            prop_assert!(!gone.contains(&id));
            left.retain(|it| it.id != id);
        }
    }

    #[test]
    fn neither_the_order_of_the_points_nor_their_names_matter(points in vec(any_point(), 0..30), policy in any_policy(), turn in any::<Index>()) {
        let mut other = points.clone();
        if !other.is_empty() {
            let by = turn.index(other.len());
            other.rotate_left(by);
        }
        prop_assert_eq!(expired(&points, &policy, now()), expired(&other, &policy, now()));
        // With other ids, in the opposite order, as many points expire, and at the same times.
        let mut names: Vec<Uuid> = points.iter().map(|it| it.id).collect();
        names.sort();
        let mut by_time: Vec<Point> = points.clone();
        by_time.sort_by_key(|it| (it.consistent_at, it.recorded_at));
        let renamed: Vec<Point> = by_time.iter().zip(names.iter().rev()).map(|(it, id)| Point { id: *id, ..it.clone() }).collect();
        let times = |points: &[Point], gone: &HashSet<Uuid>| {
            let mut times: Vec<_> = points.iter().filter(|it| gone.contains(&it.id)).map(|it| (it.consistent_at, it.recorded_at)).collect();
            times.sort();
            times
        };
        let distinct: HashSet<_> = points.iter().map(|it| (it.consistent_at, it.recorded_at)).collect();
        if distinct.len() == points.len() {
            prop_assert_eq!(times(&points, &expired(&points, &policy, now())), times(&renamed, &expired(&renamed, &policy, now())));
        }
    }

    #[test]
    fn what_a_promise_without_windows_keeps_is_every_point_of_its_days(points in vec(any_point(), 0..40), days in 1_i32..60) {
        let gone = expired(&points, &policy(promise(days)), now());
        for point in &points {
            let young = point.consistent_at.max(point.recorded_at) + TimeDelta::days(days.into()) > now();
            prop_assert!(!(young && gone.contains(&point.id)));
        }
    }

    #[test]
    fn every_window_that_is_counted_keeps_its_newest_and_a_day_keeps_all(points in vec(any_point(), 0..60), kept in any_promise()) {
        prop_assume!(kept.retention_days > 0);
        let Some(keep) = kept.keep else { return Ok(()) };
        let gone = expired(&points, &policy(kept), now());
        for point in &points {
            let young = point.consistent_at.max(point.recorded_at) + TimeDelta::hours(24) > now();
            prop_assert!(!(young && gone.contains(&point.id)));
        }
        for back in 0..=i64::from(keep.daily) {
            if keep.daily == 0 { break }
            let day = (now() - TimeDelta::days(back)).date_naive();
            let stands = newest(&points, now(), |it| counted_from(it).date_naive() == day);
            prop_assert!(stands.is_none_or(|it| !gone.contains(&it.id)), "{day}");
        }
        for back in 0..=i64::from(keep.hourly) {
            if keep.hourly == 0 { break }
            let hour = (now() - TimeDelta::hours(back)).timestamp() / 3600;
            let stands = newest(&points, now(), |it| counted_from(it).timestamp() / 3600 == hour);
            prop_assert!(stands.is_none_or(|it| !gone.contains(&it.id)), "{hour}");
        }
    }

    #[test]
    fn what_the_former_promise_keeps_is_kept_for_the_grace_period(points in vec(any_point(), 0..40), before in any_promise(), after in any_promise(), hours in 0_i64..168) {
        let changed_at = now() - TimeDelta::hours(hours);
        let record = Record::after(None, Some(before), Life::Live, GRACE, changed_at - GRACE - GRACE);
        let former = Policy { record: record.clone(), ..policy(promise(1)) };
        let changed = Policy { record: Record::after(record, Some(after), Life::Live, GRACE, changed_at), ..former.clone() };
        // The minimum does not depend on time: the new one counts.
        let more: HashSet<Uuid> = expired(&points, &changed, now()).difference(&expired(&points, &former, now())).copied().collect();
        for verdict in decide(&points, &former, now()) {
            let by_time = matches!(&verdict.decision, Decision::Keep(kept) if kept.until().is_some());
            prop_assert!(!(by_time && more.contains(&verdict.point)), "{:?}", verdict.decision);
        }
    }

    #[test]
    fn a_tier_that_the_plans_do_not_know_loses_nothing(points in vec(any_point(), 0..40), policy in any_policy()) {
        let unknown = Policy { tier: TierKnown::Unknown, life: Life::Live, ..policy };
        prop_assert_eq!(expired(&points, &unknown, now()), HashSet::new());
    }

    #[test]
    fn a_removed_resource_is_empty_in_the_end(points in vec(any_point(), 0..40), policy in any_policy()) {
        let removed = Policy {
            record: Record::after(policy.record, Some(promise(30)), Life::Removed, GRACE, now()),
            life: Life::Removed,
            ..policy
        };
        let end = now() + TimeDelta::days(10_000);
        let gone = expired(&points, &removed, end);
        for point in &points {
            let asked_for = point.pinned_at.is_some() || point.held_at.is_some() || point.is_in_restore;
            prop_assert!(asked_for || point.expired_at.is_some() || gone.contains(&point.id));
        }
    }

    #[test]
    fn what_has_been_let_go_changes_nothing_for_the_others(points in vec(any_point(), 0..40), policy in any_policy()) {
        let gone = expired(&points, &policy, now());
        let mut left = points.clone();
        left.retain(|it| !gone.contains(&it.id));
        prop_assert_eq!(expired(&left, &policy, now()), HashSet::new());
        for point in &mut left {
            prop_assert!(!gone.contains(&point.id));
        }
        let marked: Vec<Point> = points.iter().map(|it| Point {
            expired_at: it.expired_at.or_else(|| gone.contains(&it.id).then(now)),
            ..it.clone()
        }).collect();
        prop_assert_eq!(expired(&marked, &policy, now()), HashSet::new());
    }

    #[test]
    fn nothing_goes_before_the_time_that_was_told(points in vec(any_point(), 0..40), policy in any_policy()) {
        // A newer point of the same window may take a point's place: the time that is told is the latest possible.
        let mut points = points;
        points.retain(|it| it.consistent_at.max(it.recorded_at) <= now());
        for (point, verdict) in points.iter().zip(decide(&points, &policy, now())) {
            let Decision::Keep(kept) = verdict.decision else { continue };
            let Some(until) = kept.until() else { continue };
            prop_assert!(until > now());
            let just_before = until - TimeDelta::seconds(1);
            prop_assert!(!expired(&points, &policy, just_before.max(now())).contains(&point.id), "{kept:?}");
        }
    }

    #[test]
    fn old_points_and_the_protected_ones_are_all_that_need_be_read(points in vec(any_point(), 0..40), policy in any_policy()) {
        let Some(age) = policy.oldest_needed() else { return Ok(()) };
        let old = |it: &Point| it.consistent_at.max(it.recorded_at) + age <= now();
        let mut read: Vec<Point> = points.iter().filter(|it| old(it)).cloned().collect();
        let mut others: Vec<Point> = points.iter().filter(|it| !old(it)).cloned().collect();
        others.sort_by_key(|it| std::cmp::Reverse((it.consistent_at, it.recorded_at, it.id)));
        let usable = |it: &&Point| it.quarantined_at.is_none() && it.expired_at.is_none()
            && it.consistent_at <= now() && it.recorded_at <= now();
        let minimum = usize::try_from(policy.minimum_kept()).unwrap_or(usize::MAX);
        let trusted = |it: &&Point| usable(it) && it.suspected_at.is_none();
        let mut protected: Vec<Point> = others.iter().filter(trusted).take(minimum.max(1)).cloned().collect();
        protected.extend(others.iter().filter(trusted).find(|it| it.verified_at.is_some()).cloned());
        protected.extend(others.iter().find(usable).cloned());
        protected.extend(others.iter().filter(usable).find(|it| it.suspected_at.is_some() && it.is_shrunk).cloned());
        protected.retain(|it| !read.iter().any(|other| other.id == it.id));
        let mut once = HashSet::new();
        protected.retain(|it| once.insert(it.id));
        read.extend(protected);
        prop_assert_eq!(expired(&read, &policy, now()), expired(&points, &policy, now()));
    }

    #[test]
    fn any_number_of_days_and_any_time_is_decided_without_a_panic(days in any::<i32>(), at in any::<i32>(), ages in vec(any::<i32>(), 0..5)) {
        let at = now() + TimeDelta::minutes(at.into());
        let points: Vec<Point> = ages.into_iter().map(|minutes| point(TimeDelta::minutes(minutes.into()))).collect();
        let verdicts = decide(&points, &policy(promise(days)), at);
        prop_assert_eq!(verdicts.len(), points.len());
    }
}

/// An event in one quarter of a simulated day.
#[derive(Debug, Clone)]
enum Event {
    Backup,
    Failure,
    Outage {
        days: i64,
    },
    Verified(Index),
    Damaged(Index),
    Pinned(Index),
    Promised(Promise),
    /// The one clock steps. It never goes back further than the points of a few days.
    ClockSteps {
        hours: i64,
    },
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        60 => Just(Event::Backup),
        10 => Just(Event::Failure),
        2 => (1_i64..40).prop_map(|days| Event::Outage { days }),
        8 => any::<Index>().prop_map(Event::Verified),
        4 => any::<Index>().prop_map(Event::Damaged),
        1 => any::<Index>().prop_map(Event::Pinned),
        3 => any_promise().prop_map(Event::Promised),
        2 => (-72_i64..72).prop_map(|hours| Event::ClockSteps { hours }),
    ]
}

struct Years {
    at: DateTime<Utc>,
    points: Vec<Point>,
    record: Option<Record>,
}

impl Years {
    fn happen(&mut self, event: Event) {
        self.at += TimeDelta::hours(6);
        let count = self.points.len();
        let at = self.at;
        let mut touch = |index: Index, change: fn(&mut Point, DateTime<Utc>)| {
            if let Some(point) = (count > 0)
                .then(|| index.index(count))
                .and_then(|index| self.points.get_mut(index))
            {
                change(point, at);
            }
        };
        match event {
            Event::Backup => {
                let new = point(TimeDelta::zero());
                self.points.push(Point {
                    consistent_at: at - TimeDelta::minutes(5),
                    recorded_at: at,
                    ..new
                });
            }
            Event::Failure => {}
            Event::Outage { days } => self.at += TimeDelta::days(days),
            Event::Verified(index) => touch(index, |point, at| {
                if point.quarantined_at.is_none() {
                    point.verified_at = Some(at);
                }
            }),
            Event::Damaged(index) => touch(index, |point, at| point.quarantined_at = Some(at)),
            Event::Pinned(index) => touch(index, |point, at| point.pinned_at = Some(at)),
            Event::Promised(promise) => {
                self.record =
                    Record::after(self.record.take(), Some(promise), Life::Live, GRACE, at);
            }
            Event::ClockSteps { hours } => self.at += TimeDelta::hours(hours),
        }
        self.record = Record::after(self.record.take(), None, Life::Live, GRACE, self.at);
    }

    /// Applies retention and returns the points that it removed.
    fn retain(&mut self) -> Vec<Point> {
        let policy = Policy {
            record: self.record.clone(),
            ..policy(promise(1))
        };
        let gone = expired(&self.points, &policy, self.at);
        let (gone, left) = self.points.drain(..).partition(|it| gone.contains(&it.id));
        self.points = left;
        gone
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Each case simulates two to three years.
    #[test]
    fn in_years_of_backups_a_live_resource_can_always_be_restored(first in any_promise(), events in vec(any_event(), 1500..2000)) {
        let mut years = Years { at: now(), points: Vec::new(), record: Record::after(None, Some(first), Life::Live, GRACE, now()) };
        let (mut ever_usable, mut removed) = (0, 0);
        for event in events {
            years.happen(event);
            let best = newest(&years.points, years.at, |_| true).map(|it| it.id);
            let proven = newest(&years.points, years.at, |it| it.verified_at.is_some()).map(|it| it.id);
            let gone = years.retain();
            removed += gone.len();
            ever_usable += usize::from(best.is_some());
            prop_assert_eq!(newest(&years.points, years.at, |_| true).map(|it| it.id), best);
            prop_assert_eq!(newest(&years.points, years.at, |it| it.verified_at.is_some()).map(|it| it.id), proven);
            prop_assert!(gone.iter().all(|it| it.pinned_at.is_none()));
            prop_assert!(gone.iter().all(|it| it.recorded_at <= years.at));
        }
        prop_assert!(ever_usable > 0);
        // The longest promise, not the number of years, bounds how many points remain: retention does remove some.
        prop_assert!(removed > 0);
    }
}

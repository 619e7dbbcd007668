//! What retention decides in single cases. The laws that hold in every case are in `laws`.

use chrono::{DateTime, TimeDelta, Utc};
use rstest::rstest;
use uuid::Uuid;

use super::*;
use crate::plan::Keep;

mod laws;

pub(super) const GRACE: TimeDelta = TimeDelta::days(7);

pub(super) fn now() -> DateTime<Utc> {
    // A Wednesday.
    "2031-03-05T12:30:00Z".parse().unwrap()
}

/// Returns a point of this age, with a random id that says nothing about the age.
pub(super) fn point(age: TimeDelta) -> Point {
    let at = now() - age;
    Point {
        id: Uuid::new_v4(),
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

pub(super) fn long_ago() -> DateTime<Utc> {
    now() - GRACE - GRACE
}

pub(super) fn promise(retention_days: i32) -> Promise {
    Promise {
        retention_days,
        keep: None,
        minimum_kept: 1,
    }
}

pub(super) fn policy(promise: Promise) -> Policy {
    Policy {
        record: Record::after(None, Some(promise), Life::Live, GRACE, long_ago()),
        tier: TierKnown::Known,
        life: Life::Live,
        grace: GRACE,
    }
}

/// Returns the decision, as text, about a point of this age beside a fresh one.
fn told(policy: &Policy, change: impl Fn(&mut Point), age: TimeDelta) -> String {
    let mut judged = point(age);
    change(&mut judged);
    let verdicts = decide(
        &[point(TimeDelta::minutes(1)), judged.clone()],
        policy,
        now(),
    );
    let verdict = verdicts.into_iter().find(|it| it.point == judged.id);
    let decision = verdict.map(|it| it.decision);
    match decision {
        Some(Decision::Keep(kept)) => format!("keep: {kept}"),
        Some(Decision::Expire(why)) => format!("expire: {why}"),
        None => "nothing".to_owned(),
    }
}

type Change = fn(&mut Point);

#[rstest]
#[case::young(29, |_: &mut Point| {}, "keep: within the promised 30 days")]
#[case::old(30, |_: &mut Point| {}, "expire: older than the promised 30 days")]
#[case::pinned(90, |point: &mut Point| point.pinned_at = Some(now()), "keep: pinned")]
#[case::held(90, |point: &mut Point| point.held_at = Some(now()), "keep: on legal hold")]
#[case::pinned_and_young(1, |point: &mut Point| point.pinned_at = Some(now()), "keep: pinned")]
#[case::in_restore(90, |point: &mut Point| point.is_in_restore = true, "keep: a restore from it is queued or running")]
#[case::proven(90, |point: &mut Point| point.verified_at = Some(now()), "keep: the newest proven one of a live resource: never removed")]
#[case::proven_and_then_damaged(90, |point: &mut Point| { point.verified_at = Some(now()); point.quarantined_at = Some(now()); }, "expire: older than the promised 30 days")]
#[case::damaged(3, |point: &mut Point| point.quarantined_at = Some(now()), "keep: within the promised 30 days")]
#[case::suspect(3, |point: &mut Point| point.suspected_at = Some(now()), "keep: within the promised 30 days")]
#[case::suspect_and_old(90, |point: &mut Point| { point.suspected_at = Some(now()); point.verified_at = Some(now()); }, "expire: older than the promised 30 days")]
#[case::let_go(3, |point: &mut Point| point.expired_at = Some(now()), "expire: let go before, and waits to be removed")]
#[case::made_by_a_clock_behind(90, |point: &mut Point| point.recorded_at = now() - TimeDelta::days(1), "keep: within the promised 30 days")]
#[case::made_by_a_clock_ahead(-90, |_: &mut Point| {}, "keep: within the promised 30 days")]
fn a_retention_of_days_is_told_for_each_point(
    #[case] age_days: i64,
    #[case] change: Change,
    #[case] expected: &str,
) {
    let said = told(&policy(promise(30)), change, TimeDelta::days(age_days));
    assert_eq!(said, expected);
}

#[test]
fn the_newest_is_told_to_be_the_newest_and_the_others_of_the_minimum_how_many_they_are() {
    let policy = policy(Promise {
        minimum_kept: 2,
        ..promise(7)
    });
    let points = [90, 80, 70].map(|days| point(TimeDelta::days(days)));
    let told: Vec<String> = decide(&points, &policy, now())
        .iter()
        .map(|verdict| match &verdict.decision {
            Decision::Keep(kept) => kept.to_string(),
            Decision::Expire(why) => why.to_string(),
        })
        .collect();
    assert_eq!(
        told,
        [
            "older than the promised 7 days",
            "the newest 2 are kept, however old",
            "the newest usable one of a live resource: never removed",
        ]
    );
}

#[test]
fn what_is_of_the_future_stays_even_where_nothing_was_ever_promised() {
    let removed = Policy {
        record: Record::after(
            Record::after(None, Some(promise(0)), Life::Live, GRACE, long_ago()),
            None,
            Life::Removed,
            GRACE,
            long_ago(),
        ),
        life: Life::Removed,
        ..policy(promise(0))
    };
    let points = [-1, 1].map(|days| point(TimeDelta::days(days)));
    let decided: Vec<Decision> = decide(&points, &removed, now())
        .into_iter()
        .map(|verdict| verdict.decision)
        .collect();
    assert_eq!(
        decided,
        [
            Decision::Keep(Kept::InFuture),
            Decision::Expire(Expired::NeverPromised)
        ]
    );
}

fn thinning() -> Policy {
    policy(Promise {
        keep: Some(Keep {
            hourly: 48,
            daily: 7,
            weekly: 0,
            monthly: 3,
        }),
        ..promise(30)
    })
}

#[test]
fn a_worker_whose_clock_is_behind_makes_no_points_that_no_window_keeps() {
    // Four a day for six days, dated 40 days too early. They fall on seven calendar days, each of which keeps its newest.
    let behind = |n: i64| Point {
        recorded_at: now() - TimeDelta::hours(n * 6),
        ..point(TimeDelta::days(40) + TimeDelta::hours(n * 6))
    };
    let points: Vec<Point> = (0..24).map(behind).collect();
    let verdicts = decide(&points, &thinning(), now());
    let days: std::collections::BTreeSet<_> = points
        .iter()
        .zip(&verdicts)
        .filter(|(_, verdict)| verdict.decision.is_keep())
        .map(|(point, _)| point.recorded_at.date_naive())
        .collect();
    assert_eq!(days.len(), 7, "{days:?}");
}

#[test]
fn of_points_made_by_two_clocks_one_stands_for_each_window() {
    // One every six hours, by turns from a worker whose clock is right and from one that is three days behind.
    let made = |n: i64| Point {
        recorded_at: now() - TimeDelta::hours(n * 6),
        ..point(TimeDelta::days(n % 2 * 3) + TimeDelta::hours(n * 6))
    };
    let points: Vec<Point> = (0..4 * 7).map(made).collect();
    let kept = decide(&points, &daily(7), now())
        .iter()
        .filter(|verdict| verdict.decision.is_keep())
        .count();
    // All of the last 24 hours, then the newest of yesterday's earlier ones, then the newest of each of the six days before.
    assert_eq!(kept, 4 + 1 + 6);
}

fn daily(daily: u32) -> Policy {
    policy(Promise {
        keep: Some(Keep {
            hourly: 0,
            daily,
            weekly: 0,
            monthly: 0,
        }),
        ..promise(7)
    })
}

#[test]
fn thinning_keeps_the_newest_of_each_window_in_utc_and_all_of_a_day() {
    // One every 20 minutes for 120 days.
    let points: Vec<Point> = (0..120 * 72)
        .map(|n| point(TimeDelta::minutes(n * 20)))
        .collect();
    let verdicts = decide(&points, &thinning(), now());
    let kept: Vec<String> = points
        .iter()
        .zip(&verdicts)
        .filter(|(_, verdict)| verdict.decision.is_keep())
        .map(|(point, _)| point.consistent_at.format("%Y-%m-%d %H:%M").to_string())
        .collect();
    let (last_day, older) = kept.split_at(72);
    assert_eq!(
        last_day.first().map(String::as_str),
        Some("2031-03-05 12:30")
    );
    assert_eq!(
        last_day.last().map(String::as_str),
        Some("2031-03-04 12:50")
    );
    let (hours, older) = older.split_at(24);
    assert!(hours.iter().all(|at| at.ends_with(":50")), "{hours:?}");
    assert_eq!(
        hours.last().map(String::as_str),
        Some("2031-03-03 12:50"),
        "48 whole hours"
    );
    // Seven whole days, of which the hours cover two, then the ends of three whole months.
    let expected = [
        "2031-03-02 23:50",
        "2031-03-01 23:50",
        "2031-02-28 23:50",
        "2031-02-27 23:50",
        "2031-02-26 23:50",
        "2031-01-31 23:50",
        "2030-12-31 23:50",
    ];
    assert_eq!(older, expected);
}

#[rstest]
#[case::stands_for_a_month(33, |_: &mut Point| {}, "keep: the newest of its month")]
#[case::damaged_within_the_retention(20, |point: &mut Point| point.quarantined_at = Some(now()), "keep: within the promised 30 days")]
fn thinning_is_told(#[case] age_days: i64, #[case] change: Change, #[case] expected: &str) {
    assert_eq!(
        told(&thinning(), change, TimeDelta::days(age_days)),
        expected
    );
}

/// Returns a policy whose promises followed one another, the last one this many days ago.
fn changed(promises: &[Promise], days_ago: i64) -> Policy {
    let at = now() - TimeDelta::days(days_ago);
    let first = promises.first().cloned();
    let mut record = Record::after(None, first, Life::Live, GRACE, at - GRACE);
    for promise in promises {
        record = Record::after(record, Some(promise.clone()), Life::Live, GRACE, at);
    }
    // A later look, as upkeep takes one.
    let last = promises.last().cloned();
    Policy {
        record: Record::after(record, last, Life::Live, GRACE, now()),
        ..policy(promise(1))
    }
}

#[rstest]
#[case::in_its_grace(&[30, 7], 6, 20, "keep: the tier or the plan changed: the earlier promise still holds for a while")]
#[case::after_its_grace(&[30, 7], 7, 20, "expire: older than the promised 7 days")]
#[case::older_than_both(&[30, 7], 1, 40, "expire: older than the promised 7 days")]
#[case::two_changes_in_one_grace(&[30, 7, 3], 1, 20, "keep: the tier or the plan changed: the earlier promise still holds for a while")]
#[case::a_longer_one_counts_at_once(&[7, 30], 1, 20, "keep: within the promised 30 days")]
#[case::a_veto_keeps_what_was_promised(&[30, 0], 300, 20, "keep: the retention is now 0: kept for as long as was promised before")]
#[case::and_no_longer(&[30, 0], 300, 40, "expire: older than the promised 30 days")]
#[case::a_veto_below_zero(&[30, -3], 300, 20, "keep: the retention is now 0: kept for as long as was promised before")]
#[case::never_promised_anything(&[0], 300, 400, "keep: the retention is 0 and was never longer: set one (`lastgood resource set --retention-days`) to let it go")]
fn a_change_shortens_nothing_at_once(
    #[case] days: &[i32],
    #[case] days_ago: i64,
    #[case] age_days: i64,
    #[case] expected: &str,
) {
    let promises: Vec<_> = days.iter().copied().map(promise).collect();
    let said = told(
        &changed(&promises, days_ago),
        |_| {},
        TimeDelta::days(age_days),
    );
    assert_eq!(said, expected);
}

#[test]
fn a_removed_resource_keeps_its_points_by_its_promise_at_removal() {
    let record = Record::after(None, Some(promise(30)), Life::Live, GRACE, long_ago());
    // By then the plans promise less, or no longer know the tier.
    for later in [Some(promise(1)), None] {
        let removed = Policy {
            record: Record::after(record.clone(), later, Life::Removed, GRACE, now()),
            tier: TierKnown::Unknown,
            life: Life::Removed,
            grace: GRACE,
        };
        let decided = |days| decide(&[point(TimeDelta::days(days))], &removed, now());
        assert!(decided(29).iter().all(|it| it.decision.is_keep()));
        assert!(
            decided(30).iter().all(|it| !it.decision.is_keep()),
            "the newest too"
        );
    }
}

#[test]
fn nothing_of_a_resource_that_is_new_to_retention_expires_for_the_grace_period() {
    let old = [point(TimeDelta::days(1)), point(TimeDelta::days(90))];
    let seen = |at| Policy {
        record: Record::after(None, Some(promise(30)), Life::Live, GRACE, at),
        ..policy(promise(30))
    };
    let kept = |at| {
        let verdicts = decide(&old, &seen(at), now());
        verdicts.iter().filter(|it| it.decision.is_keep()).count()
    };
    assert_eq!(kept(now() - GRACE + TimeDelta::seconds(1)), 2);
    assert_eq!(kept(now() - GRACE), 1);
}

#[test]
fn a_removed_resource_that_was_promised_nothing_keeps_its_points_for_the_grace_period() {
    let at = now() - TimeDelta::days(7);
    let removed = |removed_at| Policy {
        record: Record::after(None, Some(promise(0)), Life::Removed, GRACE, removed_at),
        life: Life::Removed,
        ..policy(promise(0))
    };
    let old = [point(TimeDelta::days(90))];
    let within = decide(&old, &removed(at + TimeDelta::seconds(1)), now());
    assert!(within.iter().all(|it| it.decision.is_keep()));
    let after = decide(&old, &removed(at), now());
    assert!(after.iter().all(|it| !it.decision.is_keep()));
}

#[test]
fn a_promise_is_stored_under_permanent_names() -> anyhow::Result<()> {
    let mut record = Record::after(None, Some(promise(30)), Life::Live, GRACE, now());
    let keep = Keep {
        daily: 7,
        ..Keep::default()
    };
    let other = Promise {
        keep: Some(keep),
        ..promise(7)
    };
    record = Record::after(record, Some(other), Life::Live, GRACE, now());
    record = Record::after(record, None, Life::Removed, GRACE, now());
    let thinned = thinning().record;
    insta::assert_json_snapshot!([&record, &thinned]);
    let stored = serde_json::to_value(&record)?;
    assert_eq!(serde_json::from_value::<Option<Record>>(stored)?, record);
    Ok(())
}

/// A suspect point never makes another one expire.
#[test]
fn suspect_points_let_nothing_go_and_the_best_of_them_stays_where_nothing_else_is() {
    let suspect = |days| Point {
        suspected_at: Some(now()),
        verified_at: Some(now()),
        ..point(TimeDelta::days(days))
    };
    let gone = |points: &[Point]| -> Vec<bool> {
        let verdicts = decide(points, &policy(promise(7)), now());
        verdicts.iter().map(|it| !it.decision.is_keep()).collect()
    };
    // The older trusted point is the newest that counts, however many suspect ones came since.
    assert_eq!(
        gone(&[point(TimeDelta::days(90)), suspect(80), suspect(1)]),
        [false, true, false]
    );
    assert_eq!(gone(&[suspect(90), suspect(80)]), [true, false]);
    // Thinning: a day's newest point does not stand for that day if it is suspect.
    let keep = Keep {
        hourly: 0,
        daily: 30,
        weekly: 0,
        monthly: 0,
    };
    let thinned = policy(Promise {
        keep: Some(keep),
        ..promise(30)
    });
    let of_a_day = [point(TimeDelta::hours(60)), suspect(2)];
    let verdicts = decide(&of_a_day, &thinned, now());
    assert!(
        verdicts.iter().all(|it| it.decision.is_keep()),
        "{verdicts:?}"
    );
}

#[rstest]
#[case::nobody_looked(Some(now()), true, false)]
#[case::somebody_confirmed_it(None, true, true)]
#[case::suspect_for_another_reason(Some(now()), false, true)]
fn a_shrunk_one_holds_the_trusted_ones_before_it_until_somebody_confirms(
    #[case] suspected_at: Option<DateTime<Utc>>,
    #[case] is_shrunk: bool,
    #[case] expected: bool,
) {
    let shrunk = Point {
        suspected_at,
        is_shrunk,
        ..point(TimeDelta::days(5))
    };
    let points = [
        point(TimeDelta::days(90)),
        point(TimeDelta::days(80)),
        shrunk,
        point(TimeDelta::days(1)),
    ];
    let verdicts = decide(&points, &policy(promise(7)), now());
    let gone: Vec<bool> = verdicts.iter().map(|it| !it.decision.is_keep()).collect();
    assert_eq!(gone, [expected, expected, false, false], "{verdicts:?}");
    // Once the resource is removed, nobody is left to confirm it.
    let removed = Policy {
        life: Life::Removed,
        ..policy(promise(7))
    };
    let verdicts = decide(&points, &removed, now());
    assert!(verdicts.iter().any(|it| !it.decision.is_keep()));
}

//! Each rule of the attained RPO, on a history made by hand, and all of them against a walk from minute to minute.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

mod walk;

/// Midnight, from which these histories count minutes.
fn at(minute: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::minutes(minute)
}

fn span(from: i64, until: i64) -> Span {
    Span {
        from: at(from),
        until: at(until),
    }
}

fn change(minute: i64, service: Service) -> Change {
    Change {
        at: at(minute),
        team: "acme".to_owned(),
        tier: "pro".to_owned(),
        engine: "postgres".to_owned(),
        service,
    }
}

/// A point that is consistent to a minute, exists from another on, and counts until a third.
fn point(consistent: i64, from: i64, until: impl Into<Option<i64>>) -> Counted {
    Counted {
        consistent_at: at(consistent),
        from: at(from),
        until: until.into().map(at),
    }
}

/// A resource that was registered at minute 0.
fn record(points: Vec<Counted>) -> Record {
    Record {
        registered_at: at(0),
        changes: vec![change(0, Service::Active)],
        points,
    }
}

fn terms(since: i64, rpo: i64, tolerance: i64) -> Terms {
    Terms {
        since: at(since),
        rpo: TimeDelta::minutes(rpo),
        allowed: TimeDelta::minutes(rpo + tolerance),
    }
}

/// An hourly tier with 6 minutes of tolerance.
fn hourly() -> Fleet {
    Fleet {
        terms: HashMap::from([("pro".to_owned(), vec![terms(-10_000, 60, 6)])]),
        ..Fleet::default()
    }
}

fn paused(from: i64, until: i64) -> Paused {
    Paused {
        engine: None,
        tier: None,
        team: None,
        span: span(from, until),
    }
}

/// Returns the minutes promised, late, broken, paused, down, and of the worst exposure, of all holders together.
fn minutes(fleet: &Fleet, record: &Record, span: Span) -> [i64; 6] {
    let mut all = [0; 6];
    for it in figures(&timeline(fleet, record, span)).values() {
        let sums = [it.promised, it.late, it.broken, it.paused, it.down];
        for (sum, part) in all.iter_mut().zip(sums) {
            *sum += part.num_minutes();
        }
        all[5] = all[5].max(it.worst.num_minutes());
    }
    all
}

fn broken(fleet: &Fleet, record: &Record, span: Span) -> Vec<(i64, i64)> {
    let minute = |instant: DateTime<Utc>| (instant - at(0)).num_minutes();
    breaches(&timeline(fleet, record, span))
        .iter()
        .map(|breach| (minute(breach.from), minute(breach.until)))
        .collect()
}

#[rstest]
#[case::a_resource_without_a_point_is_exposed_since_its_registration(vec![], [200, 140, 134, 0, 0, 200], &[(66, 200)])]
#[case::a_point_counts_from_when_it_came_to_exist(vec![point(50, 70, None)], [200, 10 + 90, 4 + 84, 0, 0, 150], &[(66, 70), (116, 200)])]
#[case::exposure_falls_to_the_age_of_its_instant(vec![point(10, 20, None), point(70, 80, None)], [200, 10 + 70, 4 + 64, 0, 0, 130], &[(76, 80), (136, 200)])]
#[case::an_older_point_that_comes_later_changes_nothing(vec![point(50, 55, None), point(10, 60, None)], [200, 90, 84, 0, 0, 150], &[(116, 200)])]
#[case::a_point_that_ceases_leaves_the_one_before(vec![point(10, 10, None), point(50, 50, 100)], [200, 100, 100, 0, 0, 190], &[(100, 200)])]
#[case::when_all_cease_everything_since_the_registration_is_lost(vec![point(50, 50, 100)], [200, 100, 100, 0, 0, 200], &[(100, 200)])]
#[case::a_point_that_ceases_before_it_counts_never_counted(vec![point(50, 60, 60)], [200, 140, 134, 0, 0, 200], &[(66, 200)])]
#[case::a_point_from_the_future_waits_for_its_instant(vec![point(100, 20, None)], [200, 40 + 40, 34 + 34, 0, 0, 100], &[(66, 100), (166, 200)])]
#[case::two_points_of_one_instant_cease_one_by_one(vec![point(60, 60, 90), point(60, 60, 150)], [200, 30 + 50, 24 + 50, 0, 0, 200], &[(126, 200)])]
fn points_end_exposure(
    #[case] points: Vec<Counted>,
    #[case] expected: [i64; 6],
    #[case] breaches: &[(i64, i64)],
) {
    let (fleet, record) = (hourly(), record(points));
    assert_eq!(minutes(&fleet, &record, span(0, 200)), expected);
    assert_eq!(broken(&fleet, &record, span(0, 200)), breaches);
}

#[test]
fn what_is_at_the_limit_is_kept_and_what_passes_it_is_not() {
    let (fleet, record) = (
        hourly(),
        record(vec![point(0, 0, None), point(66, 66, None)]),
    );
    assert_eq!(minutes(&fleet, &record, span(0, 66)), [66, 6, 0, 0, 0, 66]);
    let (fleet, record) = (hourly(), super::tests::record(vec![point(0, 0, None)]));
    assert_eq!(minutes(&fleet, &record, span(0, 67)), [67, 7, 1, 0, 0, 67]);
}

#[test]
fn a_span_sees_what_came_before_it_and_nothing_of_what_came_after() {
    let fleet = hourly();
    let mut record = record(vec![point(-30, -20, None)]);
    record.registered_at = at(-5000);
    record.changes[0].at = at(-5000);
    let early = minutes(&fleet, &record, span(0, 100));
    assert_eq!(early, [100, 70, 64, 0, 0, 130]);
    record.points.push(point(90, 110, None));
    record.changes.push(change(120, Service::Removed));
    assert_eq!(minutes(&fleet, &record, span(0, 100)), early);
}

#[test]
fn a_breach_goes_on_over_midnight() {
    let (fleet, record) = (hourly(), record(vec![]));
    let day = 24 * 60;
    let [_, _, first, ..] = minutes(&fleet, &record, span(0, day));
    let [_, _, second, ..] = minutes(&fleet, &record, span(day, 2 * day));
    assert_eq!((first, second), (day - 66, day));
    assert_eq!(broken(&fleet, &record, span(0, 2 * day)), [(66, 2 * day)]);
}

#[test]
fn a_pause_is_counted_apart_and_stops_no_exposure() {
    let mut fleet = hourly();
    fleet.pauses = vec![paused(50, 150)];
    let record = record(vec![]);
    assert_eq!(
        minutes(&fleet, &record, span(0, 200)),
        [100, 50, 50, 100, 0, 200]
    );
    assert_eq!(broken(&fleet, &record, span(0, 200)), [(150, 200)]);
}

#[rstest]
#[case::of_any(None, None, None, true)]
#[case::of_its_engine(Some("postgres"), None, None, true)]
#[case::of_its_tier(None, Some("pro"), None, true)]
#[case::of_its_team(None, None, Some("acme"), true)]
#[case::of_all_three(Some("postgres"), Some("pro"), Some("acme"), true)]
#[case::of_another_engine(Some("redis"), None, None, false)]
#[case::of_another_tier(None, Some("hobby"), None, false)]
#[case::of_another_team_on_its_tier(None, Some("pro"), Some("others"), false)]
fn a_pause_counts_for_what_it_covers(
    #[case] engine: Option<&str>,
    #[case] tier: Option<&str>,
    #[case] team: Option<&str>,
    #[case] covers: bool,
) {
    let mut fleet = hourly();
    fleet.pauses = vec![Paused {
        engine: engine.map(str::to_owned),
        tier: tier.map(str::to_owned),
        team: team.map(str::to_owned),
        span: span(0, 200),
    }];
    let [_, _, _, paused, ..] = minutes(&fleet, &record(vec![]), span(0, 200));
    assert_eq!(paused, if covers { 200 } else { 0 });
}

#[test]
fn a_suspended_resource_is_counted_like_a_paused_one() {
    let fleet = hourly();
    let mut record = record(vec![]);
    record.changes.push(change(50, Service::Suspended));
    record.changes.push(change(150, Service::Active));
    assert_eq!(
        minutes(&fleet, &record, span(0, 200)),
        [100, 50, 50, 100, 0, 200]
    );
}

#[test]
fn pauses_that_overlap_are_counted_once() {
    let mut fleet = hourly();
    fleet.pauses = vec![paused(20, 60), paused(50, 80)];
    let mut record = record(vec![]);
    record.changes.push(change(70, Service::Suspended));
    record.changes.push(change(90, Service::Active));
    let [promised, _, _, paused, ..] = minutes(&fleet, &record, span(0, 100));
    assert_eq!((promised, paused), (30, 70));
}

#[test]
fn nothing_is_promised_of_what_is_removed_or_not_registered_yet() {
    let fleet = hourly();
    let mut record = record(vec![]);
    record.changes.push(change(100, Service::Removed));
    let found = minutes(&fleet, &record, span(-50, 200));
    assert_eq!(found, [100, 40, 34, 0, 0, 100]);
}

#[test]
fn a_tier_that_promises_nothing_is_not_counted() {
    let record = record(vec![]);
    let mut fleet = hourly();
    fleet.terms.insert("pro".to_owned(), vec![terms(-1, 0, 5)]);
    assert_eq!(minutes(&fleet, &record, span(0, 200)), [0; 6]);
    fleet.terms.clear();
    assert_eq!(minutes(&fleet, &record, span(0, 200)), [0; 6]);
}

#[test]
fn each_instant_is_judged_by_what_was_promised_then() {
    let mut fleet = hourly();
    let promised = vec![terms(-1, 1440, 144), terms(100, 60, 6)];
    fleet.terms.insert("pro".to_owned(), promised);
    let record = record(vec![]);
    assert_eq!(
        minutes(&fleet, &record, span(0, 200)),
        [200, 100, 100, 0, 0, 200]
    );
    assert_eq!(broken(&fleet, &record, span(0, 200)), [(100, 200)]);
}

#[test]
fn nothing_is_counted_from_before_the_promise_is_on_record() {
    let mut fleet = hourly();
    fleet
        .terms
        .insert("pro".to_owned(), vec![terms(100, 60, 6)]);
    let [promised, _, broken, ..] = minutes(&fleet, &record(vec![]), span(0, 200));
    assert_eq!((promised, broken), (100, 100));
}

#[test]
fn a_day_with_two_tiers_is_counted_for_each() {
    let mut fleet = hourly();
    fleet
        .terms
        .insert("hobby".to_owned(), vec![terms(-1, 1440, 144)]);
    let mut record = record(vec![]);
    record.changes.push(Change {
        tier: "hobby".to_owned(),
        ..change(120, Service::Active)
    });
    let pieces = timeline(&fleet, &record, span(0, 200));
    let all: Vec<_> = figures(&pieces)
        .into_iter()
        .map(|(holder, it)| {
            (
                holder.tier,
                it.promised.num_minutes(),
                it.broken.num_minutes(),
            )
        })
        .collect();
    assert_eq!(all, [("hobby", 80, 0), ("pro", 120, 54)]);
}

#[test]
fn time_without_a_producer_is_said_and_excuses_nothing() {
    let mut fleet = hourly();
    fleet.down = vec![span(30, 130)];
    let record = record(vec![point(20, 20, None)]);
    assert_eq!(
        minutes(&fleet, &record, span(0, 200)),
        [200, 120, 114, 0, 100, 180]
    );
}

#[test]
fn time_without_a_producer_is_not_counted_during_a_pause() {
    let mut fleet = hourly();
    fleet.down = vec![span(30, 130)];
    fleet.pauses = vec![paused(50, 100)];
    let [promised, _, _, paused, down, _] = minutes(&fleet, &record(vec![]), span(0, 200));
    assert_eq!((promised, paused, down), (150, 50, 50));
}

#[rstest]
#[case("2026-11", Some(("2026-11-01", "2026-11-30")))]
#[case("2024-02", Some(("2024-02-01", "2024-02-29")))]
#[case("2026-13", None)]
#[case("2026-1", None)]
#[case("+026-01", None)]
#[case("november", None)]
fn a_month_is_a_year_and_a_month(#[case] text: &str, #[case] expected: Option<(&str, &str)>) {
    let month: Option<Month> = text.parse().ok();
    let days = month.map(|it| (it.first().0.to_string(), it.last().0.to_string()));
    let days = days
        .as_ref()
        .map(|(first, last)| (first.as_str(), last.as_str()));
    assert_eq!(days, expected);
    if let Some(month) = month {
        assert_eq!(month.to_string(), text);
    }
}

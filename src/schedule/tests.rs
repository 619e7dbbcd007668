//! Arithmetic keeps the promise: slots tile time, and a resource runs once in each of them, never later than its cadence.

use anyhow::Context as _;
use chrono::TimeZone as _;
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::plan::{Plan, Plans};

fn at(text: &str) -> anyhow::Result<DateTime<Utc>> {
    text.parse().with_context(|| text.to_owned())
}

fn every(minutes: i64) -> Cadence {
    Cadence::from_minutes(minutes).unwrap()
}

fn spread(resource: u32, team: u32) -> Spread {
    Spread { resource, team }
}

fn cadences() -> impl Strategy<Value = Cadence> {
    proptest::sample::select(Cadence::HELD.to_vec())
}

/// Any instant from 1970 to 2100, to the nanosecond.
fn instants() -> impl Strategy<Value = DateTime<Utc>> {
    (0..4_102_444_800_i64, 0..1_000_000_000_u32)
        .prop_map(|(seconds, nanos)| Utc.timestamp_opt(seconds, nanos).unwrap())
}

fn spreads() -> impl Strategy<Value = Spread> {
    (0..1_u32 << 28, 0..1_u32 << 28).prop_map(|(resource, team)| spread(resource, team))
}

/// A spread whose turn is at the beginning of each window.
const FIRST: Spread = Spread {
    resource: 0,
    team: 0,
};

#[rstest]
#[case::clock_hour(60, "2025-03-09T17:59:59.999Z", "2025-03-09T17:00:00Z")]
#[case::on_the_hour(60, "2025-03-09T17:00:00Z", "2025-03-09T17:00:00Z")]
#[case::quarter(15, "2025-03-09T17:59:00Z", "2025-03-09T17:45:00Z")]
#[case::eight_hours(480, "2025-03-09T17:59:00Z", "2025-03-09T16:00:00Z")]
#[case::leap_day(1440, "2024-02-29T23:59:59Z", "2024-02-29T00:00:00Z")]
#[case::day_after_leap_day(1440, "2024-03-01T00:00:00Z", "2024-03-01T00:00:00Z")]
#[case::last_of_the_year(720, "2025-12-31T23:59:59Z", "2025-12-31T12:00:00Z")]
#[case::first_of_the_year(720, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z")]
#[case::clocks_of_new_york_change(60, "2025-03-09T07:30:00Z", "2025-03-09T07:00:00Z")]
#[case::before_the_origin(1440, "1999-12-31T23:59:59Z", "1999-12-31T00:00:00Z")]
#[case::before_the_epoch(240, "1969-12-31T23:59:59.5Z", "1969-12-31T20:00:00Z")]
fn a_slot_is_named_by_the_clock_in_utc(
    #[case] cadence: i64,
    #[case] now: &str,
    #[case] start: &str,
) -> anyhow::Result<()> {
    assert_eq!(slot_start(every(cadence), FIRST, at(now)?), at(start)?);
    Ok(())
}

#[rstest]
#[case::before_its_turn(60, "10:29:59", "09:00:00")]
#[case::at_its_turn(60, "10:30:00", "10:00:00")]
#[case::until_the_next(60, "11:29:59", "10:00:00")]
#[case::two_hours_with_a_team_in_the_second(120, "11:29:59", "08:00:00")]
#[case::two_hours_at_its_turn(120, "11:30:00", "10:00:00")]
fn a_slot_lasts_from_turn_to_turn(
    #[case] cadence: i64,
    #[case] now: &str,
    #[case] slot: &str,
) -> anyhow::Result<()> {
    let today = |time: &str| at(&format!("2025-06-01T{time}Z"));
    let found = slot_start(every(cadence), spread(1800, 1), today(now)?);
    assert_eq!(found, today(slot)?);
    Ok(())
}

proptest! {
    #[test]
    fn slots_tile_time(cadence in cadences(), spread in spreads(), now in instants()) {
        let slot = slot_start(cadence, spread, now);
        let turn = slot + offset(cadence, spread);
        let next = turn + cadence.as_delta();
        prop_assert!(turn <= now && now < next);
        prop_assert_eq!(slot_start(cadence, spread, turn), slot);
        prop_assert_eq!(slot_start(cadence, spread, next), slot + cadence.as_delta());
        prop_assert_eq!(slot_start(cadence, spread, next - TimeDelta::nanoseconds(1)), slot);
    }

    #[test]
    fn windows_of_a_day_begin_at_its_midnight(cadence in proptest::sample::select(Cadence::ALL.to_vec()), now in instants()) {
        let midnight = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
        prop_assert_eq!(slot_start(cadence, FIRST, midnight), midnight);
    }

    #[test]
    fn an_offset_is_within_its_window(cadence in cadences(), spread in spreads()) {
        let offset = offset(cadence, spread);
        prop_assert!(TimeDelta::zero() <= offset && offset < cadence.as_delta());
    }

    #[test]
    fn the_next_turn_is_the_first_instant_of_the_next_slot(
        cadence in cadences(), spread in spreads(), now in instants(),
    ) {
        prop_assert_eq!(next_due(cadence, spread, now, Slot::Free), now);
        let next = next_due(cadence, spread, now, Slot::Taken);
        let slot = slot_start(cadence, spread, now);
        prop_assert!(now < next && next <= now + cadence.as_delta());
        prop_assert_eq!(slot_start(cadence, spread, next), slot + cadence.as_delta());
        prop_assert_eq!(slot_start(cadence, spread, next - TimeDelta::nanoseconds(1)), slot);
    }
}

#[rstest]
#[case::seconds_within_five_minutes(5, 299, 0, 299)]
#[case::wraps_at_five_minutes(5, 300, 0, 0)]
#[case::hourly_ignores_the_team(60, 3599, 7, 3599)]
#[case::two_hours(120, 61, 3, 3600 + 61)]
#[case::daily(1440, 3600 + 5, 24 + 3, 3 * 3600 + 5)]
fn an_offset_is_as_the_catalog_computes_it(
    #[case] cadence: i64,
    #[case] resource: u32,
    #[case] team: u32,
    #[case] seconds: i64,
) {
    let offset = offset(every(cadence), spread(resource, team));
    assert_eq!(offset, TimeDelta::seconds(seconds));
}

/// Returns a 28-bit multiplicative hash: it looks random, and is the same in every run.
fn hash(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_769).rotate_left(15) >> 4
}

#[test]
fn offsets_spread_evenly() {
    let resources = 24_000_u32;
    for cadence in Cadence::ALL {
        let parts = 12;
        let mut counts = [0_u32; 12];
        for id in 0..resources {
            let offset = offset(cadence, spread(hash(id), hash(id + 1_000_000)));
            let part = offset.num_seconds() * parts / cadence.as_delta().num_seconds();
            counts[usize::try_from(part).unwrap()] += 1;
        }
        let fair = resources / 12;
        assert!(
            counts.iter().all(|count| count.abs_diff(fair) < fair / 5),
            "{cadence}: {counts:?}"
        );
    }
}

/// One resource under a producer that ticks, whose backups take no time, and the instants of its backups.
struct Simulated {
    cadence: Cadence,
    spread: Spread,
    runs: Vec<DateTime<Utc>>,
}

impl Simulated {
    fn new(cadence: Cadence, spread: Spread) -> Self {
        let runs = Vec::new();
        Self {
            cadence,
            spread,
            runs,
        }
    }

    fn tick(&mut self, now: DateTime<Utc>) {
        let slot = |at| slot_start(self.cadence, self.spread, at);
        if self.runs.last().is_none_or(|last| slot(*last) != slot(now)) {
            self.runs.push(now);
        }
    }

    fn ticks(&mut self, from: DateTime<Utc>, minutes: i64) {
        for minute in 0..minutes {
            self.tick(from + TimeDelta::minutes(minute));
        }
    }

    fn longest_gap(&self) -> TimeDelta {
        let gaps = self.runs.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }
}

const YEAR_MINUTES: i64 = 366 * 1440;

#[rstest]
#[case::every_five(5, 30, 0)]
#[case::every_fifteen(15, 899, 0)]
#[case::hourly(60, 1830, 0)]
#[case::hourly_at_the_end_of_the_hour(60, 3599, 0)]
#[case::hourly_at_the_top(60, 0, 0)]
#[case::every_six_hours(360, 600, 5)]
#[case::daily(1440, 2000, 3)]
#[case::daily_in_the_last_hour(1440, 3599, 23)]
fn a_leap_year_of_ticks_keeps_every_slot(
    #[case] cadence: i64,
    #[case] resource: u32,
    #[case] team: u32,
) -> anyhow::Result<()> {
    let start = at("2024-01-01T00:00:17Z")?;
    let cadence = every(cadence);
    let mut resource = Simulated::new(cadence, spread(resource, team));
    resource.ticks(start, YEAR_MINUTES);
    assert!(resource.longest_gap() <= cadence.as_delta() + TimeDelta::minutes(1));
    let slots: Vec<_> = resource
        .runs
        .iter()
        .map(|run| slot_start(cadence, resource.spread, *run))
        .collect();
    let windows = YEAR_MINUTES / i64::from(cadence.minutes());
    // The year begins in the middle of a slot, unless the resource's turn is exactly then.
    let expected = windows..=windows + 1;
    assert!(
        expected.contains(&i64::try_from(slots.len())?),
        "one run a slot"
    );
    let follows = |pair: &[DateTime<Utc>]| pair[0] + cadence.as_delta() == pair[1];
    assert!(slots.windows(2).all(follows), "no slot is left out");
    Ok(())
}

proptest! {
    #[test]
    fn exposure_never_passes_the_cadence_and_a_tick(
        cadence in cadences(), spread in spreads(), start in instants(), waits in proptest::collection::vec(1..60_i64, 600),
    ) {
        let mut resource = Simulated::new(cadence, spread);
        let mut now = start;
        for wait in waits {
            resource.tick(now);
            now += TimeDelta::seconds(wait);
        }
        prop_assert!(resource.longest_gap() <= cadence.as_delta() + TimeDelta::minutes(1));
    }
}

#[test]
fn a_daily_team_keeps_its_hour_day_after_day() -> anyhow::Result<()> {
    let mut resource = Simulated::new(every(1440), spread(600, 3));
    // First seen in the afternoon, long after its hour.
    resource.ticks(at("2025-06-01T15:22:00Z")?, 30 * 1440);
    let (first, rest) = resource.runs.split_first().context("no run")?;
    assert_eq!(*first, at("2025-06-01T15:22:00Z")?, "at once");
    assert_eq!(rest.len(), 30);
    let expected: Vec<_> = (0..30)
        .map(|day| Ok(at("2025-06-02T03:10:00Z")? + TimeDelta::days(day)))
        .collect::<anyhow::Result<_>>()?;
    assert_eq!(rest, expected);
    Ok(())
}

#[rstest]
#[case::hourly(60, 2400, "00:40")]
#[case::daily(1440, 600, "03:10")]
fn a_resource_that_was_moved_is_back_on_its_turn_within_one_cadence(
    #[case] cadence: i64,
    #[case] resource: u32,
    #[case] turn: &str,
) -> anyhow::Result<()> {
    let mut resource = Simulated::new(every(cadence), spread(resource, 3));
    // Registered, or back after an outage, before its turn.
    resource.ticks(at("2025-06-01T00:10:00Z")?, 3 * cadence);
    let times: Vec<_> = resource
        .runs
        .iter()
        .map(|run| run.format("%H:%M").to_string())
        .collect();
    let first_two = times.get(..2).context("too few runs")?;
    assert_eq!(first_two, ["00:10", turn]);
    let on_turn = |run: &DateTime<Utc>| {
        slot_start(resource.cadence, resource.spread, *run)
            + offset(resource.cadence, resource.spread)
            == *run
    };
    assert!(resource.runs.iter().skip(1).all(on_turn));
    Ok(())
}

#[rstest]
#[case::hourly(60)]
#[case::every_five(5)]
#[case::every_two_hours(120)]
fn missed_windows_coalesce_into_one_run(#[case] cadence: i64) -> anyhow::Result<()> {
    let mut resource = Simulated::new(every(cadence), spread(200, 0));
    resource.ticks(at("2025-06-01T00:00:00Z")?, 1440);
    let before = resource.runs.len();
    // The producer is down for a day.
    let back = at("2025-06-03T00:00:00Z")?;
    resource.tick(back);
    assert_eq!(resource.runs.len(), before + 1);
    resource.tick(back);
    resource.tick(back + TimeDelta::minutes(1));
    assert_eq!(
        resource.runs.len(),
        before + 1,
        "the missed ones are not made up for"
    );
    Ok(())
}

#[rstest]
#[case::none(0, 60, 0)]
#[case::first(1, 60, 1)]
#[case::second(2, 60, 2)]
#[case::fifth(5, 60, 16)]
#[case::sixth(6, 60, 32)]
#[case::an_hour_at_most(7, 1440, 60)]
#[case::for_ever_an_hour(u32::MAX, 1440, 60)]
#[case::a_cadence_at_most(4, 5, 5)]
fn a_failed_slot_is_tried_again_later_and_later(
    #[case] failures: u32,
    #[case] cadence: i64,
    #[case] minutes: i64,
) {
    let delay = retry_delay(failures, every(cadence));
    assert_eq!(delay, TimeDelta::minutes(minutes));
}

fn hourly_plan() -> anyhow::Result<Plan> {
    let plans = Plans::built_in();
    plans.get(&"pro".parse()?).cloned().context("no such tier")
}

#[rstest]
#[case::fresh(0, Verdict::Kept)]
#[case::at_the_rpo(3600, Verdict::Kept)]
#[case::just_past(3601, Verdict::Late)]
#[case::at_the_tolerance(3960, Verdict::Late)]
#[case::past_the_tolerance(3961, Verdict::Broken)]
fn a_promise_is_judged_by_the_rpo_and_its_tolerance(
    #[case] age: i64,
    #[case] expected: Verdict,
) -> anyhow::Result<()> {
    let now = at("2025-06-01T12:00:00Z")?;
    let then = now - TimeDelta::seconds(age);
    let registered = at("2020-01-01T00:00:00Z")?;
    let plan = hourly_plan()?;
    let backed_up = exposure(now, Some(then), registered);
    assert_eq!(verdict(&plan, backed_up), Some(expected));
    let never = exposure(now, None, then);
    assert_eq!(
        verdict(&plan, never),
        Some(expected),
        "counts from registration"
    );
    Ok(())
}

#[test]
fn an_instant_a_little_in_the_future_counts_as_now() -> anyhow::Result<()> {
    let now = at("2025-06-01T12:00:00Z")?;
    let future = now + TimeDelta::minutes(5);
    assert_eq!(
        exposure(now, Some(future), now),
        Exposure::Age(TimeDelta::zero())
    );
    assert_eq!(
        exposure(now, None, future),
        Exposure::Never(TimeDelta::zero())
    );
    Ok(())
}

/// An instant written by a clock that ran ahead keeps no promise.
#[test]
fn an_instant_from_the_future_is_not_believed() -> anyhow::Result<()> {
    let now = at("2025-06-01T12:00:00Z")?;
    let (future, registered) = (now + TimeDelta::hours(6), now - TimeDelta::days(3));
    assert_eq!(
        exposure(now, Some(future), registered),
        Exposure::Age(TimeDelta::days(3))
    );
    let plan = hourly_plan()?;
    for exposed in [
        exposure(now, Some(future), future),
        exposure(now, None, future),
    ] {
        assert_eq!(verdict(&plan, exposed), Some(Verdict::Broken));
        assert_eq!(exposed.age(), now - at("2000-01-01T00:00:00Z")?);
    }
    Ok(())
}

#[test]
fn a_tier_that_promises_nothing_breaks_nothing() -> anyhow::Result<()> {
    let plans = Plans::built_in();
    let plan = plans.get(&"free".parse()?).context("no such tier")?;
    assert_eq!(verdict(plan, Exposure::Never(TimeDelta::days(900))), None);
    Ok(())
}

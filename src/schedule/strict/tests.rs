//! A strict hold never lets exposure pass the RPO, and does not change to and fro.

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::schedule::{Spread, offset, slot_start};

const TICK: TimeDelta = TimeDelta::minutes(1);

fn every(minutes: i32) -> Cadence {
    Cadence::held(minutes).unwrap()
}

fn terms(rpo: i64) -> Terms {
    let rpo = Rpo::from_minutes(rpo).unwrap();
    Terms {
        rpo,
        ordinary: Cadence::for_rpo(rpo).unwrap(),
        notice: TICK,
    }
}

fn taking(seconds: i64) -> Taken {
    let took = TimeDelta::seconds(seconds);
    Taken {
        backups: 700,
        p99: took,
        last: took,
    }
}

#[rstest]
#[case::in_seconds(60, 20, Some(55))]
#[case::just_under_four_minutes(60, 4 * 60, Some(55))]
#[case::over_four_minutes(60, 4 * 60 + 1, Some(50))]
#[case::nine_minutes(60, 9 * 60, Some(50))]
#[case::fourteen_minutes(60, 14 * 60, Some(45))]
#[case::nineteen_minutes(60, 19 * 60, Some(40))]
#[case::half_an_hour(60, 29 * 60, Some(30))]
#[case::more_than_half(60, 29 * 60 + 1, None)]
#[case::as_long_as_the_rpo(60, 58 * 60, None)]
#[case::of_five_minutes(5, 1, None)]
#[case::of_ten_minutes(10, 4 * 60, Some(5))]
#[case::of_a_day(1440, 3 * 3600, Some(720))]
#[case::of_fifty_minutes(50, 60, Some(45))]
fn the_longest_cadence_that_fits_is_taken(
    #[case] rpo: i64,
    #[case] seconds: i64,
    #[case] expected: Option<i32>,
) {
    let held = terms(rpo).hold(taking(seconds), Before::Nothing);
    let found = match held {
        Held::Every(cadence) => Some(cadence.minutes()),
        Held::Infeasible(..) => None,
        Held::Unknown(_) => panic!("{held:?}"),
    };
    assert_eq!(found, expected);
}

#[rstest]
#[case::none(0, None)]
#[case::one(1, Some(20))]
#[case::nineteen(19, Some(20))]
#[case::twenty(20, Some(15))]
fn twice_the_last_backup_is_allowed_for_where_few_are_known(
    #[case] backups: u32,
    #[case] minutes: Option<i64>,
) {
    let taken = Taken {
        backups,
        p99: TimeDelta::minutes(15),
        last: TimeDelta::minutes(10),
    };
    assert_eq!(taken.allowed_for(), minutes.map(TimeDelta::minutes));
}

#[test]
fn a_resource_without_a_backup_has_half_the_rpo() {
    let nothing = Taken {
        backups: 0,
        p99: TimeDelta::zero(),
        last: TimeDelta::zero(),
    };
    let held = |rpo| terms(rpo).hold(nothing, Before::Nothing);
    assert_eq!(held(60), Held::Unknown(every(30)));
    assert_eq!(held(5), Held::Unknown(every(5)));
    assert_eq!(held(1440), Held::Unknown(every(720)));
}

#[rstest]
#[case::a_shorter_one_at_once(Before::Every(every(55)), 5 * 60, Held::Every(every(50)))]
#[case::a_longer_one_with_the_margin(Before::Every(every(50)), 3 * 60, Held::Every(every(55)))]
#[case::not_without_it(Before::Every(every(50)), 3 * 60 + 50, Held::Every(every(50)))]
#[case::one_that_was_too_short(Before::Every(every(5)), 29 * 60, Held::Every(every(30)))]
#[case::feasible_again_with_the_margin(Before::Infeasible, 26 * 60, Held::Every(every(30)))]
fn a_change_is_taken(#[case] before: Before, #[case] seconds: i64, #[case] expected: Held) {
    assert_eq!(terms(60).hold(taking(seconds), before), expected);
}

#[test]
fn an_infeasible_resource_stays_so_until_there_is_a_margin() {
    let held = terms(60).hold(taking(28 * 60), Before::Infeasible);
    assert!(matches!(held, Held::Infeasible(..)), "{held:?}");
    assert_eq!(held.cadence(), every(30), "half the RPO");
}

#[rstest]
#[case::too_slow(
    60,
    40 * 60,
    "its backups take 41 minutes with their wait; an RPO of 60 minutes holds if they take 30 minutes at most, one of 86 minutes or more as they are"
)]
#[case::too_short(
    5,
    60,
    "its backups take 2 minutes with their wait; no cadence holds an RPO of 5 minutes, one of 7 minutes or more as they are"
)]
fn what_would_be_feasible_is_said(#[case] rpo: i64, #[case] seconds: i64, #[case] text: &str) {
    match terms(rpo).hold(taking(seconds), Before::Nothing) {
        Held::Infeasible(_, why) => assert_eq!(why.to_string(), text),
        held @ (Held::Every(_) | Held::Unknown(_)) => panic!("{held:?}"),
    }
}

#[test]
fn a_cadence_of_the_tiers_own_is_a_limit() {
    let limited = Terms {
        ordinary: every(20),
        ..terms(60)
    };
    let held = limited.hold(taking(60), Before::Nothing);
    assert_eq!(held, Held::Every(every(20)));
}

fn rpos() -> impl Strategy<Value = i64> {
    prop_oneof![5..200_i64, 200..3000_i64]
}

fn earlier() -> impl Strategy<Value = Before> {
    prop_oneof![
        Just(Before::Nothing),
        Just(Before::Infeasible),
        proptest::sample::select(Cadence::HELD.to_vec()).prop_map(Before::Every),
    ]
}

fn after(held: Held) -> Before {
    match held {
        Held::Every(cadence) => Before::Every(cadence),
        Held::Infeasible(..) => Before::Infeasible,
        Held::Unknown(_) => Before::Nothing,
    }
}

proptest! {
    #[test]
    fn cadence_tick_and_backup_fit_into_the_rpo(rpo in rpos(), seconds in 0..100_000_i64, before in earlier()) {
        match terms(rpo).hold(taking(seconds), before) {
            Held::Every(cadence) => {
                let takes = TimeDelta::seconds(seconds) + TICK;
                prop_assert!(cadence.as_delta() + takes <= TimeDelta::minutes(rpo));
                prop_assert!(takes <= cadence.as_delta());
            }
            Held::Infeasible(cadence, _) => prop_assert_eq!(cadence, terms(rpo).first()),
            held @ Held::Unknown(_) => prop_assert!(false, "{:?}", held),
        }
    }

    #[test]
    fn what_would_be_feasible_is(rpo in rpos(), seconds in 0..50_000_i64) {
        if let Held::Infeasible(_, why) = terms(rpo).hold(taking(seconds), Before::Nothing) {
            if let Some(longer) = why.rpo_that_holds_minutes() {
                let held = terms(longer).hold(taking(seconds), Before::Nothing);
                prop_assert!(matches!(held, Held::Every(_)), "{} {:?}", longer, held);
            }
            if let Some(most) = why.most().filter(|most| *most >= TICK) {
                let held = terms(rpo).hold(taking((most - TICK).num_seconds()), Before::Nothing);
                prop_assert!(matches!(held, Held::Every(_)), "{:?} {:?}", most, held);
            }
        }
    }

    /// Durations that vary by less than the margin move the cadence once at most, and then in one direction.
    #[test]
    fn jitter_does_not_make_it_change_to_and_fro(
        rpo in rpos(), least in 10..20_000_i64, days in proptest::collection::vec(0..=90_i64, 60), before in earlier(),
    ) {
        let mut before = before;
        let mut seen = Vec::new();
        for day in days {
            let held = terms(rpo).hold(taking(least + least * day / 1000), before);
            before = after(held);
            if seen.last() != Some(&before) {
                prop_assert!(!seen.contains(&before), "{:?} again after {:?}", before, seen);
                seen.push(before);
            }
        }
        prop_assert!(seen.len() <= 4, "{:?}", seen);
    }
}

/// One resource under a producer that ticks and re-plans daily; its backups take as long as `takes` says.
struct Month {
    terms: Terms,
    spread: Spread,
    before: Before,
    cadence: Cadence,
    /// When each backup was enqueued, began and ended.
    backups: Vec<(DateTime<Utc>, DateTime<Utc>, DateTime<Utc>)>,
    changes: u32,
    is_strict: bool,
}

impl Month {
    fn new(rpo: i64, spread: Spread) -> Self {
        let terms = terms(rpo);
        Self {
            terms,
            spread,
            before: Before::Nothing,
            cadence: terms.first(),
            backups: Vec::new(),
            changes: 0,
            is_strict: true,
        }
    }

    /// As the catalog does: of the last 30 days, by nearest rank.
    fn taken(&self) -> Taken {
        let mut took: Vec<_> = self
            .backups
            .iter()
            .rev()
            .take(720)
            .map(|(enqueued, _, ended)| *ended - *enqueued)
            .collect();
        let last = took.first().copied().unwrap_or_default();
        took.sort();
        let rank = (took.len() * 99).div_ceil(100).saturating_sub(1);
        Taken {
            backups: u32::try_from(took.len()).unwrap(),
            p99: took.get(rank).copied().unwrap_or_default(),
            last,
        }
    }

    fn re_plan(&mut self) {
        let held = self.terms.hold(self.taken(), self.before);
        if held.cadence() != self.cadence {
            self.changes += 1;
        }
        self.before = after(held);
        self.cadence = held.cadence();
    }

    /// Ticks each minute for 30 days. Returns the longest exposure.
    fn run(&mut self, mut takes: impl FnMut() -> (TimeDelta, TimeDelta)) -> TimeDelta {
        let begin: DateTime<Utc> = "2026-02-01T00:00:23Z".parse().unwrap();
        let mut worst = TimeDelta::zero();
        let mut due = begin;
        for minute in 0..30 * 1440 {
            let now = begin + TimeDelta::minutes(minute);
            let is_new = self.backups.len() == 1 && self.before == Before::Nothing;
            if self.is_strict && (minute % 1440 == 0 || is_new) {
                let was = self.cadence;
                self.re_plan();
                if self.cadence != was {
                    // A change is looked at in the next tick: its slot is new.
                    due = now;
                }
            }
            let busy = self
                .backups
                .last()
                .is_some_and(|(_, _, ended)| *ended > now);
            if due <= now && !busy {
                let (wait, length) = takes();
                let (started, ended) = (now + wait, now + wait + length);
                if let Some((_, before, _)) = self.backups.last() {
                    worst = worst.max(ended - *before);
                }
                self.backups.push((now, started, ended));
                let turn =
                    slot_start(self.cadence, self.spread, now) + offset(self.cadence, self.spread);
                due = turn + self.cadence.as_delta();
            }
        }
        worst
    }
}

#[rstest]
#[case::quick(60, 20, 15)]
#[case::slow(60, 600, 300)]
#[case::near_the_limit(60, 1200, 500)]
#[case::of_half_an_hour(30, 300, 200)]
#[case::of_four_hours(240, 1800, 1200)]
#[case::of_a_day(1440, 7200, 3600)]
fn exposure_never_passes_the_rpo_in_a_month_of_durations_that_vary(
    #[case] rpo: i64,
    #[case] least: i64,
    #[case] more: i64,
) {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let spread = Spread {
            resource: random.u32(..1 << 28),
            team: random.u32(..1 << 28),
        };
        let mut month = Month::new(rpo, spread);
        let worst = month.run(|| {
            let wait = random.i64(0..30);
            let length = least + random.i64(0..=more);
            (TimeDelta::seconds(wait), TimeDelta::seconds(length))
        });
        assert!(worst <= TimeDelta::minutes(rpo), "{seed}: {worst}");
        assert!(month.changes <= 4, "{seed}: {} changes", month.changes);
    }
}

#[test]
fn the_same_month_held_by_the_cadence_alone_passes_the_rpo() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut month = Month::new(
        60,
        Spread {
            resource: 0,
            team: 0,
        },
    );
    month.cadence = every(60);
    month.is_strict = false;
    let worst = month.run(|| {
        (
            TimeDelta::zero(),
            TimeDelta::seconds(600 + random.i64(0..300)),
        )
    });
    assert!(worst > TimeDelta::minutes(60), "{worst}");
}

//! The planner finds what can be worked out by hand about small fleets.

use anyhow::{Context as _, Result};
use chrono::TimeDelta;
use rstest::rstest;

use super::*;
use crate::schedule::{Spread, Taken};

const MB: f64 = 1e6;

fn plans(rpo: i64, more: &str) -> Result<Plans> {
    let text = format!(
        "version: 1\ntiers:\n  paid: {{rpo_minutes: {rpo}, backup_retention_days: 7, tolerance_minutes: 0{more}}}\n"
    );
    Ok(Plans::parse(&text)?)
}

fn history(seconds: f64, megabytes: f64) -> History {
    let took = TimeDelta::milliseconds(whole(seconds * 1000.0));
    History {
        seconds: [seconds; QUANTILES.len()],
        taken: Taken {
            backups: 700,
            p99: took,
            last: took,
        },
        stored_bytes: megabytes * MB,
        seconds_trend: None,
        bytes_trend: None,
    }
}

/// A resource whose turn is at this second of the hour.
fn resource(number: u32, turn: u32, history: Option<History>) -> Result<Resource> {
    Ok(Resource {
        id: format!("db-{number:03}"),
        team: format!("team-{number}"),
        tier: "paid".parse()?,
        engine: Engine::Postgres,
        server: None,
        retention_days: None,
        spread: Spread {
            resource: turn,
            team: number,
        },
        history,
    })
}

fn question<'a>(plans: &'a Plans, fleet: &'a [Resource], slots: u32) -> Result<Question<'a>> {
    Ok(Question {
        plans,
        fleet,
        slots: [slots; Engine::ALL.len()],
        team_slots: None,
        server_slots: 2,
        growth: Growth::Own,
        price_per_gb_month: None,
        midnight: "2026-06-01T00:00:00Z".parse()?,
        named: 10,
    })
}

fn now(forecast: &Forecast) -> Result<&Outlook> {
    forecast.promises.first().context("no outlook")
}

fn waits(forecast: &Forecast) -> Result<Waits> {
    Ok(forecast.engines.first().context("no engine")?.wait_seconds)
}

/// Sixty minutes of work fit into an hour of one slot, and not one more. The RPO is an hour and the minute that a backup takes.
#[rstest]
#[case::just_fits(60, 1, 0)]
#[case::one_too_many(61, 1, 61)]
#[case::with_another_slot(61, 2, 0)]
fn one_slot_has_sixty_minutes_an_hour(
    #[case] resources: u32,
    #[case] slots: u32,
    #[case] broken: usize,
) -> Result<()> {
    let fleet: Vec<_> = (0..resources)
        .map(|number| resource(number, number % 60 * 60, Some(history(60.0, 1.0))))
        .collect::<Result<_>>()?;
    let plans = plans(61, "")?;
    let forecast = forecast(&question(&plans, &fleet, slots)?);
    let now = now(&forecast)?;
    assert_eq!(now.broken, broken, "{:?}", now.resources);
    let named = now
        .resources
        .iter()
        .all(|it| it.broken_because.contains("wait too long"));
    assert!(named, "{:?}", now.resources);
    Ok(())
}

/// All are due in the same tick, and take ten minutes: they end after 10, 20, … minutes, so they wait for 0, 10, … 50 minutes.
#[test]
fn waits_are_those_that_a_queue_of_six_has() -> Result<()> {
    let fleet: Vec<_> = (0..6)
        .map(|number| resource(number, 600, Some(history(600.0, 1.0))))
        .collect::<Result<_>>()?;
    let plans = plans(120, ", cadence_minutes: 60")?;
    let one = forecast(&question(&plans, &fleet, 1)?);
    let expected = Waits {
        p50: 1200,
        p95: 3000,
        p99: 3000,
    };
    assert_eq!(waits(&one)?, expected);
    let three = forecast(&question(&plans, &fleet, 3)?);
    let expected = Waits {
        p50: 0,
        p95: 600,
        p99: 600,
    };
    assert_eq!(waits(&three)?, expected);
    let hours = &one.engines.first().context("no engine")?.hours;
    assert!(hours.iter().all(|hour| hour.peak_slots == 6), "{hours:?}");
    assert!(
        hours
            .iter()
            .all(|hour| (hour.busy_slots - 1.0).abs() < 0.11),
        "{hours:?}"
    );
    Ok(())
}

/// Of one team, half of the slots; of one server, two.
#[rstest]
#[case::of_a_team("acme", None, 4, 600)]
#[case::of_a_server("", Some("db:5432"), 4, 600)]
#[case::of_many_teams("", None, 4, 0)]
fn limits_hold_back_what_the_queue_would(
    #[case] team: &str,
    #[case] server: Option<&str>,
    #[case] slots: u32,
    #[case] p99: u32,
) -> Result<()> {
    let fleet: Vec<_> = (0..4)
        .map(|number| {
            let of = resource(number, 600, Some(history(600.0, 1.0)))?;
            let team = Some(team.to_owned()).filter(|team| !team.is_empty());
            Ok(Resource {
                team: team.unwrap_or_else(|| of.team.clone()),
                server: server.map(str::to_owned),
                ..of
            })
        })
        .collect::<Result<_>>()?;
    let plans = plans(120, ", cadence_minutes: 60")?;
    assert_eq!(
        waits(&forecast(&question(&plans, &fleet, slots)?))?.p99,
        p99
    );
    Ok(())
}

#[test]
fn growth_breaks_a_promise_in_the_month_in_which_it_should() -> Result<()> {
    let fleet = [resource(1, 600, Some(history(480.0, 1.0)))?];
    // Twelve minutes: 480 s × 1.1^n passes them between the fourth (703 s) and the fifth month (773 s).
    let plans = plans(72, "")?;
    let mut asked = question(&plans, &fleet, 1)?;
    asked.growth = Growth::Given("10%/month".parse()?);
    let forecast = forecast(&asked);
    let broken: Vec<_> = forecast
        .months
        .iter()
        .filter(|month| month.broken > 0)
        .map(|month| month.days)
        .collect();
    assert_eq!(broken, (5..=12).map(|month| month * 30).collect::<Vec<_>>());
    assert_eq!(now(&forecast)?.broken, 0);
    Ok(())
}

#[test]
fn a_trend_breaks_a_promise_and_shows_its_range() -> Result<()> {
    let grows = History {
        seconds_trend: Some(Trend {
            per_day: 0.01,
            low: 0.0,
            high: 0.02,
        }),
        ..history(480.0, 1.0)
    };
    let fleet = [resource(1, 600, Some(grows))?];
    let plans = plans(72, "")?;
    let forecast = forecast(&question(&plans, &fleet, 1)?);
    let counts: Vec<_> = forecast
        .promises
        .iter()
        .map(|it| (it.days, it.broken_at_least, it.broken, it.broken_at_most))
        .collect();
    // 480 s × 1.3 = 624 s fit after 30 days, × 1.6 = 768 s do not; after 90 days × 1.9 does not.
    assert_eq!(counts, [(0, 0, 0, 0), (30, 0, 0, 1), (90, 0, 1, 1)]);
    let last = forecast.promises.last().context("none")?;
    let broken = last.resources.first().context("none")?;
    let takes = Range {
        estimate: 912,
        low: 480,
        high: 1344,
    };
    assert_eq!(broken.takes_seconds, takes);
    assert_eq!(
        broken.broken_because,
        "its backups take too long for its cadence"
    );
    Ok(())
}

#[test]
fn a_resource_without_a_backup_is_named_and_taken_for_typical() -> Result<()> {
    let mut fleet = vec![
        resource(1, 600, Some(history(100.0, 10.0)))?,
        resource(2, 1200, Some(history(300.0, 30.0)))?,
        resource(3, 1800, Some(history(900.0, 50.0)))?,
    ];
    let plans = plans(120, ", cadence_minutes: 60")?;
    let before = forecast(&question(&plans, &fleet, 1)?);
    fleet.push(resource(4, 2400, None)?);
    let after = forecast(&question(&plans, &fleet, 1)?);
    let [named] = after.without_history.named.as_slice() else {
        anyhow::bail!("{:?}", after.without_history)
    };
    assert_eq!(named.resource, "db-004");
    assert_eq!(
        (named.takes_seconds, named.stored_bytes),
        (Some(300), Some(30_000_000))
    );
    let stored = |it: &Forecast| it.months.first().map_or(0, |month| month.stored_bytes);
    // A week of hourly points of 30 MB.
    assert_eq!(stored(&after) - stored(&before), 168 * 30_000_000);
    assert_eq!(after.without_history.left_out, 0);

    let nobody = [resource(4, 2400, None)?];
    let unknown = forecast(&question(&plans, &nobody, 1)?);
    assert_eq!(
        (unknown.resources, unknown.without_history.left_out),
        (1, 1)
    );
    Ok(())
}

#[test]
fn stored_bytes_cost_what_the_price_says() -> Result<()> {
    let fleet = [resource(1, 600, Some(history(10.0, 1000.0)))?];
    let plans = plans(120, ", cadence_minutes: 60")?;
    let mut asked = question(&plans, &fleet, 1)?;
    asked.price_per_gb_month = Some(0.02);
    asked.growth = Growth::Given("100%/year".parse()?);
    let forecast = forecast(&asked);
    let first = forecast.months.first().context("none")?;
    assert_eq!(first.stored_bytes, 168_000_000_000);
    assert_eq!(first.cost_per_month, Some(3.36));
    let last = forecast.months.last().context("none")?;
    assert!(last.stored_bytes > 2 * first.stored_bytes * 98 / 100);
    Ok(())
}

#[test]
fn a_strict_hold_is_planned_by_its_own_cadence_and_named_where_none_fits() -> Result<()> {
    let fleet = [
        resource(1, 600, Some(history(120.0, 1.0)))?,
        resource(2, 1200, Some(history(2400.0, 1.0)))?,
    ];
    let plans = Plans::parse(
        "version: 1\ntiers:\n  paid: {rpo_minutes: 60, backup_retention_days: 7, hold: strict}\n",
    )?;
    let forecast = forecast(&question(&plans, &fleet, 2)?);
    let now = now(&forecast)?;
    let named: Vec<_> = now
        .resources
        .iter()
        .map(|it| it.resource.as_str())
        .collect();
    assert_eq!(named, ["db-002"], "{:?}", now.resources);
    let because = now.resources.first().map(|it| it.broken_because.clone());
    assert!(because.is_some_and(|it| it.contains("an RPO of 60 minutes holds if")));
    Ok(())
}

/// Two of four minutes in one slot: the second ends after eight, and one more for the tick. At 55 minutes its RPO would not hold.
#[test]
fn a_strict_hold_allows_for_the_waits_of_the_day() -> Result<()> {
    let fleet = [
        resource(1, 600, Some(history(240.0, 1.0)))?,
        resource(2, 600, Some(history(240.0, 1.0)))?,
    ];
    let plans = Plans::parse(
        "version: 1\ntiers:\n  paid: {rpo_minutes: 60, backup_retention_days: 7, hold: strict}\n",
    )?;
    let forecast = forecast(&question(&plans, &fleet, 1)?);
    assert_eq!(now(&forecast)?.broken, 0, "{:?}", now(&forecast)?.resources);
    Ok(())
}

/// A day has as many backups of a resource as its cadence says, at each cadence that there is.
#[test]
fn a_simulated_day_has_the_slots_of_the_schedule() -> Result<()> {
    for cadence in crate::plan::Cadence::HELD {
        let job = |number: u32| day::Job {
            engine: 0,
            team: 0,
            server: None,
            cadence,
            spread: Spread {
                resource: number * 7919,
                team: number,
            },
            rpo: 1,
            takes: [1; QUANTILES.len()],
        };
        let jobs: Vec<_> = (0..50).map(job).collect();
        let midnight = "2026-06-01T00:00:00Z".parse()?;
        let day = day::simulate(&jobs, (1, 0), &Limits::NONE, midnight);
        let [runs, ..] = &day.waits;
        let slots = usize::try_from(50 * 1440 / cadence.minutes())?;
        assert!(
            runs.len().abs_diff(slots) <= 50,
            "{cadence}: {}",
            runs.len()
        );
        let longest = cadence.as_delta() + TimeDelta::seconds(day::TICK_SECONDS + 1);
        let worst = day.worst.iter().max().context("none")?;
        assert!(*worst <= longest.num_milliseconds(), "{cadence}: {worst}");
    }
    Ok(())
}

#[test]
fn what_no_slot_serves_is_never_backed_up() -> Result<()> {
    let fleet = [resource(1, 600, Some(history(10.0, 1.0)))?];
    let plans = plans(120, ", cadence_minutes: 60")?;
    let forecast = forecast(&question(&plans, &fleet, 0)?);
    assert_eq!(now(&forecast)?.broken, 1);
    Ok(())
}

/// As if 100,000 databases of the size that most have were backed up each hour. `cargo test --release -- --ignored a_year_of`
#[test]
#[ignore = "a measurement"]
fn a_year_of_a_hundred_thousand_resources_takes_less_than_a_minute() -> Result<()> {
    let mut random = fastrand::Rng::with_seed(4);
    let fleet: Vec<_> = (0..100_000)
        .map(|number| {
            let seconds = 1.0 + 60.0 * random.f64().powi(4);
            let of = resource(number, random.u32(..3600), Some(history(seconds, 10.0)))?;
            Ok(Resource {
                team: format!("team-{}", number / 10),
                ..of
            })
        })
        .collect::<Result<_>>()?;
    let plans = plans(60, ", cadence_minutes: 60")?;
    let began = std::time::Instant::now();
    let forecast = forecast(&question(&plans, &fleet, 500)?);
    let took = began.elapsed();
    assert_eq!(forecast.months.len(), 13);
    assert!(took.as_secs() < 60, "{took:?}");
    Ok(())
}

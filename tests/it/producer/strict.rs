//! A resource whose RPO is held strictly has a cadence of its own, and no change of it loses a slot or backs one up twice.

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};
use lastgood::{
    plan::{Cadence, Plans},
    producer::{Holding, apply_plans, hold_strictly},
    schedule::{Slot, Spread, next_due, slot_start},
};
use sqlx::Row as _;

use crate::simulation::{Simulation, minutes, ticked};

const AT: &str = "2031-03-05T09:37:00Z";

fn strict() -> Result<Plans> {
    let text =
        "version: 1\ntiers:\n  gold: {rpo_minutes: 60, backup_retention_days: 30, hold: strict}\n";
    Ok(Plans::parse(text)?)
}

async fn spread(sim: &Simulation, id: &str) -> Result<Spread> {
    let row = sqlx::query("select spread, team_spread from lastgood.resources where id = $1")
        .bind(id)
        .fetch_one(sim.db.pool())
        .await?;
    Ok(Spread {
        resource: u32::try_from(row.try_get::<i32, _>("spread")?)?,
        team: u32::try_from(row.try_get::<i32, _>("team_spread")?)?,
    })
}

/// As the producer that leads writes it.
async fn give(sim: &Simulation, id: &str, cadence: i32) -> Result<()> {
    sqlx::query(
        "update lastgood.resources
         set strict_cadence_minutes = $2, strict_rpo_minutes = 60, cadence_minutes = null, next_due_at = now()
         where id = $1 and strict_cadence_minutes is distinct from $2",
    )
    .bind(id)
    .bind(cadence)
    .execute(sim.db.pool())
    .await?;
    Ok(())
}

/// Records `count` backups of the last days, each of which waited ten seconds and ended after `took`.
async fn backups_on_record(sim: &Simulation, id: &str, count: i32, took: TimeDelta) -> Result<()> {
    sqlx::query(
        "insert into lastgood.runs (queue, kind, trigger, resource_id, slot, args, state, attempt, epoch, created_at, started_at, finished_at)
         select 'postgres', 'backup', 'scheduled', $1, began, '{}', 'succeeded', 1, 1, began, began + interval '10 seconds', began + $3
         from (select now() - n * interval '1 hour' - $3 as began from generate_series(1, $2) as n) as past
         on conflict do nothing",
    )
    .bind(id)
    .bind(count)
    .bind(took)
    .execute(sim.db.pool())
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cadence_of_its_own_has_slots_as_rust_counts_them_and_each_is_backed_up_once()
-> Result<()> {
    for cadence in [40, 45, 50, 55] {
        let mut sim = Simulation::begin(AT, strict()?).await?;
        sim.db.add("shop", "acme", "gold").await?;
        give(&sim, "shop", cadence).await?;
        sim.live(TimeDelta::hours(30), minutes(1)).await?;
        let spread = spread(&sim, "shop").await?;
        let every = Cadence::held(cadence).context("no such cadence")?;
        let slots = sim.slots("shop", "succeeded").await?;
        assert!(slots.iter().all(|slot| {
            let turn = *slot + lastgood::schedule::offset(every, spread);
            slot_start(every, spread, turn) == *slot
        }));
        let follows = |pair: &[DateTime<Utc>]| pair[1] - pair[0] == every.as_delta();
        assert!(slots.windows(2).all(follows), "{slots:?}");
        assert!(slots.len() >= usize::try_from(30 * 60 / cadence)?);
        let row = sim.db.catalog.resource("shop").await?;
        assert_eq!(row.cadence_minutes, Some(cadence));
        assert_eq!(
            row.next_due_at,
            Some(next_due(every, spread, sim.now, Slot::Taken))
        );
    }
    Ok(())
}

/// Cadences that divide each other name their slots alike: the backup of one must not pass for that of the other.
#[tokio::test(flavor = "multi_thread")]
async fn no_change_of_cadence_lets_a_turn_go_by() -> Result<()> {
    let mut random = fastrand::Rng::with_seed(12);
    let mut sim = Simulation::begin(AT, strict()?).await?;
    let ids: Vec<String> = (0..16).map(|n| format!("db-{n}")).collect();
    let mut cadences = vec![30; ids.len()];
    for (index, id) in ids.iter().enumerate() {
        sim.db
            .add(id, &format!("team-{}", index % 3), "gold")
            .await?;
    }
    sim.live(minutes(2), minutes(1)).await?;
    for _ in 0..14 * 60 {
        for (id, cadence) in ids.iter().zip(&mut cadences) {
            if random.u8(..50) == 0 {
                *cadence = *random
                    .choice(&[5, 10, 15, 20, 30, 40, 45, 50, 55, 60])
                    .context("none")?;
                give(&sim, id, *cadence).await?;
            }
        }
        sim.live(minutes(1), minutes(1)).await?;
        let late: Vec<String> = sqlx::query_scalar(
            "select id || ' every ' || strict_cadence_minutes || ', last ' || newest_consistent_at from lastgood.resources
             where newest_consistent_at < now() - make_interval(mins => coalesce(strict_cadence_minutes, 30) + 1)",
        )
        .fetch_all(sim.db.pool())
        .await?;
        assert!(late.is_empty(), "{late:?} at {}", sim.now);
    }
    let twice = "select count(*) from (
        select from lastgood.runs where state = 'succeeded' group by resource_id, slot having count(*) > 1
    ) as twice";
    assert_eq!(sim.db.count(twice).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cadence_is_found_from_what_backups_took_and_dropped_with_the_hold() -> Result<()> {
    let mut sim = Simulation::begin(AT, strict()?).await?;
    sim.db.add("shop", "acme", "gold").await?;
    sim.tick().await?;
    assert_eq!(sim.succeed_all().await?, 1);
    let cadence = async |sim: &Simulation| {
        let row = sim.db.catalog.resource("shop").await?;
        Ok::<_, anyhow::Error>(row.cadence_minutes)
    };
    assert_eq!(
        cadence(&sim).await?,
        Some(30),
        "half the RPO, to begin with"
    );
    backups_on_record(&sim, "shop", 40, minutes(8)).await?;
    let hold =
        async |sim: &Simulation| hold_strictly(&sim.db.catalog, &sim.plans, minutes(1)).await;
    let one = Holding {
        decided: 1,
        changed: 1,
    };
    assert_eq!(hold(&sim).await?, one);
    assert_eq!(cadence(&sim).await?, None, "planned anew");
    assert_eq!(sim.tick().await?.looked_at, 1);
    assert_eq!(cadence(&sim).await?, Some(50));
    assert_eq!(apply_plans(&sim.db.catalog, &sim.plans).await?, 0);
    assert_eq!(hold(&sim).await?, Holding::default(), "once a day");

    // Faster backups, and a live one: its slot is one of the old ones.
    sim.succeed_all().await?;
    sim.db
        .execute("delete from lastgood.runs where state = 'succeeded'")
        .await?;
    backups_on_record(&sim, "shop", 40, minutes(2)).await?;
    sim.advance(TimeDelta::hours(25)).await?;
    assert_eq!(sim.tick().await?.enqueued, 1);
    assert_eq!(hold(&sim).await?.changed, 0);
    sim.succeed_all().await?;
    sim.advance(minutes(6)).await?;
    assert_eq!(hold(&sim).await?, one);
    sim.tick().await?;
    assert_eq!(cadence(&sim).await?, Some(55));

    // The tier is no longer held strictly.
    sim.succeed_all().await?;
    sim.plans = crate::database::plans(&[("gold", 60, 30)])?;
    assert_eq!(apply_plans(&sim.db.catalog, &sim.plans).await?, 1);
    assert_eq!(sim.tick().await?.looked_at, 1);
    assert_eq!(cadence(&sim).await?, Some(60));
    let own = "select count(*) from lastgood.resources where strict_cadence_minutes is not null";
    assert_eq!(sim.db.count(own).await?, 0);
    sim.advance(TimeDelta::hours(25)).await?;
    assert_eq!(hold(&sim).await?, Holding::default());
    assert_eq!(
        sim.db
            .count("select count(*) from lastgood.strict_holds")
            .await?,
        0
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_no_cadence_holds_is_reported_with_what_would_help() -> Result<()> {
    let mut sim = Simulation::begin(AT, strict()?).await?;
    for id in ["slow", "quick", "paused"] {
        sim.db.add(id, "acme", "gold").await?;
    }
    sim.tick().await?;
    sim.succeed_all().await?;
    backups_on_record(&sim, "slow", 40, minutes(40)).await?;
    backups_on_record(&sim, "paused", 40, minutes(40)).await?;
    sim.db
        .execute("update lastgood.resources set status = 'paused' where id = 'paused'")
        .await?;
    let held = hold_strictly(&sim.db.catalog, &sim.plans, minutes(1)).await?;
    assert_eq!(held.decided, 2);
    let infeasible = sim.db.catalog.infeasible(&sim.plans, None, 10).await?;
    let [slow] = infeasible.as_slice() else {
        anyhow::bail!("{infeasible:?}")
    };
    assert_eq!(
        (slow.resource.as_str(), slow.takes_seconds),
        ("slow", 41 * 60)
    );
    assert_eq!(slow.feasible_rpo_minutes, Some(86));
    assert_eq!(slow.feasible_takes_seconds, Some(30 * 60));
    assert!(
        slow.infeasible_because
            .contains("one of 86 minutes or more")
    );
    let counts = sim.db.catalog.infeasible_by_tier(&sim.plans, None).await?;
    assert_eq!(counts, [("gold".to_owned(), 1)]);
    let other = sim
        .db
        .catalog
        .infeasible(&sim.plans, Some("other"), 10)
        .await?;
    assert!(other.is_empty());

    // An RPO that holds: found anew, although the day is not over.
    let text =
        "version: 1\ntiers:\n  gold: {rpo_minutes: 90, backup_retention_days: 30, hold: strict}\n";
    sim.plans = Plans::parse(text)?;
    apply_plans(&sim.db.catalog, &sim.plans).await?;
    sim.tick().await?;
    sim.succeed_all().await?;
    sim.advance(minutes(1)).await?;
    hold_strictly(&sim.db.catalog, &sim.plans, minutes(1)).await?;
    assert!(
        sim.db
            .catalog
            .infeasible(&sim.plans, None, 10)
            .await?
            .is_empty()
    );
    sim.tick().await?;
    assert_eq!(
        sim.db.catalog.resource("slow").await?.cadence_minutes,
        Some(45)
    );
    assert_eq!(sim.tick().await?, ticked(0, 0, 0));
    Ok(())
}

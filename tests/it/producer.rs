//! A tick enqueues what is due, once per slot, however often and by however many producers it is run.

mod arithmetic;
mod missed;
mod strict;

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use lastgood::{
    catalog::{CatalogError, Order, ResourceChange},
    nouns::{ResourceStatus, UnknownTier},
    plan::Plans,
    producer::{apply_plans, limit_dumps, tick},
};

use crate::{
    database::{TestCatalog, plans},
    simulation::{Simulation, minutes, ticked},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_pro_resource_is_backed_up_once_in_each_of_24_consecutive_hours() -> Result<()> {
    let mut sim = Simulation::begin("2031-03-05T09:37:20Z", Plans::built_in()).await?;
    let ids = ["shop", "blog", "wiki"];
    for id in ids {
        sim.db.add(id, "acme", "pro").await?;
    }
    sim.live(TimeDelta::hours(24), minutes(1)).await?;

    for id in ids {
        let slots = sim.slots(id, "succeeded").await?;
        // Registered in the middle of a slot, so 24 whole ones follow, or the last one ends with the day.
        assert!((24..=25).contains(&slots.len()), "{id}: {slots:?}");
        let hour = |slot: &DateTime<Utc>| slot.minute() == 0 && slot.second() == 0;
        assert!(slots.iter().all(hour), "{id}: {slots:?}");
        let follows = |pair: &[DateTime<Utc>]| pair[1] - pair[0] == TimeDelta::hours(1);
        assert!(slots.windows(2).all(follows), "{id}: {slots:?}");
        let points = sim.points(id).await?;
        let gaps = points.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.max() <= Some(minutes(61)), "{id}: {points:?}");
    }
    assert_eq!(
        sim.db
            .count("select count(*) from lastgood.runs where state <> 'succeeded'")
            .await?,
        0
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plans_never_back_up_is_never_enqueued() -> Result<()> {
    let plans = plans(&[
        ("anonymous", 0, 0),
        ("free", 0, 7),
        ("unkept", 60, 0),
        ("paid", 60, 30),
    ])?;
    let mut sim = Simulation::begin("2031-03-05T09:37:00Z", plans).await?;
    sim.db.add("visitor", "nobody", "anonymous").await?;
    sim.db.add("freebie", "nobody", "free").await?;
    sim.db.add("zero-tier", "acme", "unkept").await?;
    sim.db.add("zero-row", "acme", "paid").await?;
    sim.db.add("below-zero-row", "acme", "paid").await?;
    sim.db
        .execute("update lastgood.resources set retention_days = 0 where id = 'zero-row'")
        .await?;
    sim.db
        .execute("update lastgood.resources set retention_days = -1 where id = 'below-zero-row'")
        .await?;
    assert_eq!(sim.tick().await?, ticked(5, 0, 0));
    for _ in 0..50 {
        sim.advance(TimeDelta::hours(1)).await?;
        assert_eq!(sim.tick().await?, ticked(0, 0, 0));
    }
    // Even after the plans are applied again and the rows are made due.
    apply_plans(&sim.db.catalog, &sim.plans).await?;
    sim.db
        .execute("update lastgood.resources set next_due_at = now()")
        .await?;
    assert_eq!(sim.tick().await?, ticked(5, 0, 0));
    assert_eq!(sim.db.count("select count(*) from lastgood.runs").await?, 0);
    // The veto belongs to the row: without it, the resource is due.
    sim.db
        .execute("update lastgood.resources set retention_days = null where id = 'zero-row'")
        .await?;
    assert_eq!(sim.tick().await?, ticked(1, 1, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_tier_that_is_added_to_the_plans_is_covered_with_no_other_change() -> Result<()> {
    let mut sim = Simulation::begin("2031-03-05T09:37:00Z", plans(&[("paid", 60, 30)])?).await?;
    sim.db.add("shop", "acme", "platinum").await?;
    assert_eq!(sim.tick().await?, ticked(1, 0, 0));
    sim.advance(minutes(5)).await?;
    sim.plans = plans(&[("paid", 60, 30), ("platinum", 15, 30)])?;
    assert_eq!(apply_plans(&sim.db.catalog, &sim.plans).await?, 1);
    assert_eq!(sim.tick().await?, ticked(1, 1, 0));
    let quarter = sim.slot("shop").await?;
    assert_eq!(quarter.minute() % 15, 0);
    assert_eq!(sim.slots("shop", "queued").await?, [quarter]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_whose_cadence_changes_is_planned_anew() -> Result<()> {
    let mut sim = Simulation::begin("2031-03-05T09:37:00Z", plans(&[("paid", 1440, 30)])?).await?;
    sim.db.add("shop", "acme", "paid").await?;
    sim.tick().await?;
    assert_eq!(sim.succeed_all().await?, 1);
    sim.advance(minutes(20)).await?;
    assert_eq!(
        apply_plans(&sim.db.catalog, &sim.plans).await?,
        0,
        "nothing changed"
    );
    assert_eq!(sim.tick().await?, ticked(0, 0, 0));

    sim.plans = plans(&[("paid", 15, 30)])?;
    assert_eq!(apply_plans(&sim.db.catalog, &sim.plans).await?, 1);
    assert_eq!(
        sim.tick().await?,
        ticked(1, 1, 0),
        "the slot of the new cadence is free"
    );
    assert_eq!(
        sim.db.catalog.resource("shop").await?.cadence_minutes,
        Some(15)
    );

    // A tier that is no longer backed up is left alone at once.
    sim.succeed_all().await?;
    sim.plans = plans(&[("paid", 0, 0)])?;
    assert_eq!(apply_plans(&sim.db.catalog, &sim.plans).await?, 1);
    sim.tick().await?;
    let row = sim.db.catalog.resource("shop").await?;
    assert_eq!((row.cadence_minutes, row.next_due_at), (None, None));
    sim.live(TimeDelta::days(2), TimeDelta::hours(1)).await?;
    assert_eq!(sim.points("shop").await?.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_changes_its_tier_is_planned_anew() -> Result<()> {
    let mut sim = Simulation::begin("2031-03-05T09:37:00Z", Plans::built_in()).await?;
    sim.db.add("shop", "acme", "hobby").await?;
    sim.tick().await?;
    sim.succeed_all().await?;
    sim.advance(minutes(70)).await?;
    assert_eq!(sim.tick().await?, ticked(0, 0, 0));
    sim.db
        .execute("update lastgood.resources set tier = 'pro' where id = 'shop'")
        .await?;
    assert_eq!(sim.tick().await?, ticked(1, 1, 0));
    assert_eq!(
        sim.db.catalog.resource("shop").await?.cadence_minutes,
        Some(60)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_on_a_daily_tier_keeps_its_own_hour_for_ten_days() -> Result<()> {
    // Some teams' hours are over for today, others' are to come.
    let mut sim = Simulation::begin("2031-03-05T11:50:00Z", Plans::built_in()).await?;
    let teams = ["acme", "initech", "umbrella"];
    for team in teams {
        for n in 0..2 {
            sim.db.add(&format!("{team}-{n}"), team, "hobby").await?;
        }
    }
    sim.tick().await?;
    sim.succeed_all().await?;
    sim.live(TimeDelta::days(11), minutes(10)).await?;
    for team in teams {
        let hour: i32 = sqlx::query_scalar(
            "select team_spread % 24 from lastgood.resources where team = $1 limit 1",
        )
        .bind(team)
        .fetch_one(sim.db.pool())
        .await?;
        for n in 0..2 {
            let id = format!("{team}-{n}");
            let points = sim.points(&id).await?;
            // The first backup is made at registration; from then on the resource has its turn.
            let later = points.get(1..11).with_context(|| format!("{points:?}"))?;
            for pair in later.windows(2) {
                assert_eq!(pair[1] - pair[0], TimeDelta::days(1), "{id}: {points:?}");
            }
            let offset: i32 =
                sqlx::query_scalar("select spread % 3600 from lastgood.resources where id = $1")
                    .bind(&id)
                    .fetch_one(sim.db.pool())
                    .await?;
            let turn = TimeDelta::hours(hour.into()) + TimeDelta::seconds(offset.into());
            let after_midnight = TimeDelta::seconds(later[0].num_seconds_from_midnight().into());
            let late = after_midnight - turn;
            assert!(
                TimeDelta::zero() <= late && late < minutes(10),
                "{id}: {after_midnight} is not the turn {turn}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_producers_at_once_enqueue_each_slot_once() -> Result<()> {
    const RESOURCES: i64 = 150;
    let mut sim = Simulation::begin("2031-03-05T09:37:00Z", plans(&[("paid", 60, 30)])?).await?;
    let other = sim.db.another().await?;
    sqlx::query(
        "insert into lastgood.resources (id, team, tier, engine, connection_ref)
         select 'r' || n, 't' || n % 7, 'paid', 'postgres', 'env:URL' from generate_series(1, $1) as n",
    )
    .bind(RESOURCES)
    .execute(sim.db.pool())
    .await?;
    for round in 1..=100 {
        let (one, two) = tokio::join!(
            tick(&sim.db.catalog, &sim.plans, sim.now),
            tick(&other, &sim.plans, sim.now)
        );
        // What one had locked, the other may have to look at again.
        let enqueued = one?.enqueued + two?.enqueued;
        assert_eq!(enqueued, RESOURCES, "round {round}");
        sqlx::query(
            "with done as (
                 update lastgood.runs set state = 'succeeded', finished_at = now() where state = 'queued' returning resource_id
             )
             update lastgood.resources set newest_consistent_at = now(), next_due_at = now()
             from done where done.resource_id = id",
        )
        .execute(sim.db.pool())
        .await?;
        sim.advance(TimeDelta::hours(1)).await?;
    }
    let runs = sim.db.count("select count(*) from lastgood.runs").await?;
    let distinct = sim
        .db
        .count(
            "select count(*) from (select distinct resource_id, slot from lastgood.runs) as slots",
        )
        .await?;
    assert_eq!((runs, distinct), (100 * RESOURCES, 100 * RESOURCES));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_cannot_be_enqueued_twice_even_by_plain_sql() -> Result<()> {
    let sim = Simulation::begin("2031-03-05T09:37:00Z", plans(&[("paid", 60, 30)])?).await?;
    sim.db.add("shop", "acme", "paid").await?;
    sim.tick().await?;
    for state in ["queued", "running", "succeeded"] {
        if state == "running" {
            assert_eq!(sim.claim().await?.len(), 1);
        } else if state == "succeeded" {
            sim.db
                .execute("update lastgood.runs set state = 'succeeded', lease_by = null, lease_until = null, finished_at = now()")
                .await?;
        }
        // As if the catalog had forgotten that the producer had looked.
        sim.db
            .execute("update lastgood.resources set next_due_at = now()")
            .await?;
        assert_eq!(sim.tick().await?, ticked(1, 0, 0), "{state}");
    }
    assert_eq!(sim.db.count("select count(*) from lastgood.runs").await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_restarts_and_ticks_again_makes_no_duplicate() -> Result<()> {
    let sim = Simulation::begin("2031-03-05T09:37:00Z", Plans::built_in()).await?;
    sim.db.add("shop", "acme", "pro").await?;
    sim.db.add("blog", "acme", "hobby").await?;
    apply_plans(&sim.db.catalog, &sim.plans).await?;
    assert_eq!(sim.tick().await?, ticked(2, 2, 0));
    assert_eq!(sim.tick().await?, ticked(0, 0, 0));
    let restarted = sim.db.another().await?;
    assert_eq!(apply_plans(&restarted, &sim.plans).await?, 0);
    for _ in 0..2 {
        assert_eq!(
            tick(&restarted, &sim.plans, sim.now).await?,
            ticked(0, 0, 0)
        );
    }
    assert_eq!(sim.db.count("select count(*) from lastgood.runs").await?, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_failed_is_tried_again_with_back_off_and_one_that_succeeded_is_not()
-> Result<()> {
    let mut sim = Simulation::begin("2031-03-05T09:01:00Z", plans(&[("paid", 60, 30)])?).await?;
    sim.db.add("shop", "acme", "paid").await?;
    let second = TimeDelta::seconds(1);
    sim.tick().await?;
    sim.succeed_all().await?;
    // At the beginning of a slot, so that everything that follows happens in one slot.
    sim.advance_to_turn("shop").await?;
    let slot = sim.slot("shop").await?;
    assert_eq!(sim.tick().await?.enqueued, 1);
    for (failures, wait) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
        let claims = sim.claim().await?;
        sim.fail(claims.first().context("nothing to claim")?)
            .await?;
        let row = sim.db.catalog.resource("shop").await?;
        assert_eq!(row.failures_in_a_row, failures);
        sim.advance(minutes(wait) - second).await?;
        assert_eq!(
            sim.tick().await?,
            ticked(0, 0, 0),
            "too early after {failures}"
        );
        sim.advance(second).await?;
        assert_eq!(sim.tick().await?, ticked(1, 1, 0), "after {failures}");
    }
    assert_eq!(sim.succeed_all().await?, 1);
    assert_eq!(sim.db.catalog.resource("shop").await?.failures_in_a_row, 0);
    assert_eq!(sim.slots("shop", "failed").await?, [slot; 4]);
    // 15 minutes into the slot: nothing more until the next turn.
    for _ in 0..44 {
        sim.advance(minutes(1)).await?;
        assert_eq!(sim.tick().await?.enqueued, 0);
    }
    assert_eq!(sim.slots("shop", "succeeded").await?.last(), Some(&slot));
    sim.advance_to_turn("shop").await?;
    assert_eq!(sim.tick().await?.enqueued, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_no_plan_knows_is_reported_not_backed_up_and_picked_up_once_it_is_known()
-> Result<()> {
    let mut sim = Simulation::begin("2031-03-05T09:37:00Z", Plans::built_in()).await?;
    sim.db.add("shop", "acme", "pro").await?;
    for n in 0..3 {
        sim.db
            .add(&format!("odd-{n}"), "acme", "enterprize")
            .await?;
    }
    sim.db.add("other", "acme", "zzz").await?;
    sim.db.add("gone", "acme", "forgotten").await?;
    sim.db
        .catalog
        .alter_resource(
            "gone",
            &ResourceChange::default(),
            Some(ResourceStatus::Removed),
            &Order::new("test", None),
        )
        .await?;
    assert_eq!(sim.tick().await?, ticked(5, 1, 0));
    let known: Vec<_> = sim.plans.iter().map(|plan| plan.tier.to_string()).collect();
    let unknown: Vec<_> = sim
        .db
        .catalog
        .unknown_tiers(&known)
        .await?
        .into_iter()
        .map(|UnknownTier { id, resources }| (id, resources))
        .collect();
    assert_eq!(
        unknown,
        [("enterprize".to_owned(), 3), ("zzz".to_owned(), 1)]
    );

    sim.advance(minutes(1)).await?;
    sim.plans = plans(&[("pro", 60, 30), ("enterprize", 60, 30)])?;
    assert_eq!(apply_plans(&sim.db.catalog, &sim.plans).await?, 3);
    assert_eq!(sim.tick().await?, ticked(3, 3, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_is_paused_or_removed_is_not_due_and_what_waits_is_cancelled() -> Result<()>
{
    let mut sim = Simulation::begin("2031-03-05T09:37:00Z", plans(&[("paid", 60, 30)])?).await?;
    let catalog = sim.db.catalog.clone();
    for (id, status) in [
        ("shop", ResourceStatus::Paused),
        ("blog", ResourceStatus::Removed),
    ] {
        sim.db.add(id, "acme", "paid").await?;
        assert_eq!(sim.tick().await?, ticked(1, 1, 0));
        catalog
            .alter_resource(
                id,
                &ResourceChange::default(),
                Some(status),
                &Order::new("test", None),
            )
            .await?;
        assert!(sim.slots(id, "queued").await?.is_empty());
        assert_eq!(sim.slots(id, "cancelled").await?.len(), 1);
    }
    for _ in 0..5 {
        assert_eq!(sim.tick().await?, ticked(0, 0, 0));
        sim.advance(TimeDelta::hours(1)).await?;
    }
    apply_plans(&catalog, &sim.plans).await?;
    assert_eq!(sim.tick().await?, ticked(0, 0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_is_resumed_is_due_and_one_that_was_removed_stays_so() -> Result<()> {
    let sim = Simulation::begin("2031-03-05T09:37:00Z", plans(&[("paid", 60, 30)])?).await?;
    let catalog = &sim.db.catalog;
    sim.db.add("shop", "acme", "paid").await?;
    sim.tick().await?;
    catalog
        .alter_resource(
            "shop",
            &ResourceChange::default(),
            Some(ResourceStatus::Paused),
            &Order::new("test", None),
        )
        .await?;
    catalog
        .alter_resource(
            "shop",
            &ResourceChange::default(),
            Some(ResourceStatus::Active),
            &Order::new("test", None),
        )
        .await?;
    assert_eq!(
        sim.tick().await?,
        ticked(1, 1, 0),
        "the same slot, cancelled before"
    );
    catalog
        .alter_resource(
            "shop",
            &ResourceChange::default(),
            Some(ResourceStatus::Removed),
            &Order::new("test", None),
        )
        .await?;
    let resumed = catalog
        .alter_resource(
            "shop",
            &ResourceChange::default(),
            Some(ResourceStatus::Active),
            &Order::new("test", None),
        )
        .await;
    assert!(matches!(resumed, Err(CatalogError::NotFound { .. })));
    assert_eq!(sim.tick().await?, ticked(0, 0, 0));
    Ok(())
}

/// Consumers have no plans file. They learn from the catalog how large a dump may be.
#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_dumps_are_those_of_the_plans_last_told() -> Result<()> {
    let db = TestCatalog::create().await?;
    let limits = |pro: &str, team: &str| {
        Plans::parse(&format!(
            "version: 1\ntiers:\n  pro: {{rpo_minutes: 60, backup_retention_days: 7{pro}}}\n  team: {{rpo_minutes: 60, backup_retention_days: 7{team}}}\n"
        ))
    };
    let told = async || {
        let mut told = Vec::new();
        for tier in ["pro", "team", "free"] {
            let limit = db.catalog.maximum_dump_bytes(&tier.parse()?).await?;
            told.push(limit.map_or(0, |bytes| bytes.get() >> 30));
        }
        anyhow::Ok(told)
    };
    assert_eq!(told().await?, [0, 0, 0]);
    limit_dumps(&db.catalog, &limits(", maximum_dump_gib: 5", "")?).await?;
    assert_eq!(told().await?, [5, 0, 0]);
    limit_dumps(
        &db.catalog,
        &limits(", maximum_dump_gib: 6", ", maximum_dump_gib: 7")?,
    )
    .await?;
    assert_eq!(told().await?, [6, 7, 0]);
    limit_dumps(&db.catalog, &limits("", ", maximum_dump_gib: 7")?).await?;
    assert_eq!(told().await?, [0, 7, 0]);
    Ok(())
}

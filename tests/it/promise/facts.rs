//! Whoever changes a resource, pauses the queue or stops ticking, it is on record when that was.

use std::time::Duration;

use anyhow::Result;
use lastgood::catalog::{Order, Paused, Scope};

use super::{DAY, Fleet, plans};

const TICK: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_counted_apart_although_its_row_is_gone() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    fleet.db.add("other", "others", "pro").await?;
    let scope = Scope {
        team: Some("acme".to_owned()),
        ..Scope::default()
    };
    let order = Order::new("a tester", Some("a test"));
    fleet.clock(100).await?;
    assert!(matches!(
        fleet.db.catalog.pause(&scope, &order).await?,
        Paused::New(_)
    ));
    fleet.clock(400).await?;
    assert!(fleet.db.catalog.resume(&scope, &order).await?.is_some());
    fleet.clock(DAY + 10).await?;
    fleet.count().await?;
    let [promised, _, broken, paused, ..] = fleet.minutes("shop", 0).await?;
    assert_eq!((promised, broken, paused), (DAY - 300, DAY - 66 - 300, 300));
    assert_eq!(
        fleet.minutes("other", 0).await?[..4],
        [DAY, DAY - 60, DAY - 66, 0]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_resource_is_counted_apart_and_a_removed_one_no_more() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    for (minute, statement) in [
        (100, "update lastgood.resources set status = 'paused'"),
        (200, "update lastgood.resources set status = 'active'"),
        (300, "update lastgood.resources set retention_days = 0"),
        (350, "update lastgood.resources set retention_days = null"),
        (600, "update lastgood.resources set status = 'removed'"),
    ] {
        fleet.clock(minute).await?;
        fleet.db.execute(statement).await?;
    }
    fleet.clock(2 * DAY + 10).await?;
    fleet.count().await?;
    let [promised, _, broken, paused, ..] = fleet.minutes("shop", 0).await?;
    assert_eq!((promised, broken, paused), (600 - 150, 600 - 66 - 150, 150));
    assert!(
        fleet.minutes("shop", 1).await.is_err(),
        "nothing was promised"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_changes_its_tier_is_counted_for_each() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    fleet.clock(120).await?;
    fleet
        .db
        .execute("update lastgood.resources set tier = 'hobby'")
        .await?;
    fleet.clock(720).await?;
    fleet
        .db
        .execute("update lastgood.resources set tier = 'free'")
        .await?;
    fleet.clock(DAY + 10).await?;
    fleet.count().await?;
    let rows: Vec<(String, i32, i32)> = sqlx::query_as(
        "select tier, promised_seconds / 60, broken_seconds / 60 from lastgood.promise_days where day = '2031-03-05' order by tier",
    )
    .fetch_all(fleet.db.pool())
    .await?;
    assert_eq!(
        rows,
        [("hobby".to_owned(), 600, 0), ("pro".to_owned(), 120, 54)]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_instant_is_judged_by_the_plans_of_then() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    fleet.clock(300).await?;
    let laxer = lastgood::plan::Plans::parse(
        &super::PLANS.replace("rpo_minutes: 60,", "rpo_minutes: 240,"),
    )?;
    fleet.db.catalog.record_terms(&laxer).await?;
    fleet.clock(310).await?;
    fleet.db.catalog.record_terms(&laxer).await?;
    let rows = "select count(*) from lastgood.tier_promises where tier = 'pro'";
    assert_eq!(
        fleet.db.count(rows).await?,
        2,
        "what is on record is not recorded again"
    );
    fleet.point("shop", 300, 300).await?;
    fleet.clock(DAY + 10).await?;
    fleet.count().await?;
    let [_, _, broken, ..] = fleet.minutes("shop", 0).await?;
    assert_eq!(broken, (300 - 66) + (DAY - 300 - 264));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn time_in_which_no_producer_ticked_is_down_and_excuses_nothing() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    let catalog = &fleet.db.catalog;
    catalog.heartbeat(TICK).await?;
    fleet.clock(1).await?;
    catalog.heartbeat(TICK).await?;
    fleet.clock(240).await?;
    // Two come back at once.
    let (one, other) = (fleet.db.another().await?, fleet.db.another().await?);
    let (one, other) = tokio::join!(one.heartbeat(TICK), other.heartbeat(TICK));
    one?;
    other?;
    fleet.clock(DAY + 10).await?;
    fleet.count().await?;
    assert_eq!(
        fleet.minutes("shop", 0).await?,
        [DAY, DAY - 60, DAY - 66, 0, 239, DAY]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_ticks_rarely_is_not_down_between_two_ticks() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    fleet.db.catalog.heartbeat(TICK).await?;
    fleet
        .db
        .execute(
            "insert into lastgood.producers (id, version, tick_seconds, plans_blake3, verify_within_seconds)
             values ('rare', '1.0.0', 300, repeat('0', 64), 0)",
        )
        .await?;
    fleet.clock(10).await?;
    fleet.db.catalog.heartbeat(TICK).await?;
    let down = "select count(*) from lastgood.downtimes";
    assert_eq!(fleet.db.count(down).await?, 0);
    fleet.clock(26).await?;
    fleet.db.catalog.heartbeat(TICK).await?;
    assert_eq!(fleet.db.count(down).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_point_counts_from_its_confirmation() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    let id = fleet.point("shop", 30, 31).await?;
    fleet
        .db
        .execute("update lastgood.restore_points set suspected_at = created_at, suspected_of = '{shrunk}', suspected_because = 'it is small'")
        .await?;
    fleet.clock(80).await?;
    sqlx::query("update lastgood.restore_points set suspected_at = null, confirmed_at = now(), confirmed_because = 'it is right' where id = $1")
        .bind(id)
        .execute(fleet.db.pool())
        .await?;
    fleet.clock(DAY + 10).await?;
    fleet.count().await?;
    let [_, _, broken, ..] = fleet.minutes("shop", 0).await?;
    assert_eq!(broken, (80 - 66) + (DAY - 96));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_from_the_future_counts_when_its_instant_comes() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    fleet.point("shop", 500, 20).await?;
    fleet.clock(DAY + 10).await?;
    fleet.count().await?;
    let [_, _, broken, ..] = fleet.minutes("shop", 0).await?;
    assert_eq!(broken, (500 - 66) + (DAY - 566));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_changes_no_exposure() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    let id = fleet.point("shop", 30, 31).await?;
    fleet.point("shop", 90, 95).await?;
    fleet.clock(200).await?;
    // Of the older one.
    sqlx::query(
        "insert into lastgood.runs (queue, kind, trigger, resource_id, args, state, started_at, finished_at)
         values ('postgres', 'restore', 'adhoc', 'shop', jsonb_build_object('kind', 'restore', 'point', $1::text), 'succeeded', now(), now())",
    )
    .bind(id.to_string())
    .execute(fleet.db.pool())
    .await?;
    fleet.clock(DAY + 10).await?;
    fleet.count().await?;
    let [_, _, broken, ..] = fleet.minutes("shop", 0).await?;
    assert_eq!(broken, DAY - (90 + 66));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_left_the_plans_promises_nothing() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    fleet.clock(300).await?;
    let without = lastgood::plan::Plans::parse(&super::PLANS.replace(" pro:", " team:"))?;
    fleet.db.catalog.record_terms(&without).await?;
    fleet.clock(600).await?;
    fleet.db.catalog.record_terms(&plans()?).await?;
    fleet.clock(DAY + 10).await?;
    fleet.count().await?;
    assert_eq!(fleet.minutes("shop", 0).await?[0], DAY - 300);
    Ok(())
}

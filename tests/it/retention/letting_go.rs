//! Only points that nothing keeps expire, and the statement itself refuses those that must stay.

use anyhow::{Result, ensure};
use chrono::TimeDelta;
use lastgood::{
    catalog::{CatalogError, Order, ResourceChange},
    nouns::ResourceStatus,
    producer::{ask_for_removals, retain},
};
use uuid::Uuid;

use super::{GRACE, House, asked, restore, sorted};
use crate::database::plans;

#[tokio::test(flavor = "multi_thread")]
async fn points_past_their_days_go_with_the_reason_and_the_rest_stay() -> Result<()> {
    let house = House::build().await?;
    let [_, _, at_the_end, older] = house.points([0, 29, 30, 300]).await?;
    assert_eq!(house.retain().await?, 2);
    let because = "older than the promised 30 days".to_owned();
    let mut expected = vec![(at_the_end, because.clone()), (older, because)];
    expected.sort();
    assert_eq!(house.gone().await?, expected);
    assert_eq!(house.retain().await?, 0, "once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_is_looked_at_once_an_hour() -> Result<()> {
    let mut house = House::build().await?;
    assert_eq!(
        retain(&house.db.catalog, &house.plans, GRACE, || house.now).await?,
        0
    );
    house.points([1, 40]).await?;
    house.advance(TimeDelta::minutes(59)).await?;
    assert_eq!(
        retain(&house.db.catalog, &house.plans, GRACE, || house.now).await?,
        0
    );
    house.advance(TimeDelta::minutes(1)).await?;
    assert_eq!(
        retain(&house.db.catalog, &house.plans, GRACE, || house.now).await?,
        1
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_and_the_newest_proven_stay_however_old() -> Result<()> {
    let house = House::build().await?;
    let [newest, proven, older_proof, damaged] = house.points([400, 500, 600, 100]).await?;
    let verify = "update lastgood.restore_points set verified_at = now() where id = $1";
    house.set(verify, proven).await?;
    house.set(verify, older_proof).await?;
    let condemn = "update lastgood.restore_points set quarantined_at = now(), quarantined_because = 'a flipped bit' where id = $1";
    house.set(condemn, damaged).await?;
    house.retain().await?;
    assert_eq!(house.gone_ids().await?, sorted([older_proof, damaged]));
    // Then nothing else is left, proven or not.
    house.set(condemn, newest).await?;
    house.retain().await?;
    assert_eq!(
        house.gone_ids().await?,
        sorted([older_proof, damaged, newest])
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_resources_and_thinned_tiers_are_judged_alike() -> Result<()> {
    let mut house = House::build().await?;
    house.plans = lastgood::plan::Plans::parse(
        "version: 1\ntiers:\n  pro: {rpo_minutes: 60, backup_retention_days: 7, keep: {daily: 7, monthly: 2}, minimum_kept: 2}\n",
    )?;
    house.db.execute("delete from lastgood.resources").await?;
    house
        .db
        .execute(
            "insert into lastgood.resources (id, team, tier, engine, connection_ref)
             select 'db-' || n, 't', 'pro', 'postgres', 'env:URL' from generate_series(1, 120) as n",
        )
        .await?;
    house
        .db
        .execute(
            "insert into lastgood.restore_points (id, resource_id, consistent_at, created_at, manifest_key, manifest, dump_bytes, stored_bytes)
             select id, resource, at, at, 'v1/' || id, '{}', 1, 1 from (
                 select gen_random_uuid() as id, r.id as resource, now() - make_interval(hours => hours) as at
                 from lastgood.resources as r, generate_series(0, 24 * 45, 6) as hours
             ) as fresh",
        )
        .await?;
    house.seen().await?;
    house.retain().await?;
    let left: Vec<(String, i64)> = sqlx::query_as(
        "select resource_id, count(*) from lastgood.restore_points where expired_at is null group by 1",
    )
    .fetch_all(house.db.pool())
    .await?;
    ensure!(left.len() == 120, "{} resources", left.len());
    // Four of the day, one of each of the six days before, and the last of January.
    ensure!(
        left.iter().all(|(_, count)| *count == 4 + 6 + 1),
        "{left:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_statement_itself_refuses_what_must_stay() -> Result<()> {
    let house = House::build().await?;
    let [plain, pinned, held, restored, proven, newest] =
        house.points([90, 80, 70, 60, 50, 40]).await?;
    let future = house.point(-TimeDelta::hours(1)).await?;
    for (statement, point) in [
        (
            "update lastgood.restore_points set pinned_at = now(), pinned_because = 'x' where id = $1",
            pinned,
        ),
        (
            "update lastgood.restore_points set held_at = now(), held_because = 'x' where id = $1",
            held,
        ),
        (
            "update lastgood.restore_points set verified_at = now() where id = $1",
            proven,
        ),
    ] {
        house.set(statement, point).await?;
    }
    house
        .db
        .catalog
        .enqueue(&asked(&restore(restored), None), &Order::new("test", None))
        .await?;
    let all = vec![plain, pinned, held, restored, proven, newest, future];
    let go = async || -> Result<u64> {
        let done = sqlx::query(include_str!("../../../src/catalog/retention/let_go.sql"))
            .bind(&all)
            .bind(vec!["told to".to_owned(); all.len()])
            .execute(house.db.pool())
            .await?;
        Ok(done.rows_affected())
    };
    assert_eq!(go().await?, 1);
    assert_eq!(house.gone_ids().await?, [plain]);
    // Of a removed resource, even the newest points expire. Nothing else does.
    house
        .db
        .catalog
        .alter_resource(
            "shop",
            &ResourceChange::default(),
            Some(ResourceStatus::Removed),
            &Order::new("test", None),
        )
        .await?;
    assert_eq!(go().await?, 2);
    let mut expected: Vec<Uuid> = vec![plain, proven, newest];
    expected.sort();
    assert_eq!(house.gone_ids().await?, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_producers_let_go_as_much_as_one() -> Result<()> {
    let house = House::build().await?;
    house.points([1, 31, 32, 33, 34]).await?;
    for n in 0..120 {
        let id = format!("db-{n}");
        house.db.add(&id, "acme", "pro").await?;
        for days in [1, 40, 50] {
            house.point_of(&id, TimeDelta::days(days)).await?;
        }
    }
    let another = house.db.another().await?;
    house.seen().await?;
    house
        .db
        .execute("update lastgood.retention set look_at = now()")
        .await?;
    let (one, two) = tokio::join!(
        retain(&house.db.catalog, &house.plans, GRACE, || house.now),
        retain(&another, &house.plans, GRACE, || house.now)
    );
    assert_eq!(one? + two?, 4 + 240);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_judged_is_not_let_go() -> Result<()> {
    let mut house = House::build().await?;
    house.points([1, 400]).await?;
    // A tier that the plans do not know.
    let known = std::mem::replace(&mut house.plans, plans(&[("other", 60, 1)])?);
    assert_eq!(house.retain().await?, 0);
    house.plans = known;
    // A record that this build does not understand.
    house
        .db
        .execute("update lastgood.retention set record = '{\"promise\": {\"forever\": true}}'")
        .await?;
    assert_eq!(house.retain().await?, 0);
    house
        .db
        .execute("update lastgood.retention set record = null")
        .await?;
    assert_eq!(house.retain().await?, 0, "new to retention");
    house.advance(GRACE).await?;
    assert_eq!(house.retain().await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_while_restore_points_have_disappeared_from_a_store_en_masse() -> Result<()> {
    let house = House::build().await?;
    let [_, old] = house.points([1, 90]).await?;
    let vanished =
        "insert into lastgood.store_listings (store, began_at, points, missing, vanished_at)
                    values ('here', now(), 10, 10, now())";
    house.db.execute(vanished).await?;
    // A store that is no longer in use holds up nothing.
    house
        .db
        .execute("insert into lastgood.stores (name) values ('here')")
        .await?;
    let refused = retain(&house.db.catalog, &house.plans, GRACE, || house.now).await;
    ensure!(
        matches!(refused, Err(CatalogError::StoreVanished(_))),
        "{refused:?}"
    );
    ensure!(ask_for_removals(&house.db.catalog).await.is_err());
    // Points that had already expired are not removed either.
    house
        .db
        .execute("update lastgood.restore_points set expired_at = now(), expired_because = 'old' where consistent_at < now() - interval '60 days'")
        .await?;
    ensure!(house.db.catalog.begin_removal(old).await?.is_none());
    house.db.catalog.accept_loss("here").await?;
    ensure!(house.db.catalog.begin_removal(old).await?.is_some());
    ask_for_removals(&house.db.catalog).await?;
    house.retain().await?;
    Ok(())
}

//! If something interferes between a verdict and its point, the first to come wins, and nothing is restored from an expiring point.

use anyhow::{Result, ensure};
use lastgood::{
    catalog::{CatalogError, Enqueued, Order},
    producer::retain,
};
use sqlx::{PgConnection, PgPool};

use super::{GRACE, House, asked, restore};
use crate::eventually::{SOON, eventually};

/// Waits until a session in this database waits for a lock.
async fn somebody_waits(pool: &PgPool) -> Result<()> {
    eventually(SOON, "somebody waits for a lock", async || {
        let waiting: i64 = sqlx::query_scalar(
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
        )
        .fetch_one(pool)
        .await?;
        Ok(waiting > 0)
    })
    .await
}

async fn enqueue_by_hand(connection: &mut PgConnection, point: uuid::Uuid) -> Result<()> {
    sqlx::query("select from lastgood.restore_points where id = $1 for share")
        .bind(point)
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "insert into lastgood.runs (queue, kind, trigger, resource_id, priority, args)
         values ('postgres', 'restore', 'adhoc', 'shop', 100, jsonb_build_object('kind', 'restore', 'point', $1::uuid))",
    )
    .bind(point)
    .execute(connection)
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_asked_for_first_protects_its_point() -> Result<()> {
    let house = House::build().await?;
    let [_, old] = house.points([1, 90]).await?;
    // Requested but not committed, so no one else can see it yet.
    let mut asking = house.db.pool().begin().await?;
    enqueue_by_hand(&mut asking, old).await?;

    let (another, plans, now) = (house.db.another().await?, house.plans.clone(), house.now);
    let retaining = tokio::spawn(async move { retain(&another, &plans, GRACE, || now).await });
    somebody_waits(house.db.pool()).await?;
    asking.commit().await?;
    assert_eq!(retaining.await??, 0);
    assert!(house.gone_ids().await?.is_empty());

    house
        .db
        .execute("update lastgood.runs set state = 'cancelled', finished_at = now()")
        .await?;
    assert_eq!(house.retain().await?, 1, "once the restore has ended");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_asked_for_after_the_verdict_is_refused() -> Result<()> {
    let house = House::build().await?;
    let [_, old] = house.points([1, 90]).await?;
    let mut letting_go = house.db.pool().begin().await?;
    sqlx::query("update lastgood.restore_points set expired_at = now(), expired_because = 'x' where id = $1")
        .bind(old)
        .execute(&mut *letting_go)
        .await?;

    let another = house.db.another().await?;
    let asking = tokio::spawn(async move {
        another
            .enqueue(&asked(&restore(old), None), &Order::new("test", None))
            .await
    });
    somebody_waits(house.db.pool()).await?;
    letting_go.commit().await?;
    let refused = asking.await?;
    ensure!(
        matches!(refused, Err(CatalogError::PointExpired(id)) if id == old),
        "{refused:?}"
    );
    let said = refused.map(|_| ()).err().map(|error| error.to_string());
    ensure!(said.is_some_and(|said| said.contains("point pin")));
    assert_eq!(
        house.db.count("select count(*) from lastgood.runs").await?,
        0
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_point_that_would_be_newest_stays_when_the_newest_is_condemned_meanwhile() -> Result<()>
{
    let house = House::build().await?;
    let [newest, old] = house.points([1, 90]).await?;
    let mut condemning = house.db.pool().begin().await?;
    sqlx::query("update lastgood.restore_points set quarantined_at = now(), quarantined_because = 'x' where id = $1")
        .bind(newest)
        .execute(&mut *condemning)
        .await?;
    let (another, plans, now) = (house.db.another().await?, house.plans.clone(), house.now);
    let retaining = tokio::spawn(async move { retain(&another, &plans, GRACE, || now).await });
    somebody_waits(house.db.pool()).await?;
    condemning.commit().await?;
    assert_eq!(retaining.await??, 0);
    ensure!(!house.gone_ids().await?.contains(&old));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_it_was_judged_is_judged_again() -> Result<()> {
    let house = House::build().await?;
    house.points([1, 90]).await?;
    let mut changing = house.db.pool().begin().await?;
    sqlx::query("update lastgood.resources set retention_days = 365 where id = 'shop'")
        .execute(&mut *changing)
        .await?;
    let (another, plans, now) = (house.db.another().await?, house.plans.clone(), house.now);
    let retaining = tokio::spawn(async move { retain(&another, &plans, GRACE, || now).await });
    somebody_waits(house.db.pool()).await?;
    changing.commit().await?;
    assert_eq!(retaining.await??, 0);
    assert_eq!(house.retain().await?, 0, "a year is promised now");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_was_answered_is_answered_alike_after_its_point_has_gone() -> Result<()> {
    let house = House::build().await?;
    let [_, old] = house.points([1, 90]).await?;
    let job = restore(old);
    let first = house
        .db
        .catalog
        .enqueue(&asked(&job, Some("k")), &Order::new("test", None))
        .await?;
    house
        .db
        .execute("update lastgood.runs set state = 'cancelled', finished_at = now()")
        .await?;
    assert_eq!(house.retain().await?, 1);
    let again = house
        .db
        .catalog
        .enqueue(&asked(&job, Some("k")), &Order::new("test", None))
        .await?;
    assert_eq!(again, Enqueued::Duplicate(first.id()));
    let other = house
        .db
        .catalog
        .enqueue(&asked(&job, Some("other")), &Order::new("test", None))
        .await;
    ensure!(
        matches!(other, Err(CatalogError::PointExpired(_))),
        "{other:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_waits_for_what_is_being_copied_or_read_back_and_not_for_what_only_waits()
-> Result<()> {
    let house = House::build().await?;
    let [_, old] = house.points([1, 90]).await?;
    assert_eq!(house.retain().await?, 1);
    for kind in ["copy", "verify"] {
        sqlx::query(
            "insert into lastgood.runs (queue, kind, trigger, resource_id, priority, args, state, lease_by, lease_until)
             values ('postgres', $2, 'upkeep', 'shop', -10, jsonb_build_object('kind', $2, 'point', $1::uuid), 'running', 'x', now())",
        )
        .bind(old)
        .bind(kind)
        .execute(house.db.pool())
        .await?;
        ensure!(
            house.db.catalog.begin_removal(old).await?.is_none(),
            "{kind}"
        );
        house
            .db
            .execute(
                "update lastgood.runs set state = 'queued', lease_by = null, lease_until = null",
            )
            .await?;
        // Whoever claims it now sees that the point has expired.
        ensure!(
            house.db.catalog.begin_removal(old).await?.is_some(),
            "{kind}"
        );
    }
    Ok(())
}

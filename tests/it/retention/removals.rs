//! Each expired point gets one run that removes it, which is retried after a failure, but never in a loop.

use anyhow::{Result, ensure};
use chrono::TimeDelta;
use lastgood::{
    catalog::{AuditFilter, Custody},
    producer::ask_for_removals,
};
use sqlx::Row as _;

use super::House;

const FAIL: &str = "update lastgood.runs set state = 'failed', finished_at = now(), error_kind = 'storage', error = 'x' where state = 'queued'";
const CANCEL: &str =
    "update lastgood.runs set state = 'cancelled', finished_at = now() where state = 'queued'";
const SUCCEED: &str =
    "update lastgood.runs set state = 'succeeded', finished_at = now() where state = 'queued'";

#[tokio::test(flavor = "multi_thread")]
async fn each_expired_point_is_asked_for_once_by_any_number_of_producers() -> Result<()> {
    let house = House::build().await?;
    house.points([1, 80, 90]).await?;
    house.retain().await?;
    let another = house.db.another().await?;
    let (one, two) = tokio::join!(
        ask_for_removals(&house.db.catalog),
        ask_for_removals(&another)
    );
    assert_eq!(one? + two?, 2);
    assert_eq!(ask_for_removals(&house.db.catalog).await?, 0);
    let run = sqlx::query("select queue, kind, trigger, slot is null as free, priority, args ->> 'kind' as args from lastgood.runs limit 1")
        .fetch_one(house.db.pool())
        .await?;
    let text = |name| run.try_get::<String, _>(name);
    assert_eq!(
        (
            text("queue")?,
            text("kind")?,
            text("trigger")?,
            text("args")?
        ),
        (
            "postgres".into(),
            "expire".into(),
            "upkeep".into(),
            "expire".into()
        )
    );
    ensure!(run.try_get::<i16, _>("priority")? < 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_failed_or_was_cancelled_is_asked_for_again_after_an_hour() -> Result<()> {
    let mut house = House::build().await?;
    house.points([1, 90]).await?;
    house.retain().await?;
    for end in [FAIL, CANCEL, FAIL] {
        assert_eq!(ask_for_removals(&house.db.catalog).await?, 1);
        house.db.execute(end).await?;
        house.advance(TimeDelta::minutes(59)).await?;
        assert_eq!(ask_for_removals(&house.db.catalog).await?, 0);
        house.advance(TimeDelta::minutes(2)).await?;
    }
    let removals = house.db.catalog.removals().await?;
    assert_eq!(
        (removals.awaiting, removals.overdue, removals.refused),
        (1, 0, 0)
    );
    house.advance(TimeDelta::days(1)).await?;
    let removals = house.db.catalog.removals().await?;
    assert_eq!(
        (removals.awaiting, removals.overdue, removals.refused),
        (1, 1, 0)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_recorded_and_asked_again_after_a_week() -> Result<()> {
    let mut house = House::build().await?;
    let [_, old] = house.points([1, 90]).await?;
    house.retain().await?;
    for _ in 0..2 {
        assert_eq!(ask_for_removals(&house.db.catalog).await?, 1);
        ensure!(house.db.catalog.begin_removal(old).await?.is_some());
        house
            .db
            .catalog
            .refuse_removal(old, "locked until 2035", true)
            .await?;
        house.db.execute(SUCCEED).await?;
        house.advance(TimeDelta::days(7)).await?;
        assert_eq!(ask_for_removals(&house.db.catalog).await?, 0);
        house.advance(TimeDelta::minutes(1)).await?;
    }
    let removals = house.db.catalog.removals().await?;
    assert_eq!(
        (removals.awaiting, removals.overdue, removals.refused),
        (1, 0, 1)
    );
    // Its manifest still exists, so the point can still be kept.
    house
        .db
        .catalog
        .keep(old, Custody::Pin, "then keep it")
        .await?;
    assert_eq!(house.db.catalog.removals().await?.awaiting, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_lost_its_manifest_can_not_be_kept_even_if_its_archive_is_refused() -> Result<()> {
    let house = House::build().await?;
    let [_, old] = house.points([1, 90]).await?;
    house.retain().await?;
    ensure!(house.db.catalog.begin_removal(old).await?.is_some());
    house
        .db
        .catalog
        .refuse_removal(old, "locked", false)
        .await?;
    ensure!(
        house
            .db
            .catalog
            .keep(old, Custody::Pin, "too late")
            .await
            .is_err()
    );
    // Its removal continues.
    ensure!(house.db.catalog.begin_removal(old).await?.is_some());
    house.db.catalog.finish_removal(old).await?;
    ensure!(house.db.catalog.begin_removal(old).await?.is_none());
    house.db.catalog.finish_removal(old).await?;
    let acts = house.db.catalog.audited(&AuditFilter::newest(10)).await?;
    assert_eq!(acts.len(), 1, "removed once");
    let act = acts.first().map(|act| (act.action.as_str(), act.point));
    assert_eq!(act, Some(("expire", Some(old))));
    Ok(())
}

//! What cancelling a run does to its resource's schedule, and who is notified.

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use lastgood::{
    catalog::{Mode, Order},
    plan::Plans,
    producer::tick,
    queue::{Wakers, listen},
};
use lastgood_jobs::attempt::RunId;

use super::workers::{
    Settings, Workers, becomes, enqueue, epoch, report, restore_point, with_a_shop,
};
use crate::{
    database::{TestCatalog, plans},
    eventually::{SOON, within},
};

fn order() -> Order {
    Order::new("olga", Some("the disk was full"))
}

/// Returns plans with slots so long that none ends during a test.
fn daily() -> Result<Plans> {
    plans(&[("pro", 1440, 7)])
}

/// Creates a resource whose backup of this slot is queued, and returns that run.
async fn with_a_scheduled_backup() -> Result<(TestCatalog, RunId)> {
    let db = with_a_shop().await?;
    let now = db.catalog.now().await?;
    tick(&db.catalog, &daily()?, now).await?;
    let id = sqlx::query_scalar("select id from lastgood.runs")
        .fetch_one(db.pool())
        .await?;
    Ok((db, id))
}

/// Makes the resource due this many minutes from now, and returns when that is.
async fn look_again_in(db: &TestCatalog, minutes: i32) -> Result<DateTime<Utc>> {
    let at = sqlx::query_scalar(
        "update lastgood.resources set next_due_at = now() + make_interval(mins => $1) returning next_due_at",
    )
    .bind(minutes)
    .fetch_one(db.pool())
    .await?;
    Ok(at)
}

async fn next_due_at(db: &TestCatalog) -> Result<Option<DateTime<Utc>>> {
    Ok(db.catalog.resource("shop").await?.next_due_at)
}

async fn cancel(db: &TestCatalog, id: RunId) -> Result<()> {
    let answer = db.catalog.cancel_run(id, &order(), Mode::Real).await?;
    assert_eq!((answer.state.as_str(), answer.refused), ("cancelled", None));
    Ok(())
}

#[tokio::test]
async fn only_a_scheduled_backup_that_is_cancelled_moves_a_due_time() -> Result<()> {
    let (db, scheduled) = with_a_scheduled_backup().await?;
    let due = look_again_in(&db, -5).await?;
    let adhoc = enqueue(&db, "shop").await?;
    cancel(&db, adhoc).await?;
    assert_eq!(next_due_at(&db).await?, Some(due));
    // Cancelling a run that is cancelled already changes nothing either.
    cancel(&db, scheduled).await?;
    assert!(next_due_at(&db).await? > Some(db.catalog.now().await?));
    let due = look_again_in(&db, -5).await?;
    let again = db
        .catalog
        .cancel_run(scheduled, &order(), Mode::Real)
        .await?;
    assert!(again.refused.is_some());
    assert_eq!(next_due_at(&db).await?, Some(due));
    assert_eq!(epoch(&db, scheduled).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_cancelled_backup_gives_a_resource_that_is_paused_no_due_time() -> Result<()> {
    let (db, id) = with_a_scheduled_backup().await?;
    db.execute("update lastgood.resources set status = 'paused'")
        .await?;
    // As a tick that began earlier may leave it.
    db.execute("update lastgood.resources set cadence_minutes = 1440")
        .await?;
    cancel(&db, id).await?;
    assert_eq!(next_due_at(&db).await?, None);
    Ok(())
}

#[tokio::test]
async fn a_due_time_later_than_the_next_slot_is_not_set_back_by_a_cancellation() -> Result<()> {
    let (db, id) = with_a_scheduled_backup().await?;
    let due = look_again_in(&db, 3 * 1440).await?;
    cancel(&db, id).await?;
    assert_eq!(next_due_at(&db).await?, Some(due));
    Ok(())
}

#[tokio::test]
async fn a_consumer_is_told_of_a_cancellation_and_not_of_its_rehearsal() -> Result<()> {
    let db = with_a_shop().await?;
    let ids = [enqueue(&db, "shop").await?, enqueue(&db, "shop").await?];
    let wakers = Wakers::default();
    let listening = tokio::spawn(listen(db.pool().clone(), wakers.clone()));
    // The new connection wakes it once, without an order.
    within(SOON, "it listens", wakers.cancelled.notified()).await?;
    let mut heard = sqlx::postgres::PgListener::connect_with(db.pool()).await?;
    heard.listen("lastgood_orders").await?;
    for id in ids {
        db.catalog.cancel_run(id, &order(), Mode::Rehearsal).await?;
        cancel(&db, id).await?;
        within(SOON, "it is woken", wakers.cancelled.notified()).await?;
    }
    db.catalog
        .cancel_run(ids[0], &order(), Mode::Real)
        .await?
        .refused
        .context("it was cancelled twice")?;
    db.execute("select pg_notify('lastgood_orders', 'the last')")
        .await?;
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "the last") {
        let notification = within(SOON, "a notification", heard.recv()).await??;
        told.push(notification.payload().to_owned());
    }
    assert_eq!(
        told,
        [
            ids[0].to_string(),
            ids[1].to_string(),
            "the last".to_owned()
        ]
    );
    listening.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_cancelled_is_not_made_up_for_when_an_ad_hoc_backup_succeeds() -> Result<()>
{
    let (db, id) = with_a_scheduled_backup().await?;
    cancel(&db, id).await?;
    let next_slot = next_due_at(&db).await?;
    assert!(next_slot > Some(db.catalog.now().await?));
    let adhoc = enqueue(&db, "shop").await?;
    let workers = Workers::start(&db.catalog, &Settings::default(), |run| async move {
        Ok(restore_point(&run)?)
    });
    becomes(&db, adhoc, "succeeded").await?;
    assert_eq!(next_due_at(&db).await?, next_slot);

    // If nothing was made of the slot, and no one cancelled its run, the backup is made up for.
    db.execute("delete from lastgood.runs where trigger = 'scheduled'")
        .await?;
    let adhoc = enqueue(&db, "shop").await?;
    becomes(&db, adhoc, "succeeded").await?;
    assert!(next_due_at(&db).await? <= Some(db.catalog.now().await?));
    workers.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_moves_no_due_time() -> Result<()> {
    let (db, id) = with_a_scheduled_backup().await?;
    cancel(&db, id).await?;
    let due = look_again_in(&db, 7).await?;
    let workers = Workers::start(&db.catalog, &Settings::default(), |_| async {
        Ok(report())
    });
    let adhoc = enqueue(&db, "shop").await?;
    becomes(&db, adhoc, "succeeded").await?;
    assert_eq!(next_due_at(&db).await?, Some(due));
    workers.stop().await
}

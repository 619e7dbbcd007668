//! What a run had already done when it was cancelled is on record, and it does nothing more.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use chrono::TimeDelta;
use lastgood::{
    catalog::{Mode, Order, PointRow},
    queue::{Outcome, Run},
    run::RunState,
};
use lastgood_jobs::{
    attempt::RunId,
    job::Job,
    manifest::{Encryption, Manifest, Scheme, Suspect, Suspicion},
};

use super::{
    proofs::{is_lost, key},
    workers::{
        Gate, Settings, Witness, Workers, becomes, enqueue, enqueue_many, restore_point,
        with_a_shop,
    },
};
use crate::database::TestCatalog;

fn order() -> Order {
    Order::new("olga", Some("the disk was full"))
}

/// Runs a backup of the shop that is cancelled after it has written its manifest, with the given change. Returns its restore point.
async fn made_too_late(
    db: &TestCatalog,
    change: impl Fn(&mut Manifest) + Send + Sync + 'static,
) -> Result<PointRow> {
    let id = enqueue(db, "shop").await?;
    let (catalog, change) = (db.catalog.clone(), Arc::new(change));
    let workers = Workers::start(&db.catalog, &Settings::default(), move |run| {
        let (catalog, change) = (catalog.clone(), Arc::clone(&change));
        async move {
            let mut made = restore_point(&run)?;
            if let Outcome::RestorePoint(point) = &mut made {
                change(&mut point.manifest);
            }
            // Between the manifest and the finish, and before the worker can be notified.
            catalog.cancel_run(run.id, &order(), Mode::Real).await?;
            Ok(made)
        }
    });
    becomes(db, id, "cancelled").await?;
    workers.stop().await?;
    assert_eq!(db.catalog.run(id).await?.state, RunState::Cancelled);
    Ok(db.catalog.point(id.0).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_point_that_was_made_when_the_run_was_cancelled_is_recorded() -> Result<()> {
    let db = with_a_shop().await?;
    db.execute("update lastgood.resources set failures_in_a_row = 3")
        .await?;
    let point = made_too_late(&db, |_| {}).await?;
    assert_eq!(point.resource_id, "shop");
    let shop = db.catalog.resource("shop").await?;
    assert_eq!(shop.newest_consistent_at, Some(point.consistent_at));
    assert_eq!(shop.failures_in_a_row, 0);
    assert_eq!(db.count("select count(*) from lastgood.copies").await?, 1);
    let day_before = made_too_late(&db, |made| made.consistent_at -= TimeDelta::days(1)).await?;
    ensure!(day_before.consistent_at < point.consistent_at);
    let shop = db.catalog.resource("shop").await?;
    assert_eq!(shop.newest_consistent_at, Some(point.consistent_at));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_is_recorded_late_is_dated_by_no_clock_that_is_ahead() -> Result<()> {
    let db = with_a_shop().await?;
    let point = made_too_late(&db, |made| made.consistent_at += TimeDelta::days(1)).await?;
    ensure!(point.consistent_at <= db.catalog.now().await?, "{point:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_is_recorded_late_and_suspect_ends_no_exposure() -> Result<()> {
    let db = with_a_shop().await?;
    let doubt = || Suspicion::new(Suspect::Shrunk, "it looks wrong");
    let point = made_too_late(&db, move |made| made.suspicions = vec![doubt()]).await?;
    ensure!(point.suspected_at.is_some(), "{point:?}");
    let shop = db.catalog.resource("shop").await?;
    assert_eq!(shop.newest_consistent_at, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_is_recorded_late_counts_for_nothing_once_its_key_is_shredded() -> Result<()> {
    let db = with_a_shop().await?;
    let (key, identity) = key(&db).await?;
    db.catalog.shred_keys("acme").await?;
    let recipient = identity.recipient();
    let point = made_too_late(&db, move |made| {
        made.archive.encryption = Some(Encryption {
            scheme: Scheme::Age,
            key,
            recipient: recipient.clone(),
        });
    })
    .await?;
    is_lost(&db, point.id).await?;
    Ok(())
}

/// Cancels a run whose commit has begun, lets it end only after the consumer must have been notified, and returns the run.
async fn cancel_while_committing(
    db: &TestCatalog,
    outcome: impl Fn(&Run<Job>) -> Result<Outcome> + Send + Sync + 'static,
) -> Result<RunId> {
    let ids = enqueue_many(db, "shop", 2).await?;
    let [committing, other] = ids.as_slice() else {
        anyhow::bail!("{ids:?}");
    };
    let (witness, gate, id) = (Witness::default(), Gate::closed(), *committing);
    let (w, g, outcome) = (witness.clone(), gate.clone(), std::sync::Arc::new(outcome));
    let workers = Workers::start(&db.catalog, &Settings::default(), move |run| {
        let (begun, gate, outcome) = (w.begin(&run), g.clone(), outcome.clone());
        async move {
            if run.id == id {
                assert!(run.progress.may_commit());
                gate.pass().await;
            } else {
                std::future::pending::<()>().await;
            }
            begun.complete();
            Ok(outcome(&run)?)
        }
    });
    witness.are_running(2).await?;
    db.catalog.cancel_run(id, &order(), Mode::Real).await?;
    // Notifications arrive in order: when the other run has been stopped, the consumer has been notified of both.
    db.catalog.cancel_run(*other, &order(), Mode::Real).await?;
    witness.are_running(1).await?;
    gate.open();
    witness.are_running(0).await?;
    workers.stop().await?;
    assert_eq!(db.catalog.run(id).await?.state, RunState::Cancelled);
    Ok(id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_has_begun_is_waited_for_and_recorded_though_the_run_is_cancelled()
-> Result<()> {
    let db = with_a_shop().await?;
    let id = cancel_while_committing(&db, restore_point).await?;
    assert_eq!(
        db.catalog.point(id.0).await?.resource_id,
        db.catalog.run(id).await?.resource
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cancelled_restore_had_done_already_is_in_its_history() -> Result<()> {
    let db = with_a_shop().await?;
    let report = serde_json::json!({ "kept": "shop_replaced_1" });
    let told = report.clone();
    let id = cancel_while_committing(&db, move |_| Ok(Outcome::Report(told.clone()))).await?;
    assert_eq!(db.catalog.run(id).await?.report, Some(report));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stopped_commits_nothing_any_more() -> Result<()> {
    let db = with_a_shop().await?;
    let id = enqueue(&db, "shop").await?;
    let progress = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (witness, seen) = (Witness::default(), progress.clone());
    let w = witness.clone();
    let workers = Workers::start(&db.catalog, &Settings::default(), move |run| {
        let begun = w.begin(&run);
        *seen.lock().unwrap() = Some(run.progress.clone());
        async move {
            let _kept = begun;
            std::future::pending().await
        }
    });
    witness.are_running(1).await?;
    db.catalog.cancel_run(id, &order(), Mode::Real).await?;
    witness.are_running(0).await?;
    let progress = progress
        .lock()
        .unwrap()
        .take()
        .context("it did not begin")?;
    anyhow::ensure!(!progress.may_commit());
    workers.stop().await
}

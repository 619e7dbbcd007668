//! The holder of the lease owns the run. A worker that lost it can neither finish nor publish, and an expired lease is taken back.

use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};
use lastgood::{plan::Plans, producer::tick, queue::Ledger, run::RunState};
use lastgood_jobs::{
    attempt::{Epoch, RunId},
    worker::Lease as _,
};
use tokio::sync::mpsc;

use super::workers::{
    Gate, Settings, Witness, Workers, becomes, enqueue, epoch, report, restore_point, take_away,
    with_a_shop,
};
use crate::{
    database::TestCatalog,
    eventually::{SOON, eventually, within},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_outlasts_its_lease_keeps_it_and_is_executed_once() -> Result<()> {
    let db = with_a_shop().await?;
    let lease = Duration::from_secs(1);
    let (witness, gate) = (Witness::default(), Gate::closed());
    let settings = Settings {
        lease,
        ..Settings::default()
    };
    // With two workers, another one would take the run if its lease were lost.
    let workers = ["one", "two"].map(|name| {
        let (w, g) = (witness.clone(), gate.clone());
        let settings = Settings { name, ..settings };
        Workers::start(&db.catalog, &settings, move |run| {
            let (begun, gate) = (w.begin(&run), g.clone());
            async move {
                run.progress.add_dump(77);
                gate.pass().await;
                begun.complete();
                Ok(report())
            }
        })
    });
    let id = enqueue(&db, "shop").await?;
    let reaper = Ledger::new(db.pool().clone(), "reaper", lease);
    eventually(SOON, "the lease was renewed for three leases", async || {
        let taken = reaper.reap().await?;
        anyhow::ensure!(taken.is_empty(), "{taken:?}");
        let run = db.catalog.run(id).await?;
        let outlasted = run
            .lease_expires_at
            .zip(run.started_at)
            .is_some_and(|(until, started)| until - started > TimeDelta::seconds(4));
        Ok(outlasted && run.dump_bytes == 77)
    })
    .await?;
    gate.open();
    becomes(&db, id, "succeeded").await?;
    for workers in workers {
        workers.stop().await?;
    }
    assert_eq!(witness.began(), [id]);
    assert_eq!(epoch(&db, id).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_worker_neither_finishes_nor_publishes() -> Result<()> {
    let db = with_a_shop().await?;
    let gate = Gate::closed();
    let (tell, mut told) = mpsc::unbounded_channel();
    let g = gate.clone();
    let workers = Workers::start(&db.catalog, &Settings::default(), move |run| {
        let (gate, tell) = (g.clone(), tell.clone());
        async move {
            tell.send(run.lease.is_alive().await)?;
            gate.pass().await;
            tell.send(run.lease.is_alive().await)?;
            Ok(restore_point(&run)?)
        }
    });
    let id = enqueue(&db, "shop").await?;
    assert_eq!(
        within(SOON, "the handler begins", told.recv()).await?,
        Some(true)
    );
    take_away(&db, id).await?;
    gate.open();
    assert_eq!(
        within(SOON, "the handler wakes", told.recv()).await?,
        Some(false)
    );
    workers.idle().await?;
    workers.stop().await?;

    let run = db.catalog.run(id).await?;
    assert_eq!((run.state.as_str(), run.finished_at), ("queued", None));
    assert_eq!(epoch(&db, id).await?, 2);
    assert!(db.catalog.newest_point("shop", None).await?.is_none());
    let resource = db.catalog.resource("shop").await?;
    assert_eq!(resource.newest_consistent_at, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_worker_does_not_touch_the_attempt_of_its_successor() -> Result<()> {
    let db = with_a_shop().await?;
    let (stale, successor) = (Gate::closed(), Gate::closed());
    let witness = Witness::default();
    let (w, gates) = (witness.clone(), [stale.clone(), successor.clone()]);
    let workers = Workers::start(&db.catalog, &Settings::default(), move |run| {
        let (begun, [stale, successor]) = (w.begin(&run), gates.clone());
        async move {
            if run.epoch == Epoch(1) {
                stale.pass().await;
                drop(begun);
                return Err("too late".into());
            }
            successor.pass().await;
            begun.complete();
            Ok(restore_point(&run)?)
        }
    });
    let id = enqueue(&db, "shop").await?;
    witness.are_running(1).await?;
    take_away(&db, id).await?;
    super::workers::make_runnable(&db, id).await?;
    witness.are_running(2).await?;
    stale.open();
    witness.are_running(1).await?;
    let run = db.catalog.run(id).await?;
    assert_eq!(
        (run.state.as_str(), run.error.as_deref()),
        ("running", None)
    );
    successor.open();
    let run = becomes(&db, id, "succeeded").await?;
    workers.stop().await?;
    assert_eq!(run.attempt, 2);
    let point = db.catalog.point(id.0).await?;
    assert_eq!(point.manifest["epoch"], 3, "the successor's own");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_whose_lease_was_taken_is_stopped() -> Result<()> {
    let db = with_a_shop().await?;
    let witness = Witness::default();
    let w = witness.clone();
    let settings = Settings {
        lease: Duration::from_secs(1),
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, move |run| {
        let begun = w.begin(&run);
        async move {
            std::future::pending::<()>().await;
            begun.complete();
            Ok(report())
        }
    });
    let id = enqueue(&db, "shop").await?;
    witness.are_running(1).await?;
    take_away(&db, id).await?;
    witness.are_running(0).await?;
    workers.idle().await?;
    workers.stop().await?;
    assert_eq!(witness.completed(), 0);
    assert_eq!(db.catalog.run(id).await?.state, RunState::Queued);
    Ok(())
}

/// Enqueues a run that a worker has claimed and will never renew.
async fn lost_run(db: &TestCatalog) -> Result<RunId> {
    let id = enqueue(db, "shop").await?;
    lose(db, id).await?;
    Ok(id)
}

async fn lose(db: &TestCatalog, id: RunId) -> Result<()> {
    sqlx::query(
        "update lastgood.runs
         set state = 'running', attempt = attempt + 1, epoch = epoch + 1, lease_by = 'lost', lease_until = now() - interval '1 second'
         where id = $1 and state = 'queued'",
    )
    .bind(id)
    .execute(db.pool())
    .await?;
    Ok(())
}

fn reaper(db: &TestCatalog) -> Ledger {
    Ledger::new(db.pool().clone(), "reaper", Duration::from_secs(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ran_out_puts_the_run_back_and_a_live_one_is_left_alone() -> Result<()> {
    let db = with_a_shop().await?;
    let lost = lost_run(&db).await?;
    let alive = lost_run(&db).await?;
    sqlx::query("update lastgood.runs set lease_until = now() + interval '1 minute' where id = $1")
        .bind(alive)
        .execute(db.pool())
        .await?;
    let reaped = reaper(&db).reap().await?;
    let reaped: Vec<_> = reaped
        .iter()
        .map(|run| {
            (
                run.id,
                run.queue.as_str(),
                run.kind.as_str(),
                run.state.as_str(),
            )
        })
        .collect();
    assert_eq!(reaped, [(lost, "postgres", "backup", "queued")]);
    let run = db.catalog.run(lost).await?;
    assert_eq!(
        (run.state.as_str(), run.attempt),
        ("queued", 1),
        "the attempt is spent"
    );
    assert_eq!(run.error_kind.as_deref(), Some("worker_lost"));
    assert_eq!(epoch(&db, lost).await?, 2, "the lost worker is fenced off");
    assert_eq!(db.catalog.run(alive).await?.state, RunState::Running);
    assert!(reaper(&db).reap().await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_loses_its_worker_in_every_attempt_fails_as_worker_lost() -> Result<()> {
    let db = with_a_shop().await?;
    let now = db.catalog.now().await?;
    tick(&db.catalog, &Plans::built_in(), now).await?;
    let id: RunId = sqlx::query_scalar("select id from lastgood.runs")
        .fetch_one(db.pool())
        .await?;
    for attempt in 1..=5 {
        lose(&db, id).await?;
        let reaped = reaper(&db).reap().await?;
        let state = reaped.first().map(|run| run.state.as_str());
        let expected = if attempt < 5 { "queued" } else { "failed" };
        assert_eq!(state, Some(expected), "attempt {attempt}");
    }
    let run = db.catalog.run(id).await?;
    assert_eq!(
        (run.attempt, run.error_kind.as_deref()),
        (5, Some("worker_lost"))
    );
    assert!(run.finished_at.is_some());
    let resource = db.catalog.resource("shop").await?;
    assert_eq!(resource.failures_in_a_row, 1);
    assert!(
        resource.next_due_at > Some(now),
        "due again after a back-off"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_lease_is_taken_back_within_one_lease_of_the_start_of_the_catalog() -> Result<()> {
    let now: DateTime<Utc> = "2031-03-05T09:37:00Z".parse()?;
    let db = TestCatalog::with_clock(now).await?;
    db.add("shop", "acme", "pro").await?;
    let id = lost_run(&db).await?;
    let reaper = Ledger::new(db.pool().clone(), "reaper", Duration::from_secs(30));
    for since in [0, 10, 29] {
        db.set_server_start(now - TimeDelta::seconds(since)).await?;
        assert!(reaper.reap().await?.is_empty(), "{since} s after its start");
    }
    db.set_server_start(now - TimeDelta::seconds(31)).await?;
    let taken = reaper.reap().await?;
    assert_eq!(taken.first().context("nothing was reaped")?.id, id);
    Ok(())
}

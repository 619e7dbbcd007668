//! Each attempt is on record, however it ended, and an attempt that is over changes nothing any more.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use lastgood::{
    catalog::{Mode, Order},
    nouns::Attempt,
    queue::{Failure, Ledger},
    run::RunState,
};
use lastgood_jobs::{
    attempt::{Epoch, RunId},
    error::ErrorKind,
};

use super::{
    claims_by_hand::Claim,
    workers::{
        Settings, Witness, Workers, becomes, enqueue, epoch, is_queued_after, make_runnable,
        report, restore_point, with_a_shop,
    },
};
use crate::{
    database::TestCatalog,
    eventually::{SOON, eventually},
};

fn order() -> Order {
    Order::new("olga", Some("the disk was full"))
}

/// A row's content, except its times.
type Told<'a> = (
    (i64, i32, &'a str, &'a str),
    Option<&'a str>,
    Option<&'a str>,
    Option<&'a str>,
    (i64, i64),
);

fn told(row: &Attempt) -> Told<'_> {
    (
        (row.epoch.0, row.attempt, row.result.as_str(), &row.consumer),
        row.error_kind.as_deref(),
        row.error.as_deref(),
        row.tool_words.as_deref(),
        (row.dump_bytes, row.stored_bytes),
    )
}

/// Starts workers whose handler does in each epoch what the test of every result needs.
fn workers_of_every_result(db: &TestCatalog, name: &'static str) -> (Workers, Witness) {
    let witness = Witness::default();
    let w = witness.clone();
    let settings = Settings {
        name,
        slots: 1,
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, move |run| {
        let begun = w.begin(&run);
        async move {
            let _begun = begun;
            run.progress.add_dump(10 * run.epoch.0.unsigned_abs());
            run.progress.add_stored(run.epoch.0.unsigned_abs());
            match run.epoch.0 {
                1 | 9 => {
                    let words = format!("pg_dump: {}", run.epoch);
                    let failure = if run.epoch == Epoch(1) {
                        Failure::retryable(ErrorKind::Dump, "a lock")
                    } else {
                        Failure::permanent(ErrorKind::Config, "no such table")
                    };
                    Err(Failure {
                        tool_words: Some(words.into()),
                        ..failure
                    }
                    .into())
                }
                11 => Ok(report()),
                _ => std::future::pending().await,
            }
        }
    });
    (workers, witness)
}

/// Returns when the present attempt began.
async fn started_at(db: &TestCatalog, id: RunId) -> Result<DateTime<Utc>> {
    let run = db.catalog.run(id).await?;
    anyhow::ensure!(run.state == RunState::Running, "the run is {}", run.state);
    run.started_at.context("a run without a begin")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_attempt_is_on_record_with_what_became_of_it_and_no_other_attempts_words() -> Result<()>
{
    let db = with_a_shop().await?;
    let id = enqueue(&db, "shop").await?;
    db.execute("update lastgood.runs set max_attempts = 3")
        .await?;
    let mut started = Vec::new();

    let (first, witness) = workers_of_every_result(&db, "first");
    let run = is_queued_after(&db, id, 1).await?;
    started.push(run.started_at.context("a run without a begin")?);
    make_runnable(&db, id).await?;
    witness.have_begun(2).await?;
    started.push(started_at(&db, id).await?);
    let run = db.catalog.run(id).await?;
    assert_eq!(
        (run.dump_bytes, run.stored_bytes),
        (0, 0),
        "what the attempt before moved is not what this one has moved"
    );
    let reaper = Ledger::new(db.pool().clone(), "reaper", Duration::from_secs(1));
    // Its worker may renew the lease in between.
    eventually(SOON, "the lease is taken back", async || {
        db.execute("update lastgood.runs set lease_until = now() - interval '1 second'")
            .await?;
        Ok(reaper.reap().await?.len() == 1)
    })
    .await?;
    witness.have_begun(3).await?;
    started.push(started_at(&db, id).await?);
    first.begin_drain();
    first.end_patience();
    first.stop().await?;

    let (second, witness) = workers_of_every_result(&db, "second");
    witness.have_begun(1).await?;
    started.push(started_at(&db, id).await?);
    db.catalog.cancel_run(id, &order(), Mode::Real).await?;
    second.idle().await?;
    db.catalog.retry_run(id, &order(), Mode::Real).await?;
    let run = becomes(&db, id, "failed").await?;
    started.push(run.started_at.context("a run without a begin")?);
    db.catalog.retry_run(id, &order(), Mode::Real).await?;
    let run = becomes(&db, id, "succeeded").await?;
    started.push(run.started_at.context("a run without a begin")?);
    second.stop().await?;

    let rows = db.catalog.attempts(id).await?;
    let expected: [Told<'_>; 6] = [
        (
            (1, 1, "retried", "first"),
            Some("dump"),
            Some("a lock"),
            Some("pg_dump: 1"),
            (10, 1),
        ),
        (
            (2, 2, "lost", "first"),
            Some("worker_lost"),
            Some("worker first stopped renewing its lease in attempt 2 of 3"),
            None,
            (0, 0),
        ),
        ((4, 3, "given_back", "first"), None, None, None, (0, 0)),
        (
            (6, 3, "cancelled", "second"),
            Some("cancelled"),
            Some("cancelled by olga: the disk was full"),
            None,
            (0, 0),
        ),
        (
            (9, 1, "failed", "second"),
            Some("config"),
            Some("no such table"),
            Some("pg_dump: 9"),
            (90, 9),
        ),
        ((11, 1, "succeeded", "second"), None, None, None, (110, 11)),
    ];
    assert_eq!(rows.iter().map(told).collect::<Vec<_>>(), expected);
    let begins: Vec<_> = rows.iter().map(|row| row.started_at).collect();
    assert_eq!(begins, started);
    assert!(rows.iter().all(|row| row.started_at <= row.finished_at));
    for pair in rows.windows(2) {
        assert!(pair[0].finished_at <= pair[1].started_at, "{pair:?}");
    }
    Ok(())
}

async fn claim_for_another(db: &TestCatalog, id: RunId) -> Result<()> {
    make_runnable(db, id).await?;
    let claim = Claim {
        worker: "another",
        ..Claim::default()
    };
    anyhow::ensure!(
        claim.runs(db).await? == [id],
        "another worker could not claim it"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_cancelled_before_the_last_records_nothing() -> Result<()> {
    // Whether the following attempt runs or was cancelled too, and whether the attempt before made a restore point.
    for (state, has_point) in [
        ("running", true),
        ("running", false),
        ("cancelled", true),
        ("cancelled", false),
    ] {
        let db = Arc::new(with_a_shop().await?);
        let id = enqueue(&db, "shop").await?;
        let d = Arc::clone(&db);
        // With one slot, the worker itself cannot claim the run again.
        let settings = Settings {
            slots: 1,
            ..Settings::default()
        };
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let workers = Workers::start(&db.catalog, &settings, move |run| {
            let (db, tell) = (Arc::clone(&d), tell.clone());
            async move {
                let made = if has_point {
                    restore_point(&run)?
                } else {
                    report()
                };
                // Between the manifest and the finish, and before the worker can be notified.
                db.catalog.cancel_run(run.id, &order(), Mode::Real).await?;
                db.catalog.retry_run(run.id, &order(), Mode::Real).await?;
                claim_for_another(&db, run.id).await?;
                if state == "cancelled" {
                    db.catalog.cancel_run(run.id, &order(), Mode::Real).await?;
                }
                tell.send(())?;
                Ok(made)
            }
        });
        told.recv()
            .await
            .context("the handler did not come so far")?;
        workers.idle().await?;
        workers.stop().await?;
        let run = db.catalog.run(id).await?;
        assert_eq!((run.state.as_str(), run.attempt), (state, 1));
        assert_eq!(run.report, None, "{state}");
        let points = "select count(*) from lastgood.restore_points";
        assert_eq!(db.count(points).await?, 0, "{state}");
        assert_eq!(db.count("select count(*) from lastgood.copies").await?, 0);
        let resource = db.catalog.resource("shop").await?;
        assert_eq!(resource.newest_consistent_at, None, "{state}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_worker_gives_nothing_back() -> Result<()> {
    let db = with_a_shop().await?;
    let id = enqueue(&db, "shop").await?;
    let witness = Witness::default();
    let w = witness.clone();
    let settings = Settings {
        slots: 1,
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, move |run| {
        let begun = w.begin(&run);
        async move {
            let _begun = begun;
            std::future::pending().await
        }
    });
    witness.are_running(1).await?;
    db.execute("update lastgood.runs set lease_until = now() - interval '1 second'")
        .await?;
    let reaper = Ledger::new(db.pool().clone(), "reaper", Duration::from_secs(1));
    assert_eq!(reaper.reap().await?.len(), 1);
    claim_for_another(&db, id).await?;
    let before = db.catalog.run(id).await?;
    workers.begin_drain();
    workers.end_patience();
    workers.stop().await?;
    let after = db.catalog.run(id).await?;
    assert_eq!(
        (after.state.as_str(), after.consumer.as_deref()),
        ("running", Some("another"))
    );
    assert_eq!((after.attempt, epoch(&db, id).await?), (2, 3));
    assert_eq!(after.lease_expires_at, before.lease_expires_at);
    assert_eq!(db.catalog.attempts(id).await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_follows_a_failed_attempt_begins_at_nothing() -> Result<()> {
    let db = with_a_shop().await?;
    let id = enqueue(&db, "shop").await?;
    let workers = Workers::start(&db.catalog, &Settings::default(), |run| async move {
        run.progress.add_dump(1000);
        run.progress.add_stored(100);
        Err("it did not work".into())
    });
    let failed = is_queued_after(&db, id, 1).await?;
    assert_eq!((failed.dump_bytes, failed.stored_bytes), (1000, 100));
    workers.stop().await?;
    claim_for_another(&db, id).await?;
    let running = db.catalog.running().await?;
    let run = running.first().context("nothing runs")?;
    assert_eq!((run.attempt, run.dump_bytes, run.stored_bytes), (2, 0, 0));
    let now = db.catalog.now().await?;
    assert!(failed.started_at < Some(run.started_at) && run.started_at <= now);
    Ok(())
}

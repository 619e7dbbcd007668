//! A drain claims nothing new, lets running work finish, and loses neither a run nor an attempt.

use anyhow::Result;
use lastgood_jobs::attempt::RunId;

use super::workers::{
    Gate, Settings, Witness, Workers, becomes, enqueue, enqueue_many, epoch, report, with_a_shop,
};
use crate::eventually::{SOON, eventually, soon};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_when_a_drain_begins_finishes_and_nothing_new_begins() -> Result<()> {
    let db = with_a_shop().await?;
    let ids = enqueue_many(&db, "shop", 10).await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    let (w, g) = (witness.clone(), gate.clone());
    let settings = Settings {
        slots: 4,
        ..Settings::default()
    };
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let workers = Workers::start_with_context(&db.catalog, &settings, move |run, worker| {
        let (begun, gate, tell) = (w.begin(&run), g.clone(), tell.clone());
        async move {
            soon("the drain begins", || worker.is_shutting_down()).await?;
            tell.send(())?;
            gate.pass().await;
            begun.complete();
            Ok(report())
        }
    });
    witness.are_running(4).await?;
    workers.begin_drain();
    for _ in 0..4 {
        told.recv().await;
    }
    gate.open();
    workers.stop().await?;
    assert_eq!((witness.began().len(), witness.completed()), (4, 4));
    for id in ids {
        let run = db.catalog.run(id).await?;
        let expected = if witness.began().contains(&id) {
            ("succeeded", 1)
        } else {
            ("queued", 0)
        };
        assert_eq!((run.state.as_str(), run.attempt), expected);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_claimed_and_not_begun_when_a_drain_begins_is_given_back_unspent() -> Result<()> {
    // A claim waits five seconds at most for a lock, which may be too short on a busy machine.
    for _ in 0..5 {
        if is_given_back_unspent().await? {
            return Ok(());
        }
    }
    anyhow::bail!("no claim came about while a drain began")
}

/// Returns false if the claim gave up on the lock, so that there was nothing to give back.
async fn is_given_back_unspent() -> Result<bool> {
    let db = with_a_shop().await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    let (w, g) = (witness.clone(), gate.clone());
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let workers =
        Workers::start_with_context(&db.catalog, &Settings::default(), move |run, worker| {
            let (begun, gate, tell) = (w.begin(&run), g.clone(), tell.clone());
            async move {
                soon("the drain begins", || worker.is_shutting_down()).await?;
                tell.send(())?;
                gate.pass().await;
                begun.complete();
                Ok(report())
            }
        });
    let in_flight = enqueue(&db, "shop").await?;
    witness.are_running(1).await?;

    db.add("other", "acme", "pro").await?;
    // The next claim is under way, held up by a lock, when the drain begins.
    let mut lock = db.pool().begin().await?;
    sqlx::query("lock table lastgood.runs in access exclusive mode")
        .execute(&mut *lock)
        .await?;
    let claimed: RunId = sqlx::query_scalar(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args)
           values ('postgres', 'backup', 'adhoc', 'other', '{"kind": "backup"}') returning id"#,
    )
    .fetch_one(&mut *lock)
    .await?;
    eventually(SOON, "a claim waits for the lock", async || {
        let waiting = "select count(*) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock' and query like '%lastgood.claim_all(%'";
        Ok(db.count(waiting).await? == 1)
    })
    .await?;
    workers.begin_drain();
    told.recv().await;
    lock.commit().await?;

    let given_back = eventually(SOON, "the claim was given back", async || {
        Ok(epoch(&db, claimed).await? == 2)
    })
    .await;
    if given_back.is_err() && epoch(&db, claimed).await? == 0 {
        gate.open();
        workers.stop().await?;
        return Ok(false);
    }
    given_back?;
    let run = db.catalog.run(claimed).await?;
    assert_eq!((run.state.as_str(), run.attempt), ("queued", 0));
    gate.open();
    workers.stop().await?;
    assert_eq!(witness.began(), [in_flight]);
    becomes(&db, in_flight, "succeeded").await?;
    Ok(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_runs_out_of_time_stops_handlers_and_gives_their_runs_back_unspent()
-> Result<()> {
    let db = with_a_shop().await?;
    let ids = enqueue_many(&db, "shop", 2).await?;
    let witness = Witness::default();
    let w = witness.clone();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let settings = Settings::default();
    let workers = Workers::start_with_context(&db.catalog, &settings, move |run, worker| {
        let (begun, tell) = (w.begin(&run), tell.clone());
        async move {
            soon("the drain begins", || worker.is_shutting_down()).await?;
            tell.send(())?;
            std::future::pending::<()>().await;
            begun.complete();
            Ok(report())
        }
    });
    witness.are_running(2).await?;
    workers.begin_drain();
    told.recv().await;
    workers.end_patience();
    workers.stop().await?;
    assert_eq!((witness.running(), witness.completed()), (0, 0));
    for id in &ids {
        let run = db.catalog.run(*id).await?;
        assert_eq!((run.state.as_str(), run.attempt), ("queued", 0));
        assert_eq!(epoch(&db, *id).await?, 2);
    }

    // The next worker gets them at once.
    let w = witness.clone();
    let next = Workers::start(&db.catalog, &Settings::default(), move |run| {
        let begun = w.begin(&run);
        async move {
            begun.complete();
            Ok(report())
        }
    });
    for id in ids {
        assert_eq!(becomes(&db, id, "succeeded").await?.attempt, 1);
    }
    next.stop().await
}

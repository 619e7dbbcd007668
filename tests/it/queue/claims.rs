//! Each run is executed once, by priority, and never more runs at once than there are slots.

use std::{collections::HashSet, time::Duration};

use anyhow::Result;
use lastgood::{
    catalog::{NewRun, Order},
    plan::Plans,
    producer::tick,
    run::{RunKind, Trigger},
};
use lastgood_jobs::{
    attempt::RunId,
    job::{Job, Restore, RestoreTarget},
};
use uuid::Uuid;

use super::claims_by_hand::{Claim, ask};
use super::workers::{
    Gate, Settings, Witness, Workers, becomes, enqueue, enqueue_many, enqueue_on, report,
    with_a_shop,
};
use crate::eventually::{SOON, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn each_run_is_executed_once_by_two_workers_with_many_slots() -> Result<()> {
    let db = with_a_shop().await?;
    let other = db.another().await?;
    let ids = enqueue_many(&db, "shop", 400).await?;
    let witness = Witness::default();
    let workers = [(&db.catalog, "one"), (&other, "two")].map(|(catalog, name)| {
        let witness = witness.clone();
        let settings = Settings {
            name,
            slots: 16,
            ..Settings::default()
        };
        Workers::start(catalog, &settings, move |run| {
            let begun = witness.begin(&run);
            async move {
                begun.complete();
                Ok(report())
            }
        })
    });
    eventually(SOON * 3, "all runs have succeeded", async || {
        let left = "select count(*) from lastgood.runs where state <> 'succeeded'";
        Ok(db.count(left).await? == 0)
    })
    .await?;
    for worker in workers {
        worker.stop().await?;
    }
    let began = witness.began();
    let distinct: HashSet<RunId> = began.iter().copied().collect();
    assert_eq!(began.len(), 400, "some were executed twice");
    assert_eq!(distinct, ids.into_iter().collect());
    let odd = "select count(*) from lastgood.runs where attempt <> 1 or epoch <> 1";
    assert_eq!(db.count(odd).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_are_never_exceeded_and_never_left_empty() -> Result<()> {
    let db = with_a_shop().await?;
    enqueue_many(&db, "shop", 12).await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    let (w, g) = (witness.clone(), gate.clone());
    let settings = Settings {
        slots: 3,
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, move |run| {
        let (begun, gate) = (w.begin(&run), g.clone());
        async move {
            gate.pass().await;
            begun.complete();
            Ok(report())
        }
    });
    for begun in 3..=12 {
        witness.have_begun(begun).await?;
        let running = "select count(*) from lastgood.runs where state = 'running'";
        assert_eq!(
            db.count(running).await?,
            3,
            "a claim takes no more than free slots"
        );
        gate.admit(1);
    }
    gate.open();
    workers.stop().await?;
    assert_eq!((witness.most(), witness.completed()), (3, 12));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jobs_of_one_engine_do_not_take_the_slots_of_another() -> Result<()> {
    let db = with_a_shop().await?;
    db.add_on("vector", "search", "acme", "pro").await?;
    enqueue_many(&db, "shop", 10).await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    let (w, g) = (witness.clone(), gate.clone());
    let settings = Settings {
        queues: &["postgres", "vector"],
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, move |run| {
        let (begun, gate) = (w.begin(&run), g.clone());
        async move {
            if run.resource_id.starts_with("shop") {
                gate.pass().await;
            }
            begun.complete();
            Ok(report())
        }
    });
    witness.are_running(2).await?;
    for _ in 0..3 {
        let id = enqueue_on(&db, "vector", "search").await?;
        becomes(&db, id, "succeeded").await?;
    }
    assert_eq!(
        witness.running(),
        2,
        "both slots of the other engine are still taken"
    );
    gate.open();
    workers.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_goes_before_an_ad_hoc_backup_and_that_before_a_scheduled_one() -> Result<()> {
    let db = with_a_shop().await?;
    // The least urgent first, so that ordering by age alone would reverse the order.
    let now = db.catalog.now().await?;
    assert_eq!(
        tick(&db.catalog, &Plans::built_in(), now).await?.enqueued,
        1
    );
    enqueue(&db, "shop").await?;
    let restore = Job::Restore(Restore {
        point: Uuid::new_v4(),
        target: RestoreTarget::Swap {},
        no_owner: false,
        no_acl: false,
        as_superuser: false,
        no_tablespaces: false,
        break_replication: false,
        of_owner: false,
    });
    let new = NewRun {
        resource_id: "shop",
        queue: "postgres",
        job: &restore,
        idempotency_key: None,
        asked: None,
    };
    db.catalog.enqueue(&new, &Order::new("test", None)).await?;
    let witness = Witness::default();
    let w = witness.clone();
    let settings = Settings {
        slots: 1,
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, move |run| {
        let begun = w.begin(&run);
        async move {
            begun.complete();
            Ok(report())
        }
    });
    witness.have_begun(3).await?;
    workers.stop().await?;
    let mut order = Vec::new();
    for id in witness.began() {
        let run = db.catalog.run(id).await?;
        order.push((run.kind, run.trigger));
    }
    let expected = [
        (RunKind::Restore, Trigger::Adhoc),
        (RunKind::Backup, Trigger::Adhoc),
        (RunKind::Backup, Trigger::Scheduled),
    ];
    assert_eq!(order, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_time_has_not_come_is_not_claimed() -> Result<()> {
    let db = with_a_shop().await?;
    let later = enqueue(&db, "shop").await?;
    db.execute("update lastgood.runs set run_at = now() + interval '1 hour', priority = 1000")
        .await?;
    let now = enqueue(&db, "shop").await?;
    let witness = Witness::default();
    let w = witness.clone();
    let settings = Settings {
        poll: Duration::from_millis(20),
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, move |run| {
        let begun = w.begin(&run);
        async move {
            begun.complete();
            Ok(report())
        }
    });
    becomes(&db, now, "succeeded").await?;
    workers.stop().await?;
    assert_eq!(witness.began(), [now]);
    assert_eq!(db.catalog.run(later).await?.attempt, 0);
    Ok(())
}

#[tokio::test]
async fn an_attempt_begins_with_no_bytes() -> Result<()> {
    let db = with_a_shop().await?;
    ask(&db, "postgres", "backup", "shop").await?;
    db.execute("update lastgood.runs set attempt = 1, epoch = 1, dump_bytes = 5, stored_bytes = 4")
        .await?;
    assert_eq!(Claim::default().take(&db).await?.len(), 1);
    let bytes: (i64, i64) = sqlx::query_as("select dump_bytes, stored_bytes from lastgood.runs")
        .fetch_one(db.pool())
        .await?;
    assert_eq!(bytes, (0, 0));
    Ok(())
}

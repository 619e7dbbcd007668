//! A catalog that goes away for a while costs time, never a run, an attempt or a worker.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::workers::{
    Gate, Settings, Witness, Workers, becomes, enqueue, epoch, restore_point, with_a_shop,
};
use crate::{
    database::TestCatalog,
    eventually::{SOON, eventually},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_connections_are_cut_finishes_once_and_the_worker_lives_on() -> Result<()> {
    let db = with_a_shop().await?;
    let consumer = db.another().await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    let (w, g) = (witness.clone(), gate.clone());
    let settings = Settings {
        lease: Duration::from_secs(2),
        listens: true,
        ..Settings::default()
    };
    let workers = Workers::start(&consumer, &settings, move |run| {
        let (begun, gate) = (w.begin(&run), g.clone());
        async move {
            gate.pass().await;
            begun.complete();
            Ok(restore_point(&run)?)
        }
    });
    let id = enqueue(&db, "shop").await?;
    witness.are_running(1).await?;
    for _ in 0..3 {
        let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
        assert!(db.count(cut).await? > 0);
        let before = db.catalog.run(id).await?.lease_until;
        eventually(SOON, "the lease was renewed again", async || {
            Ok(db.catalog.run(id).await?.lease_until > before)
        })
        .await?;
    }
    gate.open();
    becomes(&db, id, "succeeded").await?;
    let next = enqueue(&db, "shop").await?;
    becomes(&db, next, "succeeded").await?;
    workers.stop().await?;
    assert_eq!(witness.began(), [id, next]);
    assert_eq!(epoch(&db, id).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_longer_than_the_lease_is_survived_where_nobody_took_the_run() -> Result<()> {
    let db = with_a_shop().await?;
    let consumer = db.another().await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    let (w, g) = (witness.clone(), gate.clone());
    let settings = Settings {
        lease: Duration::from_secs(1),
        ..Settings::default()
    };
    let workers = Workers::start(&consumer, &settings, move |run| {
        let (begun, gate) = (w.begin(&run), g.clone());
        async move {
            gate.pass().await;
            begun.complete();
            Ok(restore_point(&run)?)
        }
    });
    let id = enqueue(&db, "shop").await?;
    witness.are_running(1).await?;
    let until = db.catalog.run(id).await?.lease_until.context("no lease")?;
    db.set_reachable(false).await?;
    let gone = until + chrono::TimeDelta::seconds(2);
    eventually(SOON, "the lease ran out", async || {
        Ok(TestCatalog::server_time().await? > gone)
    })
    .await?;
    // The handler ends while nobody can be told.
    gate.open();
    witness.are_running(0).await?;
    db.set_reachable(true).await?;
    let run = becomes(&db, id, "succeeded").await?;
    assert_eq!(run.attempt, 1);
    assert_eq!(db.catalog.point(id).await?.resource_id, "shop");
    let next = enqueue(&db, "shop").await?;
    becomes(&db, next, "succeeded").await?;
    workers.stop().await?;
    assert_eq!(witness.began(), [id, next]);
    Ok(())
}

//! An outage of the catalog costs time, but never a run, an attempt or a worker.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use lastgood::{
    catalog::{Catalog, CatalogError},
    queue::Failure,
    run::RunState,
};
use lastgood_jobs::attempt::Epoch;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use url::Url;

use super::workers::{
    Gate, Settings, Witness, Workers, becomes, enqueue, epoch, report, restore_point, with_a_shop,
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
        let before = db.catalog.run(id).await?.lease_expires_at;
        eventually(SOON, "the lease was renewed again", async || {
            Ok(db.catalog.run(id).await?.lease_expires_at > before)
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
    let until = db
        .catalog
        .run(id)
        .await?
        .lease_expires_at
        .context("no lease")?;
    db.set_reachable(false).await?;
    let gone = until + chrono::TimeDelta::seconds(2);
    eventually(SOON, "the lease ran out", async || {
        Ok(TestCatalog::server_time().await? > gone)
    })
    .await?;
    // The handler ends while the catalog cannot be reached.
    gate.open();
    witness.are_running(0).await?;
    db.set_reachable(true).await?;
    let run = becomes(&db, id, "succeeded").await?;
    assert_eq!(run.attempt, 1);
    assert_eq!(db.catalog.point(id.0).await?.resource_id, "shop");
    let next = enqueue(&db, "shop").await?;
    becomes(&db, next, "succeeded").await?;
    workers.stop().await?;
    assert_eq!(witness.began(), [id, next]);
    Ok(())
}

/// A proxy to the catalog that can lose an answer: the server has done the work, and the client never learns of it.
struct Way {
    url: SecretString,
    loses: Arc<AtomicBool>,
}

impl Way {
    async fn to(db: &TestCatalog) -> Result<Self> {
        let mut url: Url = db.url().expose_secret().parse()?;
        let server = (
            url.host_str().context("no host")?.to_owned(),
            url.port().context("no port")?,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let loses = Arc::new(AtomicBool::new(false));
        let lost = Arc::clone(&loses);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, lost) = (server.clone(), Arc::clone(&lost));
                tokio::spawn(async move {
                    let server = TcpStream::connect((server.0.as_str(), server.1)).await?;
                    forward(client, server, &lost).await
                });
            }
        });
        let moved = url.set_host(Some("127.0.0.1")).is_ok() && url.set_port(Some(port)).is_ok();
        anyhow::ensure!(moved, "the URL takes no other port");
        Ok(Self {
            url: SecretString::from(url.to_string()),
            loses,
        })
    }
}

/// Forwards bytes in both directions. Closes the connection instead of forwarding an answer that is to be lost.
async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    loses: &AtomicBool,
) -> std::io::Result<()> {
    let (mut asked, mut answered) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => match read? {
                0 => return Ok(()),
                bytes => server.write_all(asked.get(..bytes).unwrap_or_default()).await?,
            },
            read = server.read(&mut answered) => match read? {
                0 => return Ok(()),
                _ if loses.swap(false, Ordering::SeqCst) => return Ok(()),
                bytes => client.write_all(answered.get(..bytes).unwrap_or_default()).await?,
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_answer_is_lost_spends_no_attempt() -> Result<()> {
    let db = with_a_shop().await?;
    let way = Way::to(&db).await?;
    let consumer = Catalog::open(&way.url, 4).await?;
    let witness = Witness::default();
    let w = witness.clone();
    // Claims take turns: this one waits for its turn, and its answer gets lost.
    let mut turn = db.pool().begin().await?;
    sqlx::query("select from lastgood.claim_turn for update")
        .execute(&mut *turn)
        .await?;
    let workers = Workers::start(&consumer, &Settings::default(), move |run| {
        let begun = w.begin(&run);
        async move {
            begun.complete();
            Ok(report())
        }
    });
    let id = enqueue(&db, "shop").await?;
    eventually(SOON, "the claim waits for its turn", async || {
        let waits = "select count(*) from pg_stat_activity
             where datname = current_database() and wait_event_type = 'Lock' and query like '%lastgood.claim_all(%'";
        Ok(db.count(waits).await? == 1)
    })
    .await?;
    way.loses.store(true, Ordering::SeqCst);
    turn.commit().await?;
    let run = becomes(&db, id, "succeeded").await?;
    workers.stop().await?;
    assert_eq!(run.attempt, 1);
    assert_eq!(witness.began(), [id]);
    let results: Vec<_> = db.catalog.attempts(id).await?;
    let results: Vec<_> = results.iter().map(|it| it.result.as_str()).collect();
    assert_eq!(results, ["given_back", "succeeded"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_cannot_reach_the_catalog_spends_no_attempt() -> Result<()> {
    let away = CatalogError::Unreachable(sqlx::Error::PoolTimedOut);
    assert!(Failure::from(away).is_outage);
    let db = with_a_shop().await?;
    let workers = Workers::start(&db.catalog, &Settings::default(), |run| async move {
        if run.epoch < Epoch(12) {
            return Err(Failure::outage("cannot reach the catalog").into());
        }
        Ok(report())
    });
    let id = enqueue(&db, "shop").await?;
    // More outages than attempts.
    for outages in 1..=6 {
        eventually(SOON, "the run is back in the queue", async || {
            let given_back = db.catalog.attempts(id).await?.len() == outages;
            Ok(given_back && db.catalog.run(id).await?.state == RunState::Queued)
        })
        .await?;
        assert_eq!(db.catalog.run(id).await?.attempt, 0);
        super::workers::make_runnable(&db, id).await?;
    }
    let run = becomes(&db, id, "succeeded").await?;
    workers.stop().await?;
    assert_eq!(run.attempt, 1);
    Ok(())
}

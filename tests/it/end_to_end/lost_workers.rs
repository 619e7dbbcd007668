//! A consumer that dies, hangs or is killed by its work costs a lease, but no run, slot or restore point.

use anyhow::{Context as _, Result, ensure};
use chrono::{TimeDelta, Utc};
use lastgood::{nouns::Run, run::RunState};
use lastgood_jobs::storage::Storage;
use uuid::Uuid;

use super::{
    customer::{Customer, Rights},
    gate::{FakeTools, LARGE_TABLE, tools_at_work},
    lab::{Lab, PATIENCE},
    program::Service,
    store,
};
use crate::eventually::eventually;

const LEASE: &str = "4s";

async fn installation() -> Result<(Lab, Customer)> {
    let (mut lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    lab.set("LASTGOOD_LEASE", LEASE);
    lab.add("shop", &shop).await?;
    Ok((lab, shop))
}

/// Returns the index in `consumers` of the one that holds the run.
fn holder(row: &Run, consumers: &[Service]) -> Result<usize> {
    let lease_by = row.consumer.as_deref().context("nobody holds the run")?;
    let holds = |consumer: &Service| lease_by.contains(&format!("-{}-", consumer.pid()));
    let place = consumers.iter().position(holds);
    place.with_context(|| format!("{lease_by} is none of the consumers"))
}

async fn no_tool_is_left(shop: &Customer) -> Result<()> {
    eventually(PATIENCE, "no pg_dump is left", async || {
        Ok(tools_at_work(&shop.name, "pg_dump")?.is_empty() && shop.dumping().await?.0 == 0)
    })
    .await
}

async fn has_partial_archive(lab: &Lab) -> Result<()> {
    eventually(PATIENCE, "half an archive is in the store", async || {
        let files = store::files(&lab.store())?;
        Ok(files.iter().any(|file| file.starts_with("partial/")))
    })
    .await
}

/// Kills the run's worker, and only then lets the dump continue.
async fn is_finished_by_another(
    lab: &Lab,
    shop: &Customer,
    run: Uuid,
    mut consumers: Vec<Service>,
    go_on: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let first = lab.row(run).await?;
    let killed_by = holder(&first, &consumers)?;
    consumers
        .get_mut(killed_by)
        .context("no such consumer")?
        .kill()?;
    let second = lab
        .becomes(run, "another takes the run over", |row| row.attempt == 2)
        .await?;
    // The lapse of its lease alone gave the run back, hours before the longest time that an attempt may take.
    ensure!(
        second.error_kind.as_deref() == Some("worker_lost"),
        "{second:?}"
    );
    go_on().await?;
    if second.state == RunState::Running {
        assert_ne!(holder(&second, &consumers)?, killed_by);
    }
    let row = lab.succeeds(run).await?;
    assert_eq!((row.attempt, row.error_kind), (2, None));
    let points = lab.points().await?;
    assert_eq!(points.first().map(|point| point.id), Some(run));
    no_tool_is_left(shop).await
}

#[tokio::test]
async fn a_run_whose_consumer_is_killed_is_finished_by_another() -> Result<()> {
    let (lab, shop) = installation().await?;
    shop.run("create table orders as select n from generate_series(1, 1000) n")
        .await?;
    let _producer = lab.producer()?;
    let consumers = vec![lab.consumer("a", &[]).await?, lab.consumer("b", &[]).await?];
    let locked = shop.lock("orders").await?;
    let run = lab.enqueue_backup("shop").await?;
    eventually(PATIENCE, "the dump waits for the lock", async || {
        Ok(shop.dumping().await?.1 > 0)
    })
    .await?;
    is_finished_by_another(&lab, &shop, run, consumers, async || locked.release().await).await?;
    lab.has_points(1).await.map(drop)
}

#[tokio::test]
async fn half_an_archive_of_a_killed_consumer_is_removed_by_the_janitor_alone() -> Result<()> {
    let (mut lab, shop) = installation().await?;
    shop.run(LARGE_TABLE).await?;
    let tools = FakeTools::gated()?;
    lab.set("LASTGOOD_PG_CLIENT_DIRS", tools.path());
    let _producer = lab.producer()?;
    let consumers = vec![lab.consumer("a", &[]).await?, lab.consumer("b", &[]).await?];
    let run = lab.enqueue_backup("shop").await?;
    has_partial_archive(&lab).await?;
    is_finished_by_another(&lab, &shop, run, consumers, async || tools.open()).await?;
    // As far as the next attempt can know, the first one may still be writing.
    has_partial_archive(&lab).await?;
    let url = lab.store().to_string_lossy().parse()?;
    let store = Storage::open(&url).await?;
    store.sweep(Utc::now() + TimeDelta::minutes(1)).await?;
    lab.has_points(1).await.map(drop)
}

#[tokio::test]
async fn a_consumer_that_wakes_after_its_lease_publishes_nothing() -> Result<()> {
    let (mut lab, shop) = installation().await?;
    shop.run(LARGE_TABLE).await?;
    let tools = FakeTools::gated()?;
    lab.set("LASTGOOD_PG_CLIENT_DIRS", tools.path());
    let _producer = lab.producer()?;
    let mut sleeper = lab.consumer("sleeper", &[]).await?;
    let run = lab.enqueue_backup("shop").await?;
    has_partial_archive(&lab).await?;
    sleeper.signal("STOP")?;

    let mut other = lab.consumer("other", &[]).await?;
    lab.becomes(run, "the other takes the run over", |row| row.attempt == 2)
        .await?;
    tools.open()?;
    let finished = lab.succeeds(run).await?;
    let points = lab.points().await?;
    other.signal("TERM")?;
    assert!(other.exit().await?.success());

    sleeper.signal("CONT")?;
    let lost = "lastgood_runs_total{engine=\"vector\",kind=\"backup\",result=\"lease_lost\"}";
    sleeper.shows(lost, 1.0).await?;
    no_tool_is_left(&shop).await?;
    assert_eq!(
        format!("{:?}", lab.has_points(1).await?),
        format!("{points:?}")
    );
    assert_eq!(
        format!("{:?}", lab.row(run).await?),
        format!("{finished:?}")
    );

    assert!(sleeper.is_running()?);
    let next = lab.enqueue_backup("shop").await?;
    assert_eq!(lab.succeeds(next).await?.attempt, 1);
    lab.has_points(2).await?;
    Ok(())
}

#[tokio::test]
async fn a_run_that_kills_its_worker_each_time_fails_when_its_attempts_are_spent() -> Result<()> {
    let (mut lab, _shop) = installation().await?;
    let tools = FakeTools::new("kill -9 $PPID")?;
    let run = lab.enqueue_backup("shop").await?;
    lab.catalog
        .execute("update lastgood.runs set max_attempts = 2")
        .await?;
    let producer = lab.producer()?;
    lab.set("LASTGOOD_PG_CLIENT_DIRS", tools.path());
    let mut consumer = lab.consumer("killed", &[]).await?;
    let mut deaths = 0;
    eventually(PATIENCE, "the run has ended", async || {
        if !consumer.is_running()? {
            deaths += 1;
            consumer = lab.start("killed", &["consumer"])?;
        }
        Ok(lab.row(run).await?.state.has_ended())
    })
    .await?;
    let row = lab.row(run).await?;
    assert_eq!(
        (row.state.as_str(), row.error_kind.as_deref()),
        ("failed", Some("worker_lost"))
    );
    assert_eq!((row.attempt, deaths), (2, 2));
    let shown = lab
        .run(&["run", "show", &run.to_string()])
        .await?
        .succeeded()?
        .out;
    assert!(
        shown.contains("stopped renewing its lease in attempt 2 of 2"),
        "{shown}"
    );
    lab.has_points(0).await?;
    producer
        .shows(
            "lastgood_reaped_leases_total{engine=\"vector\",state=\"failed\"}",
            1.0,
        )
        .await
}

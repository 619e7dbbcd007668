//! Every process says that it cannot work with its catalog, and one that waits holds few connections to it.

use anyhow::{Context as _, Result, ensure};

use super::{
    lab::{Lab, PATIENCE},
    program::Service,
};
use crate::eventually::eventually;

async fn says(service: &Service, status: &str) -> Result<()> {
    eventually(PATIENCE, &format!("/readyz says {status}"), async || {
        Ok(service.get("/readyz").await?.contains(status))
    })
    .await
}

/// Such a catalog still answers, as a standby does, but nothing is scheduled, claimed or recorded.
#[tokio::test]
async fn a_catalog_that_takes_no_writes_is_told_by_every_process() -> Result<()> {
    let lab = Lab::create().await?;
    let services = [
        (lab.producer()?, "read-only"),
        (lab.start("consumer", &["consumer"])?, "read-only"),
        (lab.start("api", &["api"])?, "takes no writes"),
    ];
    for (service, _) in &services {
        says(service, " 200 OK").await?;
    }
    lab.run(&["status", "--check"]).await?.succeeded()?;

    sqlx::query(sqlx::AssertSqlSafe(format!(
        "alter database {} set default_transaction_read_only = on",
        lab.catalog.name()
    )))
    .execute(lab.catalog.pool())
    .await?;
    let status = lab.run(&["status", "--check"]).await?;
    ensure!(
        status.code == Some(1) && status.out.contains("CATALOG: the catalog takes no writes"),
        "{status:?}"
    );
    let doctor = lab.run(&["doctor", "--within", "1m"]).await?;
    ensure!(
        doctor.out.contains("FAIL catalog") && doctor.out.contains("takes no writes"),
        "{doctor:?}"
    );

    // The setting holds for new connections.
    let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
    lab.catalog.count(cut).await?;
    for (service, why) in &services {
        says(service, " 503 ").await?;
        eventually(PATIENCE, &format!("the log says {why}"), async || {
            Ok(service.log()?.contains(why))
        })
        .await?;
    }
    Ok(())
}

/// Returns how many connections to the catalog the consumer has: all but the test's own.
async fn held(lab: &Lab) -> Result<i64> {
    let all = "select count(*) from pg_stat_activity
         where datname = current_database() and application_name = 'lastgood' and backend_type = 'client backend'";
    let all = lab.catalog.count(all).await?;
    Ok(all - i64::from(lab.catalog.pool().size()))
}

/// The idle consumers of a fleet share one catalog, and each gives back what it held while it was busy.
#[tokio::test]
async fn a_consumer_that_waits_comes_down_to_three_connections() -> Result<()> {
    let mut lab = Lab::create().await?;
    lab.set("LASTGOOD_POLL", "2s");
    let _consumer = lab.consumer("consumer", &[]).await?;

    // Taken without waiting: a lock that waits for a statement, which waits for another of these tables, would never be had.
    let lock = "lock table lastgood.runs, lastgood.consumers, lastgood.closed_databases, lastgood.store_faults
         in access exclusive mode nowait";
    let mut locked = None;
    eventually(PATIENCE, "the tables are locked", async || {
        let mut session = lab.catalog.pool().begin().await?;
        let got = sqlx::query(lock).execute(&mut *session).await;
        locked = got.is_ok().then_some(session);
        Ok(locked.is_some())
    })
    .await?;
    // One more connection listens.
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually(PATIENCE, "it holds more than three", async || {
        Ok(lab.catalog.count(waiting).await? >= 3)
    })
    .await?;
    locked.context("no lock")?.rollback().await?;

    eventually(PATIENCE, "three connections are left", async || {
        Ok(held(&lab).await? <= 3)
    })
    .await
}

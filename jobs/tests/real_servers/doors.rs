//! No path leaves a customer's database closed: closing is recorded beforehand, waits only seconds, and can be undone.

use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::{
    job::{Restore, RestoreTarget},
    sought::Sought,
};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Executor as _, PgConnection, postgres::PgConnectOptions,
};

use crate::{
    lab::{Lab, Server, attempt, until},
    subject::{reopen, restore},
};

async fn is_open(lab: &Lab) -> Result<bool> {
    let question = format!(
        "select datallowconn::text from pg_database where datname = '{}'",
        lab.name
    );
    Ok(lab.server.ask("postgres", &question).await? == "true")
}

/// Opens a transaction that prevents the database from being renamed.
async fn comments_on_it(lab: &Lab) -> Result<PgConnection> {
    let mut session = lab.server.session("postgres").await?;
    let comment = format!("begin; comment on database \"{}\" is 'busy'", lab.name);
    session
        .execute(sqlx::raw_sql(AssertSqlSafe(comment)))
        .await?;
    Ok(session)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_waits_for_a_lock_opens_the_database_and_tries_again() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table shop as select n from generate_series(1, 100) n")
        .await?;
    let point = lab.backup(attempt()).await?;
    lab.run("truncate shop").await?;
    let mut busy = comments_on_it(&lab).await?;
    let job = Restore {
        point: point.manifest.run_id.0,
        target: RestoreTarget::Swap {},
        no_owner: false,
        no_acl: false,
        as_superuser: false,
        no_tablespaces: false,
        break_replication: false,
        of_owner: false,
    };
    let (resource, worker, key) = (
        lab.resource.clone(),
        lab.worker.clone(),
        point.manifest_key.clone(),
    );
    let running = tokio::spawn(async move {
        restore(attempt(), &resource, &job, &Sought::at(&key), None, &worker).await
    });
    until("it is closed, as was written down before", || async {
        let is_open = is_open(&lab).await?;
        ensure!(
            is_open || lab.ledger.was_written.load(Ordering::SeqCst),
            "closed without a record"
        );
        Ok(!is_open)
    })
    .await?;
    until("it is open again, while the lock is held", || is_open(&lab)).await?;
    busy.execute("rollback").await?;
    running
        .await?
        .map_err(|error| anyhow::anyhow!(error.report()))?;
    ensure!(lab.ask("select count(*)::text from shop").await? == "100");
    ensure!(lab.ledger.closed.lock().is_ok_and(|it| it.is_none()));
    lab.clean().await
}

#[tokio::test]
async fn nothing_is_closed_that_cannot_be_written_down() -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    let point = lab.backup(attempt()).await?;
    lab.ledger.is_mute.store(true, Ordering::SeqCst);
    // Existing sessions stay connected.
    let mut session = lab.session().await?;
    let error = lab
        .restore(&point, RestoreTarget::Swap {})
        .await
        .unwrap_err();
    assert!(!error.is_permanent(), "{}", error.report());
    session.execute("select 1").await?;
    lab.has_no_other_database().await?;
    lab.clean().await
}

/// The worker was killed between closing and renaming: its server session still waits for the lock, and would rename
/// once it gets it.
#[tokio::test]
async fn what_a_dead_worker_still_waits_to_do_is_ended_before_the_database_is_opened() -> Result<()>
{
    let lab = Lab::owner(Server::pg17()?).await?;
    let run = attempt();
    let url = secrecy::ExposeSecret::expose_secret(&lab.resource.url).to_owned();
    let dead = url.parse::<PgConnectOptions>()?.database("postgres");
    let dead = dead.application_name(&format!("lastgood swap {}", run.run));
    let mut busy = comments_on_it(&lab).await?;
    let mut dead = dead.disable_statement_logging().connect().await?;
    let close = format!("alter database \"{}\" allow_connections false", lab.name);
    dead.execute(AssertSqlSafe(close)).await?;
    let rename = format!("alter database \"{0}\" rename to \"{0}-2\"", lab.name);
    let waiting =
        tokio::spawn(async move { dead.execute(AssertSqlSafe(rename)).await.map(|_| ()) });
    let waits = "select count(*)::text from pg_stat_activity where wait_event_type = 'Lock' and query like '%rename to%'";
    until("it waits for the lock", || async {
        Ok(lab.server.ask("postgres", waits).await? == "1")
    })
    .await?;

    reopen(&lab.resource, &lab.name, run.run)
        .await
        .map_err(|error| anyhow::anyhow!(error.report()))?;
    ensure!(is_open(&lab).await?);
    busy.execute("rollback").await?;
    ensure!(waiting.await?.is_err(), "the dead worker's rename was done");
    lab.has_no_other_database().await?;
    // Repeating it changes nothing, and neither does a record of a database that no longer exists.
    reopen(&lab.resource, &lab.name, run.run)
        .await
        .map_err(|error| anyhow::anyhow!(error.report()))?;
    let gone = reopen(&lab.resource, "nowhere", run.run).await;
    ensure!(gone.err().context("it was there")?.is_permanent());
    lab.clean().await
}

//! Backups from a standby are dated by what it has replayed, and are tried on the primary if they fail.

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use lastgood_jobs::{
    backup::RestorePoint,
    error::{JobError, PostgresError},
    job::RestoreTarget,
};
use url::Url;

use crate::{
    failures::with_fake_dump,
    lab::{Lab, Server, attempt, tables, until, variable},
    subject::{Subject, backup},
};

/// The standby of the PostgreSQL 18 server. Only one test at a time may stop its replay.
static STANDBY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn standby() -> Result<Server> {
    Ok(Server {
        url: variable("LASTGOOD_TEST_PG18_STANDBY_URL")?.parse()?,
    })
}

/// Returns the lab's resource with these local ports as its hosts.
fn at(lab: &Lab, ports: &[u16], query: &str) -> Result<Subject> {
    let hosts: Vec<String> = ports
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let url: Url = secrecy::ExposeSecret::expose_secret(&lab.resource.url).parse()?;
    let url = format!(
        "postgres://{}:{}@{}/{}{query}",
        url.username(),
        url.password().unwrap_or_default(),
        hosts.join(","),
        lab.name,
    );
    Ok(Subject {
        url: url.into(),
        ..lab.resource.clone()
    })
}

fn port(server: &Server) -> Result<u16> {
    server.url.port().context("a server has a port")
}

async fn made(lab: &Lab, resource: &Subject) -> Result<RestorePoint> {
    let made = backup(attempt(), resource, None, &lab.worker).await;
    made.map_err(|error| anyhow::anyhow!(error.report()))
}

/// Waits until the standby shows what was committed on its primary. It first replays everything that other tests wrote.
async fn shows(standby: &Server, database: &str, rows: &str) -> Result<()> {
    let waited = || {
        until("the standby has replayed it", || async {
            let asked = standby.ask(database, "select count(*)::text from t").await;
            Ok(asked.is_ok_and(|found| found == rows))
        })
    };
    for _ in 0..5 {
        if waited().await.is_ok() {
            return Ok(());
        }
    }
    waited().await
}

/// Guards against taking the instant from a clock when the data is older.
#[tokio::test(flavor = "multi_thread")]
async fn a_lagging_standby_is_dated_by_its_last_replayed_commit() -> Result<()> {
    let _alone = STANDBY.lock().await;
    let (lab, standby) = (Lab::owner(Server::pg18()?).await?, standby()?);
    lab.run("create table t as select 1 as a").await?;
    shows(&standby, &lab.name, "1").await?;
    let made_meanwhile = async {
        standby
            .run("postgres", "select pg_wal_replay_pause()")
            .await?;
        until("the replay is paused", || async {
            let question = "select pg_get_wal_replay_pause_state()";
            Ok(standby.ask("postgres", question).await? == "paused")
        })
        .await?;
        let now = "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')";
        let not_replayed: DateTime<Utc> = lab.ask(now).await?.parse()?;
        lab.run("insert into t select generate_series(1, 999)")
            .await?;
        let point = made(&lab, &at(&lab, &[port(&standby)?], "")?).await?;
        Ok::<_, anyhow::Error>((point, not_replayed))
    };
    let made_meanwhile = made_meanwhile.await;
    standby
        .run("postgres", "select pg_wal_replay_resume()")
        .await?;
    let (point, not_replayed) = made_meanwhile?;
    ensure!(
        point.manifest.consistent_at < not_replayed,
        "{} is not before {not_replayed}",
        point.manifest.consistent_at
    );
    // The dump contains what its instant says.
    shows(&standby, &lab.name, "1000").await?;
    let target = RestoreTarget::Swap {};
    ensure!(tables(&lab.restore(&point, target).await?) == 1);
    ensure!(lab.ask("select count(*)::text from t").await? == "1");
    // A dump from the primary at the same moment is dated now.
    let point = made(&lab, &lab.resource).await?;
    ensure!(point.manifest.consistent_at >= not_replayed);
    lab.clean().await
}

/// Guards against a reader that the standby ends in favour of its replay. The standby's message is in its own language.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_standby_ends_is_dumped_by_the_primary() -> Result<()> {
    let _alone = STANDBY.lock().await;
    let (mut lab, standby) = (Lab::owner(Server::pg18()?).await?, standby()?);
    lab.run("create table t as select 1 as a").await?;
    shows(&standby, &lab.name, "1").await?;
    let (there, here) = (port(&standby)?, port(&lab.server)?);
    let script = format!(
        "if [ $PGPORT = {there} ]; then echo 'pg_dump: error: FEHLER: storniere Anfrage wegen Konflikt' >&2; exit 1; fi
         exec $REAL \"$@\""
    );
    let _fake = with_fake_dump(&mut lab, &script).await?;
    let both = [there, here];
    made(&lab, &at(&lab, &both, "")?).await?;
    made(
        &lab,
        &at(&lab, &both, "?target_session_attrs=prefer-standby")?,
    )
    .await?;
    // No host is tried that the URL does not allow.
    for (ports, query) in [(&both[..], "?target_session_attrs=standby"), (&[there], "")] {
        let failed = backup(attempt(), &at(&lab, ports, query)?, None, &lab.worker).await;
        let error = failed.err().context("it went to the primary")?;
        ensure!(!error.is_permanent(), "{}", error.report());
        ensure!(
            matches!(error, JobError::Postgres(PostgresError::DumpFailed { .. })),
            "{}",
            error.report()
        );
    }
    // The primary comes first if the URL says so.
    made(&lab, &at(&lab, &both, "?target_session_attrs=primary")?).await?;
    lab.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_finds_the_primary_among_several_hosts() -> Result<()> {
    let _alone = STANDBY.lock().await;
    let (mut lab, standby) = (Lab::owner(Server::pg18()?).await?, standby()?);
    lab.run("create table t as select 1 as a").await?;
    shows(&standby, &lab.name, "1").await?;
    let (there, here) = (port(&standby)?, port(&lab.server)?);
    let without_primary = at(&lab, &[there, there], "")?;
    lab.resource = at(&lab, &[there, here], "")?;
    let point = made(&lab, &lab.resource).await?;
    let restored = lab.restore(&point, RestoreTarget::Swap {}).await;
    ensure!(tables(&restored.map_err(|error| anyhow::anyhow!(error.report()))?) == 1);
    // Without a primary there is nothing to restore into, and no other host is tried.
    lab.resource = without_primary;
    let failed = lab.restore(&point, RestoreTarget::Swap {}).await;
    let error = failed.err().context("a standby took a restore")?;
    ensure!(
        error
            .report()
            .contains("none of the URL's hosts is a primary"),
        "{}",
        error.report()
    );
    lab.clean().await
}

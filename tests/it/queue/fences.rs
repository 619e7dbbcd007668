//! Each part of a fence counts by itself: the epoch, the attempt's id, and that the run is running.

use std::time::Duration;

use anyhow::Result;
use lastgood::queue::Failure;
use lastgood_jobs::{attempt::RunId, worker::Lease as _};
use rstest::rstest;
use serde_json::Value;
use tokio::sync::mpsc;

use super::workers::{Gate, Settings, Witness, Workers, enqueue, restore_point, with_a_shop};
use crate::{
    database::TestCatalog,
    eventually::{SOON, within},
};

/// Changes the epoch.
const EPOCH: &str = "epoch = epoch + 1";
/// Changes the attempt within the same epoch.
const ATTEMPT: &str = "attempt_id = gen_random_uuid()";
/// Ends the same attempt.
const STATE: &str =
    "state = 'queued', lease_by = null, lease_until = null, run_at = now() + interval '1 day'";

/// How an attempt ends that does not know it has been fenced off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Succeeds,
    Fails,
    MeetsAnOutage,
    IsGivenBack,
}

/// Returns everything that the catalog knows about a run.
async fn whole(db: &TestCatalog, id: RunId) -> Result<Value> {
    let row = sqlx::query_scalar("select to_jsonb(run) from lastgood.runs as run where id = $1")
        .bind(id)
        .fetch_one(db.pool())
        .await?;
    Ok(row)
}

fn failure(is_outage: bool) -> Failure {
    Failure {
        kind: "dump",
        message: "too late".to_owned(),
        permanent: true,
        condemned: None,
        lacking: None,
        proof: None,
        tool_words: None,
        is_outage,
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_run_differs_in_one_thing_changes_nothing(
    #[values(EPOCH, ATTEMPT, STATE)] change: &str,
    #[values(End::Succeeds, End::Fails, End::MeetsAnOutage, End::IsGivenBack)] end: End,
) -> Result<()> {
    let db = with_a_shop().await?;
    let gate = Gate::closed();
    let (begun, mut begins) = mpsc::unbounded_channel();
    let (tell, mut told) = mpsc::unbounded_channel();
    let g = gate.clone();
    let settings = Settings {
        slots: 1,
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, move |run| {
        let (begun, tell, gate) = (begun.clone(), tell.clone(), g.clone());
        async move {
            if end != End::IsGivenBack {
                // The attempt must not be stopped early: the test is about what its end does.
                assert!(run.progress.may_commit());
            }
            begun.send(())?;
            gate.pass().await;
            let is_alive = run.lease.is_alive().await;
            tell.send((is_alive, run.lease.will_close("shop").await))?;
            match end {
                End::Succeeds => Ok(restore_point(&run)?),
                End::Fails => Err(failure(false).into()),
                End::MeetsAnOutage => Err(failure(true).into()),
                End::IsGivenBack => std::future::pending().await,
            }
        }
    });
    let id = enqueue(&db, "shop").await?;
    within(SOON, "it begins", begins.recv()).await?;
    let statement = format!("update lastgood.runs set {change} where id = $1");
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(id)
        .execute(db.pool())
        .await?;
    let before = whole(&db, id).await?;
    gate.open();
    let told = within(SOON, "it goes on", told.recv()).await?;
    // If the watch was faster, the attempt was stopped before it could ask.
    if let Some(told) = told {
        assert_eq!(told, (false, false));
    } else {
        assert_eq!(end, End::IsGivenBack);
    }
    if end == End::IsGivenBack {
        workers.begin_drain();
        workers.end_patience();
    }
    workers.idle().await?;
    assert_eq!(whole(&db, id).await?, before);
    workers.stop().await?;
    for nothing in [
        "select count(*) from lastgood.restore_points",
        "select count(*) from lastgood.closed_databases",
    ] {
        assert_eq!(db.count(nothing).await?, 0, "{nothing}");
    }
    let resource = db.catalog.resource("shop").await?;
    assert_eq!(resource.newest_consistent_at, None);
    Ok(())
}

/// The next renewal is minutes away, so only the watch can stop the attempt.
#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_over_is_stopped_before_it_would_renew(
    #[values(ATTEMPT, STATE)] change: &str,
) -> Result<()> {
    let db = with_a_shop().await?;
    let witness = Witness::default();
    let w = witness.clone();
    let settings = Settings {
        lease: Duration::from_mins(30),
        slots: 1,
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, move |run| {
        let begun = w.begin(&run);
        async move {
            std::future::pending::<()>().await;
            begun.complete();
            Err("it came to its own end".into())
        }
    });
    let id = enqueue(&db, "shop").await?;
    witness.are_running(1).await?;
    let statement = format!("update lastgood.runs set {change} where id = $1");
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(id)
        .execute(db.pool())
        .await?;
    witness.are_running(0).await?;
    workers.idle().await?;
    workers.stop().await
}

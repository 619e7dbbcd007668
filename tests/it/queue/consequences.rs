//! How the end of a run affects its resource: a scheduled backup that failed for good counts, and nothing else does.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lastgood::{
    catalog::FoundPoint,
    queue::{Failure, Ledger},
    run::RunState,
};
use lastgood_jobs::{attempt::RunId, error::ErrorKind, manifest::Manifest};
use rstest::rstest;
use sqlx::postgres::PgListener;
use uuid::Uuid;

use super::workers::{Settings, Workers, becomes, report, restore_point, with_a_shop};
use crate::{
    database::TestCatalog,
    eventually::{SOON, within},
};

/// The kind of run, which decides whether its failure counts against its resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    ScheduledBackup,
    AdhocBackup,
    Restore,
    Upkeep,
}

/// Creates a run of the shop: waiting, in its last attempt, or held by a lost worker.
async fn run(db: &TestCatalog, of: Of, queue: &str, state: &str) -> Result<RunId> {
    let (kind, trigger) = match of {
        Of::ScheduledBackup => ("backup", "scheduled"),
        Of::AdhocBackup => ("backup", "adhoc"),
        Of::Restore => ("restore", "adhoc"),
        Of::Upkeep => ("verify", "upkeep"),
    };
    let id = sqlx::query_scalar(
        r#"insert into lastgood.runs (
               queue, kind, trigger, resource_id, slot, args, state, attempt, epoch, max_attempts, lease_by, lease_until
           )
           select $1, $2, $3, 'shop', case when $3 = 'scheduled' then now() end,
               case $2 when 'backup' then '{"kind": "backup"}'::jsonb
                   when 'verify' then jsonb_build_object('kind', 'verify', 'point', gen_random_uuid())
                   else jsonb_build_object('kind', 'restore', 'point', gen_random_uuid(), 'target', jsonb_build_object('to', 'swap')) end,
               $4, case when $4 = 'running' then 1 else 0 end, 1, 1,
               case when $4 = 'running' then 'lost' end, case when $4 = 'running' then now() - interval '1 minute' end
           returning id"#,
    )
    .bind(queue)
    .bind(kind)
    .bind(trigger)
    .bind(state)
    .fetch_one(db.pool())
    .await?;
    Ok(id)
}

/// Returns the shop's failures in a row, and whether its next turn was moved.
async fn shop(db: &TestCatalog) -> Result<(i32, bool)> {
    let row = db.catalog.resource("shop").await?;
    let due = row.next_due_at.context("the shop is not planned")?;
    Ok((
        row.failures_in_a_row,
        due != "2031-01-01T00:00:00Z".parse::<chrono::DateTime<chrono::Utc>>()?,
    ))
}

async fn planned() -> Result<TestCatalog> {
    let db = with_a_shop().await?;
    db.execute("update lastgood.resources set cadence_minutes = 60, next_due_at = '2031-01-01 00:00:00+00', failures_in_a_row = 3")
        .await?;
    Ok(db)
}

/// Makes a run of the shop fail for good.
async fn fails(db: &TestCatalog, of: Of, how: &str) -> Result<()> {
    let id = match how {
        "reaped" => {
            let id = run(db, of, "postgres", "running").await?;
            assert_eq!(reaper(db).reap().await?.len(), 1);
            id
        }
        "of no engine" => {
            let id = run(db, of, "cassandra", "queued").await?;
            let refused = reaper(db).refuse_unknown(&["postgres".to_owned()]).await?;
            assert_eq!(refused.len(), 1);
            id
        }
        _ => {
            let id = run(db, of, "postgres", "queued").await?;
            let workers = Workers::start(&db.catalog, &Settings::default(), |_| async {
                Err(Failure::retryable(ErrorKind::Dump, "it failed").into())
            });
            becomes(db, id, "failed").await?;
            workers.stop().await?;
            id
        }
    };
    assert_eq!(db.catalog.run(id).await?.state, RunState::Failed);
    Ok(())
}

fn reaper(db: &TestCatalog) -> Ledger {
    Ledger::new(db.pool().clone(), "reaper", Duration::from_secs(1))
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_makes_no_resource_due_that_is_paused(
    #[values("reaped", "of no engine", "failed")] how: &str,
) -> Result<()> {
    let db = planned().await?;
    db.execute("update lastgood.resources set status = 'paused'")
        .await?;
    // As a tick that began earlier may leave it.
    db.execute("update lastgood.resources set cadence_minutes = 60")
        .await?;
    let before = db.catalog.resource("shop").await?.next_due_at;
    fails(&db, Of::ScheduledBackup, how).await?;
    assert_eq!(db.catalog.resource("shop").await?.next_due_at, before);
    Ok(())
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn the_reaper_waits_for_nobody(
    #[values(
        "select from lastgood.resources for update",
        "select from lastgood.runs for update"
    )]
    held: &'static str,
) -> Result<()> {
    let db = planned().await?;
    run(&db, Of::ScheduledBackup, "postgres", "running").await?;
    let mut holding = db.pool().begin().await?;
    sqlx::query(held).execute(&mut *holding).await?;
    let reaper = reaper(&db);
    let reaped = within(SOON, "the reaper goes on", Box::pin(reaper.reap())).await??;
    assert_eq!(reaped.len(), 0);
    holding.rollback().await?;
    assert_eq!(reaper.reap().await?.len(), 1, "the next time");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_could_take_what_the_reaper_gives_back_is_told() -> Result<()> {
    let db = planned().await?;
    run(&db, Of::ScheduledBackup, "postgres", "running").await?;
    db.execute("update lastgood.runs set max_attempts = 2")
        .await?;
    let mut listener = PgListener::connect_with(db.pool()).await?;
    listener.listen("lastgood_runs").await?;
    assert_eq!(reaper(&db).reap().await?.len(), 1);
    let told = within(SOON, "a notification", listener.recv()).await??;
    assert_eq!(told.payload(), "postgres");
    Ok(())
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn only_a_scheduled_backup_that_failed_for_good_is_its_resources_failure(
    #[values(Of::ScheduledBackup, Of::AdhocBackup, Of::Restore, Of::Upkeep)] of: Of,
    #[values("reaped", "of no engine", "failed")] how: &str,
) -> Result<()> {
    let db = planned().await?;
    fails(&db, of, how).await?;
    let due = db.catalog.resource("shop").await?.next_due_at;
    ensure!(due > Some(db.catalog.now().await?), "due at once: {due:?}");
    let expected = if of == Of::ScheduledBackup {
        (4, true)
    } else {
        (3, false)
    };
    assert_eq!(shop(&db).await?, expected);
    Ok(())
}

#[rstest]
#[case::a_backup(Of::AdhocBackup, (0, true))]
#[case::a_verification(Of::Upkeep, (3, false))]
#[tokio::test(flavor = "multi_thread")]
async fn only_a_restore_point_ends_a_row_of_failures(
    #[case] of: Of,
    #[case] expected: (i32, bool),
) -> Result<()> {
    let db = planned().await?;
    let id = run(&db, of, "postgres", "queued").await?;
    let workers = Workers::start(&db.catalog, &Settings::default(), move |run| async move {
        Ok(if of == Of::AdhocBackup {
            restore_point(&run)?
        } else {
            report()
        })
    });
    becomes(&db, id, "succeeded").await?;
    workers.stop().await?;
    assert_eq!(shop(&db).await?, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_end_together_are_each_decided_alone() -> Result<()> {
    let db = with_a_shop().await?;
    let ids = super::workers::enqueue_many(&db, "shop", 30).await?;
    // A constraint that refuses one point must affect no other.
    db.execute(
        "alter table lastgood.restore_points add constraint poison check (resource_id <> 'shop-7')",
    )
    .await?;
    let gate = super::workers::Gate::closed();
    let g = gate.clone();
    let settings = Settings {
        slots: 30,
        limits: lastgood::queue::Limits {
            team_slots: Some(100),
            ..lastgood::queue::Limits::default()
        },
        ..Settings::default()
    };
    let witness = super::workers::Witness::default();
    let w = witness.clone();
    let workers = Workers::start(&db.catalog, &settings, move |run| {
        let (begun, gate) = (w.begin(&run), g.clone());
        async move {
            gate.pass().await;
            begun.complete();
            Ok(restore_point(&run)?)
        }
    });
    witness.are_running(30).await?;
    let stale = ids.get(3).context("no run")?;
    super::workers::take_away(&db, *stale).await?;
    gate.open();
    for (place, id) in ids.iter().enumerate() {
        let expected = match place {
            3 => "queued",
            6 => "failed",
            _ => "succeeded",
        };
        becomes(&db, *id, expected).await?;
    }
    workers.idle().await?;
    workers.stop().await?;
    assert_eq!(
        db.count("select count(*) from lastgood.restore_points")
            .await?,
        28
    );
    assert_eq!(db.count("select count(*) from lastgood.copies").await?, 28);
    let refused = db.catalog.run(*ids.get(6).context("no run")?).await?;
    assert!(
        refused
            .error
            .is_some_and(|error| error.contains("refuses the outcome"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_the_catalog_refuses_keeps_no_other_from_being_recorded() -> Result<()> {
    let db = planned().await?;
    let id = run(&db, Of::AdhocBackup, "postgres", "queued").await?;
    let workers = Workers::start(&db.catalog, &Settings::default(), |run| async move {
        Ok(restore_point(&run)?)
    });
    becomes(&db, id, "succeeded").await?;
    workers.stop().await?;
    let good = db.catalog.point(id.0).await?.recorded()?;
    let found = |change: fn(&mut Manifest)| {
        let mut manifest = good.clone();
        manifest.run_id = RunId(Uuid::new_v4());
        change(&mut manifest);
        FoundPoint {
            manifest_key: format!("v1/acme/shop/{}.manifest.json", manifest.run_id),
            manifest,
        }
    };
    let batch = [
        found(|_| {}),
        found(|it| it.warnings.push("\0 is no text".to_owned())),
        found(|it| it.dump.size_bytes = 0),
        found(|_| {}),
    ];
    let fresh = TestCatalog::create().await?;
    let rebuilt = fresh.catalog.rebuild("primary", &batch).await?;
    assert_eq!((rebuilt.points, rebuilt.resources), (2, 1));
    Ok(())
}

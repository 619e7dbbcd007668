//! A failed attempt is recorded and retried later, as often as allowed, and the worker survives whatever a handler does.

use std::time::Duration;

use anyhow::Result;
use apalis::prelude::AbortError;
use chrono::TimeDelta;
use lastgood::{nouns::Run, plan::Plans, producer::tick, queue::Failure};
use lastgood_jobs::{attempt::RunId, error::ErrorKind};
use rstest::rstest;

use super::workers::{
    Settings, Witness, Workers, becomes, enqueue, is_queued_after, make_runnable, report,
    restore_point, with_a_shop,
};
use crate::database::TestCatalog;

/// What the handler does in the attempt that goes wrong.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Fails,
    FailsForGood,
    Aborts,
    Panics,
    NeverEnds,
}

/// Starts workers whose handler goes wrong with `victim` and succeeds with every other run.
fn start(db: &TestCatalog, victim: RunId, wrong: Wrong) -> (Workers, Witness) {
    let witness = Witness::default();
    let w = witness.clone();
    let settings = Settings {
        timeout: match wrong {
            Wrong::NeverEnds => Duration::from_millis(300),
            Wrong::Fails | Wrong::FailsForGood | Wrong::Aborts | Wrong::Panics => {
                Duration::from_mins(10)
            }
        },
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, move |run| {
        let begun = w.begin(&run);
        async move {
            if run.id == victim {
                match wrong {
                    Wrong::Fails => {
                        return Err(Failure::retryable(ErrorKind::Connect, "no\0 answer").into());
                    }
                    Wrong::FailsForGood => {
                        return Err(Failure::permanent(ErrorKind::Auth, "no entry").into());
                    }
                    Wrong::Aborts => {
                        return Err(AbortError::new(std::io::Error::other("no use")).into());
                    }
                    Wrong::Panics => std::panic::resume_unwind(Box::new("marker")),
                    Wrong::NeverEnds => std::future::pending::<()>().await,
                }
            }
            begun.complete();
            Ok(report())
        }
    });
    (workers, witness)
}

fn error(run: &Run) -> (&str, &str) {
    (
        run.error_kind.as_deref().unwrap_or_default(),
        run.error.as_deref().unwrap_or_default(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_attempt_is_tried_again_after_a_stored_back_off_until_attempts_are_spent()
-> Result<()> {
    let db = with_a_shop().await?;
    let id = enqueue(&db, "shop").await?;
    let before = db.catalog.now().await?;
    let (workers, witness) = start(&db, id, Wrong::Fails);
    let mut before = before;
    for attempt in 1..5 {
        let run = is_queued_after(&db, id, attempt).await?;
        let after = db.catalog.now().await?;
        let back_off = TimeDelta::seconds(5 << (attempt - 1));
        assert!(run.runnable_at >= before + back_off * 3 / 4, "{run:?}");
        assert!(run.runnable_at <= after + back_off * 5 / 4, "{run:?}");
        assert_eq!(error(&run), ("connect", "no\u{fffd} answer"));
        assert_eq!((run.consumer, run.lease_expires_at), (None, None));
        before = db.catalog.now().await?;
        make_runnable(&db, id).await?;
    }
    let run = becomes(&db, id, "failed").await?;
    assert_eq!((run.attempt, run.max_attempts), (5, 5));
    assert!(run.finished_at.is_some());
    assert_eq!(error(&run), ("connect", "no\u{fffd} answer"));
    workers.stop().await?;
    assert_eq!(witness.began(), [id; 5]);
    Ok(())
}

#[rstest]
#[case::a_permanent_failure(Wrong::FailsForGood, "auth", "no entry")]
#[case::an_abort(Wrong::Aborts, "internal", "no use")]
#[tokio::test(flavor = "multi_thread")]
async fn what_another_attempt_cannot_mend_fails_at_once(
    #[case] wrong: Wrong,
    #[case] kind: &str,
    #[case] text: &str,
) -> Result<()> {
    let db = with_a_shop().await?;
    let id = enqueue(&db, "shop").await?;
    let (workers, witness) = start(&db, id, wrong);
    let run = becomes(&db, id, "failed").await?;
    assert_eq!(run.attempt, 1);
    assert_eq!(error(&run).0, kind);
    assert!(error(&run).1.contains(text), "{run:?}");
    workers.stop().await?;
    assert_eq!(witness.began().len(), 1);
    Ok(())
}

#[rstest]
#[case::panics(Wrong::Panics, "the handler panicked")]
#[case::never_ends(Wrong::NeverEnds, "--job-timeout")]
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_goes_wrong_has_failed_an_attempt_and_the_worker_lives_on(
    #[case] wrong: Wrong,
    #[case] text: &str,
) -> Result<()> {
    let db = with_a_shop().await?;
    let id = enqueue(&db, "shop").await?;
    let (workers, witness) = start(&db, id, wrong);
    let run = is_queued_after(&db, id, 1).await?;
    assert_eq!(error(&run).0, "internal");
    assert!(error(&run).1.contains(text), "{run:?}");
    assert!(
        !error(&run).1.contains("marker"),
        "a panic's text may hold a secret"
    );
    // More runs than slots, to show that no slot was lost.
    for _ in 0..4 {
        let next = enqueue(&db, "shop").await?;
        becomes(&db, next, "succeeded").await?;
    }
    workers.stop().await?;
    assert_eq!((witness.running(), witness.completed()), (0, 4));
    assert_eq!(db.catalog.run(id).await?.attempt, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_backup_that_fails_for_good_makes_its_resource_due_again_after_a_back_off()
-> Result<()> {
    let db = with_a_shop().await?;
    let now = db.catalog.now().await?;
    tick(&db.catalog, &Plans::built_in(), now).await?;
    let id: RunId = sqlx::query_scalar("select id from lastgood.runs")
        .fetch_one(db.pool())
        .await?;
    let before = db.catalog.now().await?;
    let (workers, _) = start(&db, id, Wrong::FailsForGood);
    becomes(&db, id, "failed").await?;
    workers.stop().await?;
    let after = db.catalog.now().await?;
    let row = db.catalog.resource("shop").await?;
    assert_eq!(row.failures_in_a_row, 1);
    let due = row.next_due_at.unwrap_or_default();
    let minute = TimeDelta::minutes(1);
    assert!(before + minute <= due && due <= after + minute, "{due}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_publishes_its_restore_point_and_forgets_earlier_failures() -> Result<()> {
    let db = with_a_shop().await?;
    db.execute("update lastgood.resources set failures_in_a_row = 3, cadence_minutes = 60")
        .await?;
    let id = enqueue(&db, "shop").await?;
    let workers = Workers::start(&db.catalog, &Settings::default(), |run| async move {
        Ok(restore_point(&run)?)
    });
    let run = becomes(&db, id, "succeeded").await?;
    workers.stop().await?;
    assert_eq!((run.dump_bytes, run.stored_bytes), (1000, 100));
    assert_eq!(error(&run), ("", ""));
    let point = db.catalog.point(id.0).await?;
    assert_eq!(point.resource_id, "shop");
    let row = db.catalog.resource("shop").await?;
    assert_eq!(row.failures_in_a_row, 0);
    assert_eq!(row.newest_consistent_at, Some(point.consistent_at));
    assert!(row.next_due_at > Some(point.consistent_at));
    Ok(())
}

/// A peer's error message is bounded wherever it is stored and shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_told_at_any_length_is_stored_in_its_begin_and_its_end() -> Result<()> {
    let db = with_a_shop().await?;
    let id = enqueue(&db, "shop").await?;
    let workers = Workers::start(&db.catalog, &Settings::default(), |_| async {
        let told = format!("begin {} end", "\0ü".repeat(5 << 20));
        Err(Failure::permanent(ErrorKind::Connect, told).into())
    });
    let run = becomes(&db, id, "failed").await?;
    workers.stop().await?;
    let (kind, told) = error(&run);
    assert_eq!(kind, "connect");
    assert!(told.starts_with("begin ") && told.ends_with(" end"));
    assert!(told.len() <= 32 << 10, "{} bytes", told.len());
    let attempts = db.catalog.attempts(id).await?;
    assert!(
        attempts
            .iter()
            .all(|it| it.error.as_ref().is_none_or(|told| told.len() <= 32 << 10))
    );
    Ok(())
}

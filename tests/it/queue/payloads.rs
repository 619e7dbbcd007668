//! SQL and Rust agree about each run: how urgent it is, and what it has to do.

use anyhow::{Context as _, Result, ensure};
use lastgood::run::{RunKind, Trigger};
use lastgood_jobs::job::{Copy, Drill, Expire, Job, Verify};
use uuid::Uuid;

use crate::database::TestCatalog;

#[tokio::test]
async fn upkeep_is_below_everything_that_is_promised_or_waited_for() -> Result<()> {
    let db = TestCatalog::create().await?;
    for kind in RunKind::ALL {
        for trigger in Trigger::ALL {
            let priority: Option<i16> = sqlx::query_scalar("select lastgood.priority($1, $2)")
                .bind(kind.as_str())
                .bind(trigger.as_str())
                .fetch_one(db.pool())
                .await?;
            let priority = priority.with_context(|| format!("{kind} has no priority"))?;
            let of_lane = match kind {
                RunKind::Copy | RunKind::Verify | RunKind::Expire => -999..=-1,
                RunKind::Backup | RunKind::Restore | RunKind::DropReplaced => 0..=i16::MAX,
                RunKind::Drill => i16::MIN..=-1000,
            };
            ensure!(of_lane.contains(&priority), "{kind} {trigger}: {priority}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_job_that_sql_asks_for_is_one_that_consumers_decode() -> Result<()> {
    let db = TestCatalog::create().await?;
    let point = Uuid::new_v4();
    let store = Some("mirror".to_owned());
    for (kind, of, into, expected) in [
        (RunKind::Backup, None, None, Job::Backup {}),
        (
            RunKind::Verify,
            Some(point),
            None,
            Job::Verify(Verify { point, store: None }),
        ),
        (
            RunKind::Verify,
            Some(point),
            store.clone(),
            Job::Verify(Verify {
                point,
                store: store.clone(),
            }),
        ),
        (
            RunKind::Copy,
            Some(point),
            store,
            Job::Copy(Copy {
                point,
                store: "mirror".to_owned(),
            }),
        ),
        (
            RunKind::Expire,
            Some(point),
            None,
            Job::Expire(Expire { point }),
        ),
        (
            RunKind::Drill,
            Some(point),
            None,
            Job::Drill(Drill { point }),
        ),
    ] {
        let args: serde_json::Value = sqlx::query_scalar("select lastgood.job($1, $2, $3)")
            .bind(kind.as_str())
            .bind(of)
            .bind(into)
            .fetch_one(db.pool())
            .await?;
        let job: Job = serde_json::from_value(args)?;
        ensure!(job == expected && RunKind::of(&job) == kind, "{job:?}");
    }
    Ok(())
}

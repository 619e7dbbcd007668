//! A notification wakes an idle consumer. Without one, the poll finds the run.

use std::time::Duration;

use anyhow::Result;

use super::workers::{Settings, Workers, becomes, enqueue, report, with_a_shop};
use crate::eventually::{SOON, eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_wakes_a_consumer_that_would_sleep_for_a_minute() -> Result<()> {
    let db = with_a_shop().await?;
    let settings = Settings {
        poll: Duration::from_mins(1),
        listens: true,
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, |_| async { Ok(report()) });
    eventually(SOON, "the consumer listens", async || {
        let listeners = "select count(*) from pg_stat_activity
             where datname = current_database() and query ilike 'listen %'";
        Ok(db.count(listeners).await? == 1)
    })
    .await?;
    // Many more runs, one after another, than there can be wake-ups left over from the start.
    within(SOON, "ten runs, each woken up for", async {
        for _ in 0..10 {
            let id = enqueue(&db, "shop").await?;
            becomes(&db, id, "succeeded").await?;
        }
        Ok::<_, anyhow::Error>(())
    })
    .await??;
    drop(workers);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_poll_alone_finds_every_run() -> Result<()> {
    let db = with_a_shop().await?;
    db.execute("alter table lastgood.runs disable trigger runs_notify")
        .await?;
    let settings = Settings {
        listens: true,
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, |_| async { Ok(report()) });
    for _ in 0..5 {
        let id = enqueue(&db, "shop").await?;
        becomes(&db, id, "succeeded").await?;
    }
    workers.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_consumer_that_would_sleep_for_a_minute_drains_at_once() -> Result<()> {
    let db = with_a_shop().await?;
    let id = enqueue(&db, "shop").await?;
    let settings = Settings {
        poll: Duration::from_mins(1),
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, |_| async { Ok(report()) });
    becomes(&db, id, "succeeded").await?;
    workers.stop().await
}

//! A run of an engine that no one serves or knows fails with the reason, and a run that a consumer serves is left alone.

use std::time::Duration;

use anyhow::{Result, ensure};
use lastgood::{catalog::Registration, nouns::ConsumerState, queue::Ledger, run::RunState};

use super::workers::enqueue_on;
use crate::database::TestCatalog;

const KNOWN: [&str; 2] = ["postgres", "redis"];

async fn refuse(db: &TestCatalog) -> Result<usize> {
    let ledger = Ledger::new(db.pool().clone(), "reaper", Duration::from_secs(30));
    let known = KNOWN.map(str::to_owned);
    Ok(ledger.refuse_unknown(&known).await?.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_an_unknown_engine_fails_with_what_there_is() -> Result<()> {
    let db = TestCatalog::create().await?;
    for (engine, id) in [("mysql", "shop"), ("postgres", "blog"), ("oracle", "bank")] {
        db.add_on(engine, id, "acme", "pro").await?;
    }
    let doomed = [
        enqueue_on(&db, "mysql", "shop").await?,
        enqueue_on(&db, "oracle", "bank").await?,
    ];
    let waiting = enqueue_on(&db, "postgres", "blog").await?;
    ensure!(refuse(&db).await? == 2);
    for id in doomed {
        let run = db.catalog.run(id).await?;
        ensure!(run.state == RunState::Failed && run.error_kind.as_deref() == Some("config"));
        let error = run.error.unwrap_or_default();
        ensure!(
            error.contains("is not supported: use one of postgres, redis"),
            "{error}"
        );
    }
    ensure!(db.catalog.run(waiting).await?.state == RunState::Queued);
    ensure!(refuse(&db).await? == 0, "once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_a_newer_consumer_serves_is_left_to_it() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add_on("mysql", "shop", "acme", "pro").await?;
    let run = enqueue_on(&db, "mysql", "shop").await?;
    let newer = Registration {
        id: "newer".to_owned(),
        host: "h".to_owned(),
        pid: 1,
        version: "9.0.0".to_owned(),
        queues: vec!["mysql".to_owned()],
        slots: 1,
        capabilities: serde_json::json!([]),
        master_keys: Vec::new(),
    };
    db.catalog.register_consumer(&newer).await?;
    ensure!(refuse(&db).await? == 0);
    ensure!(db.catalog.run(run).await?.state == RunState::Queued);
    db.add_on("oracle", "bank", "acme", "pro").await?;
    enqueue_on(&db, "oracle", "bank").await?;
    ensure!(refuse(&db).await? == 1, "it serves no other engine");
    db.catalog.beat("newer", ConsumerState::Stopped).await?;
    ensure!(refuse(&db).await? == 1, "it has gone");
    enqueue_on(&db, "mysql", "shop").await?;
    db.catalog.beat("newer", ConsumerState::Running).await?;
    ensure!(refuse(&db).await? == 0, "it is back");
    db.execute("update lastgood.consumers set seen_at = now() - interval '31 seconds'")
        .await?;
    ensure!(refuse(&db).await? == 1, "it is silent");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_backup_of_an_unknown_engine_counts_as_a_failure_and_is_due_after_a_back_off()
-> Result<()> {
    let db = TestCatalog::create().await?;
    db.add_on("mysql", "shop", "acme", "pro").await?;
    db.execute("update lastgood.resources set cadence_minutes = 60, next_due_at = now() + interval '1 hour'")
        .await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, slot, args)
           values ('mysql', 'backup', 'scheduled', 'shop', date_trunc('hour', now()), '{"kind": "backup"}')"#,
    )
    .await?;
    ensure!(refuse(&db).await? == 1);
    let row = db.catalog.resource("shop").await?;
    ensure!(row.failures_in_a_row == 1);
    let due = row
        .next_due_at
        .ok_or_else(|| anyhow::anyhow!("never due again"))?;
    ensure!(due > db.catalog.now().await?, "not at once");
    Ok(())
}

//! Orders about runs and queues report the outcome of each one, whatever interferes.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use uuid::Uuid;

use super::process::{run, run_on};
use crate::{
    database::TestCatalog,
    eventually::{SOON, eventually},
};

/// Requests a backup of a shop and returns its run.
async fn ask(db: &TestCatalog) -> Result<String> {
    let said = run_on(db, &["--json", "backup", "now", "shop"]).await?;
    let answer = said.json()?;
    let run = answer
        .get("id")
        .and_then(|run| run.as_str())
        .map(str::to_owned);
    run.with_context(|| format!("{said:?}"))
}

async fn with_a_shop() -> Result<TestCatalog> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    Ok(db)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_not_there_keeps_no_other_from_its_order() -> Result<()> {
    let db = with_a_shop().await?;
    let (first, second) = (ask(&db).await?, ask(&db).await?);
    let nobody = Uuid::nil().to_string();
    let said = run_on(&db, &["--json", "run", "cancel", &first, &nobody, &second]).await?;
    assert_eq!(said.code, 1, "{said:?}");
    let told = said.json()?;
    assert_eq!(
        (&told[0]["state"], &told[2]["state"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
    ensure!(
        told[1]["refused_because"]
            .as_str()
            .is_some_and(|why| why.contains("there is no run")),
        "{told}"
    );
    let said = run_on(&db, &["run", "retry", &nobody, &first]).await?;
    assert_eq!(said.code, 1, "{said:?}");
    ensure!(said.out.contains("1 of 2 runs changed"), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_somebody_else_ends_is_no_drain() -> Result<()> {
    let db = with_a_shop().await?;
    ask(&db).await?;
    let claimed = db
        .count("select count(*) from lastgood.claim('postgres', 1, 'w', interval '1 h', 1, 1, 0::smallint, 100::smallint)")
        .await?;
    assert_eq!(claimed, 1);
    let drain = run_on(&db, &["queue", "drain", "--timeout", "1h"]);
    let somebody_else = async {
        eventually(SOON, "it is paused", async || {
            Ok(db.count("select count(*) from lastgood.pauses").await? == 1)
        })
        .await?;
        run_on(&db, &["queue", "resume"]).await
    };
    let (drained, resumed) = tokio::try_join!(drain, somebody_else)?;
    assert_eq!(
        (drained.code, resumed.code),
        (1, 0),
        "{drained:?} {resumed:?}"
    );
    ensure!(
        drained.out.starts_with("NOT DRAINED: somebody resumed"),
        "{drained:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_without_end_is_refused_before_anything_is_paused() -> Result<()> {
    let db = TestCatalog::create().await?;
    for arguments in [
        ["queue", "drain", "--timeout", "500000000000y"].as_slice(),
        &["run", "retry", "--failed", "--since", "400000y"],
    ] {
        let said = run_on(&db, arguments).await?;
        assert_eq!(said.code, 2, "{said:?}");
        ensure!(said.err.contains("longer than a hundred years"), "{said:?}");
    }
    assert_eq!(db.count("select count(*) from lastgood.pauses").await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_is_mistyped_is_told() -> Result<()> {
    let db = with_a_shop().await?;
    let said = run_on(&db, &["queue", "pause", "--tier", "porr", "--reason", "x"]).await?;
    ensure!(said.err.contains("NOTHING IS IN IT NOW"), "{said:?}");
    let said = run_on(&db, &["queue", "pause", "--tier", "pro", "--reason", "x"]).await?;
    ensure!(
        said.out.contains("paused tier pro (1 resources)"),
        "{said:?}"
    );
    assert_eq!(said.err, "");
    let said = run(&["run", "retry", "--failed", "--error-kind", "nonsense"]).await?;
    assert_eq!(said.code, 2, "{said:?}");
    ensure!(said.err.contains("connect, tool"), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ordered_by_hand_is_on_record() -> Result<()> {
    let db = with_a_shop().await?;
    ask(&db).await?;
    let said = run_on(&db, &["--json", "audit"]).await?;
    assert_eq!(
        said.json()?.pointer("/0/action"),
        Some(&json!("backup")),
        "{said:?}"
    );
    assert_eq!(run_on(&db, &["resource", "pause", "shop"]).await?.code, 0);
    let said = run_on(&db, &["--json", "audit"]).await?;
    let told = said.json()?;
    assert_eq!(told.pointer("/0/action"), Some(&json!("change")), "{told}");
    assert_eq!(
        told.pointer("/0/detail/status"),
        Some(&json!("paused")),
        "{told}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_what_for() -> Result<()> {
    let db = with_a_shop().await?;
    let wait = run_on(&db, &["backup", "now", "shop", "--wait"]);
    let end = async {
        eventually(SOON, "it asks who could take the run", async || {
            let asks = "select count(*) from pg_stat_activity
                where datname = current_database() and query like '%from lastgood.consumers%' and query not like '%pg_stat%'";
            Ok(db.count(asks).await? > 0)
        })
        .await?;
        let id: Uuid = sqlx::query_scalar("select id from lastgood.runs")
            .fetch_one(db.pool())
            .await?;
        run_on(&db, &["run", "cancel", &id.to_string()]).await
    };
    let (waited, _) = tokio::try_join!(wait, end)?;
    assert_eq!(waited.code, 1, "{waited:?}");
    ensure!(
        waited
            .err
            .contains("it waits for a consumer that serves postgres"),
        "{waited:?}"
    );
    Ok(())
}

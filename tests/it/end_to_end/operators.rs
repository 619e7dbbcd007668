//! What operators do at 3 a.m. with the real program: cancel, retry, pause, drain, drain a consumer. Nothing is lost by it.

use anyhow::{Context as _, Result, ensure};
use lastgood::run::RunState;
use lastgood_jobs::attempt::RunId;
use serde_json::Value;
use uuid::Uuid;

use super::{
    customer::{Customer, Rights},
    gate::{FakeTools, LARGE_TABLE, tools_at_work},
    lab::{Lab, PATIENCE},
    program::Service,
    store,
};
use crate::eventually::eventually;

/// Creates an installation whose dumps stop half way until a gate opens.
async fn gated() -> Result<(Lab, Customer, FakeTools)> {
    let (mut lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    shop.run(LARGE_TABLE).await?;
    lab.add("shop", &shop).await?;
    let tools = FakeTools::gated()?;
    lab.set("LASTGOOD_PG_CLIENT_DIRS", tools.path());
    Ok((lab, shop, tools))
}

async fn stands_half_way(lab: &Lab) -> Result<()> {
    eventually(PATIENCE, "half an archive is in the store", async || {
        let files = store::files(&lab.store())?;
        Ok(files.iter().any(|file| file.starts_with("partial/")))
    })
    .await
}

async fn nothing_is_left(lab: &Lab, shop: &Customer) -> Result<()> {
    eventually(PATIENCE, "no child is left", async || {
        Ok(tools_at_work(&shop.name, "pg_dump")?.is_empty())
    })
    .await?;
    lab.has_points(0).await?;
    Ok(())
}

fn ids(listed: &Value) -> Vec<String> {
    let consumers = listed.as_array().into_iter().flatten();
    consumers
        .filter_map(|consumer| Some(consumer.get("id")?.as_str()?.to_owned()))
        .collect()
}

#[tokio::test]
async fn a_running_backup_that_is_cancelled_leaves_no_child_no_object_and_no_restore_point()
-> Result<()> {
    let (lab, shop, tools) = gated().await?;
    let consumer = lab.consumer("consumer", &[]).await?;
    let run = lab.enqueue_backup("shop").await?;
    stands_half_way(&lab).await?;
    let id = run.to_string();
    let args = [
        "--json",
        "run",
        "cancel",
        &id,
        "--reason",
        "it hurts the shop",
    ];
    let answer = lab.run(&args).await?.succeeded()?.json()?;
    assert_eq!(answer[0]["was"], "running");
    nothing_is_left(&lab, &shop).await?;
    let cancelled = "lastgood_runs_total{engine=\"vector\",kind=\"backup\",result=\"cancelled\"}";
    consumer.shows(cancelled, 1.0).await?;
    assert!(
        consumer
            .log()?
            .contains("an operator cancelled the run: the attempt was stopped")
    );

    let shown = lab.run(&["run", "show", &id]).await?.succeeded()?.out;
    for words in [
        "cancelled, attempt 1 of 5",
        "it hurts the shop",
        "attempt 1 (epoch 1) cancelled after",
    ] {
        assert!(shown.contains(words), "{words} is not in {shown}");
    }
    let refused = lab.run(&["run", "cancel", &id]).await?;
    assert_eq!(refused.code, Some(1), "{refused:?}");

    tools.open()?;
    lab.run(&["run", "retry", &id]).await?.succeeded()?;
    assert_eq!(lab.succeeds(run).await?.attempt, 1);
    lab.has_points(1).await?;
    Ok(())
}

#[tokio::test]
async fn what_failed_is_shown_with_the_tools_words_and_retried_in_bulk() -> Result<()> {
    let (mut lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    lab.add("shop", &shop).await?;
    let tools = FakeTools::new(
        "if [ -e $GATE ]; then exec $REAL \"$@\"; fi; echo 'pg_dump: error: the moon is full' >&2; exit 1",
    )?;
    lab.set("LASTGOOD_PG_CLIENT_DIRS", tools.path());
    let _consumer = lab.consumer("consumer", &[]).await?;
    let run = lab.enqueue_single_attempt("vector", "shop").await?;
    assert_eq!(lab.ends(run).await?.state, RunState::Failed);
    let id = run.to_string();
    let shown = lab
        .run(&["--json", "run", "show", &id])
        .await?
        .succeeded()?
        .json()?;
    let attempt = &shown["attempts"][0];
    assert_eq!(
        (&attempt["result"], &attempt["error_kind"]),
        (&"failed".into(), &"dump".into())
    );
    let words = attempt["tool_words"].as_str().context("no words")?;
    assert!(words.contains("the moon is full"), "{words}");

    let none = ["--json", "run", "retry", "--failed", "--team", "umbrella"];
    assert_eq!(
        lab.run(&none).await?.succeeded()?.json()?,
        Value::Array(Vec::new())
    );
    tools.open()?;
    let dry = lab
        .run(&["run", "retry", "--failed", "--dry-run"])
        .await?
        .succeeded()?
        .out;
    assert!(
        dry.contains("1 of 1 runs would change: nothing was changed"),
        "{dry}"
    );
    assert_eq!(lab.row(run).await?.state, RunState::Failed);
    let args = [
        "run",
        "retry",
        "--failed",
        "--engine",
        "vector",
        "--tier",
        "free",
        "--team",
        "acme",
        "--error-kind",
        "dump",
    ];
    lab.run(&args).await?.succeeded()?;
    lab.succeeds(run).await?;
    Ok(())
}

#[tokio::test]
async fn the_queue_is_paused_drained_and_resumed_by_command_and_status_says_so() -> Result<()> {
    let (lab, shop, tools) = gated().await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let run = lab.enqueue_backup("shop").await?;
    stands_half_way(&lab).await?;
    let drained = lab.run(&["queue", "drain", "--timeout", "1s"]).await?;
    assert_eq!(drained.code, Some(1), "{drained:?}");
    for words in ["NOT DRAINED", "shop", "lastgood queue resume"] {
        assert!(drained.out.contains(words), "{words} is not in {drained:?}");
    }
    let waits = lab.enqueue_backup("shop").await?;
    tools.open()?;
    let drained = lab
        .run(&["--json", "queue", "drain"])
        .await?
        .succeeded()?
        .json()?;
    assert_eq!(drained["is_drained"], true);
    assert_eq!(lab.row(run).await?.state, RunState::Succeeded);
    assert_eq!(lab.row(waits).await?.state, RunState::Queued);
    let status = lab.run(&["status"]).await?.succeeded()?.out;
    assert!(status.contains("PAUSED: everything since"), "{status}");
    let figures = lab
        .run(&["--json", "queue", "stats"])
        .await?
        .succeeded()?
        .json()?;
    assert_eq!(
        (
            &figures["queues"][0]["runnable"],
            &figures["pauses"][0]["reason"]
        ),
        (&1.into(), &"drain".into())
    );

    let error = lab
        .run(&["queue", "resume", "--team", "acme"])
        .await?
        .refused()?;
    assert!(error.contains("lastgood queue resume"), "{error}");
    lab.run(&["queue", "resume"]).await?.succeeded()?;
    lab.succeeds(waits).await?;
    assert!(tools_at_work(&shop.name, "pg_dump")?.is_empty());
    Ok(())
}

#[tokio::test]
async fn one_consumer_is_sent_away_by_command_and_ends_well_when_its_run_has() -> Result<()> {
    let (lab, shop, tools) = gated().await?;
    let mut consumer = lab.consumer("consumer", &["--drain-timeout", "5m"]).await?;
    let run = lab.enqueue_backup("shop").await?;
    stands_half_way(&lab).await?;
    let listed = lab
        .run(&["--json", "consumer", "list"])
        .await?
        .succeeded()?
        .json()?;
    assert_eq!(listed[0]["running"][0]["id"], run.to_string());
    let id = ids(&listed).pop().context("no consumer")?;
    lab.run(&["consumer", "drain", &id]).await?.succeeded()?;
    eventually(PATIENCE, "the consumer drains", async || {
        Ok(consumer.get("/readyz").await?.contains("503"))
    })
    .await?;
    // Of another resource, because each resource has only one dump at a time.
    lab.add("other", &shop).await?;
    let waits = lab.enqueue_backup("other").await?;
    let table = lab.run(&["consumer", "list"]).await?.succeeded()?.out;
    assert!(table.contains("draining"), "{table}");
    tools.open()?;
    ensure!(consumer.exit().await?.success(), "{}", consumer.log()?);
    lab.succeeds(run).await?;
    assert_eq!(lab.row(waits).await?.attempt, 0);
    let error = lab.run(&["consumer", "drain", &id]).await?.refused()?;
    assert!(error.contains("no live consumer"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_second_sigterm_gives_the_leases_back_and_ends_at_once() -> Result<()> {
    let (lab, shop, _tools) = gated().await?;
    let mut consumer = lab.consumer("consumer", &["--drain-timeout", "1h"]).await?;
    let run = lab.enqueue_backup("shop").await?;
    stands_half_way(&lab).await?;
    consumer.signal("TERM")?;
    eventually(PATIENCE, "the consumer drains", async || {
        Ok(consumer.get("/readyz").await?.contains("503"))
    })
    .await?;
    assert_eq!(lab.row(run).await?.state, RunState::Running);
    consumer.signal("TERM")?;
    ensure!(consumer.exit().await?.success(), "{}", consumer.log()?);
    let row = lab.row(run).await?;
    assert_eq!((row.state.as_str(), row.attempt), ("queued", 0));
    let attempts = lab.catalog.catalog.attempts(RunId(run)).await?;
    assert_eq!(
        attempts.first().map(|it| it.result.as_str()),
        Some("given_back")
    );
    nothing_is_left(&lab, &shop).await
}

#[tokio::test]
async fn four_consumers_restarted_one_after_another_lose_no_run_and_repeat_none() -> Result<()> {
    const RUNS: usize = 60;
    let (mut lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    shop.run("create table orders as select n from generate_series(1, 100) n")
        .await?;
    lab.set("SHOP_URL", shop.url());
    lab.set("LASTGOOD_SERVER_SLOTS", "8");
    for n in 0..RUNS {
        lab.catalog
            .add_on(
                "vector",
                &format!("shop-{n}"),
                &format!("team-{}", n % 7),
                "free",
            )
            .await?;
    }
    lab.catalog
        .execute("update lastgood.resources set connection_ref = 'env:SHOP_URL'")
        .await?;
    let names = ["a", "b", "c", "d"];
    let mut consumers: Vec<Service> = Vec::new();
    for name in names {
        consumers.push(lab.consumer(name, &[]).await?);
    }
    // More runs than the consumers have finished when the last of them is restarted; see below.
    for round in 0..2 {
        lab.catalog
            .execute(
                r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args)
                   select 'vector', 'backup', 'adhoc', id, '{"kind": "backup"}' from lastgood.resources"#,
            )
            .await?;
        for (consumer, name) in consumers.iter_mut().zip(names) {
            consumer.signal("TERM")?;
            ensure!(consumer.exit().await?.success(), "{}", consumer.log()?);
            *consumer = lab.consumer(&format!("{name}-{round}"), &[]).await?;
        }
        let left = "select count(*) from lastgood.runs where state in ('queued', 'running')";
        ensure!(
            lab.catalog.count(left).await? > 0,
            "all was done before the last restart"
        );
    }
    eventually(PATIENCE, "every run has succeeded", async || {
        let left = "select count(*) from lastgood.runs where state <> 'succeeded'";
        Ok(lab.catalog.count(left).await? == 0)
    })
    .await?;
    lab.has_points(2 * RUNS).await?;
    for (what, statement) in [
        (
            "ended well more than once",
            "select count(*) from (select run_id from lastgood.attempts where result = 'succeeded' group by run_id having count(*) > 1) as twice",
        ),
        (
            "attempts were spent",
            "select count(*) from lastgood.runs where attempt <> 1",
        ),
        (
            "were lost or failed",
            "select count(*) from lastgood.attempts where result not in ('succeeded', 'given_back')",
        ),
    ] {
        assert_eq!(lab.catalog.count(statement).await?, 0, "{what}");
    }
    let servers: Vec<Option<String>> =
        sqlx::query_scalar("select distinct server from lastgood.resources")
            .fetch_all(lab.catalog.pool())
            .await?;
    assert!(
        matches!(servers.as_slice(), [Some(server)] if server.contains(':') && !server.contains('@')),
        "{servers:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_run_that_is_not_there_is_an_error_that_says_what_to_do() -> Result<()> {
    let lab = Lab::create().await?;
    let nobody = Uuid::new_v4().to_string();
    let error = lab.run(&["run", "show", &nobody]).await?.refused()?;
    assert!(error.contains("lastgood run list"), "{error}");
    for verb in ["retry", "cancel"] {
        let said = lab.run(&["run", verb, &nobody]).await?;
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.out.contains("lastgood run list"), "{said:?}");
    }
    Ok(())
}

//! MongoDB and Redis get what PostgreSQL gets: schedules, restores and reports, without a secret anywhere.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use lastgood::run::{RunKind, RunState};

use super::{
    cache::Cache,
    lab::{Lab, PATIENCE},
    orders::{MARKER, Orders},
    store,
};
use crate::{eventually::eventually, variable};

pub(super) async fn add(lab: &Lab, id: &str, engine: &str, tier: &str, url: &str) -> Result<()> {
    let args = [
        "resource",
        "add",
        id,
        "--team",
        "acme",
        "--tier",
        tier,
        "--engine",
        engine,
        "--url-stdin",
    ];
    lab.run_with_input(&args, url).await?.succeeded()?;
    Ok(())
}

#[tokio::test]
async fn what_the_schedule_backed_up_brings_lost_databases_of_both_back() -> Result<()> {
    let (lab, orders, cache) = (
        Lab::create().await?,
        Orders::create().await?,
        Cache::start().await?,
    );
    orders.fill().await?;
    cache.fill().await?;
    let before = (orders.state().await?, cache.state().await?);
    add(&lab, "orders", "mongodb", "pro", &orders.url()).await?;
    add(&lab, "cache", "redis", "pro", &cache.url()).await?;
    let producer = lab.producer()?;
    let consumer = lab.consumer("consumer", &[]).await?;
    eventually(
        PATIENCE,
        "both have a scheduled restore point",
        async || Ok(lab.points().await?.len() == 2),
    )
    .await?;

    orders.lose().await?;
    cache.lose().await?;
    for id in ["orders", "cache"] {
        let restored = lab.run(&["restore", id, "--wait"]).await?.succeeded()?;
        ensure!(restored.out.contains("succeeded"), "{restored:?}");
    }
    ensure!((orders.state().await?, cache.state().await?) == before);

    for engine in ["mongodb", "redis"] {
        let series = |kind| {
            format!(
                "lastgood_runs_total{{engine=\"{engine}\",kind=\"{kind}\",result=\"succeeded\"}}"
            )
        };
        consumer.shows(&series("backup"), 1.0).await?;
        consumer.shows(&series("restore"), 1.0).await?;
    }
    let status = lab.run(&["--json", "status"]).await?.succeeded()?.json()?;
    for resource in status["resources"].as_array().context("no resources")? {
        ensure!(
            resource["promise"] == "kept" && resource["consistency"] == "snapshot",
            "{resource}"
        );
    }
    // No secret is in the logs, the store or the commands' output.
    for secret in [MARKER, cache.password()] {
        for file in store::files(lab.home.path())? {
            let bytes = fs::read(lab.home.path().join(&file))?;
            let seen = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            ensure!(!seen, "a secret is seen in {file}");
        }
        for service in [&producer, &consumer] {
            ensure!(!service.get("/metrics").await?.contains(secret));
        }
    }
    orders.drop().await
}

#[tokio::test]
async fn in_place_only_what_the_backup_has_is_replaced_or_all_of_a_server() -> Result<()> {
    let (lab, orders, cache) = (
        Lab::create().await?,
        Orders::create().await?,
        Cache::start().await?,
    );
    orders.fill().await?;
    cache.fill().await?;
    let before = (orders.state().await?, cache.state().await?);
    add(&lab, "orders", "mongodb", "free", &orders.url()).await?;
    add(&lab, "cache", "redis", "free", &cache.url()).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    for id in ["orders", "cache"] {
        lab.succeeds(lab.enqueue_backup(id).await?).await?;
    }
    let collection = orders
        .database()
        .collection::<mongodb::bson::Document>("orders");
    collection
        .delete_many(mongodb::bson::doc! { "_id": { "$gt": 10 } })
        .await?;
    cache.ask::<()>(&["SET", "session:1", "spoilt"]).await?;
    cache
        .ask::<()>(&["SET", "newer", "than the backup"])
        .await?;

    for id in ["orders", "cache"] {
        let refused = lab.run(&["restore", id, "--wait"]).await?;
        ensure!(
            refused.code == Some(1) && refused.out.contains("not empty"),
            "{refused:?}"
        );
    }
    let merge = [
        "restore",
        "cache",
        "--in-place",
        "--overwrite",
        "cache",
        "--merge",
        "--wait",
    ];
    lab.run(&merge).await?.succeeded()?;
    ensure!(cache.ask::<i64>(&["EXISTS", "newer"]).await? == 1, "merged");
    for id in ["orders", "cache"] {
        let args = ["restore", id, "--in-place", "--overwrite", id, "--wait"];
        lab.run(&args).await?.succeeded()?;
    }
    ensure!(cache.ask::<i64>(&["EXISTS", "newer"]).await? == 0, "exact");
    ensure!((orders.state().await?, cache.state().await?) == before);
    // However often a restore has read the dump.
    let points = lab.points().await?;
    for run in lab.runs().await? {
        let point = points.iter().find(|it| it.resource_id == run.resource);
        let bytes = point.context("no point")?.dump_bytes;
        let has_restored = run.kind == RunKind::Restore && run.state == RunState::Succeeded;
        ensure!(
            !has_restored || run.dump_bytes == bytes,
            "{bytes} of {run:?}"
        );
    }
    orders.drop().await
}

#[tokio::test]
async fn consumers_say_what_they_can_truly_do() -> Result<()> {
    let lab = Lab::create().await?;
    let _consumer = lab
        .consumer("consumer", &["--engines", "redis,mongodb"])
        .await?;
    let capabilities: serde_json::Value =
        sqlx::query_scalar("select capabilities from lastgood.consumers")
            .fetch_one(lab.catalog.pool())
            .await?;
    let capable = capabilities.as_array().context("no list")?;
    let engines: Vec<_> = capable
        .iter()
        .map(|it| it["engine"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(engines, ["mongodb", "redis"]);
    for it in capable {
        ensure!(
            it["operations"] == serde_json::json!(["backup", "restore"]),
            "{it}"
        );
        ensure!(
            it["tools"]
                .as_array()
                .is_some_and(|tools| !tools.is_empty()),
            "{it}"
        );
    }
    Ok(())
}

/// The README's "restore without lastgood": `zstd -d`, then a server that starts from the file.
#[tokio::test]
async fn a_server_starts_from_a_redis_archive_without_lastgood() -> Result<()> {
    let (lab, cache) = (Lab::create().await?, Cache::start().await?);
    cache.fill().await?;
    let before = cache.state().await?;
    add(&lab, "cache", "redis", "free", &cache.url()).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    lab.succeeds(lab.enqueue_backup("cache").await?).await?;
    let points = lab.has_points(1).await?;
    let archive = store::archive(&lab.store(), points.first().context("no point")?)?;
    ensure!(
        archive.to_string_lossy().ends_with(".rdb.zst"),
        "{archive:?}"
    );
    let dump = cache.home().join("by-hand.rdb");
    super::round_trip::decompress(&archive, &dump)?;
    let by_hand = Cache::start_from(Some(&dump)).await?;
    ensure!(by_hand.state().await? == before, "{}", by_hand.log());
    Ok(())
}

/// The README's "restore without lastgood": `zstd -d | mongorestore --archive --bypassDocumentValidation`.
#[tokio::test]
async fn mongorestore_takes_a_mongodb_archive_without_lastgood() -> Result<()> {
    let tools = variable("LASTGOOD_TEST_MONGO_TOOLS")?;
    if let Some(why) = tools.strip_prefix("skip: ") {
        super::faults::skipped(&format!("mongorestore by hand: {why}"));
        return Ok(());
    }
    let (lab, orders) = (Lab::create().await?, Orders::create().await?);
    orders.fill().await?;
    orders.break_the_rule().await?;
    let before = orders.state().await?;
    add(&lab, "orders", "mongodb", "free", &orders.url()).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    lab.succeeds(lab.enqueue_backup("orders").await?).await?;
    let points = lab.has_points(1).await?;
    let archive = store::archive(&lab.store(), points.first().context("no point")?)?;
    let dump = lab.home.path().join("by-hand.archive");
    super::round_trip::decompress(&archive, &dump)?;
    orders.lose().await?;
    let configuration = lab.home.path().join("mongorestore.yaml");
    fs::write(&configuration, format!("uri: \"{}\"\n", orders.url()))?;
    let restored = Command::new(std::path::Path::new(&tools).join("mongorestore"))
        .arg(format!("--config={}", configuration.display()))
        .arg(format!("--archive={}", dump.display()))
        .arg("--bypassDocumentValidation")
        .output()?;
    ensure!(restored.status.success(), "{restored:?}");
    ensure!(orders.state().await? == before);
    orders.drop().await
}

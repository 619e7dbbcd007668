//! A fault of MongoDB or Redis is explained usefully, leaves nothing behind, and holds up no one else.

use anyhow::{Context as _, Result, ensure};
use lastgood::run::RunState;
use mongodb::bson::{Binary, Document, doc, spec::BinarySubtype};

use super::{
    cache::Cache,
    faults::{Tiny, fails, goes_on, says_why},
    lab::{Lab, PATIENCE, free_port},
    native::add,
    orders::{MARKER, Orders},
};
use crate::eventually::eventually;

const BOTH: [(&str, &str); 2] = [("mongodb", "orders"), ("redis", "cache")];

/// Returns more than a store of 4 MiB can hold, in incompressible pieces of 1 MiB.
fn incompressible() -> impl Iterator<Item = Vec<u8>> {
    (0_u32..12).map(|n| {
        let mut piece = vec![0; 1 << 20];
        blake3::Hasher::new()
            .update(&n.to_le_bytes())
            .finalize_xof()
            .fill(&mut piece);
        piece
    })
}

#[tokio::test]
async fn a_customer_that_cannot_be_reached_is_told_of_and_leaves_nothing() -> Result<()> {
    let (lab, orders, cache) = (
        Lab::create().await?,
        Orders::create().await?,
        Cache::start().await?,
    );
    orders.fill().await?;
    let nobody = free_port()?;
    let wrong = [
        (
            "mongodb-refused",
            "mongodb",
            orders.url_with("wrong", &orders.name),
            "auth",
        ),
        ("redis-refused", "redis", cache.url_with("wrong"), "auth"),
        (
            "mongodb-down",
            "mongodb",
            format!("mongodb://u:{MARKER}@127.0.0.1:{nobody}/shop?serverSelectionTimeoutMS=2000"),
            "connect",
        ),
        (
            "redis-down",
            "redis",
            format!("redis://:{MARKER}@127.0.0.1:{nobody}"),
            "connect",
        ),
    ];
    let mut runs = Vec::new();
    for (id, engine, url, kind) in &wrong {
        add(&lab, id, engine, "free", url).await?;
        runs.push((lab.enqueue_backup(id).await?, *kind));
    }
    lab.catalog
        .execute("update lastgood.runs set max_attempts = 1")
        .await?;
    let consumer = lab.consumer("consumer", &[]).await?;
    for (run, kind) in runs {
        says_why(&lab, &lab.ends(run).await?, kind, "").await?;
    }
    lab.has_points(0).await?;
    ensure!(
        !consumer.log()?.contains(MARKER),
        "a secret is seen in the log"
    );
    orders.drop().await
}

#[tokio::test]
async fn an_engine_that_nobody_knows_fails_its_run_and_holds_up_no_queue() -> Result<()> {
    let (lab, cache) = (Lab::create().await?, Cache::start().await?);
    lab.catalog.add_on("mysql", "old", "acme", "pro").await?;
    add(&lab, "cache", "redis", "pro", &cache.url()).await?;
    let _services = (lab.producer()?, lab.consumer("consumer", &[]).await?);
    let ended = async || {
        Ok(lab
            .runs()
            .await?
            .iter()
            .filter(|run| run.state.has_ended())
            .count()
            >= 2)
    };
    eventually(PATIENCE, "both have ended", ended).await?;
    let runs = lab.runs().await?;
    let of = |id: &str| runs.iter().find(|run| run.resource == id).context("no run");
    says_why(
        &lab,
        of("old")?,
        "config",
        "engine \"mysql\" is not supported: use one of postgres, vector, mongodb, redis",
    )
    .await?;
    ensure!(of("cache")?.state == RunState::Succeeded, "{runs:?}");
    Ok(())
}

#[tokio::test]
async fn a_full_store_is_said_to_be_full_for_both() -> Result<()> {
    let lab = Lab::create().await?;
    let Some(store) = Tiny::mount(&lab.store())? else {
        return Ok(());
    };
    let (orders, cache) = (Orders::create().await?, Cache::start().await?);
    let large = orders.database().collection::<Document>("large");
    let mut connection = cache.connection().await?;
    for (n, piece) in incompressible().enumerate() {
        let set = redis::cmd("SET").arg(n).arg(&piece).to_owned();
        set.exec_async(&mut connection).await?;
        let piece = Binary {
            subtype: BinarySubtype::Generic,
            bytes: piece,
        };
        large.insert_one(doc! { "piece": piece }).await?;
    }
    add(&lab, "orders", "mongodb", "free", &orders.url()).await?;
    add(&lab, "cache", "redis", "free", &cache.url()).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    for (engine, id) in BOTH {
        fails(&lab, engine, id, "storage", "the store is full").await?;
    }
    store.grow()?;
    for ((engine, id), points) in BOTH.iter().zip(1..) {
        goes_on(&lab, engine, id, points).await?;
    }
    orders.drop().await
}

//! The schedule makes a restore point, and the restore point restores the data, with lastgood and without it.

use std::{fs::File, io, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE, client_dir_18},
    store,
};
use crate::eventually::eventually;

const SCHEMA: &str = "
    create extension vector;
    create table items (id bigint generated always as identity primary key, name text not null, embedding vector(3));
    insert into items (name, embedding)
        select 'item ' || n, array[n, n / 2.0, 1]::vector from generate_series(1, 500) n;
    create index on items using hnsw (embedding vector_l2_ops);
    create table odd (\"Key ü\" jsonb, at timestamptz, blob bytea);
    insert into odd values ('{\"a\": [1, null]}', '2026-01-02 03:04:05.678901+00', '\\x00ff10'), (null, 'infinity', '');
    create view few as select id from items where id < 10;
    create sequence tickets start 41; select nextval('tickets');";

/// Selects everything that a restore must bring back, as one text.
const EVERYTHING: &str = "select
    (select string_agg(items::text, ';' order by id) from items)
    || (select string_agg(odd::text, ';' order by at) from odd)
    || (select count(*) from few) || (select last_value from tickets)
    || (select string_agg(indexdef, ';' order by indexdef) from pg_indexes where schemaname = 'public')";

#[tokio::test]
async fn what_the_schedule_backed_up_brings_destroyed_data_back() -> Result<()> {
    let (lab, shop) = (
        Lab::create().await?,
        Customer::create(Rights::Superuser).await?,
    );
    shop.run(SCHEMA).await?;
    let before = shop.ask(EVERYTHING).await?;
    ensure!(before.contains("item 499"), "{before}");
    lab.add_url("shop", "pro", &shop.url()).await?;
    let producer = lab.producer()?;
    let consumer = lab.consumer("consumer", &[]).await?;
    eventually(PATIENCE, "a scheduled restore point appears", async || {
        Ok(!lab.points().await?.is_empty())
    })
    .await?;
    is_what_its_manifest_says(&lab).await?;

    shop.run("drop view few; drop table odd; delete from items where id % 2 = 0; select setval('tickets', 1)")
        .await?;
    let restored = lab
        .run(&["restore", "shop", "--as-superuser", "--wait"])
        .await?
        .succeeded()?;
    ensure!(restored.out.contains("succeeded"), "{restored:?}");
    assert_eq!(shop.ask(EVERYTHING).await?, before);
    tells_that_the_promise_is_kept(&lab).await?;
    producer
        .shows("lastgood_protected_resources{tier=\"pro\"}", 1.0)
        .await?;
    let runs = consumer
        .metric("lastgood_runs_total{engine=\"vector\",kind=\"backup\",result=\"succeeded\"}")
        .await?;
    assert!(runs >= 1.0, "{runs}");
    comes_back_without_lastgood(&lab, &shop, &before).await
}

async fn is_what_its_manifest_says(lab: &Lab) -> Result<()> {
    let points = lab.has_points(1).await?;
    let [point] = points.as_slice() else {
        anyhow::bail!("{points:?}")
    };
    let on_disk = std::fs::read(lab.store().join("objects").join(&point.manifest_key))?;
    let on_disk: serde_json::Value = serde_json::from_slice(&on_disk)?;
    assert_eq!(on_disk, point.manifest);
    let archive = std::fs::read(store::archive(&lab.store(), point)?)?;
    assert_eq!(
        on_disk.pointer("/archive/blake3"),
        Some(&blake3::hash(&archive).to_hex().to_string().into())
    );
    assert_eq!(
        on_disk.pointer("/archive/size_bytes"),
        Some(&archive.len().into())
    );
    assert_eq!(i64::try_from(archive.len())?, point.stored_bytes);
    Ok(())
}

async fn tells_that_the_promise_is_kept(lab: &Lab) -> Result<()> {
    let status = lab.run(&["--json", "status"]).await?.succeeded()?.json()?;
    assert_eq!(status.pointer("/resources/0/id"), Some(&"shop".into()));
    assert_eq!(status.pointer("/resources/0/promise"), Some(&"kept".into()));
    let newest = status.pointer("/resources/0/newest_consistent_at");
    assert!(newest.is_some_and(serde_json::Value::is_string), "{status}");
    assert_eq!(status.pointer("/tiers/0/broken"), Some(&0.into()));
    let text = lab.run(&["status"]).await?.succeeded()?.out;
    assert!(
        text.contains("kept") && text.contains("live consumers: 1"),
        "{text}"
    );
    Ok(())
}

/// Restores with nothing but `zstd -d` and `pg_restore`.
async fn comes_back_without_lastgood(lab: &Lab, shop: &Customer, before: &str) -> Result<()> {
    let points = lab.points().await?;
    let archive = store::archive(&lab.store(), points.last().context("no restore point")?)?;
    let dump = lab.home.path().join("by-hand.pgdump");
    decompress(&archive, &dump)?;
    let by_hand = format!("{}_by_hand", shop.name);
    shop.as_superuser(&format!("create database {by_hand} template template0"))
        .await?;
    let restored = Command::new(client_dir_18()?.join("pg_restore"))
        .args([
            "--exit-on-error",
            "--single-transaction",
            "-d",
            &shop.url_of(&by_hand),
        ])
        .arg(&dump)
        .output()?;
    ensure!(restored.status.success(), "{restored:?}");
    assert_eq!(shop.ask_in(&by_hand, EVERYTHING).await?, before);
    Ok(())
}

/// Runs `zstd -d`, or uses the library of the same name if the command is not installed.
pub(super) fn decompress(archive: &Path, dump: &Path) -> Result<()> {
    let ran = Command::new("zstd")
        .arg("-dqo")
        .args([dump, archive])
        .status();
    match ran {
        Ok(status) => {
            ensure!(status.success(), "zstd -d refuses the archive");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(zstd::stream::copy_decode(
            File::open(archive)?,
            File::create(dump)?,
        )?),
        Err(error) => Err(error.into()),
    }
}

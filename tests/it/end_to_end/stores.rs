//! Several stores: a bucket takes the backups, a directory gets copies, and either one restores the data.

use anyhow::{Context as _, Result, ensure};
use lastgood::run::RunKind;
use lastgood_jobs::storage::{BucketAccess, Credentials, Storage};

use super::{
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE},
};
use crate::{eventually::eventually, variable};

#[tokio::test]
async fn a_point_is_copied_into_the_mirror_and_restored_from_it_when_the_bucket_has_lost_it()
-> Result<()> {
    let mut lab = Lab::create().await?;
    let shop = Customer::create(Rights::Superuser).await?;
    shop.run(
        "create extension vector; create table items as select n from generate_series(1, 1000) n",
    )
    .await?;
    let bucket = format!(
        "s3://{}/{}",
        variable("LASTGOOD_TEST_S3_BUCKET")?,
        uuid::Uuid::new_v4()
    );
    let endpoint = variable("LASTGOOD_TEST_S3_S3S_URL")?;
    let id = variable("LASTGOOD_TEST_S3_S3S_ACCESS_KEY_ID")?;
    let secret = variable("LASTGOOD_TEST_S3_S3S_SECRET_ACCESS_KEY")?;
    let stores = lab.home.path().join("stores.yaml");
    let mirror = lab.home.path().join("mirror");
    std::fs::write(
        &stores,
        format!(
            "version: 1\nstores:\n- name: bucket\n  storage: {bucket}\n  endpoint: {endpoint}\n  region: us-east-1\n  \
             access_key_id: env:OUR_ID\n  secret_access_key: env:OUR_SECRET\n- name: mirror\n  storage: {}\n",
            mirror.display()
        ),
    )?;
    lab.set("LASTGOOD_STORES", stores.display().to_string());
    lab.set("LASTGOOD_UPKEEP", "1s");
    lab.set("OUR_ID", id.clone());
    lab.set("OUR_SECRET", secret.clone());

    lab.add("shop", &shop).await?;
    let producer = lab.producer()?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let run = lab.enqueue_backup("shop").await?;
    lab.succeeds(run).await?;
    eventually(PATIENCE, "the mirror has its copy", async || {
        let listed = lab.run(&["--json", "point", "list"]).await?.succeeded()?;
        Ok(listed.json()?.pointer("/0/stores") == Some(&serde_json::json!(["bucket", "mirror"])))
    })
    .await?;
    producer
        .shows("lastgood_missing_copies{store=\"mirror\"}", 0.0)
        .await?;
    let copies = lab.runs().await?;
    let copies = copies.iter().filter(|run| run.kind == RunKind::Copy);
    ensure!(copies.count() == 1, "asked for more than once");

    let access = BucketAccess {
        endpoint: Some(endpoint),
        credentials: Some(
            Credentials {
                access_key_id: id,
                secret_access_key: secret.clone().into(),
                session_token: None,
            }
            .into(),
        ),
        ..BucketAccess::default()
    };
    let storage = Storage::open_with(&bucket.parse()?, &access).await?;
    let point = lab.points().await?.pop().context("there is no point")?;
    let archive = point.manifest.pointer("/archive/key");
    let archive = archive.and_then(serde_json::Value::as_str);
    storage.remove(archive.context("no archive")?).await?;

    shop.run("drop table items").await?;
    let said = lab
        .run(&["--json", "restore", "shop", "--as-superuser", "--wait"])
        .await?;
    said.succeeded()?;
    let restores = lab.runs().await?;
    let restore = restores.iter().find(|run| run.kind == RunKind::Restore);
    let result = restore.and_then(|run| run.report.clone());
    let store = result.as_ref().and_then(|result| result.pointer("/store"));
    assert_eq!(store, Some(&"mirror".into()), "{result:?}");
    assert_eq!(shop.ask("select count(*)::text from items").await?, "1000");

    drop(producer);
    lab.catalog
        .execute("delete from lastgood.copies where store = 'mirror'")
        .await?;
    let status = lab.run(&["status"]).await?.succeeded()?;
    ensure!(
        status
            .out
            .contains("NOT COPIED: store mirror lacks 1 restore points"),
        "{status:?}"
    );

    let logs = std::fs::read_dir(lab.home.path().join("logs"))?;
    for log in logs {
        let said = std::fs::read_to_string(log?.path())?;
        ensure!(!said.contains(&secret), "a log holds the bucket's key");
    }
    Ok(())
}

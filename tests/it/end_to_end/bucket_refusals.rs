//! A bucket removes nothing or overwrites everything, and serves an archive to anyone with its signed address.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use lastgood::{
    catalog::{AuditFilter, PointRow},
    run::{RunKind, RunState},
};
use lastgood_jobs::{
    escrow,
    key::Identity,
    storage::{BucketAccess, Credentials, Storage},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    bucket_guard::Guard,
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE},
    store,
};
use crate::{eventually::eventually, variable};

const LOCKED: &str = "Access Denied because object protected by object lock.";

/// What a bucket does not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lacks {
    /// It removes nothing, as under an object lock or with keys without that right.
    Removals,
    /// It does not know the condition `If-None-Match: *`, and overwrites.
    Conditions,
}

/// A guard in front of an S3 server, which lacks something while the lock holds.
struct Lock {
    guard: Guard,
    holds: Arc<AtomicBool>,
}

impl Lock {
    async fn before(endpoint: &str, lacks: Lacks) -> Result<Self> {
        let holds = Arc::new(AtomicBool::new(true));
        let held = Arc::clone(&holds);
        let rule = move |request: &mut [u8]| match lacks {
            _ if !held.load(Ordering::Relaxed) => None,
            Lacks::Removals => request.starts_with(b"DELETE ").then_some(LOCKED),
            Lacks::Conditions => {
                forget_the_condition(request);
                None
            }
        };
        let guard = Guard::before(endpoint, rule).await?;
        Ok(Self { guard, holds })
    }
}

/// Makes the condition a header that no server knows.
fn forget_the_condition(request: &mut [u8]) {
    let name = b"if-none-match:";
    let at = request
        .windows(name.len())
        .position(|some| some.eq_ignore_ascii_case(name));
    if let Some(first) = at.and_then(|at| request.get_mut(at)) {
        *first = b'x';
    }
}

/// Creates a lab whose only store is a bucket that lacks something.
async fn lab_with_bucket(lacks: Lacks) -> Result<(Lab, Lock)> {
    let mut lab = Lab::create().await?;
    let lock = Lock::before(&variable("LASTGOOD_TEST_S3_MOTO_URL")?, lacks).await?;
    let bucket = variable("LASTGOOD_TEST_S3_BUCKET")?;
    let unique = uuid::Uuid::new_v4();
    lab.set("LASTGOOD_STORAGE", format!("s3://{bucket}/{unique}"));
    lab.set("AWS_ENDPOINT_URL_S3", lock.guard.url.clone());
    for (name, from) in [
        ("AWS_ACCESS_KEY_ID", "LASTGOOD_TEST_S3_MOTO_ACCESS_KEY_ID"),
        (
            "AWS_SECRET_ACCESS_KEY",
            "LASTGOOD_TEST_S3_MOTO_SECRET_ACCESS_KEY",
        ),
    ] {
        lab.set(name, variable(from)?);
    }
    Ok((lab, lock))
}

/// Creates a lab whose only store is a bucket behind the lock, and a customer in it.
async fn vaulted() -> Result<(Lab, Lock, Customer)> {
    let (mut lab, lock) = lab_with_bucket(Lacks::Removals).await?;
    lab.set("LASTGOOD_UPKEEP", "1s");
    lab.set("LASTGOOD_VERIFY_WITHIN", "0s");
    let shop = Customer::create(Rights::Owner).await?;
    shop.run("create table items as select n from generate_series(1, 100) n")
        .await?;
    lab.add("shop", &shop).await?;
    Ok((lab, lock, shop))
}

async fn back_up(lab: &Lab) -> Result<PointRow> {
    let run = lab.enqueue_backup("shop").await?;
    lab.succeeds(run).await?;
    Ok(lab.catalog.catalog.point(run).await?)
}

/// A directory takes the backups, and a mirror behind the lock gets copies: how a mirror without the right to remove is set up.
#[tokio::test]
async fn what_a_mirror_refuses_to_remove_is_gone_from_the_primary() -> Result<()> {
    let (mut lab, lock, _shop) = vaulted().await?;
    let (primary, stores) = (
        lab.home.path().join("here"),
        lab.home.path().join("stores.yaml"),
    );
    let mirror = format!(
        "s3://{}/{}",
        variable("LASTGOOD_TEST_S3_BUCKET")?,
        uuid::Uuid::new_v4()
    );
    fs::write(
        &stores,
        format!(
            "version: 1\nstores:\n- name: here\n  storage: {}\n- name: far\n  storage: {mirror}\n  endpoint: {}\n",
            primary.display(),
            lock.guard.url
        ),
    )?;
    lab.set("LASTGOOD_STORES", stores.display().to_string());
    let _consumer = lab.consumer("consumer", &[]).await?;
    let _producer = lab.producer()?;
    let point = back_up(&lab).await?;
    eventually(PATIENCE, "both stores hold it", async || {
        let held = lab.catalog.catalog.stores_of(&[point.id]).await?;
        Ok(held.get(&point.id).is_some_and(|held| held.len() == 2))
    })
    .await?;
    let archive = store::archive(&primary, &point)?;
    ensure!(archive.is_file());
    let_go(&lab, &point).await?;
    eventually(PATIENCE, "the refusal is recorded", async || {
        Ok(lab
            .catalog
            .count("select count(*) from lastgood.restore_points where refused_at is not null")
            .await?
            == 1)
    })
    .await?;
    ensure!(!archive.exists(), "the primary still has the archive");
    ensure!(!primary.join("objects").join(&point.manifest_key).exists());
    Ok(())
}

/// Regression: it seemed to be two stores, with two copies of each point.
#[tokio::test]
async fn one_bucket_by_two_addresses_is_refused() -> Result<()> {
    let (mut lab, lock) = lab_with_bucket(Lacks::Removals).await?;
    let (bucket, stores) = (
        format!(
            "s3://{}/{}",
            variable("LASTGOOD_TEST_S3_BUCKET")?,
            uuid::Uuid::new_v4()
        ),
        lab.home.path().join("stores.yaml"),
    );
    let store = |name: &str, endpoint: &str| {
        format!("- name: {name}\n  storage: {bucket}\n  endpoint: {endpoint}\n")
    };
    let direct = variable("LASTGOOD_TEST_S3_MOTO_URL")?;
    fs::write(
        &stores,
        format!(
            "version: 1\nstores:\n{}{}",
            store("direct", &direct),
            store("gate", &lock.guard.url)
        ),
    )?;
    lab.set("LASTGOOD_STORES", stores.display().to_string());
    let refused = lab.run(&["consumer"]).await?.refused()?;
    ensure!(
        refused.contains("same place as store \"direct\""),
        "{refused}"
    );
    Ok(())
}

async fn let_go(lab: &Lab, point: &PointRow) -> Result<()> {
    sqlx::query(
        "update lastgood.restore_points set expired_at = now(), expired_because = 'x' where id = $1",
    )
    .bind(point.id)
    .execute(lab.catalog.pool())
    .await?;
    Ok(())
}

#[tokio::test]
async fn what_an_object_lock_holds_is_recorded_shown_and_not_asked_for_in_a_loop() -> Result<()> {
    let (lab, lock, _shop) = vaulted().await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let (first, second) = (back_up(&lab).await?, back_up(&lab).await?);
    let producer = lab.producer()?;
    // The second removal is requested in a later round, which must not request the first one again.
    for point in [&first, &second] {
        let_go(&lab, point).await?;
        let refused: &'static str = "select count(*) from lastgood.restore_points where refused_because like '%object lock%'";
        let wanted = if point.id == first.id { 1 } else { 2 };
        eventually(PATIENCE, "the refusal is recorded", async || {
            Ok(lab.catalog.count(refused).await? == wanted)
        })
        .await?;
    }
    producer.shows("lastgood_refused_removals", 2.0).await?;
    let runs = lab.runs().await?;
    let removals: Vec<_> = runs
        .iter()
        .filter(|run| run.kind == RunKind::Expire)
        .collect();
    ensure!(removals.len() == 2, "{removals:?}");
    ensure!(
        removals
            .iter()
            .all(|run| run.state == RunState::Succeeded && run.attempt == 1),
        "{removals:?}"
    );
    let status = lab.run(&["status"]).await?.succeeded()?.out;
    ensure!(
        status.contains(
            "NOT REMOVED: 2 expired restore points stay because their store refuses to remove them"
        ),
        "{status}"
    );
    let plan = lab.run(&["retention", "plan", "shop"]).await?.succeeded()?;
    ensure!(plan.out.contains("object lock"), "{plan:?}");

    // Nothing has been removed, so the points can still be kept. A week later they are removed.
    let pin = ["point", "pin", &first.id.to_string(), "--reason", "whole"];
    lab.run(&pin).await?.succeeded()?;
    let verify = ["verify", "--point", &first.id.to_string(), "--wait"];
    lab.run(&verify).await?.succeeded()?;
    lock.holds.store(false, Ordering::Relaxed);
    lab.catalog
        .execute("update lastgood.restore_points set refused_at = now() - interval '8 days' where refused_at is not null")
        .await?;
    eventually(PATIENCE, "the second is gone", async || {
        Ok(lab.catalog.catalog.point(second.id).await.is_err())
    })
    .await
}

/// There, two attempts of one run could replace each other's manifest.
#[tokio::test]
async fn a_bucket_that_overwrites_is_used_only_where_that_is_accepted_and_is_told() -> Result<()> {
    let (mut lab, _lock) = lab_with_bucket(Lacks::Conditions).await?;
    let refused = lab.run(&["consumer"]).await?.refused()?;
    ensure!(refused.contains("LASTGOOD_S3_WRITE_ONCE"), "{refused}");

    lab.set("LASTGOOD_S3_WRITE_ONCE", "false");
    let _consumer = lab.consumer("consumer", &[]).await?;
    let status = lab.run(&["status"]).await?.succeeded()?.out;
    ensure!(status.contains("NOT WRITE-ONCE: store primary"), "{status}");
    Ok(())
}

/// With keys that may not remove objects, an escrow is written, and later replaced for another recovery recipient.
#[tokio::test]
async fn a_bucket_that_removes_nothing_takes_an_escrow_twice() -> Result<()> {
    let (mut lab, lock) = lab_with_bucket(Lacks::Removals).await?;
    let bucket = format!(
        "s3://{}/{}",
        variable("LASTGOOD_TEST_S3_BUCKET")?,
        uuid::Uuid::new_v4()
    );
    lab.set("LASTGOOD_STORAGE", bucket.clone());
    let (first, second) = (Identity::generate(), Identity::generate());
    lab.set("LASTGOOD_RECOVERY_RECIPIENT", first.recipient().to_string());
    lab.run(&["key", "create", "--platform"])
        .await?
        .succeeded()?;
    let recipient = second.recipient().to_string();
    lab.run(&["key", "escrow", "--recipient", &recipient])
        .await?
        .succeeded()?;

    let access = BucketAccess {
        endpoint: Some(lock.guard.url.clone()),
        credentials: Some(
            Credentials {
                access_key_id: variable("LASTGOOD_TEST_S3_MOTO_ACCESS_KEY_ID")?,
                secret_access_key: variable("LASTGOOD_TEST_S3_MOTO_SECRET_ACCESS_KEY")?.into(),
                session_token: None,
            }
            .into(),
        ),
        ..BucketAccess::default()
    };
    let storage = Storage::open_with(&bucket.parse()?, &access).await?;
    let keys = lab.catalog.catalog.keys().await?;
    let key = keys.first().context("no key")?.id;
    ensure!(escrow::open(&storage, key, &first).await.is_err());
    escrow::open(&storage, key, &second).await?;
    Ok(())
}

#[tokio::test]
async fn a_signed_address_gives_the_archive_over_plain_http_and_is_on_record() -> Result<()> {
    let (lab, _lock, _shop) = vaulted().await?;
    let consumer = lab.consumer("consumer", &[]).await?;
    let point = back_up(&lab).await?;
    drop(consumer);
    let id = point.id.to_string();
    let file = lab.home.path().join("archive");
    let to = file.display().to_string();
    let download = ["point", "download", &id, "--to", &to];
    lab.run(&download).await?.succeeded()?;

    let said = lab
        .run(&["point", "url", &id, "--ttl", "5m"])
        .await?
        .succeeded()?;
    let url = said.out.trim();
    ensure!(fetch(url).await? == fs::read(&file)?, "other bytes");
    ensure!(
        point.stored_bytes.unsigned_abs() == fs::metadata(&file)?.len(),
        "not the archive"
    );

    let acts = lab.catalog.catalog.audited(&AuditFilter::newest(1)).await?;
    let act = acts.first().context("nothing is on record")?;
    assert_eq!(
        (act.action.as_str(), act.point, &act.detail["seconds"]),
        ("url", Some(point.id), &serde_json::json!(300))
    );
    let (_, signature) = url.split_once("X-Amz-Signature=").context("not signed")?;
    let signature = signature.split('&').next().unwrap_or(signature);
    let audit = lab.run(&["--json", "audit"]).await?.succeeded()?.out;
    ensure!(audit.contains("\"url\"") && !audit.contains(signature));
    let long = lab.run(&["point", "url", &id, "--ttl", "8d"]).await?;
    ensure!(long.code == Some(2), "{long:?}");
    Ok(())
}

/// Fetches an address as anyone could.
async fn fetch(url: &str) -> Result<Vec<u8>> {
    let rest = url.strip_prefix("http://").context("not http")?;
    let (host, path) = rest.split_once('/').context("no path")?;
    let mut server = TcpStream::connect(host).await?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    server.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let body = answer.split_off(end.context("no head")? + 4);
    let head = String::from_utf8_lossy(&answer);
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    Ok(body)
}

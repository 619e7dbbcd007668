//! A rebuild of the catalog leaves out a manifest that its bucket withholds, and stops if the bucket withholds them all.

use anyhow::{Context as _, Result, ensure};
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    bucket_guard::Guard,
    customer::{Customer, Rights},
    lab::Lab,
};
use crate::variable;

const MOTO: &str = "LASTGOOD_TEST_S3_MOTO_URL";
const DENIED: &str = "Access Denied";

/// Returns the address of an empty part of the tests' bucket.
fn new_bucket() -> Result<String> {
    let bucket = variable("LASTGOOD_TEST_S3_BUCKET")?;
    Ok(format!("s3://{bucket}/{}", uuid::Uuid::new_v4()))
}

/// Creates a lab whose only store is the bucket at this endpoint: moto, or a guard before it.
async fn lab_in(bucket: &str, endpoint: &str) -> Result<Lab> {
    let mut lab = Lab::create().await?;
    lab.set("LASTGOOD_STORAGE", bucket);
    lab.set("AWS_ENDPOINT_URL_S3", endpoint);
    for (name, from) in [
        ("AWS_ACCESS_KEY_ID", "LASTGOOD_TEST_S3_MOTO_ACCESS_KEY_ID"),
        (
            "AWS_SECRET_ACCESS_KEY",
            "LASTGOOD_TEST_S3_MOTO_SECRET_ACCESS_KEY",
        ),
    ] {
        lab.set(name, variable(from)?);
    }
    Ok(lab)
}

/// Returns a rule that denies reading any object whose key ends like this.
fn withholds(ending: String) -> impl Fn(&mut [u8]) -> Option<&'static str> + Send + Sync + 'static {
    move |request: &mut [u8]| {
        let request = String::from_utf8_lossy(request);
        let mut words = request.split(' ');
        let reads = matches!(words.next(), Some("GET" | "HEAD"));
        let address = words.next().unwrap_or_default();
        let path = address.split('?').next().unwrap_or_default();
        (reads && path.ends_with(&ending)).then_some(DENIED)
    }
}

#[tokio::test]
async fn a_manifest_that_its_bucket_withholds_is_skipped_and_the_others_are_recorded() -> Result<()>
{
    let (moto, bucket) = (variable(MOTO)?, new_bucket()?);
    let mut lab = lab_in(&bucket, &moto).await?;
    let shop = Customer::create(Rights::Owner).await?;
    lab.add("shop", &shop).await?;
    let consumer = lab.consumer("consumer", &[]).await?;
    for _ in 0..2 {
        lab.succeeds(lab.enqueue_backup("shop").await?).await?;
    }
    drop(consumer);
    let points = lab.points().await?;
    let [given, withheld] = points.as_slice() else {
        anyhow::bail!("not two points: {points:?}");
    };
    let lost = lab.catalog.catalog.installations().await?.own.to_string();
    lab.catalog.execute("drop schema lastgood cascade").await?;
    lab.run(&["migrate"]).await?.succeeded()?;

    let guard = Guard::before(&moto, withholds(withheld.manifest_key.clone())).await?;
    lab.set("AWS_ENDPOINT_URL_S3", guard.url.clone());
    let rebuild = ["catalog", "rebuild", "--from", &bucket];
    let adopt = ["--adopt-installation", lost.as_str()];
    let said = lab.run(&[&rebuild[..], &adopt].concat()).await?;
    ensure!(said.code == Some(1), "{said:?}");
    let skipped = said.out.lines().filter(|line| line.starts_with("SKIPPED"));
    let skipped: Vec<_> = skipped.collect();
    ensure!(
        matches!(skipped.as_slice(), [line] if line.contains(&withheld.manifest_key)),
        "{said:?}"
    );
    let recorded = lab.points().await?;
    ensure!(
        matches!(recorded.as_slice(), [point] if point.id == given.id),
        "{recorded:?}"
    );

    // Once the bucket gives it, the next rebuild records it.
    lab.set("AWS_ENDPOINT_URL_S3", moto);
    lab.run(&rebuild).await?.succeeded()?;
    let recorded = lab.points().await?;
    ensure!(
        matches!(recorded.as_slice(), [_, point] if point.id == withheld.id),
        "{recorded:?}"
    );
    Ok(())
}

#[rstest]
#[case::some(3, None)]
#[case::more_than_could_be_chance(20, Some("in a row"))]
#[tokio::test]
async fn a_bucket_that_withholds_every_manifest_ends_the_rebuild(
    #[case] manifests: usize,
    #[case] ended: Option<&str>,
) -> Result<()> {
    let (moto, bucket) = (variable(MOTO)?, new_bucket()?);
    for number in 0..manifests {
        let key = format!("v1/acme/shop/{number}.manifest.json");
        put(&moto, &bucket, &key).await?;
    }
    let guard = Guard::before(&moto, withholds(".manifest.json".to_owned())).await?;
    let lab = lab_in(&bucket, &guard.url).await?;
    let said = lab.run(&["catalog", "rebuild", "--from", &bucket]).await?;
    ensure!(said.code == Some(1), "{said:?}");
    let lines = said.out.lines();
    let skipped = lines.filter(|line| line.starts_with("SKIPPED")).count();
    match ended {
        Some(why) => ensure!(skipped == 0 && said.err.contains(why), "{said:?}"),
        None => ensure!(skipped == manifests, "{said:?}"),
    }
    ensure!(lab.points().await?.is_empty());
    Ok(())
}

/// Puts an object into the bucket. moto needs no signature.
async fn put(endpoint: &str, bucket: &str, key: &str) -> Result<()> {
    let host = endpoint.strip_prefix("http://").context("not http")?;
    let path = bucket.strip_prefix("s3://").context("not a bucket")?;
    let mut server = TcpStream::connect(host).await?;
    let request = format!(
        "PUT /{path}/{key} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
    );
    server.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    server.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

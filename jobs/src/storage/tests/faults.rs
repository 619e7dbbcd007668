//! What a bucket promises when the network or the service does not keep its own promises.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::TryStreamExt as _;
use rstest::rstest;

use super::{
    super::{Created, JobError},
    keys,
    proxy::{Fault, Proxy, Rule},
    stores::{Kind, Store, access},
};
use crate::manifest::tests::example;

const LARGE: usize = 20 * 1024 * 1024;
const KEY: &str = "v1/a";

/// A store behind a proxy, and the same one without it.
struct Behind {
    store: Store,
    straight: Store,
    proxy: Proxy,
}

impl Behind {
    async fn new(rules: &[Rule]) -> Result<Self> {
        let straight = access(Kind::Moto)?;
        let endpoint = straight.endpoint.clone().unwrap_or_default();
        let proxy = Proxy::to(&endpoint, rules).await?;
        let mut behind = straight.clone();
        behind.endpoint = Some(proxy.url.clone());
        behind.patience.tries = 3;
        behind.patience.answer = Duration::from_secs(3);
        behind.patience.part = Duration::from_secs(3);
        let prefix = uuid::Uuid::new_v4().to_string();
        Ok(Self {
            store: Store::in_bucket(&behind, &prefix).await?,
            straight: Store::in_bucket(&straight, &prefix).await?,
            proxy,
        })
    }

    async fn put(&self) -> Result<(), JobError> {
        let upload = self.store.storage.upload(KEY);
        // A failure is explained by `finish`.
        drop(upload.writer().write(large()).await);
        upload.finish().await?.keep();
        Ok(())
    }
}

fn large() -> Bytes {
    (0..LARGE)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect::<Vec<_>>()
        .into()
}

fn rule(method: &'static str, with: &'static str, times: usize, fault: Fault) -> Rule {
    Rule {
        method,
        with,
        times,
        fault,
    }
}

#[rstest]
#[case::busy_at_the_begin("POST", "uploads", Fault::Busy)]
#[case::busy_in_the_middle("PUT", "partNumber=2", Fault::Busy)]
#[case::busy_at_the_end("POST", "uploadId", Fault::Busy)]
#[case::cut_in_mid_part("PUT", "partNumber=1", Fault::CutRequest)]
#[case::part_lost_its_answer("PUT", "partNumber=3", Fault::LoseAnswer)]
#[case::end_lost_its_answer("POST", "uploadId", Fault::LoseAnswer)]
#[case::silent("PUT", "partNumber=2", Fault::Silence)]
#[case::slow("PUT", "partNumber", Fault::Slow(Duration::from_millis(300)))]
#[tokio::test]
async fn an_upload_survives_what_passes(
    #[case] method: &'static str,
    #[case] with: &'static str,
    #[case] fault: Fault,
) -> Result<()> {
    let behind = Behind::new(&[rule(method, with, 2, fault)]).await?;
    if let Err(error) = behind.put().await {
        anyhow::bail!(error.report());
    }
    let read: Vec<Bytes> = behind
        .straight
        .storage
        .read(KEY)
        .await?
        .try_collect()
        .await?;
    assert!(read.concat() == large());
    assert_eq!(behind.straight.unfinished().await?, 0);
    Ok(())
}

#[rstest]
#[case::busy("PUT", "partNumber=2", Fault::Busy)]
#[case::cut("PUT", "partNumber=2", Fault::CutRequest)]
#[case::at_the_end("POST", "uploadId", Fault::Busy)]
#[tokio::test]
async fn an_upload_that_fails_for_good_leaves_nothing(
    #[case] method: &'static str,
    #[case] with: &'static str,
    #[case] fault: Fault,
) -> Result<()> {
    let behind = Behind::new(&[rule(method, with, 1000, fault)]).await?;
    let error = behind.put().await.unwrap_err();
    assert!(!error.is_permanent(), "{}", error.report());
    assert_eq!(behind.straight.objects().await?, [""; 0]);
    assert_eq!(behind.straight.unfinished().await?, 0);
    Ok(())
}

/// As after a restart of a server that keeps unfinished uploads in memory.
#[rstest]
#[case::at_the_begin("uploads", true)]
#[case::at_the_end("uploadId", false)]
#[tokio::test]
async fn keys_that_were_good_for_the_parts_are_not_blamed_at_the_end(
    #[case] with: &'static str,
    #[case] is_permanent: bool,
) -> Result<()> {
    let behind = Behind::new(&[rule("POST", with, 1000, Fault::Deny)]).await?;
    let error = behind.put().await.unwrap_err();
    ensure!(
        matches!(error, JobError::StoreDenied { .. }) && error.is_permanent() == is_permanent,
        "{}",
        error.report()
    );
    assert_eq!(behind.straight.objects().await?, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_manifest_whose_answer_was_lost_is_known_as_ours_and_a_strangers_is_not() -> Result<()> {
    let lost = rule("PUT", "manifest", 1, Fault::LoseAnswer);
    let (key, manifest) = (keys(1).manifest(), example());
    let behind = Behind::new(&[lost]).await?;
    let created = behind
        .store
        .storage
        .create_manifest(&key, &manifest)
        .await?;
    assert_eq!(created, Created::New);
    assert_eq!(behind.proxy.left(), 0);

    let behind = Behind::new(&[rule("PUT", "manifest", 1, Fault::Busy)]).await?;
    let mut others = example();
    others.epoch = 77;
    behind
        .straight
        .storage
        .create_manifest(&key, &others)
        .await?;
    let created = behind
        .store
        .storage
        .create_manifest(&key, &manifest)
        .await?;
    assert_eq!(created, Created::AlreadyExists);
    Ok(())
}

#[rstest]
#[case::busy(Fault::Busy)]
#[case::cut(Fault::CutAnswer)]
#[case::silent(Fault::Silence)]
#[tokio::test]
async fn a_read_survives_what_passes(#[case] fault: Fault) -> Result<()> {
    let behind = Behind::new(&[rule("GET", KEY, 2, fault)]).await?;
    let upload = behind.straight.storage.upload(KEY);
    ensure!(upload.writer().write(large()).await.is_ok(), "failed");
    upload.finish().await?.keep();
    let read: Vec<Bytes> = behind.store.storage.read(KEY).await?.try_collect().await?;
    assert!(read.concat() == large());
    assert_eq!(behind.proxy.left(), 0);
    Ok(())
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_in_time() -> Result<()> {
    let behind = Behind::new(&[rule("", "", 1000, Fault::Silence)]).await?;
    let began = Instant::now();
    let error = behind.store.storage.size(KEY).await.unwrap_err();
    assert!(!error.is_permanent(), "{}", error.report());
    assert!(began.elapsed() < Duration::from_secs(30));
    Ok(())
}

#[tokio::test]
async fn the_janitor_survives_a_busy_store() -> Result<()> {
    let behind = Behind::new(&[rule("GET", "uploads", 2, Fault::Busy)]).await?;
    behind.store.storage.sweep(chrono::Utc::now()).await?;
    assert_eq!(behind.proxy.left(), 0);
    Ok(())
}

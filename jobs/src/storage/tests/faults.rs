//! What a bucket promises if the network or the service breaks its own promises.

use std::time::Duration;

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
use crate::{
    attempt::{Epoch, RunId},
    manifest::tests::example,
};

const LARGE: usize = 20 * 1024 * 1024;
const KEY: &str = "v1/a";
/// How often a request is sent again.
const TRIES: usize = 3;

/// A store behind a proxy, and the same store without it.
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
        behind.patience.tries = TRIES;
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
        self.put_all(large()).await
    }

    async fn put_all(&self, bytes: Bytes) -> Result<(), JobError> {
        let upload = self.store.storage.upload(KEY);
        // If the write fails, `finish` says why.
        drop(upload.writer().write(bytes).await);
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
    others.epoch = Epoch(77);
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
async fn a_server_that_never_answers_is_given_up_after_the_last_try() -> Result<()> {
    let behind = Behind::new(&[rule("", "", 1000, Fault::Silence)]).await?;
    let error = behind.store.storage.size(KEY).await.unwrap_err();
    assert!(!error.is_permanent(), "{}", error.report());
    let sent = behind.proxy.heads().len();
    ensure!(sent <= 1 + TRIES, "it was sent {sent} times");
    Ok(())
}

#[tokio::test]
async fn the_janitor_survives_a_busy_store() -> Result<()> {
    let behind = Behind::new(&[rule("GET", "uploads", 2, Fault::Busy)]).await?;
    behind.store.storage.sweep(chrono::Utc::now()).await?;
    assert_eq!(behind.proxy.left(), 0);
    Ok(())
}

/// The kinds of requests to a store.
const VERBS: [(&str, &str, &str); 8] = [
    ("look", "HEAD", KEY),
    ("read", "GET", KEY),
    ("list", "GET", "list-type"),
    ("create", "PUT", KEY),
    ("begin parts", "POST", "uploads"),
    ("send a part", "PUT", "partNumber=2"),
    ("put together", "POST", "uploadId"),
    ("remove", "DELETE", KEY),
];

async fn done(verb: &str, behind: &Behind) -> Result<(), JobError> {
    let storage = &behind.store.storage;
    match verb {
        "look" => storage.size(KEY).await.map(drop),
        "read" => {
            let upload = behind.straight.storage.upload(KEY);
            drop(upload.writer().write(Bytes::from("x")).await);
            upload.finish().await?.keep();
            let read = storage.read(KEY).await?;
            read.try_collect::<Vec<Bytes>>().await.map(drop)
        }
        "list" => {
            let keys = storage.manifest_keys().await?;
            keys.try_collect::<Vec<String>>().await.map(drop)
        }
        "create" => storage.create_manifest(KEY, &example()).await.map(drop),
        "remove" => storage.remove(KEY).await,
        _ => {
            let two_parts = large().slice(..9 * 1024 * 1024);
            behind.put_all(two_parts).await
        }
    }
}

/// Regression test: a denied read was reported as "the store failed" and retried. A quota, a disabled key, and a token
/// that expired while a part was sent were blamed on the last step.
#[rstest]
#[case::denied(403, "AccessDenied", "the store does not let lastgood", true)]
#[case::unknown_key(403, "InvalidAccessKeyId", "correct AWS_ACCESS_KEY_ID", true)]
#[case::wrong_secret(403, "SignatureDoesNotMatch", "correct AWS_SECRET_ACCESS_KEY", true)]
#[case::no_bucket(404, "NoSuchBucket", "create the bucket", true)]
#[case::closed(403, "AllAccessDisabled", "has closed the bucket", true)]
#[case::key_of_the_bucket(400, "KMS.DisabledException", "enable it", true)]
#[case::cold(403, "InvalidObjectState", "cold storage", true)]
#[case::unknown_request(501, "NotImplemented", "does not support this request", true)]
#[case::quota(403, "QuotaExceeded", "the store is full", false)]
#[case::full(507, "XMinioStorageFull", "the store is full", false)]
#[case::token(400, "ExpiredToken", "renew AWS_SESSION_TOKEN", false)]
#[case::clock(403, "RequestTimeTooSkewed", "fix NTP", false)]
#[case::busy(503, "SlowDown", "asks for fewer requests", false)]
#[case::internal(500, "InternalError", "the store failed", false)]
#[tokio::test]
async fn whatever_a_store_says_is_told_the_same_for_every_verb(
    #[case] status: u16,
    #[case] code: &'static str,
    #[case] advice: &str,
    #[case] is_permanent: bool,
) -> Result<()> {
    for (verb, method, with) in VERBS {
        // A 404 without a body, or for a removal, means that the object is not there.
        if status == 404 && matches!(verb, "look" | "remove") {
            continue;
        }
        let told = Fault::Say(status, code);
        let behind = Behind::new(&[rule(method, with, 1000, told)]).await?;
        let error = done(verb, &behind).await.unwrap_err();
        let report = error.report();
        // The answer to a HEAD has a status but no code. A denied removal may come from an object lock, and is reported
        // as such.
        let has_code = method != "HEAD";
        let is_lock = verb == "remove" && code == "AccessDenied";
        ensure!(
            error.is_of_the_store() && error.kind() == crate::error::ErrorKind::Storage,
            "{verb}: {error:?}"
        );
        if has_code && !is_lock {
            ensure!(report.contains(advice), "{verb}: {report}");
            // A restarted server may have forgotten the parts, and denies them.
            let is_again = verb == "put together" && matches!(error, JobError::StoreDenied { .. });
            ensure!(
                error.is_permanent() == (is_permanent && !is_again),
                "{verb}: {report}"
            );
        }
        if verb == "send a part" {
            ensure!(!report.contains("put together"), "{report}");
        }
    }
    Ok(())
}

/// The answer to a HEAD has no body, so its status alone tells.
#[rstest]
#[case::denied(403, "gives no reason", true)]
#[case::busy(503, "busy or down", false)]
#[case::internal(500, "busy or down", false)]
#[case::slow(429, "asks for fewer requests", false)]
#[case::refused(400, "lent keys have expired", false)]
#[case::moved(301, "check the region", false)]
#[tokio::test]
async fn an_answer_without_a_body_is_told_by_its_status(
    #[case] status: u16,
    #[case] advice: &str,
    #[case] is_permanent: bool,
) -> Result<()> {
    let behind = Behind::new(&[rule("HEAD", KEY, 1000, Fault::Say(status, "unseen"))]).await?;
    let error = behind.store.storage.size(KEY).await.unwrap_err();
    let report = error.report();
    ensure!(report.contains(advice), "{report}");
    ensure!(error.is_permanent() == is_permanent, "{report}");
    Ok(())
}

/// Regression test: a denied HEAD gave no reason.
#[tokio::test]
async fn the_reason_that_a_head_does_not_give_is_asked_for() -> Result<()> {
    let denied = |method| rule(method, KEY, 1000, Fault::Say(403, "InvalidAccessKeyId"));
    let behind = Behind::new(&[denied("HEAD"), denied("GET")]).await?;
    let report = behind.store.storage.size(KEY).await.unwrap_err().report();
    ensure!(report.contains("correct AWS_ACCESS_KEY_ID"), "{report}");
    Ok(())
}

/// Regression test: the error had the HTTP client's own words, and no advice.
#[rstest]
#[case::nobody_listens("http://127.0.0.1:1", "nothing listens there")]
#[case::no_such_name("http://nothing.invalid:9000", "no server has that name")]
#[tokio::test]
async fn a_connection_that_does_not_come_about_says_what_to_look_at(
    #[case] endpoint: &str,
    #[case] advice: &str,
) -> Result<()> {
    let mut access = access(Kind::Moto)?;
    access.endpoint = Some(endpoint.to_owned());
    access.patience = crate::storage::Patience::brief(Duration::from_secs(30));
    let store = Store::in_bucket(&access, "unreachable").await?;
    let error = store.storage.check().await.unwrap_err();
    ensure!(error.report().contains(advice), "{}", error.report());
    ensure!(!error.is_permanent(), "{}", error.report());
    Ok(())
}

/// Ceph and Garage do not support the condition, or not in every request.
#[tokio::test]
async fn a_store_that_does_not_know_the_condition_is_seen_and_used_only_where_that_is_accepted()
-> Result<()> {
    let ignored = || rule("", "", 10_000, Fault::Unconditionally);
    let behind = Behind::new(&[ignored()]).await?;
    let storage = &behind.store.storage;
    let identity = storage.claim(uuid::Uuid::from_u128(1)).await?;
    ensure!(!storage.writes_once().await?);
    assert_eq!(storage.identity().await?, Some(identity));
    let doctor = storage.check().await.unwrap_err().report();
    ensure!(doctor.contains("overwrites"), "{doctor}");

    let mut access = access(Kind::Moto)?;
    access.endpoint = Some(behind.proxy.url.clone());
    access.write_once = crate::storage::WriteOnce::Looked;
    let looked = Store::in_bucket(&access, &uuid::Uuid::new_v4().to_string()).await?;
    let storage = &looked.storage;
    storage.claim(uuid::Uuid::from_u128(1)).await?;
    ensure!(!storage.writes_once().await?);
    storage.check().await?;
    let (key, ours, mut theirs) = (keys(1).manifest(), example(), example());
    theirs.epoch = Epoch(77);
    assert_eq!(storage.create_manifest(&key, &ours).await?, Created::New);
    assert_eq!(
        storage.create_manifest(&key, &theirs).await?,
        Created::AlreadyExists
    );
    assert_eq!(storage.manifest(&key).await?, Some(ours));
    Ok(())
}

/// Regression test: every archive of several parts failed if the service answered 501 to the condition at the end.
#[tokio::test]
async fn an_archive_of_several_parts_needs_no_condition() -> Result<()> {
    let behind = Behind::new(&[]).await?;
    if let Err(error) = behind.put().await {
        anyhow::bail!(error.report());
    }
    let asked = behind.proxy.conditional_posts();
    ensure!(asked == 0, "{asked} requests carried the condition");
    Ok(())
}

/// As if the store's rights were taken away, or the store itself went away, while its manifests were read.
#[rstest]
#[case::one_denied(1, 1, false)]
#[case::all_denied(usize::MAX, 20, true)]
#[tokio::test]
async fn a_survey_names_what_the_store_does_not_give_and_ends_where_it_gives_nothing(
    #[case] denied: usize,
    #[case] unreadable: u64,
    #[case] is_stopped: bool,
) -> Result<()> {
    let behind = Behind::new(&[rule("HEAD", ".manifest.json", denied, Fault::Deny)]).await?;
    for number in 0..25_u128 {
        let manifest = crate::manifest::Manifest {
            run_id: RunId(uuid::Uuid::from_u128(number)),
            ..example()
        };
        let key = format!("v1/acme/db-1/2026/03/04/{number}.manifest.json");
        let straight = &behind.straight.storage;
        straight.create_manifest(&key, &manifest).await?;
    }
    let wanted = crate::survey::Wanted::default();
    let now = chrono::Utc::now();
    let found = crate::survey::survey(&behind.store.storage, &wanted, 50, now).await?;
    ensure!(
        found.unreadable == unreadable && found.stopped.is_some() == is_stopped,
        "{found:?}"
    );
    ensure!(is_stopped || found.points.len() == 24, "{found:?}");
    Ok(())
}

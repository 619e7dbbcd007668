//! What only a bucket promises.

use anyhow::{Context as _, Result, ensure};
use rstest::rstest;

use super::{
    super::{Created, JobError, KeySource, Storage, WriteOnce},
    conformance::{LARGE, large, put},
    keys,
    stores::{
        Kind::{self, Ceph, CephVersioned, Directory, Moto, S3s},
        Store, access_if_here,
    },
    until,
};
use crate::{attempt::Epoch, manifest::tests::example};

/// Regression test for what the documentation says of Ceph 16: it takes the condition, answers 200, and overwrites.
#[tokio::test]
async fn ceph_ignores_the_condition_in_a_bucket_with_versions_and_the_check_tells() -> Result<()> {
    let kind = CephVersioned;
    let Some(mut access) = access_if_here(kind)? else {
        return Ok(());
    };
    access.write_once = WriteOnce::Condition;
    let storage = Store::in_bucket_of(kind, &access).await?.storage;
    let (key, first) = (keys(1).manifest(), example());
    let mut second = example();
    second.epoch = Epoch(77);
    for manifest in [&first, &second] {
        let created = storage.create_manifest(&key, manifest).await?;
        assert_eq!(created, Created::New);
        assert_eq!(storage.manifest(&key).await?.as_ref(), Some(manifest));
    }
    storage.claim(uuid::Uuid::from_u128(1)).await?;
    ensure!(!storage.writes_once().await?, "it is said to write once");
    let error = storage.check().await.unwrap_err();
    ensure!(
        error.report().contains("it overwrites objects"),
        "{}",
        error.report()
    );
    Ok(())
}

/// Only a bucket has objects that are not lastgood's.
#[rstest]
#[tokio::test]
async fn the_janitor_ends_no_upload_of_somebody_elses(
    #[values(Moto, Ceph)] kind: Kind,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    let ours = store.storage.upload(&keys(1).archive());
    let theirs = store.storage.upload("videos/v1/summer.mp4");
    for upload in [&ours, &theirs] {
        ensure!(upload.writer().write(large()).await.is_ok(), "failed");
    }
    until(|| async { Ok(store.unfinished().await? == 2) }).await?;
    let old = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    assert_eq!(store.storage.sweep(old).await?.partial, 1);
    theirs.finish().await?.keep();
    let size = store.storage.size("videos/v1/summer.mp4").await?;
    assert_eq!(size, Some(LARGE as u64));
    drop(ours);
    Ok(())
}

/// Without moto, which accepts any keys.
#[rstest]
#[tokio::test]
async fn wrong_keys_are_permanent_and_say_what_to_mend(
    #[values(S3s, Ceph)] kind: Kind,
) -> Result<()> {
    let Some(mut access) = access_if_here(kind)? else {
        return Ok(());
    };
    if let Some(KeySource::Fixed(credentials)) = &mut access.credentials {
        credentials.secret_access_key = "marker-of-a-secret".into();
    }
    let store = Store::in_bucket(&access, "wrong").await?;
    let error = store.storage.check().await.unwrap_err();
    assert!(
        matches!(error, JobError::StoreDenied { .. }),
        "{}",
        error.report()
    );
    assert!(error.is_permanent() && error.report().contains("correct AWS_SECRET_ACCESS_KEY"));
    let shown = format!(
        "{} {error:?} {:?} {access:?}",
        error.report(),
        store.storage
    );
    assert!(!shown.contains("marker-of-a-secret"), "{shown}");
    Ok(())
}

/// Without s3s-fs, which creates a bucket of any name.
#[rstest]
#[tokio::test]
async fn a_missing_bucket_is_permanent_and_says_what_to_mend(
    #[values(Moto, Ceph)] kind: Kind,
) -> Result<()> {
    let Some(access) = access_if_here(kind)? else {
        return Ok(());
    };
    let url = "s3://no-such-bucket/x".parse()?;
    let storage = Storage::open_with(&url, &access).await?;
    for error in [
        storage.check().await.unwrap_err(),
        // When asked about one object, a server does not say that the bucket is missing.
        storage.size("v1/x").await.unwrap_err(),
    ] {
        assert!(
            matches!(error, JobError::StoreDenied { .. }),
            "{}",
            error.report()
        );
        assert!(
            error.report().contains("create the bucket"),
            "{}",
            error.report()
        );
    }
    Ok(())
}

#[rstest]
#[tokio::test]
async fn an_object_is_read_by_whoever_has_its_signed_address(
    #[values(S3s, Ceph)] kind: Kind,
) -> Result<()> {
    use secrecy::ExposeSecret as _;

    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    put(&store, "v1/a", "shared").await?;
    let minute = std::time::Duration::from_mins(1);
    let address = store.storage.presign("v1/a", minute).await?;
    let address = address
        .map(|address| address.expose_secret().to_owned())
        .unwrap_or_default();
    let got = reqwest::Client::builder()
        .tls_backend_preconfigured(no_tls()?)
        .build()?
        .get(&address)
        .send()
        .await?;
    assert_eq!(got.bytes().await?, "shared");
    let directory = Store::new(Directory).await?.context("no directory")?;
    assert!(directory.storage.presign("v1/a", minute).await?.is_none());
    Ok(())
}

fn no_tls() -> Result<rustls::ClientConfig> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth())
}

//! What only a directory promises. `conformance` tests what every store promises.

mod buckets;
mod conformance;
mod endless;
mod exchanged;
mod faults;
mod lent;
mod proxy;
mod stores;

use std::{future::Future, time::Instant};

use chrono::{TimeZone as _, Utc};

use super::*;
use crate::{
    attempt::{Attempt, AttemptId, Epoch, RunId},
    manifest::tests::example,
};

struct Store {
    storage: Storage,
    directory: tempfile::TempDir,
}

impl Store {
    async fn new() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let url = directory.path().to_str().unwrap_or_default().parse()?;
        Ok(Self {
            storage: Storage::open(&url).await?,
            directory,
        })
    }

    /// Returns every file, whole or unfinished, relative to the root.
    fn files(&self) -> anyhow::Result<Vec<String>> {
        let mut files = Vec::new();
        let mut directories = vec![self.directory.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory)? {
                let path = entry?.path();
                if path.is_dir() {
                    directories.push(path);
                } else {
                    files.push(
                        path.strip_prefix(self.directory.path())?
                            .display()
                            .to_string(),
                    );
                }
            }
        }
        files.sort();
        Ok(files)
    }

    async fn put(&self, key: &str, bytes: &'static [u8]) -> anyhow::Result<()> {
        let upload = self.storage.upload(key);
        upload
            .writer()
            .write(Bytes::from_static(bytes))
            .await
            .map_err(|_| anyhow::anyhow!("failed"))?;
        upload.finish().await?.keep();
        Ok(())
    }
}

fn keys(epoch: i64) -> Keys {
    let attempt = Attempt {
        run: RunId(uuid::Uuid::from_u128(7)),
        epoch: Epoch(epoch),
        id: AttemptId(uuid::Uuid::from_u128(11)),
        created_at: Utc.with_ymd_and_hms(2026, 3, 4, 5, 6, 7).unwrap(),
    };
    Keys::new(
        &"acme".parse().unwrap(),
        &"db-1".parse().unwrap(),
        crate::names::Engine::Postgres,
        attempt,
    )
}

async fn until<F: Future<Output = anyhow::Result<bool>>>(
    what: impl Fn() -> F,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !what().await? {
        anyhow::ensure!(Instant::now() < deadline, "not within 10 s");
        tokio::task::yield_now().await;
    }
    Ok(())
}

#[tokio::test]
async fn an_object_is_seen_when_it_is_whole_and_not_before() -> anyhow::Result<()> {
    let store = Store::new().await?;
    store.storage.check().await?;
    let upload = store.storage.upload("v1/a/b");
    let part = Bytes::from(vec![7; 5 * 1024 * 1024]);
    assert!(upload.writer().write(part.clone()).await.is_ok());
    assert!(upload.writer().write(part.clone()).await.is_ok());
    assert_eq!(store.storage.size("v1/a/b").await?, None);
    upload.finish().await?.keep();
    assert_eq!(store.storage.size("v1/a/b").await?, Some(10 * 1024 * 1024));
    let read: Vec<Bytes> = store.storage.read("v1/a/b").await?.try_collect().await?;
    assert_eq!(read.concat(), vec![7; 10 * 1024 * 1024]);
    assert_eq!(store.files()?, ["objects/v1/a/b"]);
    Ok(())
}

/// Large enough to be flushed more than once while it grows.
#[tokio::test]
async fn a_large_object_is_whole() -> anyhow::Result<()> {
    let store = Store::new().await?;
    let upload = store.storage.upload("v1/a/b");
    let parts: Vec<u8> = (0..75).collect();
    for part in &parts {
        let part = Bytes::from(vec![*part; 1024 * 1024]);
        assert!(upload.writer().write(part).await.is_ok());
    }
    upload.finish().await?.keep();
    let mut read = store.storage.read("v1/a/b").await?;
    let mut at: usize = 0;
    while let Some(bytes) = read.try_next().await? {
        for chunk in bytes.chunks(1024) {
            assert!(chunk.iter().all(|byte| *byte == parts[at / (1024 * 1024)]));
            at += chunk.len();
        }
    }
    assert_eq!(at, 75 * 1024 * 1024);
    assert_eq!(store.files()?, ["objects/v1/a/b"]);
    Ok(())
}

#[tokio::test]
async fn a_dropped_upload_leaves_nothing() -> anyhow::Result<()> {
    let store = Store::new().await?;
    let upload = store.storage.upload("v1/a/b");
    for _ in 0..8 {
        assert!(
            upload
                .writer()
                .write(Bytes::from(vec![7; 2 * 1024 * 1024]))
                .await
                .is_ok()
        );
    }
    until(|| async { Ok(!store.files()?.is_empty()) }).await?;
    drop(upload);
    until(|| async { Ok(store.files()?.is_empty()) }).await
}

#[tokio::test]
async fn an_empty_store_has_no_manifests() -> anyhow::Result<()> {
    let store = Store::new().await?;
    assert_eq!(store.storage.manifest("v1/x.manifest.json").await?, None);
    let found: Vec<String> = store.storage.manifest_keys().await?.try_collect().await?;
    assert!(found.is_empty());
    assert_eq!(store.storage.sweep(Utc::now()).await?, Swept::default());
    Ok(())
}

#[tokio::test]
async fn the_janitor_removes_what_no_manifest_describes_and_nothing_else() -> anyhow::Result<()> {
    let store = Store::new().await?;
    let mut manifest = example();
    manifest.archive.key = keys(2).archive().parse()?;
    for epoch in [1, 2] {
        store.put(&keys(epoch).archive(), b"archive").await?;
    }
    store
        .put(
            "v1/x/y/2026/01/01/000000Z-00000000-0000-0000-0000-000000000009-e1.pgdump.zst",
            b"orphan",
        )
        .await?;
    store
        .storage
        .create_manifest(&keys(2).manifest(), &manifest)
        .await?;
    std::fs::write(store.directory.path().join("partial/left"), "x")?;

    let young = Utc::now() - chrono::TimeDelta::hours(1);
    assert_eq!(store.storage.sweep(young).await?, Swept::default());
    let old = Utc::now() + chrono::TimeDelta::hours(1);
    assert_eq!(
        store.storage.sweep(old).await?,
        Swept {
            partial: 1,
            orphans: 2
        }
    );
    let left = [
        format!("objects/{}", keys(2).archive()),
        format!("objects/{}", keys(2).manifest()),
    ];
    assert_eq!(store.files()?, left);

    store.storage.remove_point(&keys(2).manifest()).await?;
    store.storage.remove_point(&keys(2).manifest()).await?;
    assert!(store.files()?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_manifest_of_another_version_is_refused() -> anyhow::Result<()> {
    let store = Store::new().await?;
    store
        .put(
            "v1/new.manifest.json",
            br#"{"format":"lastgood-manifest","version":2}"#,
        )
        .await?;
    let error = store
        .storage
        .manifest("v1/new.manifest.json")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, JobError::BadManifest { .. }),
        "{}",
        error.report()
    );
    assert!(error.to_string().contains("version 2"), "{error}");
    Ok(())
}

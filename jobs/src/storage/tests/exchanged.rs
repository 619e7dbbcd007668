//! If a store is missing or was replaced by another, nothing is written, removed or believed because of that.

use std::{fs, path::PathBuf};

use anyhow::{Result, ensure};
use bytes::Bytes;
use rstest::rstest;
use uuid::Uuid;

use super::{
    super::{Absent, Binding, Directory, IDENTITY, JobError, Storage},
    stores::{Kind, Store},
};
use crate::{error::ErrorKind, manifest::tests::example};

const KEY: &str = "v1/acme/db-1/2026/03/04/x.manifest.json";

/// A store in a directory that can be moved away.
struct Mounted {
    _home: tempfile::TempDir,
    at: PathBuf,
    away: PathBuf,
    storage: Storage,
}

impl Mounted {
    async fn new() -> Result<Self> {
        let home = tempfile::tempdir()?;
        let (at, away) = (home.path().join("store"), home.path().join("store.away"));
        let storage = Storage::open(&at.display().to_string().parse()?).await?;
        let identity = storage.claim(Uuid::from_u128(1)).await?;
        let meant = Binding::of(identity.installation);
        meant.expect(identity.store);
        Ok(Self {
            _home: home,
            storage: storage.bound(meant),
            at,
            away,
        })
    }

    /// Moves the store away, and leaves something else in its place.
    fn take_away(&self, instead: Instead) -> Result<()> {
        fs::rename(&self.at, &self.away)?;
        match instead {
            Instead::Nothing => {}
            Instead::MountPoint => fs::create_dir(&self.at)?,
            Instead::EmptyStore => fs::create_dir_all(self.at.join("objects"))?,
            Instead::AnotherStore => {
                fs::create_dir_all(self.at.join("objects"))?;
                let ours = fs::read(self.away.join("objects").join(IDENTITY))?;
                let mut theirs: serde_json::Value = serde_json::from_slice(&ours)?;
                theirs["store"] = Uuid::new_v4().to_string().into();
                fs::write(self.at.join("objects").join(IDENTITY), theirs.to_string())?;
            }
        }
        Ok(())
    }

    /// Returns what is in the store's place now, apart from what was put there.
    fn grown(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut directories = vec![self.at.clone()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                let path = entry.path();
                found.push(path.display().to_string());
                if path.is_dir() {
                    directories.push(path);
                }
            }
        }
        found.retain(|path| !path.ends_with("/objects") && !path.ends_with(IDENTITY));
        found
    }
}

#[derive(Debug, Clone, Copy)]
enum Instead {
    Nothing,
    MountPoint,
    EmptyStore,
    AnotherStore,
}

/// Regression test: the directories were made again where the store had been, and the upload succeeded there.
#[rstest]
#[tokio::test]
async fn a_store_that_goes_in_the_middle_of_an_upload_is_not_made_anew(
    #[values(
        Instead::Nothing,
        Instead::MountPoint,
        Instead::EmptyStore,
        Instead::AnotherStore
    )]
    instead: Instead,
) -> Result<()> {
    let store = Mounted::new().await?;
    let upload = store.storage.upload("v1/a/b");
    for _ in 0..8 {
        let bytes = Bytes::from(vec![7; 1024 * 1024]);
        ensure!(
            upload.writer().write(bytes).await.is_ok(),
            "it failed early"
        );
    }
    super::until(|| async { Ok(fs::read_dir(store.at.join("partial"))?.count() == 1) }).await?;
    store.take_away(instead)?;
    let error = upload.finish().await.map(drop).unwrap_err();
    ensure!(
        matches!(error, JobError::StoreChanged { .. })
            && !error.is_permanent()
            && error.is_of_the_store()
            && error.kind() == ErrorKind::Storage,
        "{error:?}"
    );
    assert_eq!(store.grown(), [""; 0]);
    assert_eq!(fs::read_dir(store.away.join("partial"))?.count(), 0);
    fs::remove_dir_all(&store.at).ok();
    fs::rename(&store.away, &store.at)?;
    let upload = store.storage.upload("v1/a/b");
    ensure!(upload.writer().write(Bytes::from("x")).await.is_ok());
    upload.finish().await?.keep();
    Ok(())
}

#[rstest]
#[tokio::test]
async fn nothing_is_committed_removed_or_missed_in_a_store_that_is_another(
    #[values(
        Instead::Nothing,
        Instead::MountPoint,
        Instead::EmptyStore,
        Instead::AnotherStore
    )]
    instead: Instead,
) -> Result<()> {
    let store = Mounted::new().await?;
    let storage = &store.storage;
    storage.create_manifest(KEY, &example()).await?;
    store.take_away(instead)?;
    let done = [
        storage
            .create_manifest("v1/other", &example())
            .await
            .map(drop),
        storage.remove(KEY).await,
        storage.remove_point(KEY).await,
        storage.manifest(KEY).await.map(drop),
        storage.size("v1/a/b").await.map(drop),
        storage.sweep(chrono::Utc::now()).await.map(drop),
        storage.require().await,
    ];
    for (index, done) in done.into_iter().enumerate() {
        ensure!(
            matches!(done, Err(JobError::StoreChanged { .. })),
            "{index}: {done:?}"
        );
    }
    assert_eq!(store.grown(), [""; 0]);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_bucket_that_is_another_takes_nothing(
    #[values(Kind::Moto, Kind::S3s, Kind::Ceph)] kind: Kind,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    // As a consumer does: a store with a binding that does not know it yet can still be claimed.
    let unknown = store.storage.bound(Binding::of(Uuid::from_u128(1)));
    let identity = unknown.claim(Uuid::from_u128(1)).await?;
    assert_eq!(store.storage.claim(Uuid::from_u128(2)).await?, identity);
    ensure!(store.storage.writes_once().await?);
    let meant = Binding::of(identity.installation);
    let bound = store.storage.bound(meant.clone());
    let early = bound.create_manifest(KEY, &example()).await.unwrap_err();
    ensure!(early.report().contains("not been compared"), "{early:?}");
    meant.expect(identity.store);
    bound.create_manifest(KEY, &example()).await?;
    bound.remove(KEY).await?;

    store.storage.remove(IDENTITY).await?;
    store.storage.claim(Uuid::from_u128(1)).await?;
    let upload = bound.upload("v1/a/b");
    let _explained_by_finish = upload.writer().write(Bytes::from("x")).await;
    for done in [
        upload.finish().await.map(drop),
        bound.create_manifest(KEY, &example()).await.map(drop),
        bound.remove(KEY).await,
        bound.manifest(KEY).await.map(drop),
    ] {
        ensure!(
            matches!(done, Err(JobError::StoreChanged { .. })),
            "{done:?}"
        );
    }
    assert_eq!(store.objects().await?, [IDENTITY]);
    Ok(())
}

/// Regression test: opening a store made its `partial`, so that a store that is read-only or was copied by rsync could
/// not be read.
#[tokio::test]
async fn reading_needs_nothing_but_what_is_read() -> Result<()> {
    let home = tempfile::tempdir()?;
    let at = home.path().join("store");
    let url = at.display().to_string().parse()?;
    let storage = Storage::open(&url).await?;
    storage.create_manifest(KEY, &example()).await?;
    fs::remove_dir_all(at.join("partial"))?;
    let (_, operator) = Directory::open(at.clone(), Absent::IsRefused).await?;
    drop(operator);
    let read = Storage::open_existing(&url, &super::super::BucketAccess::default()).await?;
    assert_eq!(read.manifest(KEY).await?, Some(example()));
    assert_eq!(
        read.sweep(chrono::Utc::now()).await?,
        super::Swept::default()
    );
    ensure!(!at.join("partial").exists(), "reading wrote");
    // A writer makes the directory again.
    let upload = read.upload("v1/a/b");
    ensure!(upload.writer().write(Bytes::from("x")).await.is_ok());
    upload.finish().await?.keep();
    Ok(())
}

/// Regression test: `..` in a key led out of a mirror in a directory, and into another bucket of the same account.
#[rstest]
#[tokio::test]
async fn no_door_takes_a_key_that_leads_out(
    #[values(Kind::Memory, Kind::Directory, Kind::Moto, Kind::S3s)] kind: Kind,
    #[values("v1/../../escaped", "/etc/escaped", "v1//x", "v1/x?y", "")] key: &str,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    let storage = &store.storage;
    let mut done = vec![
        storage.size(key).await.map(drop),
        storage.manifest(key).await.map(drop),
        storage.read(key).await.map(drop),
        storage.read_range(key, 0..1).await.map(drop),
        storage.remove(key).await,
        storage.remove_point(key).await,
        storage.create_manifest(key, &example()).await.map(drop),
        storage
            .presign(key, std::time::Duration::from_mins(1))
            .await
            .map(drop),
    ];
    for upload in [storage.upload(key), storage.upload_over(key)] {
        let _explained_by_finish = upload.writer().write(Bytes::from("x")).await;
        done.push(upload.finish().await.map(drop));
    }
    for (index, done) in done.into_iter().enumerate() {
        ensure!(
            matches!(done, Err(JobError::ObjectKey(_))),
            "{index}: {done:?}"
        );
    }
    let mut json = serde_json::to_value(example())?;
    json["archive"]["key"] = key.into();
    let refused = crate::manifest::Manifest::from_json(json.to_string().as_bytes());
    ensure!(refused.is_err(), "a manifest may name {key:?}");
    assert_eq!(store.objects().await?, [""; 0]);
    Ok(())
}

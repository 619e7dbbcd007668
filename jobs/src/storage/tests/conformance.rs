//! What every store promises, whatever its kind.

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::{TryStreamExt as _, future::join_all};
use rstest::rstest;

use super::{
    super::{Created, Swept},
    keys,
    stores::{
        Kind::{self, Ceph, CephVersioned, Directory, Memory, Moto, S3s},
        Store,
    },
    until,
};
use crate::{attempt::Epoch, manifest::tests::example};

/// Larger than three parts of a bucket, and not a multiple of a part.
pub(super) const LARGE: usize = 27 * 1024 * 1024 + 1;

/// Returns bytes that reveal a change of their order.
pub(super) fn large() -> Bytes {
    (0..LARGE)
        .map(|at| u8::try_from((at / 4099 + at) % 251).unwrap())
        .collect::<Vec<_>>()
        .into()
}

pub(super) async fn put(store: &Store, key: &str, bytes: impl Into<Bytes>) -> Result<()> {
    let upload = store.storage.upload(key);
    let written = upload.writer().write(bytes.into()).await;
    ensure!(written.is_ok(), "the upload failed");
    upload.finish().await?.keep();
    Ok(())
}

async fn get(store: &Store, key: &str) -> Result<Vec<u8>> {
    let read: Vec<Bytes> = store.storage.read(key).await?.try_collect().await?;
    Ok(read.concat())
}

#[rstest]
#[tokio::test]
async fn a_store_passes_its_own_check_and_is_empty_after_it(
    #[values(Memory, Directory, Moto, S3s, Ceph, CephVersioned)] kind: Kind,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    store.storage.check().await?;
    assert_eq!(store.objects().await?, [""; 0]);
    assert_eq!(store.unfinished().await?, 0);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_partial_object_is_never_visible_and_a_whole_one_is_what_was_written(
    #[values(Memory, Directory, Moto, S3s, Ceph, CephVersioned)] kind: Kind,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    let upload = store.storage.upload("v1/a/b");
    let writer = upload.writer();
    let bytes = large();
    // In pieces that do not match the parts.
    for piece in bytes.chunks(1_000_003) {
        let piece = Bytes::copy_from_slice(piece);
        ensure!(writer.write(piece).await.is_ok(), "the upload failed");
        assert_eq!(store.storage.size("v1/a/b").await?, None);
    }
    assert_eq!(store.objects().await?, [""; 0]);
    upload.finish().await?.keep();
    assert_eq!(store.storage.size("v1/a/b").await?, Some(LARGE as u64));
    assert!(get(&store, "v1/a/b").await? == bytes);
    assert_eq!(store.objects().await?, ["v1/a/b"]);
    assert_eq!(store.unfinished().await?, 0);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn an_aborted_upload_leaves_nothing(
    #[values(Memory, Directory, Moto, S3s, Ceph, CephVersioned)] kind: Kind,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    for key in ["v1/aborted", "v1/dropped"] {
        let upload = store.storage.upload(key);
        ensure!(upload.writer().write(large()).await.is_ok(), "failed");
        if !matches!(kind, Memory | S3s) {
            until(|| async { Ok(store.unfinished().await? > 0) }).await?;
        }
        if key == "v1/aborted" {
            upload.abort().await;
            assert_eq!(store.unfinished().await?, 0);
        } else {
            drop(upload);
            until(|| async { Ok(store.unfinished().await? == 0) }).await?;
        }
    }
    assert_eq!(store.objects().await?, [""; 0]);
    Ok(())
}

/// Without s3s-fs, which lets two concurrent writers both win, and without Ceph's bucket with versions, where all do.
#[rstest]
#[tokio::test]
async fn of_manifest_writers_at_the_same_time_exactly_one_wins(
    #[values(Memory, Directory, Moto, Ceph)] kind: Kind,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    let (key, manifest) = (keys(1).manifest(), example());
    let outcomes = join_all((0..16).map(|_| store.storage.create_manifest(&key, &manifest))).await;
    let outcomes: Vec<Created> = outcomes.into_iter().collect::<Result<_, _>>()?;
    assert_eq!(outcomes.iter().filter(|it| **it == Created::New).count(), 1);
    assert_eq!(store.storage.manifest(&key).await?, Some(manifest));
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_manifest_is_written_once(
    #[values(Memory, Directory, Moto, S3s, Ceph, CephVersioned)] kind: Kind,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    let (key, first) = (keys(1).manifest(), example());
    let mut second = example();
    second.epoch = Epoch(77);
    assert_eq!(
        store.storage.create_manifest(&key, &first).await?,
        Created::New
    );
    assert_eq!(
        store.storage.create_manifest(&key, &second).await?,
        Created::AlreadyExists
    );
    assert_eq!(store.storage.manifest(&key).await?, Some(first));
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_listing_has_every_manifest_and_nothing_else(
    #[values(Memory, Directory, Moto, S3s, Ceph, CephVersioned)] kind: Kind,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    let found: Vec<String> = store.storage.manifest_keys().await?.try_collect().await?;
    assert!(found.is_empty());
    let mut expected = Vec::new();
    for epoch in 1..=30 {
        let key = format!("v1/acme/db-{epoch}/x.manifest.json");
        store.storage.create_manifest(&key, &example()).await?;
        expected.push(key);
    }
    put(&store, &keys(1).archive(), "archive").await?;
    let mut found: Vec<String> = store.storage.manifest_keys().await?.try_collect().await?;
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn a_range_is_read_alone(
    #[values(Memory, Directory, Moto, S3s, Ceph, CephVersioned)] kind: Kind,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    let bytes = large();
    put(&store, "v1/a", bytes.clone()).await?;
    let (from, to) = (8 * 1024 * 1024 - 3, LARGE - 1);
    let read = store
        .storage
        .read_range("v1/a", from as u64..to as u64)
        .await?;
    let read: Vec<Bytes> = read.try_collect().await?;
    assert!(read.concat() == bytes.slice(from..to));
    Ok(())
}

#[rstest]
#[tokio::test]
async fn removing_is_idempotent_and_missing_is_told(
    #[values(Memory, Directory, Moto, S3s, Ceph, CephVersioned)] kind: Kind,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    put(&store, "v1/a", "x").await?;
    store.storage.remove("v1/a").await?;
    store.storage.remove("v1/a").await?;
    assert_eq!(store.storage.size("v1/a").await?, None);
    assert_eq!(store.storage.manifest("v1/a.manifest.json").await?, None);
    assert!(get(&store, "v1/a").await.is_err());
    Ok(())
}

/// Without Memory, which does not remember when an object was written.
#[rstest]
#[tokio::test]
async fn the_janitor_removes_what_no_manifest_describes_and_nothing_else(
    #[values(Directory, Moto, S3s, Ceph, CephVersioned)] kind: Kind,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    let mut manifest = example();
    manifest.archive.key = keys(2).archive().parse()?;
    for epoch in [1, 2] {
        put(&store, &keys(epoch).archive(), "archive").await?;
    }
    let orphan = "v1/x/y/2026/01/01/000000Z-00000000-0000-0000-0000-000000000009-e1.pgdump.zst";
    put(&store, orphan, "orphan").await?;
    store
        .storage
        .create_manifest(&keys(2).manifest(), &manifest)
        .await?;

    let young = chrono::Utc::now() - chrono::TimeDelta::hours(1);
    assert_eq!(store.storage.sweep(young).await?, Swept::default());
    let old = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let orphans = 2;
    assert_eq!(
        store.storage.sweep(old).await?,
        Swept {
            partial: 0,
            orphans
        }
    );
    let left = [keys(2).archive(), keys(2).manifest()];
    assert_eq!(store.objects().await?, left);

    store.storage.remove_point(&keys(2).manifest()).await?;
    store.storage.remove_point(&keys(2).manifest()).await?;
    assert_eq!(store.objects().await?, [""; 0]);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn the_janitor_ends_old_uploads_and_no_young_one(
    #[values(Directory, Moto, Ceph, CephVersioned)] kind: Kind,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    let upload = store.storage.upload(&keys(1).archive());
    ensure!(upload.writer().write(large()).await.is_ok(), "failed");
    until(|| async { Ok(store.unfinished().await? == 1) }).await?;
    let young = chrono::Utc::now() - chrono::TimeDelta::hours(1);
    assert_eq!(store.storage.sweep(young).await?, Swept::default());
    assert_eq!(store.unfinished().await?, 1);
    let old = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    assert_eq!(store.storage.sweep(old).await?.partial, 1);
    assert_eq!(store.unfinished().await?, 0);
    Ok(())
}

#[rstest]
#[tokio::test]
async fn what_several_may_write_is_replaced_at_once_and_never_removed(
    #[values(Memory, Directory, Moto, S3s, Ceph, CephVersioned)] kind: Kind,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    let bytes = large();
    // A damaged object of the same length.
    put(&store, "v1/a", vec![7; LARGE]).await?;
    let upload = store.storage.upload_over("v1/a");
    ensure!(upload.writer().write(bytes.clone()).await.is_ok(), "failed");
    drop(upload.finish().await?);
    crate::detached::settled().await;
    assert!(get(&store, "v1/a").await? == bytes);
    let aborted = store.storage.upload_over("v1/a");
    ensure!(aborted.writer().write(large()).await.is_ok(), "failed");
    aborted.abort().await;
    assert!(get(&store, "v1/a").await? == bytes);
    Ok(())
}

/// An object that only one attempt writes is never overwritten.
#[rstest]
#[case::small(1024)]
#[case::in_parts(LARGE)]
#[tokio::test]
async fn publishing_replaces_nothing(
    #[values(Memory, Directory, Moto, Ceph, CephVersioned)] kind: Kind,
    #[case] bytes: usize,
) -> Result<()> {
    let Some(store) = Store::new(kind).await? else {
        return Ok(());
    };
    put(&store, "v1/a", vec![7; bytes]).await?;
    let second = store.storage.upload("v1/a");
    ensure!(
        second
            .writer()
            .write(vec![8; bytes - 1].into())
            .await
            .is_ok(),
        "failed"
    );
    ensure!(second.finish().await.is_err(), "it was replaced");
    crate::detached::settled().await;
    assert!(get(&store, "v1/a").await? == vec![7; bytes]);
    Ok(())
}

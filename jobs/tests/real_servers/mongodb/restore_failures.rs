//! How a restore fails: before the first write if possible, and never half way in silence.

use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::{Context as _, Result};
use bson::{Document, doc, rawdoc};
use lastgood_jobs::{
    attempt::{Attempt, Epoch},
    error::{ErrorKind, JobError},
    job::RestoreTarget,
};

use super::{
    forge::Forge,
    lab::{Lab, Private},
    restoring::{Point, State},
};
use crate::lab::{attempt, shows_no_secret, until};

const OWN: RestoreTarget = RestoreTarget::Own {};

fn orders(lab: &Lab) -> Forge {
    Forge::default().plain(&lab.name, "orders", 1000)
}

#[tokio::test]
async fn a_target_that_is_not_empty_is_refused_before_any_write() -> Result<()> {
    let lab = Lab::new().await?;
    lab.insert("mine", &[doc! {"_id": 1}]).await?;
    let before = lab.state().await?;
    let point = lab.store(&orders(&lab).bytes()?, Some(&lab.name))?;
    let error = lab.refuses(&point, OWN, ErrorKind::Target).await?;
    assert!(
        error.report().contains("collection mine"),
        "{}",
        error.report()
    );
    assert_eq!(lab.state().await?, before);
    lab.clean().await
}

#[tokio::test]
async fn a_damaged_archive_is_refused_before_any_write() -> Result<()> {
    let lab = Lab::new().await?;
    let dump = orders(&lab).bytes()?;
    let point = lab.store(&dump, Some(&lab.name))?;
    let path = lab.store.path().join("objects").join(&point.archive_key);
    let stored = std::fs::read(&path)?;
    let mut flipped = stored.clone();
    *flipped.get_mut(stored.len() / 2).context("it is longer")? ^= 1;
    for damaged in [&stored[..stored.len() - 1], &flipped] {
        std::fs::write(&path, damaged)?;
        lab.refuses(&point, OWN, ErrorKind::Corrupt).await?;
    }
    // Damaged before it was stored: the hashes match, but the dump is broken.
    let mut flipped = dump.clone();
    *flipped.get_mut(dump.len() / 2).context("it is longer")? ^= 1;
    for damaged in [&dump[..dump.len() - 1], &dump[..dump.len() / 2], &flipped] {
        let point = lab.store(damaged, Some(&lab.name))?;
        lab.refuses(&point, OWN, ErrorKind::Corrupt).await?;
        lab.refuses(&point, lab.over_itself(), ErrorKind::Corrupt)
            .await?;
    }
    assert_eq!(lab.state().await?, State::new());
    lab.clean().await
}

#[tokio::test]
async fn what_can_be_known_to_fail_fails_before_any_write() -> Result<()> {
    let lab = Lab::new().await?;
    let long = "x".repeat(250);
    for (forge, told) in [
        (orders(&lab).plain(&lab.name, &long, 1), "is too long"),
        (orders(&lab).plain("", "oplog", 1), "its oplog has an entry"),
        (
            orders(&lab).plain("another", "b", 1),
            "cannot all be restored into",
        ),
        (
            orders(&lab).add(&lab.name, "bad", &doc! {"indexes": [{"name": "x"}]}, vec![]),
            "an index without a name or a key",
        ),
    ] {
        let point = lab.store(&forge.bytes()?, Some(&lab.name))?;
        let error = lab.restore(&point, OWN).await.unwrap_err();
        shows_no_secret(&error)?;
        assert!(
            error.is_permanent() && error.report().contains(told),
            "{}",
            error.report()
        );
        assert_eq!(lab.state().await?, State::new());
    }
    lab.clean().await
}

#[tokio::test]
async fn a_failure_in_the_middle_leaves_the_target_empty() -> Result<()> {
    let lab = Lab::new().await?;
    let twice = vec![rawdoc! {"_id": 1}, rawdoc! {"_id": 1}];
    let refused = orders(&lab).add(&lab.name, "twice", &doc! {}, twice);
    let point = lab.store(&refused.bytes()?, Some(&lab.name))?;
    let error = lab.refuses(&point, OWN, ErrorKind::Restore).await?;
    assert!(error.report().contains(".twice"), "{}", error.report());
    assert!(!error.is_permanent());
    // It tells the next attempt what may still arrive.
    assert!(lab.state().await?.keys().eq(["lastgood_restore.mark"]));
    let odd = orders(&lab).add(
        &lab.name,
        "odd",
        &doc! {"options": {"no such option": 1}},
        vec![],
    );
    let point = lab.store(&odd.bytes()?, Some(&lab.name))?;
    let error = lab.refuses(&point, OWN, ErrorKind::Target).await?;
    assert!(error.report().contains(".odd"), "{}", error.report());
    assert_eq!(lab.state().await?, State::new());
    lab.clean().await
}

#[tokio::test]
async fn a_mark_without_anything_else_is_in_nobodys_way() -> Result<()> {
    let lab = Lab::new().await?;
    lab.insert("lastgood_restore.mark", &[doc! {"_id": "another run"}])
        .await?;
    let point = lab.store(&orders(&lab).bytes()?, Some(&lab.name))?;
    lab.restore(&point, OWN).await?;
    assert!(lab.state().await?.keys().eq(["orders"]));
    lab.clean().await
}

#[tokio::test]
async fn without_its_lease_it_writes_nothing() -> Result<()> {
    let mut lab = Lab::new().await?;
    let point = lab.store(&orders(&lab).bytes()?, Some(&lab.name))?;
    lab.worker.lease = std::sync::Arc::new(crate::lab::Switch(false.into()));
    let error = lab.refuses(&point, OWN, ErrorKind::LeaseLost).await?;
    assert!(!error.is_permanent());
    assert_eq!(lab.state().await?, State::new());
    lab.clean().await
}

#[tokio::test]
async fn a_wrong_password_is_told_apart_and_not_repeated() -> Result<()> {
    let mut lab = Lab::new().await?;
    let point = lab.store(&orders(&lab).bytes()?, Some(&lab.name))?;
    let right = lab.resource.clone();
    lab.resource = lab.with_url(crate::lab::MARKER, "hunter2-marker-wrong");
    let error = lab.refuses(&point, OWN, ErrorKind::Auth).await?;
    assert!(error.is_permanent(), "{}", error.report());
    lab.resource = right;
    lab.clean().await
}

/// Returns a restore point with so many documents that its restore takes a while, and their number.
fn large(lab: &Lab) -> Result<(Point, i32)> {
    let documents = 20_000;
    let dump = Forge::default()
        .plain(&lab.name, "orders", documents)
        .plain(&lab.name, "more", 10)
        .bytes()?;
    Ok((lab.store(&dump, Some(&lab.name))?, documents))
}

/// Restores in further attempts, as the queue does. A batch that the first attempt sent may arrive during the second.
async fn restore_again(lab: &Lab, first: Attempt, point: &Point) -> Result<()> {
    let epoch = AtomicI64::new(first.epoch.0);
    until("an attempt finishes", || async {
        let epoch = Epoch(epoch.fetch_add(1, Ordering::SeqCst) + 1);
        match lab.restore_as(Attempt { epoch, ..first }, point, OWN).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_permanent() => Err(error.into()),
            Err(_) => Ok(false),
        }
    })
    .await
}

async fn count(lab: &Lab) -> Result<u64> {
    Ok(lab
        .database()
        .collection::<Document>("orders")
        .estimated_document_count()
        .await?)
}

#[tokio::test]
async fn what_a_stopped_attempt_left_the_next_one_makes_anew() -> Result<()> {
    let lab = Lab::new().await?;
    let (point, documents) = large(&lab)?;
    let first = attempt();
    {
        let restoring = lab.restore_as(first, &point, OWN);
        let begun = until("documents arrive", || async { Ok(count(&lab).await? > 0) });
        tokio::select! {
            done = restoring => anyhow::bail!("it was done too soon: {done:?}"),
            begun = begun => begun?,
        }
    }
    let names = lab.state().await?;
    assert!(
        names.contains_key("lastgood_restore.mark"),
        "{:?}",
        names.keys()
    );
    let error = lab.restore(&point, OWN).await.unwrap_err();
    assert!(
        matches!(error, JobError::TargetNotEmpty { .. }),
        "{}",
        error.report()
    );
    restore_again(&lab, first, &point).await?;
    let after = lab.state().await?;
    assert!(after.keys().eq(["more", "orders"]), "{:?}", after.keys());
    assert_eq!(after["orders"].documents.len(), usize::try_from(documents)?);
    lab.clean().await
}

#[tokio::test]
async fn a_server_that_dies_is_told_and_the_next_attempt_finishes() -> Result<()> {
    let mut server = Private::start().await?;
    let lab = Lab::private(&server).await?;
    let (point, documents) = large(&lab)?;
    let first = attempt();
    let error = {
        let restoring = lab.restore_as(first, &point, OWN);
        let begun = async {
            until("documents arrive", || async { Ok(count(&lab).await? > 0) }).await?;
            server.kill()
        };
        let (restored, killed) = tokio::join!(restoring, begun);
        killed?;
        restored.err().context("the restore succeeded")?
    };
    assert_eq!(error.kind(), ErrorKind::Connect, "{}", error.report());
    assert!(!error.is_permanent());
    server.start_again().await?;
    restore_again(&lab, first, &point).await?;
    let after = lab.state().await?;
    assert!(after.keys().eq(["more", "orders"]), "{:?}", after.keys());
    assert_eq!(after["orders"].documents.len(), usize::try_from(documents)?);
    Ok(())
}

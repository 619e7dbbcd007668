//! A restore in place replaces what the backup has, at the end and as a whole, and leaves the rest alone.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::Result;
use bson::{doc, rawdoc};
use futures::future::BoxFuture;
use lastgood_jobs::{
    attempt::{Attempt, Epoch},
    error::{ErrorKind, JobError},
    job::RestoreTarget,
    worker::Lease,
};

use super::{
    forge::Forge,
    lab::{Lab, Private},
    restoring::counts,
};
use crate::{lab::attempt, proxy::Proxy};

/// A lease that is lost after this many questions.
struct Lost(AtomicUsize);

impl Lease for Lost {
    fn is_alive(&self) -> BoxFuture<'_, bool> {
        let left = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |it| it.checked_sub(1));
        Box::pin(async move { left.is_ok() })
    }
}

/// Makes a database, and returns an archive of its state before it went wrong.
async fn went_wrong(lab: &Lab) -> Result<Vec<u8>> {
    lab.run(doc! {"create": "ruled", "validator": {"n": {"$gt": 0}}})
        .await?;
    lab.run(doc! {"create": "log", "capped": true, "size": 65_536})
        .await?;
    lab.run(doc! {"create": "all", "viewOn": "orders", "pipeline": []})
        .await?;
    lab.insert(
        "orders",
        &[doc! {"_id": 1, "n": 1}, doc! {"_id": 2, "n": 2}],
    )
    .await?;
    lab.insert("ruled", &[doc! {"_id": 1, "n": 1}]).await?;
    lab.insert("log", &[doc! {"_id": 2}, doc! {"_id": 1}])
        .await?;
    let index = doc! {"key": {"n": 1, "a": -1}, "name": "n", "unique": true};
    lab.run(doc! {"createIndexes": "orders", "indexes": [index]})
        .await?;
    Forge::default().database(&lab.database()).await?.bytes()
}

#[tokio::test]
async fn it_replaces_what_the_backup_has_and_leaves_the_rest() -> Result<()> {
    let lab = Lab::new().await?;
    let dump = went_wrong(&lab).await?;
    let mut before = lab.state().await?;
    let point = lab.store(&dump, Some(&lab.name))?;
    lab.run(doc! {"drop": "all"}).await?;
    lab.run(doc! {"drop": "log"}).await?;
    // A view in the place of a collection, and a collection in the place of a view.
    lab.run(doc! {"create": "log", "viewOn": "orders", "pipeline": []})
        .await?;
    lab.insert("all", &[doc! {"_id": 1}]).await?;
    lab.insert("orders", &[doc! {"_id": 3, "n": 3}]).await?;
    lab.insert("stranger", &[doc! {"_id": 1}]).await?;
    lab.run(doc! {"dropIndexes": "orders", "index": "n"})
        .await?;
    let stranger = lab.state().await?["stranger"].clone();
    before.insert("stranger".to_owned(), stranger);
    for _ in 0..2 {
        let restored = lab.restore(&point, lab.over_itself()).await?;
        assert_eq!(lab.state().await?, before);
        assert_eq!(counts(&restored), (4, 5, 4));
        assert_eq!(
            restored.notes,
            ["collections that the backup does not have were left as they were"]
        );
    }
    lab.clean().await
}

#[tokio::test]
async fn until_the_old_is_replaced_a_failure_leaves_it_as_it_was() -> Result<()> {
    let mut lab = Lab::new().await?;
    let dump = went_wrong(&lab).await?;
    let point = lab.store(&dump, Some(&lab.name))?;
    lab.insert("orders", &[doc! {"_id": 3, "n": 3}]).await?;
    let before = lab.state().await?;
    let alive = lab.worker.lease.clone();
    let attempt = attempt();
    // Lost before the first write, and lost when everything is made but nothing is replaced.
    for (questions, left) in [(0, 0), (1, 1)] {
        lab.worker.lease = Arc::new(Lost(AtomicUsize::new(questions)));
        let error = lab
            .restore_as(attempt, &point, lab.over_itself())
            .await
            .unwrap_err();
        assert!(matches!(error, JobError::LeaseLost), "{}", error.report());
        let mut after = lab.state().await?;
        let names: Vec<_> = after
            .keys()
            .filter(|it| it.starts_with("lastgood_restore."))
            .cloned()
            .collect();
        assert!(names.len() >= left, "{names:?}");
        after.retain(|name, _| !names.contains(name));
        assert_eq!(after, before);
    }
    lab.worker.lease = alive;
    lab.restore_as(attempt, &point, lab.over_itself()).await?;
    let after = lab.state().await?;
    assert!(after.keys().eq(before.keys()), "{:?}", after.keys());
    assert_eq!(after["orders"].documents.len(), 2);
    lab.clean().await
}

#[tokio::test]
async fn documents_that_are_refused_leave_the_old_as_it_was() -> Result<()> {
    let lab = Lab::new().await?;
    lab.insert("orders", &[doc! {"_id": "old"}]).await?;
    let before = lab.state().await?;
    let unique = doc! {"indexes": [{"key": {"n": 1}, "name": "n", "unique": true}]};
    let doubles = vec![rawdoc! {"_id": 1, "n": 1}, rawdoc! {"_id": 2, "n": 1}];
    let twice = vec![rawdoc! {"_id": 1}, rawdoc! {"_id": 1}];
    for (metadata, documents, kind, told) in [
        (unique, doubles, ErrorKind::Target, "unique index \"n\" of"),
        (doc! {}, twice, ErrorKind::Restore, "refused documents of"),
    ] {
        let dump = Forge::default()
            .plain(&lab.name, "more", 3)
            .add(&lab.name, "orders", &metadata, documents)
            .bytes()?;
        let point = lab.store(&dump, Some(&lab.name))?;
        let error = lab.refuses(&point, lab.over_itself(), kind).await?;
        let report = error.report();
        assert!(
            report.contains(told) && report.contains("E11000"),
            "{report}"
        );
        assert_eq!(lab.state().await?, before);
    }
    lab.clean().await
}

#[tokio::test]
async fn what_another_run_left_is_told_of_and_stays() -> Result<()> {
    let lab = Lab::new().await?;
    lab.run(doc! {"create": "lastgood_restore.01234567.0"})
        .await?;
    let dump = Forge::default().plain(&lab.name, "orders", 1).bytes()?;
    let point = lab.store(&dump, Some(&lab.name))?;
    let restored = lab.restore(&point, lab.over_itself()).await?;
    assert!(
        restored
            .notes
            .iter()
            .any(|it| it.contains("lastgood_restore.01234567.0")),
        "{:?}",
        restored.notes
    );
    assert!(
        lab.state()
            .await?
            .keys()
            .eq(["lastgood_restore.01234567.0", "orders"])
    );
    lab.clean().await
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_what_can() -> Result<()> {
    let lab = Lab::new().await?;
    let point = lab.store(&Forge::default().bytes()?, Some(&lab.name))?;
    let merge = RestoreTarget::InPlace {
        overwrite: lab.resource.id.clone(),
        merge: true,
    };
    for (target, instead) in [
        (merge, "leave `merge` (--merge) out"),
        (RestoreTarget::Swap {}, "restore in place"),
    ] {
        let error = lab.refuses(&point, target, ErrorKind::Config).await?;
        assert!(error.report().contains(instead), "{}", error.report());
    }
    lab.clean().await
}

#[tokio::test]
async fn a_failure_between_two_replacements_says_what_is_new_and_the_next_attempt_finishes()
-> Result<()> {
    let server = Private::start().await?;
    let mut lab = Lab::private(&server).await?;
    let forge = Forge::default()
        .plain("shop", "first", 2)
        .plain("shop", "second", 2);
    let point = lab.store(&forge.bytes()?, Some("shop"))?;
    lab.insert("first", &[doc! {"_id": "old"}]).await?;
    lab.insert("second", &[doc! {"_id": "old"}]).await?;
    // Breaks where the second collection takes its name. Every other command names the collection made beside it.
    let proxy = Proxy::breaking_at("shop.second", 0, &server.url("shop").parse()?).await?;
    let url = format!(
        "mongodb://127.0.0.1:{}/shop?directConnection=true",
        proxy.port
    );
    let direct = std::mem::replace(&mut lab.resource.url, url.into());
    let first = attempt();
    let error = lab
        .restore_as(first, &point, lab.over_itself())
        .await
        .unwrap_err();
    let report = error.report();
    assert!(
        report.contains("these are restored: shop.first; "),
        "{report}"
    );
    assert!(report.contains("may be missing: shop.second; "), "{report}");
    assert!(!error.is_permanent());
    let after = lab.state().await?;
    assert_eq!(
        (
            after["first"].documents.len(),
            after["second"].documents.len()
        ),
        (2, 1)
    );
    lab.resource.url = direct;
    let second = Attempt {
        epoch: Epoch(2),
        ..first
    };
    lab.restore_as(second, &point, lab.over_itself()).await?;
    let after = lab.state().await?;
    assert!(after.keys().eq(["first", "second"]), "{:?}", after.keys());
    assert_eq!(
        (
            after["first"].documents.len(),
            after["second"].documents.len()
        ),
        (2, 2)
    );
    Ok(())
}

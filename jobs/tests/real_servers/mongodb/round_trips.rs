//! The contents of lastgood's own dumps and of `mongodump`'s come back, whoever writes meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use bson::{Document, doc};
use futures::TryStreamExt as _;
use lastgood_jobs::{
    backup::RestorePoint, error::ErrorKind, job::RestoreTarget, manifest::Consistency,
};
use mongodb::{Client, Database};

use super::{
    lab::{Lab, Private},
    restores::furnish,
    restoring::{Point, counts, state},
};
use crate::{
    lab::{attempt, until},
    subject::backup,
};

const OWN: RestoreTarget = RestoreTarget::Own {};

impl From<&RestorePoint> for Point {
    fn from(point: &RestorePoint) -> Self {
        Self {
            run_id: point.manifest.run_id,
            manifest_key: point.manifest_key.clone(),
            archive_key: point.manifest.archive.key.to_string(),
        }
    }
}

async fn back_up(lab: &Lab) -> Result<Point> {
    Ok(Point::from(&back_up_whole(lab).await?))
}

async fn back_up_whole(lab: &Lab) -> Result<RestorePoint> {
    Ok(backup(attempt(), &lab.resource, None, &lab.worker).await?)
}

#[tokio::test]
async fn a_backup_restores_to_what_was_backed_up() -> Result<()> {
    let lab = Lab::new().await?;
    furnish(&lab).await?;
    let before = lab.state().await?;
    let point = back_up(&lab).await?;
    for name in before.keys() {
        lab.run(doc! {"drop": name}).await?;
    }
    let restored = lab.restore(&point, OWN).await?;
    assert_eq!(lab.state().await?, before);
    assert_eq!(restored.notes, Vec::<String>::new());
    lab.insert("people", &[doc! {"_id": "new", "age": 1, "name": "a"}])
        .await?;
    lab.restore(&point, lab.over_itself()).await?;
    assert_eq!(lab.state().await?, before);
    lab.clean().await
}

#[tokio::test]
async fn a_standalone_takes_it_too() -> Result<()> {
    let lab = Lab::standalone().await?;
    lab.insert("orders", &[doc! {"_id": 1}]).await?;
    let before = lab.state().await?;
    let point = back_up(&lab).await?;
    lab.restore(&point, lab.over_itself()).await?;
    assert_eq!(lab.state().await?, before);
    lab.run(doc! {"drop": "orders"}).await?;
    lab.restore(&point, OWN).await?;
    assert_eq!(lab.state().await?, before);
    lab.clean().await
}

#[tokio::test]
async fn a_whole_deployment_goes_to_another() -> Result<()> {
    let (from, to) = (Private::start().await?, Private::start().await?);
    let mut lab = Lab::private(&from).await?;
    lab.resource.url = from.url("").into();
    lab.insert("orders", &[doc! {"_id": 1}]).await?;
    let blog = lab.client.database("blog");
    blog.collection("posts").insert_one(doc! {"_id": 1}).await?;
    let point = back_up(&lab).await?;
    let reference = RestoreTarget::Reference {
        reference: "env:X".to_owned(),
    };
    let restored = lab
        .restore_to(attempt(), &point, reference, Some(to.url("")))
        .await?;
    assert_eq!(counts(&restored), (2, 2, 2));
    let client = Client::with_uri_str(to.url("")).await?;
    assert_eq!(state(&client.database("shop")).await?, lab.state().await?);
    assert_eq!(state(&client.database("blog")).await?, state(&blog).await?);
    Ok(())
}

#[tokio::test]
async fn options_that_look_like_extended_json_come_back_as_they_were() -> Result<()> {
    let lab = Lab::new().await?;
    let like = doc! {"$numberInt": "5"};
    let id = doc! {"$oid": "0123456789abcdef01234567"};
    for command in [
        doc! {"create": "view", "viewOn": "a", "pipeline": [{"$set": {"x": {"$literal": like}}}]},
        doc! {"create": "a", "validator": {"$expr": {"$ne": ["$of", {"$literal": &id}]}}},
        doc! {"createIndexes": "a", "indexes": [{"key": {"n": 1}, "name": "n", "partialFilterExpression": {"of": {"$eq": {"a": 1}}}}]},
    ] {
        lab.run(command).await?;
    }
    lab.insert("a", &[doc! {"_id": 1}]).await?;
    let before = lab.state().await?;
    let point = back_up(&lab).await?;
    for name in before.keys() {
        lab.run(doc! {"drop": name}).await?;
    }
    lab.restore(&point, OWN).await?;
    assert_eq!(lab.state().await?, before);
    lab.clean().await
}

#[tokio::test]
async fn archives_of_mongodump_old_and_new_come_back() -> Result<()> {
    let lab = Lab::new().await?;
    let of_2017 = include_bytes!("../../../fuzz/seeds/mongodb_archive/of_2017");
    let of_today = include_bytes!("../../../fuzz/seeds/mongodb_archive/of_today");
    // The first byte of a seed tells the fuzz target how to cut the archive after it.
    let archive = |seed: &'static [u8]| seed.split_first().context("an empty seed");
    let (_, old) = archive(of_2017)?;
    let restored = lab.restore(&lab.store(old, Some("any"))?, OWN).await?;
    let (found, inserted, _) = counts(&restored);
    assert_eq!((found, inserted), (1, 1), "{restored:?}");
    for name in lab.state().await?.keys() {
        lab.run(doc! {"drop": name}).await?;
    }
    // Made by hand: its bucket of a time series is not a valid one, and the server says so.
    let (_, new) = archive(of_today)?;
    let point = lab.store(new, Some("any"))?;
    let (kind, what) = if lab.has_time_series() {
        (ErrorKind::Restore, "system.buckets.load")
    } else {
        (ErrorKind::Target, "timeseries")
    };
    let error = lab.refuses(&point, OWN, kind).await?;
    assert!(error.report().contains(what), "{}", error.report());
    lab.clean().await
}

const ACCOUNTS: i32 = 50;
const EACH: i64 = 100;

/// Moves money from one collection to the other until it is told to stop.
async fn transfer(lab: &Lab, stop: &AtomicBool, done: &AtomicU64) -> Result<()> {
    let database = lab.database();
    let mut session = lab.client.start_session().await?;
    while !stop.load(Ordering::SeqCst) {
        let n = i32::try_from(done.load(Ordering::SeqCst) % 50)?;
        session.start_transaction().await?;
        for (collection, amount) in [("checking", -1_i64), ("savings", 1)] {
            let accounts = database.collection::<Document>(collection);
            let change = accounts.update_one(doc! {"_id": n}, doc! {"$inc": {"money": amount}});
            change.session(&mut session).await?;
        }
        session.commit_transaction().await?;
        done.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

async fn money(database: &Database) -> Result<i64> {
    let mut sum = 0;
    for collection in ["checking", "savings"] {
        let all = database.collection::<Document>(collection);
        let all: Vec<Document> = all.find(doc! {}).await?.try_collect().await?;
        ensure!(
            all.len() == usize::try_from(ACCOUNTS)?,
            "{} accounts",
            all.len()
        );
        for account in all {
            sum += account.get_i64("money")?;
        }
    }
    Ok(sum)
}

#[tokio::test]
async fn what_is_restored_adds_up_or_the_manifest_says_why_it_may_not() -> Result<()> {
    let server = Private::start().await?;
    adds_up(&Lab::private(&server).await?).await?;
    Ok(())
}

/// Backs up accounts between which money moves, and checks that none is missing in what is restored. Returns what the
/// manifests promise.
pub(super) async fn adds_up(lab: &Lab) -> Result<Vec<Consistency>> {
    for collection in ["checking", "savings"] {
        let accounts: Vec<_> = (0..ACCOUNTS)
            .map(|n| doc! {"_id": n, "money": EACH})
            .collect();
        lab.insert(collection, &accounts).await?;
    }
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let backing_up = async {
        let mut points = Vec::new();
        for _ in 0..5 {
            let before = done.load(Ordering::SeqCst);
            until("the writer writes", || async {
                Ok(done.load(Ordering::SeqCst) > before)
            })
            .await?;
            points.push(back_up_whole(lab).await);
        }
        stop.store(true, Ordering::SeqCst);
        points.into_iter().collect::<Result<Vec<_>>>()
    };
    let (points, written) = tokio::join!(backing_up, transfer(lab, &stop, &done));
    written.context("the writer failed")?;
    let points = points?;
    for (n, point) in points.iter().enumerate() {
        let name = format!("{}-copy{n}", lab.name);
        let target = RestoreTarget::Database { name: name.clone() };
        lab.restore(&Point::from(point), target).await?;
        let copy = lab.client.database(&name);
        let copied = money(&copy).await?;
        copy.drop().await?;
        let manifest = &point.manifest;
        match manifest.consistency {
            Consistency::Snapshot => assert_eq!(copied, 2 * i64::from(ACCOUNTS) * EACH),
            // This server promises no instant while others write.
            Consistency::None => assert!(!manifest.warnings.is_empty()),
        }
    }
    let promised = points.iter().map(|point| point.manifest.consistency);
    Ok(promised.collect())
}

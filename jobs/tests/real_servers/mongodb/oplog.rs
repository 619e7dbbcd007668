//! What no snapshot lasts for is backed up all the same: with the oplog beside it, which a restore replays to one instant.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use bson::{Document, doc};
use futures::TryStreamExt as _;
use lastgood_jobs::{
    backup::{RestorePoint, backup},
    job::RestoreTarget,
    manifest::{Consistency, Details},
};
use mongodb::{
    Client, Database,
    error::{Error, ErrorKind},
};
use tokio::task::JoinHandle;

use super::{
    archive::Archive,
    gate::Gate,
    lab::{Lab, Private},
    restoring::{Point, state},
};
use crate::lab::{attempt, until};

const ACCOUNTS: i32 = 50;
const EACH: i64 = 100;

/// A deployment that forgets its snapshots after a second, and a way to it on which the read of a large collection waits.
struct Forgetful {
    server: Private,
    lab: Lab,
    gate: Gate,
}

impl Forgetful {
    async fn start() -> Result<Self> {
        let server = Private::with(&["minSnapshotHistoryWindowInSeconds=1"]).await?;
        let mut lab = Lab::private(&server).await?;
        // A `getMore`: the collection is larger than a batch.
        let gate = Gate::at(b"collection\0\x04\0\0\0big\0".to_vec(), server.port).await?;
        let url = format!(
            "mongodb://127.0.0.1:{}/shop?directConnection=true",
            gate.port
        );
        lab.resource.url = url.into();
        let large = |n: i32| doc! {"_id": n, "text": "x".repeat(1024 * 1024)};
        let large: Vec<_> = (0..24).map(large).collect();
        lab.insert("big", &large).await?;
        Ok(Self { server, lab, gate })
    }

    fn begin(&self) -> JoinHandle<Result<RestorePoint, lastgood_jobs::error::JobError>> {
        let (resource, worker) = (self.lab.resource.clone(), self.lab.worker.clone());
        tokio::spawn(async move { backup(attempt(), &resource, None, &worker).await })
    }

    /// Waits until the server has forgotten the snapshot that a backup at the gate reads from, lets that notice it, and waits until
    /// the next one is at the gate, which captures the oplog.
    async fn forgets_the_snapshot(&self) -> Result<()> {
        self.gate.is_reached().await?;
        let shop = self.lab.client.database("shop");
        let newest = doc! {"find": "big", "limit": 1, "singleBatch": true, "projection": {"_id": 1},
        "readConcern": {"level": "snapshot"}};
        let told = shop.run_command(newest).await?;
        let at = told
            .get_document("cursor")?
            .get_timestamp("atClusterTime")?;
        let again = doc! {"find": "big", "limit": 1, "singleBatch": true, "projection": {"_id": 1},
        "readConcern": {"level": "snapshot", "atClusterTime": at}};
        let ticks = self.lab.client.database("another").collection("ticks");
        until("the snapshot is forgotten", || async {
            ticks.insert_one(doc! {"x": "x".repeat(1000)}).await?;
            let answer = shop.run_command(again.clone()).await;
            Ok(answer.is_err_and(|error| code(&error) == Some(239)))
        })
        .await?;
        self.gate.pass_one().await?;
        self.gate.is_reached().await
    }
}

fn code(error: &Error) -> Option<i32> {
    if let ErrorKind::Command(told) = &*error.kind {
        Some(told.code)
    } else {
        None
    }
}

/// Makes sure that a point is of one instant by its oplog. Returns how many entries that has.
fn entries(point: &RestorePoint) -> Result<u64> {
    let manifest = &point.manifest;
    ensure!(
        manifest.consistency == Consistency::Snapshot,
        "{:?}",
        manifest.warnings
    );
    let Details::Mongodb {
        oplog_entries: Some(entries),
        ..
    } = &manifest.details
    else {
        anyhow::bail!("{:?}", manifest.details);
    };
    Ok(*entries)
}

fn archive(lab: &Lab, point: &RestorePoint) -> Result<Archive> {
    let object = lab.store.path().join("objects");
    Archive::read(&std::fs::read(object.join(&point.manifest.archive.key))?)
}

/// Moves money from one collection to the other until it is told to stop.
async fn transfer(client: Client, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Result<()> {
    let database = client.database("shop");
    let mut session = client.start_session().await?;
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
        for account in all(database, collection).await? {
            sum += account.get_i64("money")?;
        }
    }
    Ok(sum)
}

async fn all(database: &Database, collection: &str) -> Result<Vec<Document>> {
    let found = database.collection(collection).find(doc! {}).await?;
    Ok(found.try_collect().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_whose_dump_outlasts_the_snapshots_adds_up() -> Result<()> {
    let forgetful = Forgetful::start().await?;
    let lab = &forgetful.lab;
    for collection in ["checking", "savings"] {
        let accounts: Vec<_> = (0..ACCOUNTS)
            .map(|n| doc! {"_id": n, "money": EACH})
            .collect();
        lab.insert(collection, &accounts).await?;
    }
    let (stop, done) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let writer = tokio::spawn(transfer(lab.client.clone(), stop.clone(), done.clone()));
    let running = forgetful.begin();
    forgetful.forgets_the_snapshot().await?;
    let before = done.load(Ordering::SeqCst);
    until("money moves while the oplog is captured", || async {
        Ok(done.load(Ordering::SeqCst) > before + 20)
    })
    .await?;
    forgetful.gate.open();
    let dumped = running.await?;
    stop.store(true, Ordering::SeqCst);
    writer.await??;
    let point = dumped?;
    ensure!(entries(&point)? >= 20, "the oplog was not captured");
    for (namespace, documents) in archive(lab, &point)?.documents {
        if namespace == ".oplog" {
            let text = format!("{documents:?}");
            ensure!(!text.contains(&hex("another.ticks")), "another's entries");
        }
    }
    let target = RestoreTarget::Database {
        name: "copy".to_owned(),
    };
    lab.restore(&Point::from(&point), target).await?;
    let copied = money(&lab.client.database("copy")).await?;
    assert_eq!(copied, 2 * i64::from(ACCOUNTS) * EACH);
    Ok(())
}

fn hex(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut all, byte| {
        let _never_fails = write!(all, "{byte:02x}");
        all
    })
}

/// Changes all that can be changed.
#[expect(clippy::too_many_lines, reason = "one list of changes, in their order")]
async fn change_everything(lab: &Lab) -> Result<()> {
    let shop = lab.database();
    let run = |command: Document| shop.run_command(command);
    // Documents, by differences of every kind, and by retryable writes.
    let plain = shop.collection::<Document>("plain");
    plain
        .update_one(
            doc! {"_id": 1},
            doc! {"$set": {"x.y.2.z": 5, "n.m": 1}, "$unset": {"k": 1}, "$push": {"l": 1}},
        )
        .await?;
    plain
        .update_many(doc! {}, doc! {"$inc": {"n.count": 1}})
        .await?;
    plain
        .update_one(
            doc! {"_id": 1},
            vec![doc! {"$set": {"l": {"$slice": ["$x.y", 1]}}}],
        )
        .await?;
    plain
        .replace_one(doc! {"_id": 2}, doc! {"whole": "new"})
        .await?;
    plain.delete_one(doc! {"_id": 3}).await?;
    plain
        .insert_many([doc! {"_id": 3, "back": true}, doc! {"_id": 100}])
        .await?;
    plain.insert_one(doc! {"_id": 3.5, "$odd": 1}).await?;
    plain
        .find_one_and_update(doc! {"_id": 4}, doc! {"$set": {"w": 1}})
        .await?;
    // Indexes.
    run(doc! {"dropIndexes": "plain", "index": "goes"}).await?;
    run(doc! {"createIndexes": "plain", "indexes": [
        {"key": {"z": 1, "a": -1}, "name": "comes"}, {"key": {"email": 1}, "name": "unique", "unique": true, "sparse": true},
    ]})
    .await?;
    run(doc! {"collMod": "plain", "index": {"name": "expires", "expireAfterSeconds": 2_000_000_000}}).await?;
    run(doc! {"collMod": "plain", "validator": {"q": {"$exists": false}}, "validationLevel": "moderate"}).await?;
    // Two that change their names for each other's, one that is dropped and made anew, one that goes, one that comes.
    let rename = |from: &str, to: &str| doc! {"renameCollection": format!("shop.{from}"), "to": format!("shop.{to}")};
    let admin = lab.client.database("admin");
    for (from, to) in [
        ("left", "aside"),
        ("right", "left"),
        ("aside", "right"),
        ("old_name", "new_name"),
    ] {
        admin.run_command(rename(from, to)).await?;
    }
    run(doc! {"drop": "anew"}).await?;
    run(doc! {"create": "anew", "collation": {"locale": "fr"}}).await?;
    run(doc! {"createIndexes": "anew", "indexes": [{"key": {"x": 1}, "name": "x", "collation": {"locale": "simple"}}]}).await?;
    lab.insert("anew", &[doc! {"_id": "é"}]).await?;
    run(doc! {"drop": "goes"}).await?;
    lab.insert("comes", &[doc! {"_id": 1}]).await?;
    lab.insert("comes_and_goes", &[doc! {"_id": 1}]).await?;
    run(doc! {"drop": "comes_and_goes"}).await?;
    // What is built beside and put in the place of another.
    for _ in 0..3 {
        run(doc! {"aggregate": "plain", "pipeline": [{"$match": {"_id": {"$lt": 5}}}, {"$out": "out"}], "cursor": {}}).await?;
    }
    run(doc! {"convertToCapped": "to_cap", "size": 65_536}).await?;
    lab.insert("log", &[doc! {"_id": 2}, doc! {"_id": 1}])
        .await?;
    // Views, and a time series.
    run(doc! {"create": "view_comes", "viewOn": "plain", "pipeline": []}).await?;
    run(doc! {"collMod": "view", "viewOn": "plain", "pipeline": [{"$match": {"_id": 1}}]}).await?;
    run(doc! {"drop": "view_goes"}).await?;
    let at = |n: i64| bson::DateTime::from_millis(1_700_000_000_000 + n * 1000);
    lab.insert(
        "series",
        &[
            doc! {"at": at(2), "of": "a", "v": 2},
            doc! {"at": at(3), "of": "b", "v": 3},
        ],
    )
    .await?;
    run(doc! {"create": "series_comes", "timeseries": {"timeField": "at", "metaField": "of"}})
        .await?;
    lab.insert("series_comes", &[doc! {"at": at(1), "of": "a", "v": 1}])
        .await?;
    // Transactions: over databases, in several entries, and one that is aborted.
    let mut session = lab.client.start_session().await?;
    session.start_transaction().await?;
    plain
        .insert_one(doc! {"_id": "in a transaction"})
        .session(&mut session)
        .await?;
    let other = lab
        .client
        .database("another")
        .collection::<Document>("secrets");
    other
        .insert_one(doc! {"secret": "somebody else's"})
        .session(&mut session)
        .await?;
    plain
        .update_one(doc! {"_id": 5}, doc! {"$set": {"t": 1}})
        .session(&mut session)
        .await?;
    session.commit_transaction().await?;
    session.start_transaction().await?;
    for n in 0..3 {
        let large = doc! {"_id": n, "text": "y".repeat(9_000_000)};
        shop.collection::<Document>("large")
            .insert_one(large)
            .session(&mut session)
            .await?;
    }
    session.commit_transaction().await?;
    session.start_transaction().await?;
    plain
        .insert_one(doc! {"_id": "never"})
        .session(&mut session)
        .await?;
    session.abort_transaction().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_changes_while_the_oplog_is_captured_comes_back_as_it_was_at_the_end() -> Result<()>
{
    let forgetful = Forgetful::start().await?;
    let lab = &forgetful.lab;
    let some: Vec<_> = (0..50)
        .map(|n| doc! {"_id": n, "x": {"y": [1, 2, {"z": 1}]}, "k": n, "email": n})
        .collect();
    lab.insert("plain", &some).await?;
    lab.run(doc! {"createIndexes": "plain", "indexes": [
        {"key": {"k": 1}, "name": "goes"}, {"key": {"at": 1}, "name": "expires", "expireAfterSeconds": 1_000_000_000},
    ]})
    .await?;
    for name in ["left", "right", "old_name", "anew", "goes", "to_cap", "out"] {
        lab.insert(name, &[doc! {"_id": 1, "of": name}, doc! {"_id": name}])
            .await?;
    }
    lab.run(doc! {"create": "log", "capped": true, "size": 65_536})
        .await?;
    lab.insert("log", &[doc! {"_id": 9}, doc! {"_id": 8}])
        .await?;
    for view in ["view", "view_goes"] {
        lab.run(doc! {"create": view, "viewOn": "plain", "pipeline": []})
            .await?;
    }
    lab.run(doc! {"create": "series", "timeseries": {"timeField": "at", "metaField": "of"}})
        .await?;
    let at = bson::DateTime::from_millis(1_700_000_000_000);
    lab.insert("series", &[doc! {"at": at, "of": "a", "v": 1}])
        .await?;

    let running = forgetful.begin();
    forgetful.forgets_the_snapshot().await?;
    change_everything(lab).await?;
    forgetful.gate.open();
    let point = running.await??;
    ensure!(entries(&point)? > 50, "the oplog was not captured");
    let text = format!(
        "{:?}",
        archive(lab, &point)?
            .documents
            .get(".oplog")
            .context("no oplog")?
    );
    ensure!(text.contains(&hex("in a transaction")), "not captured");
    ensure!(
        !text.contains(&hex("somebody else's")),
        "another database's document is in it"
    );

    let expected = state(&lab.client.database("shop")).await?;
    let point = Point::from(&point);
    let target = RestoreTarget::Database {
        name: "copy".to_owned(),
    };
    let restored = lab.restore(&point, target).await?;
    let differing = |found: &super::restoring::State| {
        let names: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
        let differ = names
            .into_iter()
            .filter(|it| expected.get(*it) != found.get(*it));
        differ
            .map(|it| {
                format!(
                    "{it}: {:?} {:?}",
                    expected.get(it).map(brief),
                    found.get(it).map(brief)
                )
            })
            .collect::<Vec<_>>()
    };
    let found = state(&lab.client.database("copy")).await?;
    ensure!(
        found == expected,
        "{:#?} {:?}",
        differing(&found),
        restored.notes
    );
    let restored = lab.restore(&point, lab.over_itself()).await?;
    let found = state(&lab.client.database("shop")).await?;
    ensure!(
        found == expected,
        "{:#?} {:?}",
        differing(&found),
        restored.notes
    );
    drop(forgetful.server);
    Ok(())
}

fn brief(collection: &super::restoring::Collection) -> String {
    let document =
        |bytes: &[u8]| bson::deserialize_from_slice::<Document>(bytes).map(|it| it.to_string());
    let indexes: Vec<_> = collection.indexes.values().map(|it| document(it)).collect();
    let documents: Vec<_> = collection
        .documents
        .iter()
        .filter(|it| it.len() < 500)
        .map(|it| document(it))
        .collect();
    format!(
        "{:?} {indexes:?} {} {documents:?}",
        document(&collection.options),
        collection.documents.len()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_that_are_made_anew_all_the_time_are_backed_up_whole() -> Result<()> {
    let server = Private::start().await?;
    let lab = Lab::private(&server).await?;
    let some: Vec<_> = (0..200)
        .map(|n| doc! {"_id": n, "text": "x".repeat(2000)})
        .collect();
    lab.insert("source", &some).await?;
    let (stop, done) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let (client, flag, count) = (lab.client.clone(), stop.clone(), done.clone());
    let writer: JoinHandle<Result<()>> = tokio::spawn(async move {
        let database = client.database("shop");
        while !flag.load(Ordering::SeqCst) {
            let generation = i64::try_from(count.load(Ordering::SeqCst))?;
            database.run_command(doc! {"drop": "anew"}).await.ok();
            database.run_command(doc! {"create": "anew"}).await?;
            let own: Vec<_> = (0..20)
                .map(|n| doc! {"_id": n, "generation": generation})
                .collect();
            database
                .collection::<Document>("anew")
                .insert_many(own)
                .await?;
            let pipeline = vec![
                doc! {"$set": {"generation": generation}},
                doc! {"$out": "out"},
            ];
            database
                .run_command(doc! {"aggregate": "source", "pipeline": pipeline, "cursor": {}})
                .await?;
            count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let mut points = Vec::new();
    for _ in 0..4 {
        let before = done.load(Ordering::SeqCst);
        until("it is made anew", || async {
            Ok(done.load(Ordering::SeqCst) > before)
        })
        .await?;
        points.push(backup(attempt(), &lab.resource, None, &lab.worker).await);
    }
    stop.store(true, Ordering::SeqCst);
    writer.await??;
    for (n, point) in points.into_iter().enumerate() {
        let point = point?;
        assert_eq!(
            point.manifest.consistency,
            Consistency::Snapshot,
            "{:?}",
            point.manifest.warnings
        );
        let name = format!("copy{n}");
        let target = RestoreTarget::Database { name: name.clone() };
        lab.restore(&Point::from(&point), target).await?;
        let copy = lab.client.database(&name);
        let names = copy.list_collection_names().await?;
        ensure!(
            names
                .iter()
                .all(|it| ["source", "anew", "out"].contains(&it.as_str())),
            "{names:?}"
        );
        let out = all(&copy, "out").await?;
        ensure!(
            out.len() == 200 || !names.contains(&"out".to_owned()),
            "{}",
            out.len()
        );
        for documents in [out, all(&copy, "anew").await?] {
            let generations: std::collections::BTreeSet<_> = documents
                .iter()
                .filter_map(|it| it.get_i64("generation").ok())
                .collect();
            ensure!(generations.len() <= 1, "{generations:?}");
        }
    }
    Ok(())
}

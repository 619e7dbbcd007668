//! A backup that outlasts every snapshot succeeds all the same: it captures the oplog, which a restore replays up to
//! one instant.

mod changes;

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::{Result, ensure};
use bson::{Document, doc};
use futures::TryStreamExt as _;
use lastgood_jobs::{
    backup::RestorePoint,
    contents::compare,
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
    contents::{back_up, contents},
    gate::Gate,
    lab::{Lab, Private, private_servers_read_snapshots},
    restoring::Point,
};
use crate::{
    lab::{attempt, until, variable},
    subject::backup,
};

const ACCOUNTS: i32 = 50;
const EACH: i64 = 100;

/// A deployment that forgets its snapshots after a second, behind a gate at which the read of a large collection waits.
struct Forgetful {
    server: Private,
    lab: Lab,
    gate: Gate,
}

impl Forgetful {
    async fn start() -> Result<Self> {
        let server = Private::with(&["minSnapshotHistoryWindowInSeconds=1"]).await?;
        let mut lab = Lab::private(&server).await?;
        // A `getMore`, because the collection is larger than one batch.
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

    /// Waits until the server has forgotten the snapshot that the backup at the gate reads from, lets the backup
    /// notice, and waits until its next read, which captures the oplog, is at the gate.
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

/// Checks that a restore point reaches one instant by its oplog. Returns the number of oplog entries.
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
    if !private_servers_read_snapshots()? {
        return Ok(());
    }
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
            ensure!(
                !text.contains(&changes::hex("another.ticks")),
                "another's entries"
            );
        }
    }
    let target = RestoreTarget::Database {
        name: "copy".to_owned(),
    };
    lab.restore(&Point::from(&point), target).await?;
    let copied = money(&lab.client.database("copy")).await?;
    assert_eq!(copied, 2 * i64::from(ACCOUNTS) * EACH);
    by_hand(lab, &point).await
}

/// Checks that `mongorestore --oplogReplay` brings the same archive to one instant, where this machine has it.
async fn by_hand(lab: &Lab, point: &RestorePoint) -> Result<()> {
    let tools = variable("LASTGOOD_TEST_MONGO_TOOLS")?;
    if tools.starts_with("skip: ") {
        writeln!(
            std::io::stderr(),
            "SKIPPED: mongorestore --oplogReplay: {tools}"
        )?;
        return Ok(());
    }
    let server = Private::start().await?;
    let object = lab.store.path().join("objects");
    let archive = std::fs::read(object.join(&point.manifest.archive.key))?;
    let dump = lab.store.path().join("by-hand.archive");
    std::fs::write(&dump, zstd::decode_all(&archive[..])?)?;
    let restored = std::process::Command::new(std::path::Path::new(&tools).join("mongorestore"))
        .arg(format!("--archive={}", dump.display()))
        .args(["--bypassDocumentValidation", "--oplogReplay"])
        .args(["--uri", &server.url("")])
        .output()?;
    ensure!(restored.status.success(), "{restored:?}");
    let client = Client::with_uri_str(server.url("")).await?;
    let copied = money(&client.database("shop")).await?;
    assert_eq!(copied, 2 * i64::from(ACCOUNTS) * EACH);
    Ok(())
}

/// What an oplog changes cannot be told from the documents in the archive, and everything else can.
#[tokio::test(flavor = "multi_thread")]
async fn the_contents_of_such_a_dump_are_those_of_what_is_restored() -> Result<()> {
    if !private_servers_read_snapshots()? {
        return Ok(());
    }
    let (forgetful, other) = (Forgetful::start().await?, Private::start().await?);
    let lab = &forgetful.lab;
    for collection in ["still", "busy", "old", "renamed"] {
        lab.insert(collection, &[doc! {"_id": 1}, doc! {"_id": 2}])
            .await?;
    }
    let running = forgetful.begin();
    forgetful.forgets_the_snapshot().await?;
    lab.insert("busy", &[doc! {"_id": 3}]).await?;
    for command in [
        doc! {"drop": "old"},
        doc! {"create": "new", "validator": {"n": 1}},
        doc! {"create": "newer", "viewOn": "new", "pipeline": []},
        doc! {"createIndexes": "still", "indexes": [{"key": {"n": 1}, "name": "n"}]},
    ] {
        lab.run(command).await?;
    }
    let rename = doc! {"renameCollection": "shop.renamed", "to": "shop.to"};
    lab.client.database("admin").run_command(rename).await?;
    forgetful.gate.open();
    let point = running.await??;
    ensure!(entries(&point)? >= 6, "the oplog was not captured");

    let reference = RestoreTarget::Reference {
        reference: "env:X".to_owned(),
    };
    let url = Some(other.url("shop"));
    lab.restore_to(attempt(), &Point::from(&point), reference, url)
        .await?;
    let copy = Lab::private(&other).await?;
    let back = contents(&copy, &back_up(&copy).await?)?;
    let comparison = compare(&contents(lab, &point)?, &back, chrono::Utc::now());
    assert_eq!(comparison.differences, []);
    let left_out: Vec<_> = comparison
        .left_out
        .iter()
        .map(|it| it.name.as_str())
        .collect();
    // Whether the insert is in the oplog or in the dump depends on when the dump started over.
    let (busy, others): (Vec<&str>, Vec<&str>) =
        left_out.into_iter().partition(|it| *it == "shop.busy");
    assert_eq!(others, ["shop.new", "shop.to", "shop.newer"]);
    // Those of `big` and `still`, and else those of `busy` as well.
    assert_eq!(comparison.records, if busy.is_empty() { 29 } else { 26 });
    assert_eq!(comparison.compared.get("index"), Some(&1));
    Ok(())
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

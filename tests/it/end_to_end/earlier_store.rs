//! A store that an earlier build has written is listed, rebuilt from, read back and restored: what stands in it is a promise.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::{
    cache::Cache,
    customer::{Customer, Rights},
    lab::{Lab, run_id},
    orders::Orders,
};

/// Two restore points of a database of each engine, the newer of each encrypted, as commit 6cf5cd9 wrote them: without an identity of the
/// store, without an installation in the manifests, under keys without an attempt.
const STORE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/store-6cf5cd9");
/// The identity that the escrows in the store are encrypted to.
const RECOVERY: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/store-6cf5cd9.recovery"
);

/// Where the four databases are restored to.
struct Targets {
    shop: Customer,
    embeddings: Customer,
    orders: Orders,
    cache: Cache,
}

impl Targets {
    async fn create() -> Result<Self> {
        Ok(Self {
            shop: Customer::create(Rights::Owner).await?,
            embeddings: Customer::create(Rights::Superuser).await?,
            orders: Orders::create().await?,
            cache: Cache::start().await?,
        })
    }

    fn urls(&self) -> [(&'static str, String, &'static [&'static str]); 4] {
        [
            ("shop", self.shop.url(), &["--no-owner"]),
            (
                "embeddings",
                self.embeddings.url(),
                &["--no-owner", "--as-superuser"],
            ),
            ("orders", self.orders.url(), &[]),
            ("cache", self.cache.url(), &[]),
        ]
    }

    /// Checks that each database holds what the fixture's did, and empties it.
    async fn have_everything(&self) -> Result<()> {
        let rows = "select count(*) || ' ' || sum(n) || ' ' || min(name) from items";
        ensure!(self.shop.ask(rows).await? == "300 45150 item 1");
        let near = "select count(*) || ' ' || sum(n) from items where at <-> '[1,1,2]' < 9.5";
        ensure!(self.embeddings.ask(near).await? == "10 55");
        let orders = self.orders.database();
        for (name, documents) in [("orders", 100), ("dear", 59)] {
            let collection = orders.collection::<mongodb::bson::Document>(name);
            let found = collection.count_documents(mongodb::bson::doc! {}).await?;
            ensure!(found == documents, "{found} documents in {name}");
        }
        ensure!(self.cache.ask::<i64>(&["DBSIZE"]).await? == 54);
        ensure!(self.cache.ask::<String>(&["GET", "session:7"]).await? == "value-7");
        ensure!(self.cache.ask::<i64>(&["XLEN", "events"]).await? == 1);
        self.shop.run("drop table items").await?;
        let all = "drop table items; drop extension vector";
        self.embeddings.run(all).await?;
        orders.drop().await?;
        self.cache.ask::<String>(&["FLUSHALL"]).await?;
        Ok(())
    }
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_an_earlier_build_wrote_is_listed_rebuilt_from_read_back_and_restored() -> Result<()> {
    let (lab, targets) = (Lab::create().await?, Targets::create().await?);
    copy_tree(Path::new(STORE), &lab.store())?;
    let store = lab.store().display().to_string();

    let listed = lab
        .run(&["--json", "point", "list", "--from", &store])
        .await?;
    let listed = listed.succeeded()?.json()?;
    let points = listed["points"].as_array().context("no points")?;
    let complete = points.iter().filter(|point| point["is_complete"] == true);
    ensure!(points.len() == 8 && complete.count() == 8, "{listed}");

    lab.run(&["catalog", "rebuild", "--from", &store])
        .await?
        .succeeded()?;
    lab.run(&["store", "adopt", "primary"]).await?.succeeded()?;
    lab.run(&["key", "recover", "--identity-file", RECOVERY])
        .await?
        .succeeded()?;
    let recorded = lab.points().await?;
    ensure!(recorded.len() == 8, "{recorded:?}");
    let mut by_resource: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for point in &recorded {
        let of = by_resource.entry(&point.resource_id).or_default();
        of.push(point.id.to_string());
    }

    let _consumer = lab.consumer("consumer", &[]).await?;
    for (id, url, _) in targets.urls() {
        lab.run_with_input(&["resource", "set", id, "--url-stdin"], &url)
            .await?
            .succeeded()?;
    }
    lab.run(&["verify", "--all", "--wait"]).await?.succeeded()?;
    for generation in 0..2 {
        for (id, _, options) in targets.urls() {
            let point = by_resource
                .get(id)
                .and_then(|points| points.get(generation));
            let point = point.with_context(|| format!("{id} has too few points"))?;
            let restore = ["--json", "restore", id, "--point", point];
            let restored = lab.run(&[&restore[..], options].concat()).await?;
            lab.succeeds(run_id(&restored.succeeded()?.json()?)?)
                .await?;
        }
        targets.have_everything().await?;
    }
    targets.orders.drop().await
}

//! An installation that can make keys, and what tests do with it.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use lastgood::catalog::PointRow;
use lastgood_jobs::{
    escrow,
    key::Identity,
    storage::{Storage, StorageUrl},
};
use uuid::Uuid;

use super::{
    customer::{Customer, Rights},
    lab::Lab,
};

/// Counts the orders.
pub(super) const COUNT: &str = "select count(*)::text from orders";

/// An installation that can make keys.
pub(super) struct Vault {
    pub(super) lab: Lab,
    pub(super) recovery: Identity,
}

impl Vault {
    pub(super) async fn create() -> Result<Self> {
        let (mut lab, recovery) = (Lab::create().await?, Identity::generate());
        lab.set(
            "LASTGOOD_RECOVERY_RECIPIENT",
            recovery.recipient().to_string(),
        );
        Ok(Self { lab, recovery })
    }

    /// Makes a key and returns its id.
    pub(super) async fn key(&self, verb: &str, owner: &[&str]) -> Result<Uuid> {
        let args = [&["--json", "key", verb], owner].concat();
        let made = self.lab.run(&args).await?.succeeded()?.json()?;
        let key = made.get("id").and_then(serde_json::Value::as_str);
        Ok(key.context("no key")?.parse()?)
    }

    pub(super) async fn add(&self, id: &str, team: &str, url: &str) -> Result<()> {
        let args = [
            "resource",
            "add",
            id,
            "--team",
            team,
            "--tier",
            "free",
            "--engine",
            "vector",
            "--url-stdin",
        ];
        self.lab.run_with_input(&args, url).await?.succeeded()?;
        Ok(())
    }

    pub(super) async fn back_up(&self, id: &str) -> Result<PointRow> {
        let run = self.lab.enqueue_backup(id).await?;
        self.lab.succeeds(run).await?;
        Ok(self.lab.catalog.catalog.point(run).await?)
    }

    /// Restores a point beside the resource's own database, and returns the number of restored orders.
    pub(super) async fn restore(
        &self,
        id: &str,
        point: &PointRow,
        shop: &Customer,
    ) -> Result<String> {
        let database = self.empty_database(shop).await?;
        let point = point.id.to_string();
        let args = [
            "restore", id, "--point", &point, "--into", &database, "--wait",
        ];
        self.lab.run(&args).await?.succeeded()?;
        shop.ask_in(&database, COUNT).await
    }

    /// Creates an empty database on the customer's server, and returns its name.
    pub(super) async fn empty_database(&self, shop: &Customer) -> Result<String> {
        let unique = &Uuid::new_v4().simple().to_string()[..8];
        let database = format!("{}_{unique}", shop.name);
        let owner = &shop.name;
        let statement = format!("create database {database} owner {owner} template template0");
        shop.as_superuser(&statement).await?;
        Ok(database)
    }

    /// Checks that a point cannot be restored, and returns why.
    pub(super) async fn refuses(&self, id: &str, point: &PointRow) -> Result<String> {
        let point = point.id.to_string();
        let args = [
            "restore",
            id,
            "--point",
            &point,
            "--even-quarantined",
            "--wait",
        ];
        let said = self.lab.run(&args).await?;
        ensure!(said.code == Some(1), "{said:?}");
        Ok(said.out + &said.err)
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.lab.store().join("objects")
    }

    /// Returns the identity in a key's escrow.
    pub(super) async fn identity(&self, key: Uuid) -> Result<Identity> {
        let url: StorageUrl = self.lab.store().display().to_string().parse()?;
        let storage = Storage::open(&url).await?;
        Ok(escrow::open(&storage, key, &self.recovery).await?.identity)
    }
}

pub(super) fn key_of(point: &PointRow) -> Option<Uuid> {
    let key = point.manifest.pointer("/archive/encryption/key")?;
    key.as_str()?.parse().ok()
}

pub(super) async fn shop() -> Result<Customer> {
    let shop = Customer::create(Rights::Owner).await?;
    shop.run("create table orders as select n from generate_series(1, 1000) n")
        .await?;
    Ok(shop)
}

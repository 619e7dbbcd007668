//! Escrows in several stores: one that a store has lost is reported until it has been restored from another store.

use std::{fs, path::PathBuf};

use anyhow::{Result, ensure};
use lastgood_jobs::{
    escrow,
    storage::{IDENTITY, Storage},
};
use uuid::Uuid;

use super::{lab::PATIENCE, vault::Vault};
use crate::eventually::eventually;

/// An installation with the stores `here` and `far`, and a key.
struct House {
    vault: Vault,
    key: Uuid,
}

impl House {
    async fn build() -> Result<Self> {
        let mut vault = Vault::create().await?;
        let lab = &mut vault.lab;
        let file = lab.home.path().join("stores.yaml");
        let at = |name: &str| lab.home.path().join(name).display().to_string();
        let stores = format!(
            "version: 1\nstores:\n- name: here\n  storage: {}\n- name: far\n  storage: {}\n",
            at("here"),
            at("far")
        );
        fs::write(&file, stores)?;
        lab.set("LASTGOOD_STORES", file.display().to_string());
        lab.set("LASTGOOD_JANITOR_EVERY", "1s");
        let key = vault.key("create", &["--platform"]).await?;
        Ok(Self { vault, key })
    }

    fn escrow_in(&self, store: &str) -> PathBuf {
        let objects = self.vault.lab.home.path().join(store).join("objects");
        objects.join(escrow::object(self.key))
    }

    async fn says(&self, args: &[&str], words: &str) -> Result<()> {
        let said = self.vault.lab.run(args).await?;
        ensure!(said.out.contains(words), "{words:?}: {said:?}");
        Ok(())
    }
}

/// Regression: a store that lost its escrows stayed without them, and might be the one that a lost catalog is rebuilt from.
#[tokio::test]
async fn an_escrow_that_a_store_has_lost_is_told_and_written_again_from_another() -> Result<()> {
    let house = House::build().await?;
    house.says(&["key", "list"], "in here, far").await?;
    house
        .says(
            &["doctor"],
            "ok   escrows       here: has 1 escrow, none missing",
        )
        .await?;
    fs::remove_file(house.escrow_in("here"))?;
    house
        .says(&["key", "list"], "MISSING in here; in far")
        .await?;
    let told = format!(
        "FAIL escrows       here: lacks the escrows of 1 of 1 keys: {}",
        house.key
    );
    house.says(&["doctor"], &told).await?;
    house.says(&["doctor"], "ok   escrows       far").await?;
    let listed = house
        .vault
        .lab
        .run(&["--json", "key", "list"])
        .await?
        .json()?;
    assert_eq!(listed[0]["escrow_missing_in"], serde_json::json!(["here"]));

    let _consumer = house.vault.lab.consumer("consumer", &[]).await?;
    eventually(PATIENCE, "it is written again", async || {
        Ok(house.escrow_in("here").exists())
    })
    .await?;
    ensure!(
        fs::read(house.escrow_in("here"))? == fs::read(house.escrow_in("far"))?,
        "not as it is there"
    );
    house.says(&["key", "list"], "in here, far").await
}

/// The primary's disk was lost and replaced with an empty one.
#[tokio::test]
async fn a_primary_that_was_forgotten_and_made_anew_gets_its_escrows_back() -> Result<()> {
    let house = House::build().await?;
    let lab = &house.vault.lab;
    drop(lab.consumer("before", &[]).await?);
    let objects = lab.home.path().join("here/objects");
    fs::remove_dir_all(objects.join("keys"))?;
    fs::remove_file(objects.join(IDENTITY))?;
    lab.run(&["store", "forget", "here", "--confirm", "here"])
        .await?
        .succeeded()?;
    let _consumer = lab.consumer("after", &[]).await?;
    eventually(PATIENCE, "the new primary has it", async || {
        Ok(house.escrow_in("here").exists())
    })
    .await?;
    let url = lab.home.path().join("here").display().to_string().parse()?;
    let opened = escrow::open(
        &Storage::open(&url).await?,
        house.key,
        &house.vault.recovery,
    )
    .await?;
    ensure!(opened.team.is_none());
    Ok(())
}

/// Regression: what a janitor had written stayed for good if the janitor died before it looked again.
#[tokio::test]
async fn the_escrow_of_a_key_that_was_shredded_is_told_where_it_is_left_and_removed() -> Result<()>
{
    let mut house = House::build().await?;
    house.key = house.vault.key("create", &["--team", "acme"]).await?;
    let left = fs::read(house.escrow_in("far"))?;
    let lab = &house.vault.lab;
    lab.run(&["key", "shred", "--team", "acme", "--confirm", "acme"])
        .await?
        .succeeded()?;
    // As if somebody had restored an old version of the object.
    fs::write(house.escrow_in("far"), left)?;
    house.says(&["key", "list"], "STILL in far").await?;
    house
        .says(
            &["doctor"],
            "FAIL escrows       far: still has the escrows of shredded keys",
        )
        .await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    eventually(PATIENCE, "the janitor removes it", async || {
        Ok(!house.escrow_in("far").exists())
    })
    .await?;
    ensure!(!house.escrow_in("here").exists(), "it is back");
    Ok(())
}

/// Regression: a dash was printed, as if no store had the escrow.
#[tokio::test]
async fn where_no_store_can_be_looked_at_nobody_knows_of_a_shredded_keys_escrow() -> Result<()> {
    let mut house = House::build().await?;
    house.vault.key("create", &["--team", "acme"]).await?;
    let lab = &mut house.vault.lab;
    lab.run(&["key", "shred", "--team", "acme", "--confirm", "acme"])
        .await?
        .succeeded()?;
    lab.set("LASTGOOD_STORES", "/not/there.yaml");
    let said = lab.run(&["key", "list"]).await?;
    let of_acme = said.out.lines().find(|line| line.contains("acme"));
    ensure!(
        of_acme.is_some_and(|line| line.contains("NOT LOOKED AT in all stores: cannot read")),
        "{said:?}"
    );
    Ok(())
}

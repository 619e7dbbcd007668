//! Two stores have each point. What one of them loses, damages or exchanges is detected there, and repaired from the other.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use lastgood::{
    catalog::{AuditFilter, PointRow},
    run::{RunKind, RunState},
};
use lastgood_jobs::manifest::Manifest;
use serde_json::json;

use super::{
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE},
    program::Service,
    store,
};
use crate::eventually::eventually;

/// An installation with the stores `here` and `far`.
struct House {
    lab: Lab,
    shop: Customer,
}

impl House {
    async fn build() -> Result<Self> {
        let (mut lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
        shop.run(
            "create table items as select n, 'item ' || n as name from generate_series(1, 500) n",
        )
        .await?;
        let file = lab.home.path().join("stores.yaml");
        let at = |name: &str| lab.home.path().join(name).display().to_string();
        fs::write(
            &file,
            format!(
                "version: 1\nstores:\n- name: here\n  storage: {}\n- name: far\n  storage: {}\n",
                at("here"),
                at("far")
            ),
        )?;
        lab.set("LASTGOOD_STORES", file.display().to_string());
        lab.set("LASTGOOD_UPKEEP", "1s");
        // No verification on its own: the tests request each one.
        lab.set("LASTGOOD_VERIFY_WITHIN", "0");
        lab.add("shop", &shop).await?;
        Ok(Self { lab, shop })
    }

    async fn services(&self, consumer: &str) -> Result<[Service; 2]> {
        let producer = self.lab.producer()?;
        Ok([producer, self.lab.consumer(consumer, &[]).await?])
    }

    async fn back_up(&self) -> Result<PointRow> {
        let run = self.lab.enqueue_backup("shop").await?;
        self.lab.succeeds(run).await?;
        Ok(self.lab.catalog.catalog.point(run).await?)
    }

    fn root(&self, store: &str) -> PathBuf {
        self.lab.home.path().join(store)
    }

    async fn is_held_by(&self, point: &PointRow, stores: &[&str]) -> Result<()> {
        eventually(PATIENCE, &format!("{stores:?} hold it"), async || {
            let held = self.lab.catalog.catalog.stores_of(&[point.id]).await?;
            Ok(held.get(&point.id).is_some_and(|held| held == stores))
        })
        .await
    }

    fn spoil(&self, store: &str, point: &PointRow) -> Result<Vec<u8>> {
        let path = store::archive(&self.root(store), point)?;
        let bytes = fs::read(&path)?;
        let mut spoilt = bytes.clone();
        let middle = spoilt.len() / 2;
        *spoilt.get_mut(middle).context("an empty archive")? ^= 1;
        fs::write(&path, spoilt)?;
        Ok(bytes)
    }
}

#[tokio::test]
async fn what_either_store_has_lost_is_found_there_and_copied_again() -> Result<()> {
    let house = House::build().await?;
    let _services = house.services("consumer").await?;
    let point = house.back_up().await?;
    house.is_held_by(&point, &["far", "here"]).await?;
    let id = point.id.to_string();
    for lost in ["far", "here"] {
        let archive = house.spoil(lost, &point)?;
        if lost == "far" {
            fs::remove_file(store::archive(&house.root(lost), &point)?)?;
            fs::remove_file(house.root(lost).join("objects").join(&point.manifest_key))?;
        }
        let said = house.lab.run(&["verify", "--point", &id, "--wait"]).await?;
        ensure!(
            said.code == Some(1) && said.out.contains("and it is copied again"),
            "{said:?}"
        );
        house.is_held_by(&point, &["far", "here"]).await?;
        ensure!(fs::read(store::archive(&house.root(lost), &point)?)? == archive);
        house
            .lab
            .run(&["verify", "--point", &id, "--wait"])
            .await?
            .succeeded()?;
    }
    let audited = house
        .lab
        .catalog
        .catalog
        .audited(&AuditFilter::newest(10))
        .await?;
    let stores: Vec<_> = audited
        .iter()
        .filter_map(|it| it.detail["store"].as_str())
        .collect();
    assert_eq!(stores, ["here", "far"]);
    Ok(())
}

#[tokio::test]
async fn a_mirror_that_is_away_has_lost_nothing_and_saves_its_points_from_being_condemned()
-> Result<()> {
    let house = House::build().await?;
    let _services = house.services("consumer").await?;
    let (older, point) = (house.back_up().await?, house.back_up().await?);
    for point in [&older, &point] {
        house.is_held_by(point, &["far", "here"]).await?;
    }
    // The store is not mounted: an empty directory in its place.
    let (objects, aside) = (
        house.root("far").join("objects/v1"),
        house.root("far").join("aside"),
    );
    fs::rename(&objects, &aside)?;
    let id = point.id.to_string();
    let said = house
        .lab
        .run(&["--json", "verify", "--point", &id])
        .await?
        .succeeded()?
        .json()?;
    let run = super::lab::run_id(&said[0])?;
    house
        .lab
        .becomes(run, "it will be tried again", |row| {
            row.state == RunState::Queued && row.error.is_some() || row.state.has_ended()
        })
        .await?;
    house.is_held_by(&point, &["far", "here"]).await?;
    house.spoil("here", &point)?;
    house
        .lab
        .catalog
        .execute("update lastgood.runs set run_at = now() where state = 'queued'")
        .await?;
    house
        .lab
        .run(&["verify", "--point", &id])
        .await?
        .succeeded()?;
    house
        .lab
        .becomes(run, "it is tried again", |row| {
            row.attempt > 1 && row.state != RunState::Running || row.state.has_ended()
        })
        .await?;
    ensure!(house.lab.catalog.catalog.quarantined(10).await?.is_empty());
    fs::rename(&aside, &objects)?;
    Ok(())
}

/// Replaces a point's archive and manifest in one store with those of another point, so that the two match each other.
fn exchange(house: &House, store: &str, point: &PointRow, with: &PointRow) -> Result<()> {
    let (archive, other) = (
        store::archive(&house.root(store), point)?,
        store::archive(&house.root(store), with)?,
    );
    fs::copy(other, archive)?;
    let mut forged: Manifest = serde_json::from_value(point.manifest.clone())?;
    let other: Manifest = serde_json::from_value(with.manifest.clone())?;
    forged.archive.size_bytes = other.archive.size_bytes;
    forged.archive.blake3 = other.archive.blake3;
    forged.dump = other.dump;
    let path = house.root(store).join("objects").join(&point.manifest_key);
    Ok(fs::write(path, serde_json::to_vec_pretty(&forged)?)?)
}

#[tokio::test]
async fn a_manifest_and_an_archive_that_were_exchanged_together_prove_nothing() -> Result<()> {
    let house = House::build().await?;
    let consumer = house.lab.consumer("consumer", &[]).await?;
    let old = house.back_up().await?;
    house
        .shop
        .run("insert into items select n, 'new' from generate_series(501, 900) n")
        .await?;
    let point = house.back_up().await?;
    exchange(&house, "here", &point, &old)?;
    let id = point.id.to_string();

    let target = house.lab.home.path().join("out.zst").display().to_string();
    let refused = house
        .lab
        .run(&["point", "download", &id, "--to", &target])
        .await?
        .refused()?;
    ensure!(
        refused.contains("differs from the one that was recorded"),
        "{refused}"
    );
    let producer = house.lab.producer()?;
    eventually(PATIENCE, "the copy fails", async || {
        let runs = house.lab.runs().await?;
        Ok(runs.iter().any(|run| {
            run.kind == RunKind::Copy
                && run.resource == "shop"
                && run
                    .error
                    .as_ref()
                    .is_some_and(|error| error.contains("was recorded or read before"))
        }))
    })
    .await?;
    ensure!(
        !house
            .root("far")
            .join("objects")
            .join(&point.manifest_key)
            .exists()
    );

    let said = house
        .lab
        .run(&["restore", "shop", "--point", &id, "--wait"])
        .await?;
    ensure!(said.code == Some(1), "{said:?}");
    let condemned = house.lab.catalog.catalog.point(point.id).await?;
    ensure!(
        condemned.verified_at.is_none() && condemned.quarantined_at.is_some(),
        "{condemned:?}"
    );
    drop((producer, consumer));
    Ok(())
}

#[tokio::test]
async fn a_catalog_that_is_rebuilt_from_a_mirror_knows_where_the_points_are_and_fills_the_first_store()
-> Result<()> {
    let house = House::build().await?;
    let services = house.services("consumer").await?;
    let point = house.back_up().await?;
    house.is_held_by(&point, &["far", "here"]).await?;
    drop(services);
    let lost = house.lab.catalog.catalog.installations().await?.own;
    let lost = lost.to_string();
    house
        .lab
        .catalog
        .execute("drop schema lastgood cascade")
        .await?;
    house.lab.run(&["migrate"]).await?.succeeded()?;
    fs::remove_dir_all(house.root("here"))?;

    let elsewhere = house
        .lab
        .home
        .path()
        .join("elsewhere")
        .display()
        .to_string();
    let refused = house
        .lab
        .run(&["catalog", "rebuild", "--from", &elsewhere])
        .await?
        .refused()?;
    ensure!(refused.contains("names no store"), "{refused}");
    house
        .lab
        .run(&[
            "catalog",
            "rebuild",
            "--from",
            "far",
            "--adopt-installation",
            &lost,
        ])
        .await?
        .succeeded()?;
    house.is_held_by(&point, &["far"]).await?;
    let _services = house.services("after").await?;
    house.is_held_by(&point, &["far", "here"]).await?;
    let status = house.lab.run(&["status"]).await?.succeeded()?;
    ensure!(!status.out.contains("NOT COPIED"), "{status:?}");
    let runs = house.lab.runs().await?;
    ensure!(
        runs.len() == 1 && runs.iter().all(|run| run.kind == RunKind::Copy),
        "{runs:?}"
    );
    // By its address, it is the same store.
    let far = house.root("far").display().to_string();
    let again = house
        .lab
        .run(&["--json", "catalog", "rebuild", "--from", &far])
        .await?
        .succeeded()?;
    assert_eq!(again.json()?["points"], 0);
    Ok(())
}

#[tokio::test]
async fn a_download_and_a_restore_without_a_catalog_go_on_to_the_store_that_has_it_whole()
-> Result<()> {
    let mut house = House::build().await?;
    let services = house.services("consumer").await?;
    let point = house.back_up().await?;
    house.is_held_by(&point, &["far", "here"]).await?;
    drop(services);
    let archive = house.spoil("here", &point)?;
    let (id, to) = (point.id.to_string(), house.lab.home.path().join("out.zst"));
    let target = to.display().to_string();
    house
        .lab
        .run(&["point", "download", &id, "--to", &target])
        .await?
        .succeeded()?;
    ensure!(fs::read(&to)? == archive);

    house.lab.set("DATABASE_URL", "");
    house.lab.set("TARGET_URL", house.shop.url());
    house.shop.run("drop table items").await?;
    let args = [
        "restore",
        "--from-manifest",
        &point.manifest_key,
        "--into",
        "env:TARGET_URL",
    ];
    house.lab.run(&args).await?.succeeded()?;
    assert_eq!(
        house.shop.ask("select count(*)::text from items").await?,
        "500"
    );
    Ok(())
}

#[tokio::test]
async fn a_download_that_is_interrupted_leaves_nothing_and_one_that_was_killed_says_what_to_remove()
-> Result<()> {
    let house = House::build().await?;
    let consumer = house.lab.consumer("consumer", &[]).await?;
    let point = house.back_up().await?;
    drop(consumer);
    // So large that reading it outlasts the test. The file is sparse.
    let size = 1_u64 << 40;
    let archive = store::archive(&house.root("here"), &point)?;
    fs::File::options()
        .write(true)
        .open(&archive)?
        .set_len(size)?;
    let mut manifest = point.manifest.clone();
    manifest["archive"]["size_bytes"] = json!(size);
    let path = house.root("here").join("objects").join(&point.manifest_key);
    fs::write(path, serde_json::to_vec(&manifest)?)?;
    sqlx::query("update lastgood.restore_points set manifest = $1")
        .bind(manifest)
        .execute(house.lab.catalog.pool())
        .await?;

    let (id, to) = (point.id.to_string(), house.lab.home.path().join("out.zst"));
    let (target, partial) = (
        to.display().to_string(),
        house.lab.home.path().join("out.zst.partial"),
    );
    let mut download = house
        .lab
        .start("download", &["point", "download", &id, "--to", &target])?;
    eventually(PATIENCE, "it has begun", async || Ok(partial.exists())).await?;
    download.signal("INT")?;
    let ended = download.exit().await?;
    let log = download.log()?;
    ensure!(
        ended.code() == Some(1) && log.contains("interrupted"),
        "{ended:?} {log}"
    );
    ensure!(!partial.exists() && !to.exists());

    fs::write(&partial, "")?;
    let refused = house
        .lab
        .run(&["point", "download", &id, "--to", &target])
        .await?
        .refused()?;
    ensure!(refused.contains("remove the existing one"), "{refused}");
    Ok(())
}

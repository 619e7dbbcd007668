//! Whose a store is, and whether it is the intended one, is checked at start, while running, and before its content is believed.

use lastgood::run::RunState;
use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::storage::IDENTITY;
use serde_json::Value;

use super::{
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE},
};
use crate::eventually::eventually;

/// Creates a lab with one point of `shop` in its store.
async fn house() -> Result<(Lab, Customer)> {
    let mut lab = Lab::create().await?;
    lab.set("LASTGOOD_UPKEEP", "1s");
    let shop = Customer::create(Rights::Owner).await?;
    shop.run("create table items as select n from generate_series(1, 100) n")
        .await?;
    lab.add("shop", &shop).await?;
    let consumer = lab.consumer("first", &[]).await?;
    lab.succeeds(lab.enqueue_backup("shop").await?).await?;
    drop(consumer);
    Ok((lab, shop))
}

fn stores_file(lab: &mut Lab, stores: &[(&str, &Path)]) -> Result<()> {
    let file = lab.home.path().join("stores.yaml");
    let listed = stores
        .iter()
        .map(|(name, at)| format!("- name: {name}\n  storage: {}\n", at.display()));
    let listed: String = listed.collect();
    fs::write(&file, format!("version: 1\nstores:\n{listed}"))?;
    lab.set("LASTGOOD_STORES", file.display().to_string());
    Ok(())
}

/// Regression: the second installation started without a warning, and its rebuild recorded the first one's points as its own.
#[tokio::test]
async fn two_installations_do_not_share_a_store_and_one_is_adopted_by_name_alone() -> Result<()> {
    let (ours, _shop) = house().await?;
    let point = ours.points().await?.pop().context("no point")?;
    let own = ours.catalog.catalog.installations().await?.own.to_string();
    assert_eq!(point.manifest["installation"], Value::from(own.clone()));

    let mut theirs = Lab::create().await?;
    let store = ours.store().display().to_string();
    theirs.set("LASTGOOD_STORAGE", store.clone());
    let belongs = format!("belongs to installation {own}");
    for command in [
        &["consumer"][..],
        &["doctor"],
        &["catalog", "rebuild", "--from", &store],
    ] {
        let said = theirs.run(command).await?;
        ensure!(said.code == Some(1), "{command:?}: {said:?}");
        ensure!((said.out + &said.err).contains(&belongs), "{command:?}");
    }
    ensure!(theirs.points().await?.is_empty());
    let adopt = [
        "catalog",
        "rebuild",
        "--from",
        &store,
        "--adopt-installation",
        &own,
    ];
    theirs
        .run(&[&adopt[..], &["--dry-run"]].concat())
        .await?
        .succeeded()?;
    theirs
        .run(&["catalog", "rebuild", "--from", &store])
        .await?
        .refused()?;
    theirs.run(&adopt).await?.succeeded()?;
    ensure!(theirs.points().await?.len() == 1);
    let audit = theirs.run(&["audit"]).await?.succeeded()?.out;
    ensure!(audit.contains("adopt_installation"), "{audit}");
    let _consumer = theirs.consumer("adopted", &[]).await?;
    let doctor = theirs.run(&["doctor"]).await?.out;
    ensure!(doctor.contains("ok   store id"), "{doctor}");
    Ok(())
}

/// Regression: another installation's store was compared, all points seemed to be missing, and this installation's were quarantined.
#[tokio::test]
async fn a_comparison_names_a_store_that_is_not_the_one_that_is_meant_and_loses_nothing_by_it()
-> Result<()> {
    let (mut ours, _shop) = house().await?;
    let (theirs, _other) = house().await?;
    let compared = ours.run(&["store", "compare"]).await?.succeeded()?;
    ensure!(
        compared
            .out
            .contains("all of its 1 restore points are there"),
        "{compared:?}"
    );
    ours.set("LASTGOOD_STORAGE", theirs.store().display().to_string());
    let compared = ours.run(&["store", "compare"]).await?;
    ensure!(
        compared.code == Some(1)
            && compared.out.contains("primary: NOT LISTED")
            && compared.out.contains("belongs to installation"),
        "{compared:?}"
    );
    ours.set(
        "LASTGOOD_STORAGE",
        ours.home.path().join("nowhere").display().to_string(),
    );
    let compared = ours.run(&["store", "compare"]).await?;
    ensure!(
        compared.code == Some(1) && compared.out.contains("there is no store in"),
        "{compared:?}"
    );
    // A problem seen from here says nothing about the points, or about what consumers see.
    ensure!(ours.catalog.catalog.quarantined(10).await?.is_empty());
    let listings = "select count(*) from lastgood.store_listings where failed_at is not null";
    ensure!(ours.catalog.count(listings).await? == 0);
    Ok(())
}

/// Two installations shared the store before stores had an identity.
#[tokio::test]
async fn what_another_installation_made_is_shown_as_its_own_and_not_recorded() -> Result<()> {
    let (lab, _shop) = house().await?;
    let point = lab.points().await?.pop().context("no point")?;
    let objects = lab.store().join("objects");
    let text = fs::read_to_string(objects.join(&point.manifest_key))?;
    let own = lab.catalog.catalog.installations().await?.own.to_string();
    let other = uuid::Uuid::new_v4().to_string();
    let (run, forged) = (point.id.to_string(), uuid::Uuid::new_v4().to_string());
    let text = text.replace(&own, &other).replacen(&run, &forged, 1);
    fs::write(
        objects.join(point.manifest_key.replace(&run, &forged)),
        text,
    )?;

    let store = lab.store().display().to_string();
    let said = lab.run(&["catalog", "rebuild", "--from", &store]).await?;
    ensure!(said.code == Some(1), "{said:?}");
    let told = format!("NOT OURS: 1 manifests are of installation {other}");
    ensure!(said.out.contains(&told), "{said:?}");
    ensure!(lab.points().await?.len() == 1);
    Ok(())
}

/// Regression: one place under two names seemed to have two copies of each point, when there was one.
#[tokio::test]
async fn one_place_under_two_names_is_refused_however_it_is_written() -> Result<()> {
    let (mut lab, _shop) = house().await?;
    let link = lab.home.path().join("link");
    std::os::unix::fs::symlink(lab.store(), &link)?;
    let store = lab.store();
    for mirror in [store.clone(), store.join("."), link] {
        stores_file(&mut lab, &[("primary", &store), ("far", &mirror)])?;
        let refused = lab.run(&["consumer"]).await?.refused()?;
        ensure!(
            refused.contains("same place as store \"primary\""),
            "{refused}"
        );
        let doctor = lab.run(&["doctor"]).await?;
        ensure!(
            doctor.code == Some(1) && doctor.out.contains("same place as store"),
            "{doctor:?}"
        );
    }
    ensure!(
        lab.catalog
            .count("select count(*) from lastgood.copies")
            .await?
            == 1
    );
    Ok(())
}

/// Regression: the directory was created again at the bare mount point, backups went there, and `status` reported the promise as kept.
#[tokio::test]
async fn a_store_that_vanishes_under_a_consumer_is_told_and_used_again_once_it_is_back()
-> Result<()> {
    let (lab, _shop) = house().await?;
    let _consumer = lab.consumer("second", &[]).await?;
    let away = lab.home.path().join("away");
    fs::rename(lab.store(), &away)?;
    fs::create_dir(lab.store())?;
    eventually(PATIENCE, "status tells", async || {
        let status = lab.run(&["status", "--check"]).await?;
        Ok(status.code == Some(1) && status.out.contains("STORE FAILS: primary"))
    })
    .await?;
    let doctor = lab.run(&["doctor"]).await?;
    ensure!(
        doctor.code == Some(1) && doctor.out.contains("FAIL store"),
        "{doctor:?}"
    );
    let run = lab.enqueue_backup("shop").await?;
    let tried = lab
        .becomes(run, "it will be tried again", |row| {
            row.state == RunState::Queued && row.error.is_some() || row.state.has_ended()
        })
        .await?;
    ensure!(
        tried.state == RunState::Queued
            && tried
                .error
                .as_deref()
                .is_some_and(|error| error.contains("not the one that was here before")),
        "{tried:?}"
    );
    ensure!(
        fs::read_dir(lab.store())?.count() == 0,
        "something was made"
    );
    fs::remove_dir(lab.store())?;
    fs::rename(&away, lab.store())?;
    lab.catalog
        .execute("update lastgood.runs set run_at = now() where state = 'queued'")
        .await?;
    lab.succeeds(run).await?;
    eventually(PATIENCE, "status is quiet", async || {
        let status = lab.run(&["status"]).await?.succeeded()?;
        Ok(!status.out.contains("STORE FAILS"))
    })
    .await
}

/// Regression: a consumer that had started without a mirror never looked for it again.
#[tokio::test]
async fn a_mirror_that_is_mounted_late_is_used_without_a_restart() -> Result<()> {
    let (mut lab, _shop) = house().await?;
    let (store, far) = (lab.store(), lab.home.path().join("far"));
    stores_file(&mut lab, &[("primary", &store), ("far", &far)])?;
    let copied = async |count: i64| {
        let copies = "select count(*) from lastgood.copies where store = 'far'";
        let what = format!("{count} copies");
        eventually(PATIENCE, &what, async || {
            Ok(lab.catalog.count(copies).await? == count)
        })
        .await
    };
    let producer = lab.producer()?;
    let consumer = lab.consumer("before", &[]).await?;
    copied(1).await?;
    drop(consumer);
    let unmounted = lab.home.path().join("unmounted");
    fs::rename(&far, &unmounted)?;
    let _consumer = lab.consumer("after", &[]).await?;
    lab.succeeds(lab.enqueue_backup("shop").await?).await?;
    eventually(PATIENCE, "status tells", async || {
        let status = lab.run(&["status"]).await?.succeeded()?.out;
        Ok(status.contains("STORE FAILS: far"))
    })
    .await?;
    let unusable = "lastgood_store_unusable_consumers{store=\"far\"}";
    producer.shows(unusable, 1.0).await?;
    ensure!(!far.exists(), "it was made anew");
    fs::rename(&unmounted, &far)?;
    lab.catalog
        .execute("update lastgood.runs set run_at = now() where kind = 'copy' and state = 'queued'")
        .await?;
    copied(2).await?;
    eventually(PATIENCE, "nobody misses it", async || {
        Ok(producer.metric(unusable).await? < 0.5)
    })
    .await?;
    drop(producer);
    Ok(())
}

/// One store is from before there were identities, the other had its identity removed.
#[tokio::test]
async fn a_store_without_an_identity_is_given_one_by_those_alone_who_have_used_it() -> Result<()> {
    let (lab, _shop) = house().await?;
    let identity = lab.store().join("objects").join(IDENTITY);
    let id = || -> Result<Value> {
        let identity: Value = serde_json::from_slice(&fs::read(&identity)?)?;
        Ok(identity["store"].clone())
    };
    let first = id()?;
    fs::remove_file(&identity)?;
    let refused = lab.run(&["consumer"]).await?.refused()?;
    ensure!(
        refused.contains("`lastgood store adopt primary`"),
        "{refused}"
    );
    lab.run(&["store", "adopt", "primary"]).await?.succeeded()?;
    ensure!(id()? != first);
    drop(lab.consumer("adopted", &[]).await?);

    // As an older build left it: the identity is neither in the catalog nor in the store.
    fs::remove_file(&identity)?;
    lab.catalog
        .execute("delete from lastgood.store_identities")
        .await?;
    let said = lab.run(&["doctor"]).await?.out;
    ensure!(said.contains("no identity yet"), "{said}");
    ensure!(!identity.exists(), "doctor wrote");
    drop(lab.consumer("upgraded", &[]).await?);
    let mine = id()?;

    let mut other = Lab::create().await?;
    other.set("LASTGOOD_STORAGE", lab.store().display().to_string());
    fs::remove_file(&identity)?;
    let refused = other.run(&["consumer"]).await?.refused()?;
    ensure!(refused.contains("has none on record in it"), "{refused}");
    ensure!(!identity.exists() && mine != first);
    Ok(())
}

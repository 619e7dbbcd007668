//! A store that is renamed, gone or not mounted: nothing is created, waited for or believed because of it.

use std::fs;

use anyhow::{Result, ensure};

use super::{
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE},
};
use crate::eventually::eventually;

/// Creates a lab with one point in the store `primary`.
async fn house() -> Result<(Lab, Customer)> {
    let mut lab = Lab::create().await?;
    lab.set("LASTGOOD_UPKEEP", "1s");
    lab.set("LASTGOOD_VERIFY_WITHIN", "0s");
    let shop = Customer::create(Rights::Owner).await?;
    shop.run("create table items as select n from generate_series(1, 100) n")
        .await?;
    lab.add("shop", &shop).await?;
    let consumer = lab.consumer("first", &[]).await?;
    let run = lab.enqueue_backup("shop").await?;
    lab.succeeds(run).await?;
    drop(consumer);
    Ok((lab, shop))
}

/// Names the same directory `here` in a stores file.
fn call_it_here(lab: &mut Lab) -> Result<()> {
    let file = lab.home.path().join("stores.yaml");
    let store = lab.store().display().to_string();
    fs::write(
        &file,
        format!("version: 1\nstores:\n- name: here\n  storage: {store}\n"),
    )?;
    lab.set("LASTGOOD_STORES", file.display().to_string());
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_called_otherwise_is_told_and_its_points_go_once_the_catalog_follows()
-> Result<()> {
    let (mut lab, _shop) = house().await?;
    call_it_here(&mut lab)?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let said = lab.run(&["doctor"]).await?;
    ensure!(said.code == Some(1), "{said:?}");
    ensure!(
        said.out
            .contains("store primary has 1 restore point on record"),
        "{said:?}"
    );
    let status = lab.run(&["status"]).await?.succeeded()?.out;
    ensure!(status.contains("UNKNOWN STORE: 1 restore"), "{status}");

    // The rename is refused if the new store does not contain what the old one did.
    let empty = lab.home.path().join("empty");
    fs::create_dir_all(empty.join("objects"))?;
    let other = lab.home.path().join("other.yaml");
    let text = format!(
        "version: 1\nstores:\n- name: here\n  storage: {}\n",
        empty.display()
    );
    fs::write(&other, text)?;
    let (file, rename) = (
        other.display().to_string(),
        ["store", "rename", "primary", "here"],
    );
    let refused = lab
        .run(&[&rename[..], &["--stores", &file]].concat())
        .await?
        .refused()?;
    ensure!(refused.contains("is it the same store?"), "{refused}");
    let refused = lab
        .run(&["store", "rename", "here", "primary"])
        .await?
        .refused()?;
    ensure!(refused.contains("is configured here"), "{refused}");

    lab.run(&rename).await?.succeeded()?;
    let listed = lab.run(&["--json", "store", "list"]).await?.succeeded()?;
    let listed = listed.json()?;
    ensure!(
        listed[0]["id"] == "here"
            && listed[0]["role"] == "primary"
            && listed[0]["points"] == 1
            && listed[0]["identity"].is_string()
            && listed[0]["is_write_once"] == true
            && listed.as_array().is_some_and(|all| all.len() == 1),
        "{listed}"
    );
    let doctor = lab.run(&["doctor"]).await?.out;
    ensure!(doctor.contains("ok   store names"), "{doctor}");
    let audit = lab.run(&["audit"]).await?.succeeded()?.out;
    ensure!(audit.contains("rename_store"), "{audit}");

    // Removals no longer wait for that store.
    lab.catalog
        .execute("update lastgood.restore_points set expired_at = now(), expired_because = 'x'")
        .await?;
    let _producer = lab.producer()?;
    eventually(PATIENCE, "the point is gone", async || {
        Ok(lab.points().await?.is_empty())
    })
    .await
}

#[tokio::test]
async fn a_store_that_is_gone_is_forgotten_and_what_it_alone_held_is_counted_on_no_more()
-> Result<()> {
    let (mut lab, _shop) = house().await?;
    let file = lab.home.path().join("stores.yaml");
    let there = lab.home.path().join("new").display().to_string();
    fs::write(
        &file,
        format!("version: 1\nstores:\n- name: new\n  storage: {there}\n"),
    )?;
    lab.set("LASTGOOD_STORES", file.display().to_string());

    let refused = lab.run(&["store", "forget", "nobody"]).await?.refused()?;
    ensure!(refused.contains("store list"), "{refused}");
    let forget = ["store", "forget", "primary"];
    let refused = lab.run(&forget).await?.refused()?;
    ensure!(refused.contains("1 usable restore points"), "{refused}");
    let wrong = [&forget[..], &["--confirm", "new"]].concat();
    lab.run(&wrong).await?.refused()?;
    let usable = "select count(*) from lastgood.restore_points where quarantined_at is null";
    ensure!(
        lab.catalog.count(usable).await? == 1,
        "nothing was forgotten"
    );

    let said = lab
        .run(&[&forget[..], &["--confirm", "primary"]].concat())
        .await?
        .succeeded()?;
    ensure!(said.out.contains("LOST: 1"), "{said:?}");
    ensure!(lab.catalog.count(usable).await? == 0);
    let exposed = "select count(*) from lastgood.resources where newest_consistent_at is null";
    ensure!(
        lab.catalog.count(exposed).await? == 1,
        "the exposure says so"
    );
    let refused = lab.run(&["restore", "shop"]).await?.refused()?;
    ensure!(
        refused.contains("no restore point that can be trusted"),
        "{refused}"
    );
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_not_mounted_is_not_made_anew_and_whoever_reads_makes_none() -> Result<()> {
    let (lab, shop) = house().await?;
    fs::rename(lab.store(), lab.home.path().join("elsewhere"))?;
    let point = lab.points().await?.pop();
    let point = point.ok_or_else(|| anyhow::anyhow!("no point"))?;
    let id = point.id.to_string();
    let there = lab.store().display().to_string();
    let to = lab.home.path().join("file").display().to_string();
    for command in [
        &["consumer"][..],
        &["doctor"],
        &["point", "download", &id, "--to", &to],
        &["point", "url", &id],
        &["catalog", "rebuild", "--from", &there],
        &[
            "restore",
            "--from-manifest",
            &point.manifest_key,
            "--into",
            "env:HOME",
        ],
    ] {
        let said = lab.run(command).await?;
        ensure!(said.code == Some(1), "{command:?}: {said:?}");
        let told = format!("there is no store in {there}");
        ensure!((said.out + &said.err).contains(&told), "{command:?}");
        ensure!(!lab.store().exists(), "{command:?} made a store");
    }
    // The store is lost for good, and the operator says so. Then a new one is created.
    let forget = ["store", "forget", "primary"];
    let refused = lab.run(&forget).await?.refused()?;
    ensure!(refused.contains("say so with --confirm"), "{refused}");
    lab.run(&[&forget[..], &["--confirm", "primary"]].concat())
        .await?
        .succeeded()?;
    let _consumer = lab.consumer("second", &[]).await?;
    let run = lab.enqueue_backup("shop").await?;
    lab.succeeds(run).await?;
    drop(shop);
    Ok(())
}

#[tokio::test]
async fn a_secret_in_the_place_of_an_address_or_a_recipient_is_not_repeated() -> Result<()> {
    let mut lab = Lab::create().await?;
    let marker = "AGE-SECRET-KEY-1HUNTER2";
    for args in [
        &["key", "escrow", "--recipient", marker][..],
        &["key", "recover", "--identity-file", marker],
    ] {
        let said = lab.run(args).await?;
        ensure!(said.code == Some(1), "{said:?}");
        ensure!(!(said.out + &said.err).contains("HUNTER2"), "{args:?}");
    }
    lab.set("LASTGOOD_STORAGE", "s3://AKIAX:hunter2SECRET@bucket/x");
    for args in [
        &["doctor"][..],
        &["status"],
        &["consumer"],
        &["producer"],
        &["consumer", "--help"],
        &["key", "create", "--platform"],
    ] {
        let said = lab.run(args).await?;
        ensure!(!format!("{said:?}").contains("hunter2"), "{args:?}");
        ensure!(
            said.code == Some(i32::from(!args.contains(&"--help"))),
            "{said:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_janitor_that_would_remove_what_is_alive_is_refused() -> Result<()> {
    let lab = Lab::create().await?;
    let refused = lab
        .run(&["consumer", "--janitor-age", "1h"])
        .await?
        .refused()?;
    ensure!(refused.contains("--job-timeout 12h"), "{refused}");
    Ok(())
}

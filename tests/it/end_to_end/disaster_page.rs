//! Every case of docs/how-to/disaster.md works as it is written, because an operator in a crisis types what it says.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use clap::Parser as _;
use lastgood::{catalog::PointRow, cli::Cli};
use secrecy::ExposeSecret as _;

use super::{
    customer::Customer,
    lab::{Lab, PATIENCE},
    master_keys::no_secret_was_written,
    page::{every_command, words},
    vault::{COUNT, Vault, shop},
};
use crate::eventually::eventually;

const PAGE: &str = "how-to/disaster.md";
/// The store on the page.
const STORE: &str = "/srv/lastgood-store";
/// The lost installation on the page.
const INSTALLATION: &str = "0b6f3a52-…";

#[test]
fn every_command_of_the_page_is_one_that_lastgood_has() -> Result<()> {
    let mut parsed = 0;
    for line in every_command(PAGE)? {
        let line = line.replace(INSTALLATION, "0b6f3a52-0000-4000-8000-000000000000");
        let words = words(&line);
        if words.first().is_some_and(|word| word == "lastgood") {
            Cli::try_parse_from(&words).with_context(|| line.clone())?;
            parsed += 1;
        }
    }
    ensure!(parsed >= 8, "only {parsed} commands were found");
    Ok(())
}

/// Creates a resource `shop` of team `acme` with one restore point.
async fn backed_up(lab: &Lab, shop: &Customer) -> Result<PointRow> {
    lab.add("shop", shop).await?;
    let _consumer = lab.consumer("before", &[]).await?;
    let run = lab.enqueue_backup("shop").await?;
    lab.succeeds(run).await?;
    Ok(lab.catalog.catalog.point(run).await?)
}

#[tokio::test]
async fn one_database_comes_back_at_once_with_no_catalog() -> Result<()> {
    let (mut lab, shop) = (Lab::create().await?, shop().await?);
    let point = backed_up(&lab, &shop).await?;
    shop.run("drop table orders").await?;
    for variable in ["DATABASE_URL", "LASTGOOD_MASTER_KEY"] {
        lab.set(variable, "");
    }
    lab.set("LASTGOOD_STORAGE", "/nowhere");
    let (store, url) = (
        lab.store().display().to_string(),
        format!("'{}'", shop.url()),
    );
    let own = [(STORE, store.as_str()), ("postgresql://…", url.as_str())];
    let by_key = (
        "v1/acme/shop/2026/11/29/214943Z-b9c88097….manifest.json",
        point.manifest_key.as_str(),
    );
    for (section, own) in [
        ("One database, at once, with no catalog", own.to_vec()),
        (
            "One database, by the key of its manifest",
            [by_key].into_iter().chain(own).collect(),
        ),
    ] {
        let said = lab.follow(PAGE, section, &own).await?;
        ensure!(said.out.contains("restored shop as of"), "{said:?}");
        ensure!(shop.ask(COUNT).await? == "1000");
        shop.run("drop table orders").await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_whole_catalog_comes_back() -> Result<()> {
    let (mut lab, shop) = (Lab::create().await?, shop().await?);
    backed_up(&lab, &shop).await?;
    let lost = lab.catalog.catalog.installations().await?.own.to_string();
    lab.catalog.execute("drop schema lastgood cascade").await?;
    lab.run(&["migrate"]).await?.succeeded()?;
    shop.run("drop table orders").await?;
    lab.set("SHOP_URL", shop.url());
    let store = lab.store().display().to_string();
    let own = [(STORE, store.as_str()), (INSTALLATION, lost.as_str())];
    // Consumers can start once the store belongs to this catalog.
    let starting = async {
        let points = "select count(*) from lastgood.restore_points";
        eventually(PATIENCE, "the catalog is rebuilt", async || {
            Ok(lab.catalog.count(points).await? == 1)
        })
        .await?;
        lab.start("after", &["consumer"])
    };
    let (said, consumer) = tokio::join!(lab.follow(PAGE, "The whole catalog", &own), starting);
    let (said, _consumer) = (said?, consumer?);
    ensure!(
        said.out
            .contains("1 restore points and 1 resources recorded"),
        "{said:?}"
    );
    ensure!(shop.ask(COUNT).await? == "1000");
    Ok(())
}

#[tokio::test]
async fn a_lost_master_key_costs_the_urls_and_no_archive() -> Result<()> {
    let (mut vault, shop) = (Vault::create().await?, shop().await?);
    vault.add("shop", "acme", &shop.url()).await?;
    vault.key("create", &["--platform"]).await?;
    vault.key("create", &["--team", "acme"]).await?;
    let consumer = vault.lab.consumer("before", &[]).await?;
    let point = vault.back_up("shop").await?;
    drop(consumer);
    // To the catalog, a killed consumer and its key stay alive for half a minute.
    vault
        .lab
        .catalog
        .execute("update lastgood.consumers set state = 'stopped'")
        .await?;
    let lab = &mut vault.lab;
    let home = lab.home.path().to_owned();
    fs::write(
        home.join("recovery.txt"),
        vault.recovery.to_line().expose_secret(),
    )?;
    fs::write(home.join("shop.url"), shop.url())?;
    let key_file = home.join("master-key").display().to_string();
    lab.set("LASTGOOD_MASTER_KEY", "");

    // On the page, consumers start once the new key seals.
    let own = [("/etc/lastgood/master-key", key_file.as_str())];
    let starting = async {
        let begun = "select count(*) from lastgood.master_keys where number = 2 and seals";
        eventually(PATIENCE, "the new key seals", async || {
            Ok(lab.catalog.count(begun).await? == 1)
        })
        .await?;
        lab.start_with(
            "after",
            &["consumer"],
            &[("LASTGOOD_MASTER_KEY_FILE", &key_file)],
        )
    };
    let (said, consumer) = tokio::join!(lab.follow(PAGE, "The master key", &own), starting);
    let (said, _consumer) = (said?, consumer?);
    is_told_on_the_page(&said.out)?;

    // Older archives open, and new backups are encrypted to the same keys.
    vault.lab.set("LASTGOOD_MASTER_KEY_FILE", key_file);
    ensure!(vault.restore("shop", &point, &shop).await? == "1000");
    let status = vault.lab.run(&["status"]).await?.succeeded()?.out;
    ensure!(!status.contains("DOES NOT OPEN"), "{status}");
    no_secret_was_written(&vault.lab).await
}

/// Checks that the page quotes the output of `key reseal`.
fn is_told_on_the_page(said: &str) -> Result<()> {
    let page = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/how-to/disaster.md"
    ))?;
    let of_reseal = said.lines().take_while(|line| !line.starts_with("changed"));
    let lines: Vec<_> = of_reseal.collect();
    ensure!(lines.len() == 4, "{said}");
    for line in lines {
        ensure!(
            page.contains(line.trim()),
            "docs/how-to/disaster.md lacks {line:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_a_lost_master_key_costs_is_named_wherever_one_looks() -> Result<()> {
    let (mut vault, shop) = (Vault::create().await?, shop().await?);
    vault.add("shop", "acme", &shop.url()).await?;
    vault.lab.set("SHOP_URL", shop.url());
    let by_reference = [
        "resource",
        "add",
        "by-env",
        "--team",
        "acme",
        "--tier",
        "free",
        "--engine",
        "vector",
        "--connection",
        "env:SHOP_URL",
    ];
    vault.lab.run(&by_reference).await?.succeeded()?;
    let mut consumer = vault.lab.consumer("before", &[]).await?;
    consumer.signal("TERM")?;
    ensure!(consumer.exit().await?.success());
    let file = vault.lab.home.path().join("recovery.txt");
    fs::write(&file, vault.recovery.to_line().expose_secret())?;
    let file = file.display().to_string();
    vault
        .lab
        .set("LASTGOOD_MASTER_KEY", super::master_keys::NEXT_KEY);
    let named = "lastgood resource set shop --url-stdin";
    let reseal = ["key", "reseal", "--identity-file", &file, "--lost", "1"];
    let said = vault.lab.run(&reseal).await?.succeeded()?;
    ensure!(said.out.contains(named), "{said:?}");
    let _consumer = vault.lab.consumer("after", &[]).await?;
    for args in [
        &["status", "--check"][..],
        &["doctor"],
        &["resource", "list"],
        &["resource", "show", "shop"],
    ] {
        let said = vault.lab.run(args).await?;
        ensure!(said.out.contains(named), "{args:?}: {said:?}");
        ensure!(
            !said.out.contains("set by-env"),
            "what opens is named too: {said:?}"
        );
        let fails = matches!(args, ["doctor"] | ["status", ..]);
        ensure!((said.code == Some(1)) == fails, "{said:?}");
    }
    // With no key in this process, the keys of live consumers count.
    vault.lab.set("LASTGOOD_MASTER_KEY", "");
    let status = vault.lab.run(&["status"]).await?.succeeded()?.out;
    ensure!(status.contains(named), "{status}");
    vault
        .lab
        .set("LASTGOOD_MASTER_KEY", super::master_keys::NEXT_KEY);
    let list = vault.lab.run(&["--json", "resource", "list"]).await?;
    let list = list.succeeded()?.json()?;
    ensure!(
        list[0]["is_openable"].is_null() && list[1]["is_openable"] == false,
        "{list}"
    );
    // The URL that no one can open is replaced.
    vault
        .lab
        .run_with_input(&["resource", "set", "shop", "--url-stdin"], &shop.url())
        .await?
        .succeeded()?;
    vault.back_up("shop").await?;
    let list = vault.lab.run(&["resource", "list"]).await?.succeeded()?.out;
    ensure!(!list.contains("DOES NOT OPEN"), "{list}");
    Ok(())
}

//! `doctor` reports everything within one short time. A check that never answers holds up no other, and each fault is described.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    customer::{Customer, Rights},
    faults::skipped,
    lab::{Lab, free_port},
};
use crate::variable;

/// A server that accepts connections and never answers.
struct Silent {
    port: u16,
    listening: JoinHandle<()>,
}

impl Silent {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let listening = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((client, _)) = listener.accept().await {
                held.push(client);
            }
        });
        Ok(Self { port, listening })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Returns a server whose certificate is not trusted, or `None` if this machine has none.
fn untrusted() -> Result<Option<String>> {
    let url = variable("LASTGOOD_TEST_REDIS7_TLS_URL")?;
    if let Some(why) = url.strip_prefix("skip: ") {
        skipped(&format!("an untrusted certificate: {why}"));
        return Ok(None);
    }
    let port = url::Url::parse(&url)?.port().context("no port")?;
    Ok(Some(format!("https://127.0.0.1:{port}")))
}

/// Returns the mark of the check whose line contains all of these words.
fn mark<'a>(said: &'a str, name: &str, words: &[&str]) -> Result<&'a str> {
    let mut lines = said.lines();
    let line = lines.find(|line| {
        let (_, told) = line.split_at_checked(5).unwrap_or_default();
        told.starts_with(&format!("{name:<13} ")) && words.iter().all(|word| line.contains(word))
    });
    let line = line.with_context(|| format!("no {name} says {words:?}: {said}"))?;
    Ok(line.split_at_checked(4).unwrap_or_default().0)
}

/// Regression: each store that did not answer took 92 s, and one that did not open hid all the others.
#[tokio::test]
async fn every_store_is_told_in_its_own_words_though_one_never_answers() -> Result<()> {
    let mut lab = Lab::create().await?;
    let silent = Silent::start().await?;
    let bucket = |name: &str, endpoint: &str| {
        format!(
            "- name: {name}\n  storage: s3://bucket/x\n  endpoint: {endpoint}\n  access_key_id: env:OUR_ID\n  \
             secret_access_key: env:OUR_SECRET\n"
        )
    };
    let untrusted = untrusted()?;
    let stores = [
        format!("- name: here\n  storage: {}\n", lab.store().display()),
        format!(
            "- name: unmounted\n  storage: {}\n",
            lab.home.path().join("unmounted").display()
        ),
        bucket("silent", &format!("http://127.0.0.1:{}", silent.port)),
        bucket("refused", &format!("http://127.0.0.1:{}", free_port()?)),
        bucket("nowhere", "https://nothing.invalid"),
        untrusted
            .iter()
            .map(|endpoint| bucket("untrusted", endpoint))
            .collect(),
    ];
    let file = lab.home.path().join("stores.yaml");
    fs::write(&file, format!("version: 1\nstores:\n{}", stores.concat()))?;
    fs::create_dir_all(lab.store().join("objects"))?;
    fs::create_dir_all(lab.store().join("partial"))?;
    lab.set("LASTGOOD_STORES", file.display().to_string());
    lab.set("OUR_ID", "id");
    lab.set("OUR_SECRET", "marker-of-a-secret");

    let said = lab.run(&["doctor", "--within", "15s"]).await?;
    ensure!(said.code == Some(1), "{said:?}");
    let told = |name: &str, words: &[&str]| mark(&said.out, name, words);
    ensure!(told("store", &["here", "written, read back"])? == "ok  ");
    ensure!(told("store", &["unmounted", "there is no store in"])? == "FAIL");
    ensure!(told("store", &["no answer within 15s: silent (s3://bucket/x)"])? == "FAIL");
    ensure!(told("store", &["refused", "nothing listens there"])? == "FAIL");
    ensure!(told("store", &["nowhere", "no server has that name"])? == "FAIL");
    if untrusted.is_some() {
        let words = [
            "untrusted",
            "does not trust the authority that signed the server's certificate",
        ];
        ensure!(told("store", &words)? == "FAIL");
    }
    // Checks that depend on none of these stores are reported as usual.
    for good in [
        "plans",
        "catalog",
        "clock",
        "keys",
        "encryption",
        "store names",
    ] {
        ensure!(told(good, &[])? == "ok  ", "{good}: {said:?}");
    }
    ensure!(told("engine", &["vector"])? == "ok  ");
    ensure!(!format!("{said:?}").contains("marker-of-a-secret"));
    // The order is that of the stores file, whichever store answers first.
    let places: Vec<_> = ["here (", "unmounted", "silent", "refused (", "nowhere"]
        .iter()
        .map(|store| said.out.find(store))
        .collect();
    ensure!(places.is_sorted() && !places.contains(&None), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn a_catalog_that_never_answers_keeps_the_stores_and_tools_from_nothing() -> Result<()> {
    let mut lab = Lab::create().await?;
    fs::create_dir_all(lab.store().join("objects"))?;
    fs::create_dir_all(lab.store().join("partial"))?;
    let silent = Silent::start().await?;
    let url = |port| format!("postgresql://someone:hunter2@127.0.0.1:{port}/catalog");
    lab.set("DATABASE_URL", url(silent.port));
    let said = lab.run(&["doctor", "--within", "15s"]).await?;
    ensure!(said.code == Some(1), "{said:?}");
    ensure!(
        mark(
            &said.out,
            "catalog",
            &["no answer within 15s: check that the server"]
        )? == "FAIL"
    );
    ensure!(mark(&said.out, "clock", &["not looked at: it needs the catalog"])? == "--  ");
    ensure!(mark(&said.out, "store id", &["not looked at"])? == "--  ");
    ensure!(mark(&said.out, "plans", &["is good"])? == "ok  ");
    ensure!(mark(&said.out, "store", &["primary", "written"])? == "ok  ");
    ensure!(mark(&said.out, "engine", &["vector"])? == "ok  ");

    // A catalog that refuses the connection is reported at once, and the checks that need it are not reported as faults.
    lab.set("DATABASE_URL", url(free_port()?));
    let said = lab.run(&["doctor"]).await?;
    ensure!(
        mark(
            &said.out,
            "catalog",
            &["cannot reach the catalog", "refused"]
        )? == "FAIL"
    );
    ensure!(mark(&said.out, "clock", &["not looked at: it needs the catalog"])? == "--  ");
    ensure!(mark(&said.out, "store", &["primary", "written"])? == "ok  ");
    ensure!(!format!("{said:?}").contains("hunter2"), "{said:?}");
    let said = lab.run(&["--json", "doctor"]).await?.json()?;
    let checks = said.as_array().context("no array")?;
    ensure!(
        checks
            .iter()
            .all(|check| check["is_good"].is_boolean() && check["found"].is_string())
    );
    Ok(())
}

/// A restore through a superuser's URL would run what the customer wrote with every right on the server.
#[tokio::test]
async fn a_superusers_url_is_named_until_it_is_changed() -> Result<()> {
    let lab = Lab::create().await?;
    let (owner, superuser) = (
        Customer::create(Rights::Owner).await?,
        Customer::create(Rights::Superuser).await?,
    );
    lab.add("ours", &owner).await?;
    lab.add("theirs", &superuser).await?;
    let _consumer = lab.consumer("first", &[]).await?;
    for resource in ["ours", "theirs"] {
        let run = lab.enqueue_backup(resource).await?;
        lab.succeeds(run).await?;
    }
    let said = lab.run(&["doctor"]).await?.out;
    let named = "ok   superusers    1 resource has a superuser's URL: theirs;";
    ensure!(said.contains(named), "{said}");

    superuser
        .run(&format!("alter role \"{}\" nosuperuser", superuser.name))
        .await?;
    let again = lab.enqueue_backup("theirs").await?;
    lab.succeeds(again).await?;
    let said = lab.run(&["doctor"]).await?.out;
    let none = "ok   superusers    no resource is known to have a superuser's URL";
    ensure!(said.contains(none), "{said}");
    Ok(())
}

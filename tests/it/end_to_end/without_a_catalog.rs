//! At 3 a.m. without a catalog: a store can be listed and a customer restored from it, and no advice names a command that needs the
//! catalog.

mod advice;
mod another_user;
mod choices;
mod strangers;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use lastgood::catalog::PointRow;
use lastgood_jobs::key::Identity;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    customer::Customer,
    program::Said,
    vault::{COUNT, Vault, shop},
};

/// A store with two points of acme's `shop`, the older with 1000 orders and the newer with 2000, and no catalog that knows them.
struct Night {
    vault: Vault,
    shop: Customer,
    older: PointRow,
    newer: PointRow,
    store: String,
}

impl Night {
    async fn in_a_directory() -> Result<Self> {
        Self::of(Vault::create().await?, None).await
    }

    async fn of(mut vault: Vault, address: Option<String>) -> Result<Self> {
        let shop = shop().await?;
        let directory = vault.lab.store().display().to_string();
        let store = address.unwrap_or(directory);
        vault.lab.set("LASTGOOD_STORAGE", store.clone());
        vault.add("shop", "acme", &shop.url()).await?;
        let consumer = vault.lab.consumer("consumer", &[]).await?;
        let older = vault.back_up("shop").await?;
        shop.run("insert into orders select n from generate_series(1001, 2000) n")
            .await?;
        let newer = vault.back_up("shop").await?;
        drop(consumer);
        for gone in ["DATABASE_URL", "LASTGOOD_MASTER_KEY"] {
            vault.lab.set(gone, "");
        }
        vault.lab.set("LASTGOOD_STORAGE", "/nowhere");
        Ok(Self {
            vault,
            shop,
            older,
            newer,
            store,
        })
    }

    async fn list(&self, args: &[&str]) -> Result<Said> {
        let args = [&["point", "list", "--from", &self.store], args].concat();
        self.vault.lab.run(&args).await
    }

    async fn listed(&self) -> Result<Value> {
        self.list(&["--json"]).await?.succeeded()?.json()
    }

    /// Restores into an empty database, and returns the output and the database.
    async fn restore(&mut self, args: &[&str]) -> Result<(Said, String)> {
        let database = self.vault.empty_database(&self.shop).await?;
        self.vault
            .lab
            .set("TARGET_URL", self.shop.url_of(&database));
        let args = [&["restore", "--into", "env:TARGET_URL"], args].concat();
        Ok((self.vault.lab.run(&args).await?, database))
    }

    /// Restores `shop` from the store, and returns the output and the number of restored orders.
    async fn restored(&mut self, args: &[&str]) -> Result<(Said, String)> {
        let store = self.store.clone();
        let args = [&["--from", &store, "shop"], args].concat();
        let (said, database) = self.restore(&args).await?;
        let said = said.succeeded()?;
        Ok((said, self.shop.ask_in(&database, COUNT).await?))
    }

    /// Checks that restoring `shop` is refused, and returns why.
    async fn refused(&mut self, args: &[&str]) -> Result<String> {
        let store = self.store.clone();
        let args = [&["--from", &store, "shop"], args].concat();
        self.restore(&args).await?.0.refused()
    }

    fn path(&self, key: &str) -> PathBuf {
        self.vault.objects().join(key)
    }

    /// Changes the manifest of a point, and returns what it was before.
    fn alter(&self, point: &PointRow, change: impl FnOnce(&mut Value)) -> Result<String> {
        let path = self.path(&point.manifest_key);
        let before = fs::read_to_string(&path)?;
        let mut manifest: Value = serde_json::from_str(&before)?;
        change(&mut manifest);
        fs::write(path, serde_json::to_vec(&manifest)?)?;
        Ok(before)
    }

    /// Puts a copy of a point's manifest next to it, with another id and the given change. Returns the id.
    fn forge(&self, point: &PointRow, change: impl FnOnce(&mut Value)) -> Result<String> {
        let (own, forged) = (point.id.to_string(), Uuid::new_v4().to_string());
        let text = fs::read_to_string(self.path(&point.manifest_key))?;
        // The first occurrence is the manifest's own id; the others are in the archive's key.
        let mut manifest: Value = serde_json::from_str(&text.replacen(&own, &forged, 1))?;
        change(&mut manifest);
        let path = self.path(&point.manifest_key.replace(&own, &forged));
        fs::write(path, serde_json::to_vec(&manifest)?)?;
        Ok(forged)
    }

    /// Puts a file into the store, as anyone who can write to it could.
    fn lay(&self, key: &str, text: &str) -> Result<()> {
        let path = self.path(key);
        fs::create_dir_all(path.parent().context("no directory")?)?;
        Ok(fs::write(path, text)?)
    }
}

/// Returns the ids in a listing, in its order.
fn ids(listing: &Value) -> Vec<&str> {
    let points = listing["points"].as_array().map(Vec::as_slice);
    let ids = points.unwrap_or_default().iter();
    ids.filter_map(|point| point["id"].as_str()).collect()
}

#[tokio::test]
async fn a_directory_is_listed_and_a_customer_restored_from_it_alone() -> Result<()> {
    let mut night = Night::in_a_directory().await?;
    let (older, newer) = (night.older.id.to_string(), night.newer.id.to_string());
    let listing = night.listed().await?;
    ensure!(ids(&listing) == [newer.as_str(), &older], "{listing}");
    let first = &listing["points"][0];
    for (field, is) in [
        ("team", json!("acme")),
        ("resource", json!("shop")),
        ("engine", json!("vector")),
        ("manifest_key", json!(night.newer.manifest_key)),
        ("dump_bytes", json!(night.newer.dump_bytes)),
        ("stored_bytes", json!(night.newer.stored_bytes)),
        ("suspected_of", Value::Null),
        ("is_complete", json!(true)),
        ("is_other_installation", json!(false)),
        ("installation", listing["installation"].clone()),
    ] {
        ensure!(first[field] == is, "{field}: {first}");
    }
    let text = night.list(&["--limit", "1"]).await?.succeeded()?.out;
    ensure!(
        text.contains(&newer) && text.contains("stored") && !text.contains(&older),
        "{text}"
    );
    ensure!(text.contains("1 older one not shown"), "{text}");
    for wrong in [["--team", "beta"], ["--resource", "shop2"]] {
        let refused = night.list(&wrong).await?.refused()?;
        ensure!(refused.contains("there is no manifest of"), "{refused}");
    }

    let (said, count) = night.restored(&[]).await?;
    ensure!(count == "2000", "{said:?}");
    ensure!(said.err.contains(&newer), "{said:?}");
    let before = listing["points"][1]["consistent_at"].clone();
    let before = before.as_str().context("no instant")?;
    ensure!(night.restored(&["--at", before]).await?.1 == "1000");
    ensure!(night.restored(&["--point", &older]).await?.1 == "1000");
    let listing = night.list(&["--at", before, "--json"]).await?.json()?;
    ensure!(
        ids(&listing) == [&older] && listing["later"] == 1,
        "{listing}"
    );

    // As ever, existing data is not overwritten.
    night.vault.lab.set("TARGET_URL", night.shop.url());
    let args = [
        "restore",
        "--from",
        &night.store,
        "shop",
        "--into",
        "env:TARGET_URL",
    ];
    let refused = night.vault.lab.run(&args).await?.refused()?;
    ensure!(refused.contains("is not empty"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_bucket_is_listed_and_restored_from_by_its_address_and_by_its_name() -> Result<()> {
    let variable = |name: &str| crate::variable(&format!("LASTGOOD_TEST_S3_{name}"));
    let mut vault = Vault::create().await?;
    for (name, from) in [
        ("AWS_ENDPOINT_URL_S3", "MOTO_URL"),
        ("AWS_ACCESS_KEY_ID", "MOTO_ACCESS_KEY_ID"),
        ("AWS_SECRET_ACCESS_KEY", "MOTO_SECRET_ACCESS_KEY"),
    ] {
        vault.lab.set(name, variable(from)?);
    }
    let bucket = format!("s3://{}/{}", variable("BUCKET")?, Uuid::new_v4());
    let mut night = Night::of(vault, Some(bucket.clone())).await?;
    let newer = night.newer.id.to_string();
    let listing = night.listed().await?;
    ensure!(ids(&listing).first() == Some(&newer.as_str()), "{listing}");
    ensure!(night.restored(&[]).await?.1 == "2000");

    // As S3 tools print the key.
    let key = format!("{bucket}/{}", night.older.manifest_key);
    let args = ["--from-manifest", &key, "--storage", &bucket];
    let (said, database) = night.restore(&args).await?;
    said.succeeded()?;
    ensure!(night.shop.ask_in(&database, COUNT).await? == "1000");

    // By its name, with its own keys. Those of the other store in the file are not available.
    let file = night.vault.lab.home.path().join("stores.yaml");
    let own = format!(
        "- name: near\n  storage: {bucket}\n  endpoint: {}\n  access_key_id: env:OUR_ID\n  secret_access_key: env:OUR_SECRET\n",
        variable("MOTO_URL")?
    );
    let other = "- name: far\n  storage: s3://elsewhere\n  access_key_id: env:GONE\n  secret_access_key: env:GONE\n";
    fs::write(&file, format!("version: 1\nstores:\n{other}{own}"))?;
    let lab = &mut night.vault.lab;
    lab.set("LASTGOOD_STORES", file.display().to_string());
    lab.set("OUR_ID", variable("MOTO_ACCESS_KEY_ID")?);
    lab.set("OUR_SECRET", variable("MOTO_SECRET_ACCESS_KEY")?);
    for gone in [
        "AWS_ENDPOINT_URL_S3",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
    ] {
        lab.set(gone, "");
    }
    night.store = "near".to_owned();
    ensure!(ids(&night.listed().await?).len() == 2);
    ensure!(night.restored(&[]).await?.1 == "2000");
    Ok(())
}

#[tokio::test]
async fn an_encrypted_teams_point_is_restored_with_an_identity_and_told_to_need_one() -> Result<()>
{
    let vault = Vault::create().await?;
    vault.key("create", &["--team", "acme"]).await?;
    let mut night = Night::of(vault, None).await?;
    let text = night.list(&[]).await?.succeeded()?.out;
    ensure!(text.matches("stored, encrypted").count() == 2, "{text}");
    let refused = night.refused(&[]).await?;
    ensure!(refused.contains("--identity FILE"), "{refused}");

    let file = night.vault.lab.home.path().join("recovery.txt");
    let file = file.display().to_string();
    let missing = night.refused(&["--identity", &file]).await?;
    ensure!(missing.contains("which --identity names"), "{missing}");
    fs::write(&file, Identity::generate().to_line().expose_secret())?;
    let other = night.refused(&["--identity", &file]).await?;
    ensure!(other.contains("another recovery recipient"), "{other}");
    fs::write(&file, night.vault.recovery.to_line().expose_secret())?;
    let (said, count) = night.restored(&["--identity", &file]).await?;
    ensure!(count == "2000", "{said:?}");
    Ok(())
}

#[tokio::test]
async fn hostile_manifests_are_named_and_keep_nobody_from_the_customers_data() -> Result<()> {
    let mut night = Night::in_a_directory().await?;
    let newer = night.newer.id.to_string();
    let text = fs::read_to_string(night.path(&night.newer.manifest_key))?;
    let escape = text.replace(
        "\"engine\": \"vector\"",
        "\"engine\": \"\\u001b]0;owned\\u0007\"",
    );
    ensure!(escape != text);
    for (name, text) in [
        ("cut", text.get(..text.len() / 2).context("no half")?),
        ("empty", ""),
        ("deep", &"[".repeat(1 << 16)),
        ("escape", &escape),
        (
            "out",
            &text.replace("\"key\": \"v1/", "\"key\": \"v1/../../"),
        ),
    ] {
        night.lay(&format!("v1/acme/shop/{name}.manifest.json"), text)?;
    }
    night.lay("v1/evil/shop/moved.manifest.json", &text)?;
    night.lay("v1/acme/shop/\u{1b}[2J.manifest.json", &text)?;
    // It would be by far the newest point, if it were believed.
    let forged = night.forge(&night.newer, |manifest| {
        manifest["consistent_at"] = json!("2999-01-01T00:00:00Z");
    })?;

    let listing = night.listed().await?;
    ensure!(listing["unreadable"] == 7, "{listing}");
    ensure!(ids(&listing).contains(&newer.as_str()), "{listing}");
    let said = night.list(&[]).await?.succeeded()?;
    ensure!(said.out.matches("UNREADABLE: ").count() == 7, "{said:?}");
    ensure!(
        said.out
            .contains(&format!("SUSPECT: {forged}: its manifest is dated 2999")),
        "{said:?}"
    );
    let (restored, count) = night.restored(&[]).await?;
    ensure!(count == "2000", "{restored:?}");
    ensure!(
        restored.err.contains("7 manifests that cannot be read"),
        "{restored:?}"
    );
    ensure!(restored.err.contains("dated in the future"), "{restored:?}");
    for said in [said, restored] {
        ensure!(
            !format!("{}{}", said.out, said.err).contains('\u{1b}'),
            "{said:?}"
        );
    }
    let refused = night.refused(&["--point", &forged]).await?;
    ensure!(refused.contains("is suspect"), "{refused}");

    // A manifest that is named by its key is just as hostile.
    let key = "v1/acme/shop/escape.manifest.json";
    let store = night.store.clone();
    let args = ["--from-manifest", key, "--storage", &store];
    let refused = night.restore(&args).await?.0.refused()?;
    ensure!(
        !refused.contains('\u{1b}') && refused.contains("cannot be read"),
        "{refused}"
    );
    Ok(())
}

#[tokio::test]
async fn a_manifest_is_taken_as_find_prints_it() -> Result<()> {
    let mut night = Night::in_a_directory().await?;
    let (store, key) = (night.store.clone(), night.older.manifest_key.clone());
    let run = night.older.id;
    let found = night
        .vault
        .lab
        .run_script(&format!("find {store} -name '*{run}.manifest.json'"))
        .await?;
    let found = found.succeeded()?.out;
    for spelled in [
        found.as_str(),
        &format!("./{key}"),
        &format!("file://{store}/objects/{key}"),
    ] {
        let args = ["--from-manifest", spelled, "--storage", &store];
        let (said, database) = night.restore(&args).await?;
        ensure!(said.code == Some(0), "{spelled}: {said:?}");
        ensure!(night.shop.ask_in(&database, COUNT).await? == "1000");
    }
    let archive = night.older.manifest["archive"]["key"].clone();
    let archive = archive.as_str().context("no archive")?;
    for (wrong, why) in [
        (archive, key.as_str()),
        ("/etc/x.manifest.json", "is not in the store"),
        ("s3://bucket/v1/a/b/x.manifest.json", "is not in the store"),
        ("lastgood-store.json", "is not a manifest"),
    ] {
        let args = ["--from-manifest", wrong, "--storage", &store];
        let refused = night.restore(&args).await?.0.refused()?;
        ensure!(refused.contains(why), "{wrong}: {refused}");
    }
    Ok(())
}

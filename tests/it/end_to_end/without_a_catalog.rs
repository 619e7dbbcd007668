//! At 3 a.m. without a catalog: a store is listed and a customer restored from it, and no advice names a command that needs what is gone.

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

/// A store with two points of acme's `shop`, the older with 1000 orders and the newer with 2000, and nothing that knows of them.
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

    /// Restores into an empty database, and returns what was said and the database.
    async fn restore(&mut self, args: &[&str]) -> Result<(Said, String)> {
        let database = self.vault.empty_database(&self.shop).await?;
        self.vault
            .lab
            .set("TARGET_URL", self.shop.url_of(&database));
        let args = [&["restore", "--into", "env:TARGET_URL"], args].concat();
        Ok((self.vault.lab.run(&args).await?, database))
    }

    /// Restores `shop` from the store, and returns what was said and how many orders came back.
    async fn restored(&mut self, args: &[&str]) -> Result<(Said, String)> {
        let store = self.store.clone();
        let args = [&["--from", &store, "shop"], args].concat();
        let (said, database) = self.restore(&args).await?;
        let said = said.succeeded()?;
        Ok((said, self.shop.ask_in(&database, COUNT).await?))
    }

    /// Makes sure that `shop` is not restored, and returns why.
    async fn refused(&mut self, args: &[&str]) -> Result<String> {
        let store = self.store.clone();
        let args = [&["--from", &store, "shop"], args].concat();
        self.restore(&args).await?.0.refused()
    }

    fn path(&self, key: &str) -> PathBuf {
        self.vault.objects().join(key)
    }

    /// Changes what the manifest of a point says, and returns what it said.
    fn alter(&self, point: &PointRow, change: impl FnOnce(&mut Value)) -> Result<String> {
        let path = self.path(&point.manifest_key);
        let before = fs::read_to_string(&path)?;
        let mut manifest: Value = serde_json::from_str(&before)?;
        change(&mut manifest);
        fs::write(path, serde_json::to_vec(&manifest)?)?;
        Ok(before)
    }

    /// Lays a copy of a point's manifest beside it, with another id and what else `change` says. Returns the id.
    fn forge(&self, point: &PointRow, change: impl FnOnce(&mut Value)) -> Result<String> {
        let (own, forged) = (point.id.to_string(), Uuid::new_v4().to_string());
        let text = fs::read_to_string(self.path(&point.manifest_key))?;
        // The first is the manifest's own; the others are in the archive's key.
        let mut manifest: Value = serde_json::from_str(&text.replacen(&own, &forged, 1))?;
        change(&mut manifest);
        let path = self.path(&point.manifest_key.replace(&own, &forged));
        fs::write(path, serde_json::to_vec(&manifest)?)?;
        Ok(forged)
    }

    /// Lays a file into the store, as whoever can write to it might.
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
        ("resource_id", json!("shop")),
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

    // What is there is not overwritten, as ever.
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
    let variable = |name: &str| {
        let name = format!("LASTGOOD_TEST_S3_{name}");
        std::env::var(&name).with_context(|| format!("{name} is not set: run `make test`"))
    };
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

    // As S3 tools print it.
    let key = format!("{bucket}/{}", night.older.manifest_key);
    let args = ["--from-manifest", &key, "--storage", &bucket];
    let (said, database) = night.restore(&args).await?;
    said.succeeded()?;
    ensure!(night.shop.ask_in(&database, COUNT).await? == "1000");

    // By its name, with its own keys; those of the store beside it are not to be had.
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
    // The newest by far, if it were believed.
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

    // A manifest by its key is no less hostile.
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
async fn a_suspect_or_incomplete_newest_point_is_passed_over_and_that_is_said() -> Result<()> {
    let mut night = Night::in_a_directory().await?;
    let (older, newer) = (night.older.id.to_string(), night.newer.id.to_string());
    let before = night.alter(&night.newer, |manifest| {
        manifest["suspicions"] =
            json!([{ "reason": "shrunk", "because": "it has half the bytes" }]);
    })?;
    let text = night.list(&[]).await?.succeeded()?.out;
    ensure!(text.contains("SUSPECT (shrunk)"), "{text}");
    ensure!(
        text.contains(&format!("SUSPECT: {newer}: it has half the bytes")),
        "{text}"
    );
    let (said, count) = night.restored(&[]).await?;
    ensure!(count == "1000", "{said:?}");
    let told = format!("passed over restore point {newer}");
    ensure!(
        said.err.contains(&told) && said.err.contains("it has half the bytes"),
        "{said:?}"
    );
    let (said, _) = night.restored(&["--json"]).await?;
    let said = said.json()?;
    ensure!(
        said["chosen"]["point"] == json!(older)
            && said["chosen"]["passed_over"][0]["point"] == json!(newer),
        "{said}"
    );
    let refused = night.refused(&["--point", &newer]).await?;
    ensure!(refused.contains("--even-suspect"), "{refused}");
    let refused = night.refused(&["--even-suspect"]).await?;
    ensure!(refused.contains("goes with --point"), "{refused}");
    let insisting = ["--point", &newer, "--even-suspect"];
    ensure!(night.restored(&insisting).await?.1 == "2000");

    // The same, where its archive is gone.
    fs::write(night.path(&night.newer.manifest_key), before)?;
    let archive = super::store::archive(&night.vault.lab.store(), &night.newer)?;
    let bytes = fs::read(&archive)?;
    fs::remove_file(&archive)?;
    let text = night.list(&[]).await?.succeeded()?.out;
    ensure!(text.contains(&format!("INCOMPLETE: {newer}: ")), "{text}");
    let (said, count) = night.restored(&[]).await?;
    ensure!(
        count == "1000" && said.err.contains("incomplete"),
        "{said:?}"
    );

    // Damage shows when it is read, before the target is touched: no older point is taken in silence.
    let half = bytes.len() / 2;
    let damaged: Vec<u8> = bytes
        .iter()
        .enumerate()
        .map(|(at, byte)| byte ^ u8::from(at == half))
        .collect();
    fs::write(&archive, damaged)?;
    let refused = night.refused(&[]).await?;
    ensure!(
        refused.contains("BLAKE3") && refused.contains(&format!("--point {older}")),
        "{refused}"
    );

    // Nothing is left that can be taken by default.
    for point in [&night.newer, &night.older] {
        fs::remove_file(super::store::archive(&night.vault.lab.store(), point)?)?;
    }
    let refused = night.refused(&[]).await?;
    ensure!(
        refused.contains("none of the newest 2 restore points"),
        "{refused}"
    );
    Ok(())
}

#[tokio::test]
async fn a_choice_between_installations_or_teams_is_left_to_whoever_restores() -> Result<()> {
    let mut night = Night::in_a_directory().await?;
    let own = night.listed().await?["installation"].clone();
    let own = own.as_str().context("no installation")?.to_owned();
    let other = Uuid::new_v4().to_string();
    // Two installations in one store, as they could share one before stores had an identity: the other's point is the newest.
    let theirs = night.forge(&night.newer, |manifest| {
        manifest["installation"] = json!(other);
        manifest["consistent_at"] = json!(chrono::Utc::now());
    })?;
    let text = night.list(&[]).await?.succeeded()?.out;
    ensure!(text.contains("OTHER INSTALLATION"), "{text}");
    ensure!(
        text.contains(&format!(
            "INSTALLATION: 1 restore point of installation {other}"
        )),
        "{text}"
    );
    let only = night
        .list(&["--installation", &other, "--json"])
        .await?
        .json()?;
    ensure!(ids(&only) == [theirs.as_str()], "{only}");
    let refused = night.refused(&[]).await?;
    for told in ["2 installations", &own, &other, "--installation", &theirs] {
        ensure!(refused.contains(told), "{told}: {refused}");
    }
    let newer = night.newer.id.to_string();
    let (said, _) = night.restored(&["--installation", &own, "--json"]).await?;
    ensure!(said.json()?["chosen"]["point"] == json!(newer));
    ensure!(night.restored(&["--point", &newer]).await?.1 == "2000");

    // The same id in another team.
    let manifest = fs::read_to_string(night.path(&night.older.manifest_key))?;
    let moved = manifest
        .replace("\"acme\"", "\"beta\"")
        .replace("v1/acme/", "v1/beta/");
    night.lay(
        &night.older.manifest_key.replace("v1/acme/", "v1/beta/"),
        &moved,
    )?;
    let refused = night.refused(&["--installation", &own]).await?;
    for told in [
        "2 teams",
        "acme (2 restore points",
        "beta (1 restore point, ",
        "--team",
    ] {
        ensure!(refused.contains(told), "{told}: {refused}");
    }
    let chosen = ["--installation", &own, "--team", "acme"];
    ensure!(night.restored(&chosen).await?.1 == "2000");
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

/// The commands that need no catalog.
const NEED_NO_CATALOG: [&str; 3] = [
    "point list --from ",
    "restore --from ",
    "restore --from-manifest ",
];

/// Every noun of the command line.
const NOUNS: [&str; 22] = [
    "api",
    "audit",
    "backup",
    "catalog",
    "completions",
    "consumer",
    "doctor",
    "health",
    "key",
    "limits",
    "migrate",
    "plans",
    "point",
    "producer",
    "queue",
    "resource",
    "restore",
    "retention",
    "run",
    "status",
    "store",
    "verify",
];

/// Makes sure that every command of lastgood's that a text names can be run where the catalog is gone.
fn names_no_command_that_needs_a_catalog(said: &str) -> Result<()> {
    let after_name = said.split("lastgood ").skip(1);
    let after_quote = said.split('`').skip(1);
    for named in after_name.chain(after_quote) {
        let noun = named.split([' ', '`']).next().unwrap_or_default();
        ensure!(
            !NOUNS.contains(&noun) || NEED_NO_CATALOG.iter().any(|known| named.starts_with(known)),
            "{named:?} needs a catalog: {said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn no_refusal_without_a_catalog_names_a_command_that_needs_one() -> Result<()> {
    let mut night = Night::in_a_directory().await?;
    let (store, key) = (night.store.clone(), night.newer.manifest_key.clone());
    let (newer, nobody) = (night.newer.id.to_string(), Uuid::new_v4().to_string());
    let home = night.vault.lab.home.path().display().to_string();
    let identity = format!("{home}/identity.txt");
    fs::write(&identity, Identity::generate().to_line().expose_secret())?;
    let empty = format!("{home}/empty");
    fs::create_dir_all(format!("{empty}/objects"))?;
    let archive = super::store::archive(&night.vault.lab.store(), &night.newer)?;
    let url = night.shop.url();
    let gone = night.shop.url_of("gone_altogether");
    night.vault.lab.set("FULL_URL", url.clone());
    night.vault.lab.set("GONE_URL", gone);

    let from = |args: &[&str]| {
        let args = [&["restore", "--from", &store], args].concat();
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let manifest = |args: &[&str]| {
        let args = [&["restore", "--storage", &store, "--from-manifest"], args].concat();
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let list = |args: &[&str]| {
        let args = [&["point", "list", "--from"], args].concat();
        args.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let into = ["--into", "env:TARGET_URL"];
    let [into, target] = into;
    let refusals = [
        list(&["/not/there"]),
        list(&[&empty]),
        list(&[&store, "--team", "nobody"]),
        list(&["gs://bucket"]),
        list(&["s3://bucket/without/keys"]),
        list(&["near", "--stores", "/not/there"]),
        from(&["nothing", into, target]),
        from(&["shop", into, "shop"]),
        from(&["shop", into, &url]),
        from(&["shop", into, "env:NOT_SET_ANYWHERE"]),
        from(&["shop", into, "file:/not/there"]),
        from(&["shop", into, "env:FULL_URL"]),
        from(&["shop", into, "env:GONE_URL"]),
        from(&["shop", into, target, "--at", "2001-01-01T00:00:00Z"]),
        from(&["shop", into, target, "--point", &nobody]),
        from(&["shop", into, target, "--even-suspect"]),
        from(&["shop", into, target, "--identity", "/not/there"]),
        from(&["shop", into, target, "--identity", &identity]),
        manifest(&["v1/acme/shop/gone.manifest.json", into, target]),
        manifest(&["not a key", into, target]),
        manifest(&["/elsewhere/x.manifest.json", into, target]),
        manifest(&[&key, into, "env:FULL_URL"]),
        manifest(&[&key, into, target, "--identity", &identity]),
    ];
    for args in refusals {
        let database = night.vault.empty_database(&night.shop).await?;
        night
            .vault
            .lab
            .set("TARGET_URL", night.shop.url_of(&database));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let refused = night.vault.lab.run(&args).await?.refused();
        let refused = refused.with_context(|| format!("{args:?}"))?;
        names_no_command_that_needs_a_catalog(&refused).with_context(|| format!("{args:?}"))?;
        ensure!(!refused.contains("DATABASE_URL"), "{args:?}: {refused}");
    }

    // What is wrong with the store, its manifests and its archives.
    let identity = night.vault.objects().join(lastgood_jobs::storage::IDENTITY);
    fs::write(&identity, "{}")?;
    let listed = night.list(&[]).await?.succeeded()?.out;
    ensure!(listed.contains("NO IDENTITY"), "{listed}");
    names_no_command_that_needs_a_catalog(&listed)?;
    let bytes = fs::read(&archive)?;
    let flipped: Vec<u8> = bytes.iter().map(|byte| byte ^ 1).collect();
    for damaged in [flipped, Vec::new()] {
        fs::write(&archive, damaged)?;
        let by_key = ["--from-manifest", &key, "--storage", &store];
        let refused = night.restore(&by_key).await?.0.refused()?;
        names_no_command_that_needs_a_catalog(&refused)?;
        ensure!(refused.contains("lastgood point list --from"), "{refused}");
        let refused = night.refused(&["--point", &newer]).await?;
        names_no_command_that_needs_a_catalog(&refused)?;
        let listed = night.list(&[]).await?.succeeded()?.out;
        names_no_command_that_needs_a_catalog(&listed)?;
    }
    Ok(())
}

/// Whoever asks the catalog that is gone is told what needs none.
#[tokio::test]
async fn a_command_whose_catalog_is_gone_says_what_needs_none() -> Result<()> {
    let mut night = Night::in_a_directory().await?;
    for url in ["", "postgresql://u:marker@127.0.0.1:9/db"] {
        night.vault.lab.set("DATABASE_URL", url);
        for (command, instead) in [
            (
                &["backup", "list"][..],
                "`lastgood point list --from STORE`",
            ),
            (
                &["restore", "shop"],
                "`lastgood restore --from STORE shop --into env:NAME`",
            ),
        ] {
            let refused = night.vault.lab.run(command).await?.refused()?;
            ensure!(
                refused.contains(instead) && !refused.contains("marker"),
                "{refused}"
            );
        }
    }
    Ok(())
}

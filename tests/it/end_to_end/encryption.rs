//! An archive opens with its own key and no other: with lastgood, without it, and never again once the key was shredded.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use lastgood::catalog::PointRow;
use lastgood_jobs::{
    escrow,
    key::Identity,
    storage::{Storage, StorageUrl},
};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::{
    cache::Cache,
    customer::{Customer, Rights},
    lab::{Lab, client_dir_18},
    native, store,
};

const COUNT: &str = "select count(*)::text from orders";
const AGE: &[u8] = b"age-encryption.org/v1\n";

/// An installation that can make keys.
struct Vault {
    lab: Lab,
    recovery: Identity,
}

impl Vault {
    async fn create() -> Result<Self> {
        let (mut lab, recovery) = (Lab::create().await?, Identity::generate());
        lab.set(
            "LASTGOOD_RECOVERY_RECIPIENT",
            recovery.recipient().to_string(),
        );
        Ok(Self { lab, recovery })
    }

    /// Makes a key and returns its id.
    async fn key(&self, verb: &str, owner: &[&str]) -> Result<Uuid> {
        let args = [&["--json", "key", verb], owner].concat();
        let made = self.lab.run(&args).await?.succeeded()?.json()?;
        Ok(made["key"].as_str().context("no key")?.parse()?)
    }

    async fn add(&self, id: &str, team: &str, url: &str) -> Result<()> {
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

    async fn back_up(&self, id: &str) -> Result<PointRow> {
        let run = self.lab.enqueue_backup(id).await?;
        self.lab.succeeds(run).await?;
        Ok(self.lab.catalog.catalog.point(run).await?)
    }

    /// Restores a point beside the resource's own database, and returns how many orders came back.
    async fn restore(&self, id: &str, point: &PointRow, shop: &Customer) -> Result<String> {
        let database = format!(
            "{}_{}",
            shop.name,
            &Uuid::new_v4().simple().to_string()[..8]
        );
        shop.as_superuser(&format!(
            "create database {database} owner {} template template0",
            shop.name
        ))
        .await?;
        let point = point.id.to_string();
        let args = [
            "restore", id, "--point", &point, "--into", &database, "--wait",
        ];
        self.lab.run(&args).await?.succeeded()?;
        shop.ask_in(&database, COUNT).await
    }

    /// Makes sure that a point cannot be restored, and returns why.
    async fn refuses(&self, id: &str, point: &PointRow) -> Result<String> {
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

    fn objects(&self) -> PathBuf {
        self.lab.store().join("objects")
    }

    /// Returns the identity in a key's escrow.
    async fn identity(&self, key: Uuid) -> Result<Identity> {
        let url: StorageUrl = self.lab.store().display().to_string().parse()?;
        let storage = Storage::open(&url).await?;
        Ok(escrow::open(&storage, key, &self.recovery).await?.identity)
    }
}

fn key_of(point: &PointRow) -> Option<Uuid> {
    let key = point.manifest.pointer("/archive/encryption/key")?;
    key.as_str()?.parse().ok()
}

async fn shop() -> Result<Customer> {
    let shop = Customer::create(Rights::Owner).await?;
    shop.run("create table orders as select n from generate_series(1, 1000) n")
        .await?;
    Ok(shop)
}

#[tokio::test]
async fn each_team_has_its_own_keys_and_a_shredded_one_takes_its_archives_alone() -> Result<()> {
    let (vault, alpha, beta) = (Vault::create().await?, shop().await?, shop().await?);
    let lab = &vault.lab;
    vault.add("a", "alpha", &alpha.url()).await?;
    vault.add("b", "beta", &beta.url()).await?;
    vault.add("c", "gamma", &beta.url()).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;

    let plain = vault.back_up("a").await?;
    ensure!(key_of(&plain).is_none(), "{plain:?}");
    let doctor = lab.run(&["doctor"]).await?.out;
    ensure!(doctor.contains("archives are NOT encrypted"), "{doctor}");
    let status = lab.run(&["status"]).await?.out;
    ensure!(status.contains("NOT ENCRYPTED"), "{status}");

    let first = vault.key("create", &["--team", "alpha"]).await?;
    let of_beta = vault.key("create", &["--team", "beta"]).await?;
    let of_platform = vault.key("create", &["--platform"]).await?;
    let old = vault.back_up("a").await?;
    let next = vault.key("rotate", &["--team", "alpha"]).await?;
    let (new, b, c) = (
        vault.back_up("a").await?,
        vault.back_up("b").await?,
        vault.back_up("c").await?,
    );
    for (point, key) in [
        (&old, first),
        (&new, next),
        (&b, of_beta),
        (&c, of_platform),
    ] {
        ensure!(key_of(point) == Some(key), "{point:?}");
        let archive = store::archive(&lab.store(), point)?;
        ensure!(archive.to_string_lossy().ends_with(".pgdump.zst.age"));
        ensure!(fs::read(archive)?.starts_with(AGE));
    }
    // A rotated key still opens what it encrypted.
    ensure!(vault.restore("a", &old, &alpha).await? == "1000");
    ensure!(vault.restore("a", &new, &alpha).await? == "1000");
    let doctor = lab.run(&["doctor"]).await?.out;
    ensure!(
        doctor.contains("4 keys, with their escrows; the newest restore points open: 3 encrypted"),
        "{doctor}"
    );
    ensure!(!lab.run(&["status"]).await?.out.contains("NOT ENCRYPTED"));

    let mistyped = ["key", "shred", "--team", "alpha", "--overwrite", "beta"];
    let refused = lab.run(&mistyped).await?.refused()?;
    ensure!(refused.contains("--overwrite alpha"), "{refused}");
    let shred = ["key", "shred", "--team", "alpha", "--overwrite", "alpha"];
    let hold = "update lastgood.restore_points set held_at = $2, held_because = $3 where id = $1";
    let set_hold = async |since: Option<&str>| {
        let since = since
            .map(str::parse::<chrono::DateTime<chrono::Utc>>)
            .transpose()?;
        let because = since.map(|_| "a court asked");
        let update = sqlx::query(hold).bind(old.id).bind(since).bind(because);
        anyhow::Ok(update.execute(lab.catalog.pool()).await?)
    };
    set_hold(Some("2026-01-02T03:04:05Z")).await?;
    let refused = lab.run(&shred).await?.refused()?;
    ensure!(refused.contains("legal hold"), "{refused}");
    ensure!(vault.restore("a", &new, &alpha).await? == "1000");
    set_hold(None).await?;
    // Twice, as after a store that failed.
    for _ in 0..2 {
        let told = lab.run(&shred).await?.succeeded()?.out;
        ensure!(
            told.contains("2 restore point(s) can never be read again"),
            "{told}"
        );
        ensure!(
            told.contains("STILL READABLE: 1 restore point(s)"),
            "{told}"
        );
    }
    for (point, key) in [(&old, first), (&new, next)] {
        let why = vault.refuses("a", point).await?;
        ensure!(
            why.contains("shredded") && why.contains(&key.to_string()),
            "{why}"
        );
        ensure!(!vault.objects().join(escrow::object(key)).exists());
    }
    ensure!(vault.restore("a", &plain, &alpha).await? == "1000");
    ensure!(vault.restore("b", &b, &beta).await? == "1000");
    ensure!(vault.restore("c", &c, &beta).await? == "1000");
    ensure!(vault.objects().join(escrow::object(of_beta)).exists());
    // What cannot be read is no restore point to count on.
    let newest = lab
        .catalog
        .catalog
        .resource("a")
        .await?
        .newest_consistent_at;
    ensure!(newest == Some(plain.consistent_at), "{newest:?}");

    let run = lab.enqueue_backup("a").await?;
    let failed = lab.ends(run).await?;
    ensure!(
        failed.state == "failed" && failed.attempt == 1,
        "{failed:?}"
    );
    let why = failed.error.unwrap_or_default();
    ensure!(why.contains("lastgood key create --team alpha"), "{why}");
    let acts = lab.catalog.catalog.audited(10).await?;
    let act = acts
        .iter()
        .find(|act| act.action == "shred")
        .context("no act")?;
    ensure!(act.detail["team"] == "alpha", "{act:?}");
    let last = vault.key("create", &["--team", "alpha"]).await?;
    ensure!(key_of(&vault.back_up("a").await?) == Some(last));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_opened_again_is_not_backed_up_and_never_stored_in_clear() -> Result<()> {
    let (mut vault, shop) = (Vault::create().await?, shop().await?);
    vault.lab.set("SHOP_URL", shop.url());
    let args = [
        "resource",
        "add",
        "a",
        "--team",
        "alpha",
        "--tier",
        "free",
        "--engine",
        "vector",
        "--connection",
        "env:SHOP_URL",
    ];
    vault.lab.run(&args).await?.succeeded()?;
    let key = vault.key("create", &["--platform"]).await?;
    vault.lab.set("LASTGOOD_MASTER_KEY", "");
    let without = vault.lab.consumer("without", &[]).await?;
    let run = vault.lab.enqueue_backup("a").await?;
    let row = vault
        .lab
        .becomes(run, "an attempt fails", |row| row.error.is_some())
        .await?;
    let why = row.error.unwrap_or_default();
    ensure!(why.contains("LASTGOOD_MASTER_KEY"), "{why}");
    ensure!(row.state == "queued", "retryable, but {}", row.state);
    let escrow = format!("objects/{}", escrow::object(key));
    let files = store::files(&vault.lab.store())?;
    ensure!(files.into_iter().collect::<Vec<_>>() == [escrow]);
    drop(without);
    let doctor = vault.lab.run(&["doctor"]).await?;
    ensure!(doctor.code == Some(1), "{doctor:?}");
    let line = doctor.out.lines().find(|line| line.contains("encryption"));
    ensure!(
        line.is_some_and(|line| line.starts_with("FAIL") && line.contains("LASTGOOD_MASTER_KEY")),
        "{doctor:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_key_that_a_store_cannot_keep_is_not_made() -> Result<()> {
    let mut vault = Vault::create().await?;
    fs::create_dir_all(vault.objects())?;
    fs::write(
        vault.objects().join("keys"),
        "a file where a directory should be",
    )?;
    let create = ["key", "create", "--platform"];
    let refused = vault.lab.run(&create).await?.refused()?;
    ensure!(
        refused.contains("did not take the key's escrow"),
        "{refused}"
    );
    ensure!(vault.lab.catalog.catalog.keys().await?.is_empty());
    fs::remove_file(vault.objects().join("keys"))?;

    vault.lab.set("LASTGOOD_RECOVERY_RECIPIENT", "");
    let refused = vault.lab.run(&create).await?.refused()?;
    ensure!(refused.contains("age-keygen"), "{refused}");
    let secret = vault.recovery.to_line();
    vault
        .lab
        .set("LASTGOOD_RECOVERY_RECIPIENT", secret.expose_secret());
    let refused = vault.lab.run(&create).await?.refused()?;
    ensure!(
        !refused.contains(secret.expose_secret()),
        "a secret is repeated"
    );
    let recipient = vault.recovery.recipient().to_string();
    vault.lab.set("LASTGOOD_RECOVERY_RECIPIENT", recipient);

    let key = vault.key("create", &["--platform"]).await?;
    let refused = vault.lab.run(&create).await?.refused()?;
    ensure!(refused.contains("key rotate"), "{refused}");
    let escrows: Vec<String> = store::files(&vault.lab.store())?.into_iter().collect();
    ensure!(
        escrows == [format!("objects/{}", escrow::object(key))],
        "{escrows:?}"
    );

    // Another recovery recipient: the same keys, and the old recovery identity opens them no more.
    let second = Identity::generate();
    let recipient = second.recipient().to_string();
    let args = ["key", "escrow", "--recipient", &recipient];
    vault.lab.run(&args).await?.succeeded()?;
    ensure!(vault.identity(key).await.is_err());
    vault.recovery = second;
    vault.identity(key).await?;
    Ok(())
}

#[tokio::test]
async fn keys_come_back_from_their_escrows_after_the_catalog_lost_them() -> Result<()> {
    let (vault, shop) = (Vault::create().await?, shop().await?);
    let lab = &vault.lab;
    vault.add("a", "alpha", &shop.url()).await?;
    vault.add("b", "beta", &shop.url()).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let of_platform = vault.key("create", &["--platform"]).await?;
    vault.key("create", &["--team", "alpha"]).await?;
    let (old, b) = (vault.back_up("a").await?, vault.back_up("b").await?);
    let next = vault.key("rotate", &["--team", "alpha"]).await?;
    sqlx::query("delete from lastgood.archive_keys")
        .execute(lab.catalog.pool())
        .await?;
    let why = vault.refuses("a", &old).await?;
    ensure!(why.contains("is not known here"), "{why}");

    let file = lab.home.path().join("recovery.txt");
    let recover = [
        "key",
        "recover",
        "--identity-file",
        &file.display().to_string(),
    ];
    fs::write(&file, Identity::generate().to_line().expose_secret())?;
    let refused = lab.run(&recover).await?.refused()?;
    ensure!(refused.contains("another recovery recipient"), "{refused}");
    let text = format!(
        "# by age-keygen\n{}\n",
        vault.recovery.to_line().expose_secret()
    );
    fs::write(&file, text)?;
    for recovered in ["3 key(s)", "0 key(s)"] {
        let told = lab.run(&recover).await?.succeeded()?.out;
        ensure!(told.starts_with(recovered), "{told}");
    }
    ensure!(vault.restore("a", &old, &shop).await? == "1000");
    ensure!(vault.restore("b", &b, &shop).await? == "1000");
    ensure!(key_of(&vault.back_up("a").await?) == Some(next));
    ensure!(key_of(&vault.back_up("b").await?) == Some(of_platform));
    Ok(())
}

#[tokio::test]
async fn a_secret_key_is_seen_nowhere() -> Result<()> {
    let (mut vault, shop) = (Vault::create().await?, shop().await?);
    vault.lab.set("LASTGOOD_LOG", "trace");
    let keys = [
        vault.key("create", &["--platform"]).await?,
        vault.key("create", &["--team", "alpha"]).await?,
    ];
    vault.add("a", "alpha", &shop.url()).await?;
    vault.add("b", "beta", &shop.url()).await?;
    let consumer = vault.lab.consumer("consumer", &[]).await?;
    for id in ["a", "b"] {
        let point = vault.back_up(id).await?;
        vault.restore(id, &point, &shop).await?;
    }
    for args in [
        &["doctor"][..],
        &["status"],
        &["--json", "key", "list"],
        &["key", "list"],
    ] {
        vault.lab.run(args).await?.succeeded()?;
    }
    let metrics = consumer.get("/metrics").await?;
    let mut secrets = Vec::new();
    for key in keys {
        let line = vault.identity(key).await?.to_line();
        secrets.push(line.expose_secret().to_owned());
    }
    // Besides the lines themselves, anything that looks like one.
    secrets.push("AGE-SECRET-KEY-1".to_owned());
    let not_in = |place: &str, bytes: &[u8]| {
        for secret in &secrets {
            let is_seen = bytes
                .windows(secret.len())
                .any(|window| window == secret.as_bytes());
            ensure!(!is_seen, "a secret key is seen in {place}");
        }
        Ok(())
    };
    not_in("the metrics", metrics.as_bytes())?;
    for file in store::files(vault.lab.home.path())? {
        not_in(&file, &fs::read(vault.lab.home.path().join(&file))?)?;
    }
    ensure!(consumer.log()?.contains("TRACE"), "the log says too little");
    for table in [
        "archive_keys",
        "restore_points",
        "runs",
        "resources",
        "audit",
        "consumers",
    ] {
        let question = format!("select t::text as row from lastgood.{table} t");
        let rows = sqlx::query(AssertSqlSafe(question));
        for row in rows.fetch_all(vault.lab.catalog.pool()).await? {
            let row: String = row.try_get("row")?;
            not_in(table, row.as_bytes())?;
            for secret in &secrets {
                let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
                ensure!(!row.contains(&hex), "a secret key is seen in {table}");
            }
        }
    }
    Ok(())
}

/// The bucket and the recovery identity, and `age`, `zstd`, `b3sum` and the engine's own program: no catalog, no lastgood.
#[tokio::test]
async fn bucket_and_recovery_identity_bring_data_back_without_lastgood() -> Result<()> {
    let tools = std::env::var("LASTGOOD_TEST_AGE_TOOLS").context("set LASTGOOD_TEST_AGE_TOOLS")?;
    if let Some(why) = tools.strip_prefix("skip: ") {
        super::faults::skipped(&format!("age by hand: {why}"));
        return Ok(());
    }
    let (vault, shop, cache) = (Vault::create().await?, shop().await?, Cache::start().await?);
    cache.fill().await?;
    let before = cache.state().await?;
    let home = vault.lab.home.path().to_owned();
    let recovery = home.join("recovery.txt");
    fs::write(&recovery, vault.recovery.to_line().expose_secret())?;
    vault.key("create", &["--platform"]).await?;
    vault.key("create", &["--team", "acme"]).await?;
    vault.add("shop", "gamma", &shop.url()).await?;
    native::add(&vault.lab, "cache", "redis", "free", &cache.url()).await?;
    let consumer = vault.lab.consumer("consumer", &[]).await?;
    for id in ["shop", "cache"] {
        vault.back_up(id).await?;
    }
    drop(consumer);

    let by_hand = ByHand {
        tools: Path::new(&tools),
        objects: vault.objects(),
        recovery,
    };
    let dump = by_hand.open("shop", &home.join("by-hand.pgdump"))?;
    let database = format!("{}_by_hand", shop.name);
    shop.as_superuser(&format!(
        "create database {database} owner {} template template0",
        shop.name
    ))
    .await?;
    let restored = Command::new(client_dir_18()?.join("pg_restore"))
        .args(["--exit-on-error", "-d", &shop.url_of(&database)])
        .arg(&dump)
        .output()?;
    ensure!(restored.status.success(), "{restored:?}");
    ensure!(shop.ask_in(&database, COUNT).await? == "1000");

    let dump = by_hand.open("cache", &home.join("by-hand.rdb"))?;
    let from_dump = Cache::start_from(Some(&dump)).await?;
    ensure!(from_dump.state().await? == before, "{}", from_dump.log());
    Ok(())
}

/// What docs/encryption.md tells to type.
struct ByHand<'a> {
    tools: &'a Path,
    objects: PathBuf,
    recovery: PathBuf,
}

impl ByHand<'_> {
    /// Opens the one archive of a resource into `dump`, with what the bucket holds.
    fn open(&self, resource: &str, dump: &Path) -> Result<PathBuf> {
        let files = store::files(&self.objects)?;
        let is_manifest = |file: &&String| {
            file.contains(&format!("/{resource}/")) && file.ends_with(".manifest.json")
        };
        let manifest = files.iter().find(is_manifest).context("no manifest")?;
        let manifest: Value = serde_json::from_slice(&fs::read(self.objects.join(manifest))?)?;
        let text = |pointer| {
            let value = manifest.pointer(pointer).and_then(Value::as_str);
            value.context("the manifest says too little")
        };
        let archive = self.objects.join(text("/archive/key")?);
        let escrow = self
            .objects
            .join(format!("keys/{}.age", text("/archive/encryption/key")?));
        let (identity, compressed) = (dump.with_extension("identity"), dump.with_extension("zst"));
        self.sum(&archive, text("/archive/blake3")?)?;
        self.decrypt(&self.recovery, &escrow, &identity)?;
        self.decrypt(&identity, &archive, &compressed)?;
        super::round_trip::decompress(&compressed, dump)?;
        self.sum(dump, text("/dump/blake3")?)?;
        Ok(dump.to_owned())
    }

    fn decrypt(&self, identity: &Path, from: &Path, to: &Path) -> Result<()> {
        let ran = Command::new(self.tools.join("age"))
            .args(["-d".as_ref(), "-i".as_ref(), identity.as_os_str()])
            .args(["-o".as_ref(), to.as_os_str(), from.as_os_str()])
            .output()?;
        ensure!(ran.status.success(), "{ran:?}");
        Ok(())
    }

    fn sum(&self, file: &Path, expected: &str) -> Result<()> {
        let ran = Command::new(self.tools.join("b3sum"))
            .args(["--no-names".as_ref(), file.as_os_str()])
            .stderr(Stdio::inherit())
            .output()?;
        let said = String::from_utf8(ran.stdout)?;
        ensure!(said.trim() == expected, "{said} instead of {expected}");
        Ok(())
    }
}

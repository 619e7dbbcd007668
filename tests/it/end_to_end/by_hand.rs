//! The commands in docs/explanation/encryption.md restore data without lastgood.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::{
    cache::Cache,
    lab::client_dir_18,
    native, store,
    vault::{COUNT, Vault, shop},
};
use crate::variable;

/// Uses the bucket, the recovery identity, `age`, `zstd`, `b3sum` and the engine's own program: no catalog and no lastgood.
#[tokio::test]
async fn bucket_and_recovery_identity_bring_data_back_without_lastgood() -> Result<()> {
    let tools = variable("LASTGOOD_TEST_AGE_TOOLS")?;
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

/// Runs the commands of docs/explanation/encryption.md.
struct ByHand<'a> {
    tools: &'a Path,
    objects: PathBuf,
    recovery: PathBuf,
}

impl ByHand<'_> {
    /// Opens the only archive of a resource into `dump`, with what the bucket contains.
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

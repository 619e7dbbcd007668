//! An archive opens with its own key and no other: with lastgood, without it, and never again after the key is shredded.

mod recovered;

use std::fs;

use anyhow::{Context as _, Result, ensure};
use lastgood::{
    catalog::{AuditFilter, PointRow},
    run::RunState,
};
use lastgood_jobs::{escrow, key::Identity};
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::{
    customer::Customer,
    store,
    vault::{COUNT, Vault, key_of, shop},
};

const AGE: &[u8] = b"age-encryption.org/v1\n";

#[tokio::test]
async fn an_archive_is_encrypted_to_its_teams_key_and_rotated_ones_still_open() -> Result<()> {
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
    // After a rotation, the old key still opens what it encrypted.
    ensure!(vault.restore("a", &old, &alpha).await? == "1000");
    ensure!(vault.restore("a", &new, &alpha).await? == "1000");
    let doctor = lab.run(&["doctor"]).await?.out;
    ensure!(
        doctor.contains("4 keys; the newest restore points open: 3 encrypted")
            && doctor.contains("ok   escrows       primary: has 4 escrows, none missing"),
        "{doctor}"
    );
    ensure!(!lab.run(&["status"]).await?.out.contains("NOT ENCRYPTED"));
    lab.run(&["verify", "--point", &old.id.to_string(), "--wait"])
        .await?
        .succeeded()?;
    Ok(())
}

/// Two restore points of alpha's with two keys, and one of each other team.
struct Fleet {
    first: Uuid,
    next: Uuid,
    of_beta: Uuid,
    plain: PointRow,
    old: PointRow,
    new: PointRow,
    b: PointRow,
    c: PointRow,
}

impl Fleet {
    async fn launch(vault: &Vault, alpha: &Customer, beta: &Customer) -> Result<Self> {
        vault.add("a", "alpha", &alpha.url()).await?;
        vault.add("b", "beta", &beta.url()).await?;
        vault.add("c", "gamma", &beta.url()).await?;
        let plain = vault.back_up("a").await?;
        let first = vault.key("create", &["--team", "alpha"]).await?;
        let of_beta = vault.key("create", &["--team", "beta"]).await?;
        vault.key("create", &["--platform"]).await?;
        let old = vault.back_up("a").await?;
        let next = vault.key("rotate", &["--team", "alpha"]).await?;
        Ok(Self {
            first,
            next,
            of_beta,
            plain,
            old,
            new: vault.back_up("a").await?,
            b: vault.back_up("b").await?,
            c: vault.back_up("c").await?,
        })
    }
}

#[tokio::test]
async fn a_shredded_team_loses_its_archives_and_no_other_does() -> Result<()> {
    let (vault, alpha, beta) = (Vault::create().await?, shop().await?, shop().await?);
    let lab = &vault.lab;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let Fleet {
        first,
        next,
        of_beta,
        plain,
        old,
        new,
        b,
        c,
    } = Fleet::launch(&vault, &alpha, &beta).await?;
    let mistyped = ["key", "shred", "--team", "alpha", "--confirm", "beta"];
    let refused = lab.run(&mistyped).await?.refused()?;
    ensure!(refused.contains("--confirm alpha"), "{refused}");
    let shred = ["key", "shred", "--team", "alpha", "--confirm", "alpha"];
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
    // Twice, as after a store failed half way.
    for _ in 0..2 {
        let told = lab.run(&shred).await?.succeeded()?.out;
        ensure!(
            told.contains("2 restore points can never be read again"),
            "{told}"
        );
        ensure!(
            told.contains("STILL READABLE: 1 restore point of"),
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
    // A point that cannot be read no longer counts.
    let newest = lab
        .catalog
        .catalog
        .resource("a")
        .await?
        .newest_consistent_at;
    ensure!(newest == Some(plain.consistent_at), "{newest:?}");

    makes_no_backup_until_it_has_a_new_key(&vault).await
}

async fn makes_no_backup_until_it_has_a_new_key(vault: &Vault) -> Result<()> {
    let lab = &vault.lab;
    let run = lab.enqueue_backup("a").await?;
    let failed = lab.ends(run).await?;
    ensure!(
        failed.state == RunState::Failed && failed.attempt == 1,
        "{failed:?}"
    );
    let why = failed.error.unwrap_or_default();
    ensure!(why.contains("lastgood key create --team alpha"), "{why}");
    let acts = lab
        .catalog
        .catalog
        .audited(&AuditFilter::newest(10))
        .await?;
    let act = acts
        .iter()
        .find(|act| act.action == "shred")
        .context("no act")?;
    let team = act.detail.get("team").and_then(serde_json::Value::as_str);
    ensure!(team == Some("alpha"), "{act:?}");
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
    ensure!(
        row.state == RunState::Queued,
        "retryable, but {}",
        row.state
    );
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
        refused.contains("cannot write the key's escrow to store"),
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

    // With another recovery recipient, the keys stay the same and the old recovery identity no longer opens them.
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
async fn without_a_catalog_the_recovery_identity_or_the_keys_own_restores() -> Result<()> {
    let (mut vault, shop) = (Vault::create().await?, shop().await?);
    vault.add("a", "alpha", &shop.url()).await?;
    let consumer = vault.lab.consumer("consumer", &[]).await?;
    let key = vault.key("create", &["--team", "alpha"]).await?;
    let point = vault.back_up("a").await?;
    drop(consumer);
    let files = [
        ("own.txt", vault.identity(key).await?),
        ("recovery.txt", vault.recovery.clone()),
        ("another.txt", Identity::generate()),
    ];
    vault.lab.set("DATABASE_URL", "");
    vault.lab.set("LASTGOOD_MASTER_KEY", "");
    let mut answers = Vec::new();
    for (name, identity) in files {
        let file = vault.lab.home.path().join(name);
        fs::write(&file, identity.to_line().expose_secret())?;
        let database = vault.empty_database(&shop).await?;
        vault.lab.set("TARGET_URL", shop.url_of(&database));
        let args = [
            "restore",
            "--from-manifest",
            &point.manifest_key,
            "--into",
            "env:TARGET_URL",
            "--identity",
            &file.display().to_string(),
        ];
        let said = vault.lab.run(&args).await?;
        if said.code == Some(0) {
            answers.push(shop.ask_in(&database, COUNT).await?);
        } else {
            answers.push(said.err);
        }
    }
    let [own, recovery, another] = answers.as_slice() else {
        anyhow::bail!("{answers:?}")
    };
    ensure!(own == "1000" && recovery == "1000", "{answers:?}");
    ensure!(another.contains("another recovery recipient"), "{another}");
    let args = [
        "restore",
        "--from-manifest",
        &point.manifest_key,
        "--into",
        "env:TARGET_URL",
    ];
    let refused = vault.lab.run(&args).await?.refused()?;
    ensure!(refused.contains(&key.to_string()), "{refused}");
    Ok(())
}

/// Anyone who can write to a store can put an unencrypted archive there that matches its manifest, without having a key.
#[tokio::test]
async fn an_archive_in_clear_beside_encrypted_ones_is_restored_only_with_a_word() -> Result<()> {
    let (mut vault, shop) = (Vault::create().await?, shop().await?);
    vault.add("shop", "alpha", &shop.url()).await?;
    let consumer = vault.lab.consumer("consumer", &[]).await?;
    let forged = vault.back_up("shop").await?;
    let database = vault.empty_database(&shop).await?;
    vault.lab.set("TARGET_URL", shop.url_of(&database));
    let key = &forged.manifest_key;
    let args = [
        "restore",
        "--from-manifest",
        key,
        "--into",
        "env:TARGET_URL",
    ];
    // Where nothing is encrypted, an unencrypted archive is normal.
    vault.lab.run(&args).await?.succeeded()?;
    vault.key("create", &["--team", "alpha"]).await?;
    vault.back_up("shop").await?;
    drop(consumer);
    let database = vault.empty_database(&shop).await?;
    vault.lab.set("TARGET_URL", shop.url_of(&database));
    let refused = vault.lab.run(&args).await?.refused()?;
    ensure!(
        refused.contains("is not encrypted") && refused.contains("--allow-unencrypted"),
        "{refused}"
    );
    let allowed = [&args[..], &["--allow-unencrypted"]].concat();
    vault.lab.run(&allowed).await?.succeeded()?;
    ensure!(shop.ask_in(&database, COUNT).await? == "1000");
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
    // Besides the identities themselves, anything that looks like one.
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
                let hex = secret.bytes().map(|byte| format!("{byte:02x}"));
                let hex = hex.collect::<Vec<_>>().concat();
                ensure!(!row.contains(&hex), "a secret key is seen in {table}");
            }
        }
    }
    Ok(())
}

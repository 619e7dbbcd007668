//! Keys that the catalog has lost are recovered from their escrows, and only the right ones.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::{
    escrow,
    key::Identity,
    storage::{Storage, StorageUrl},
};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use super::super::vault::{COUNT, Vault, key_of, shop};

#[tokio::test]
async fn keys_come_back_from_their_escrows_after_the_catalog_lost_them() -> Result<()> {
    let (vault, shop) = (Vault::create().await?, shop().await?);
    let lab = &vault.lab;
    vault.add("a", "alpha", &shop.url()).await?;
    vault.add("b", "beta", &shop.url()).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    vault.key("create", &["--platform"]).await?;
    vault.key("create", &["--team", "alpha"]).await?;
    let (old, b) = (vault.back_up("a").await?, vault.back_up("b").await?);
    vault.key("rotate", &["--team", "alpha"]).await?;
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
    let said = lab.run(&recover).await?;
    ensure!(said.code == Some(1), "{said:?}");
    ensure!(said.out.contains("another recovery recipient"), "{said:?}");
    let text = format!(
        "# by age-keygen\n{}\n",
        vault.recovery.to_line().expose_secret()
    );
    fs::write(&file, text)?;
    let told = lab.run(&recover).await?.succeeded()?.out;
    ensure!(told.contains("\n3 keys recorded"), "{told}");
    let again = lab.run(&recover).await?;
    ensure!(
        again.code == Some(1) && again.out.contains("nothing was recovered"),
        "{again:?}"
    );
    ensure!(vault.restore("a", &old, &shop).await? == "1000");
    ensure!(vault.restore("b", &b, &shop).await? == "1000");
    Ok(())
}

/// The recovery recipient is public, so anyone who can write to a store can put an escrow there.
#[tokio::test]
async fn a_key_that_somebody_else_put_into_the_store_encrypts_nothing_after_a_recovery()
-> Result<()> {
    let (vault, shop) = (Vault::create().await?, shop().await?);
    let lab = &vault.lab;
    vault.add("b", "beta", &shop.url()).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let ours = vault.key("create", &["--platform"]).await?;
    let point = vault.back_up("b").await?;

    let url: StorageUrl = lab.store().display().to_string().parse()?;
    let storage = Storage::open(&url).await?;
    let theirs = escrow::Escrow {
        key: Uuid::new_v4(),
        team: None,
        created_at: "2099-01-01T00:00:00Z".parse()?,
        identity: Identity::generate(),
    };
    escrow::put(&storage, &theirs, &vault.recovery.recipient()).await?;
    let garbage = Uuid::new_v4();
    fs::write(vault.objects().join(escrow::object(garbage)), "no escrow")?;
    sqlx::query("delete from lastgood.archive_keys")
        .execute(lab.catalog.pool())
        .await?;

    let file = lab.home.path().join("recovery.txt");
    fs::write(&file, vault.recovery.to_line().expose_secret())?;
    let file = file.display().to_string();
    let said = lab
        .run(&["key", "recover", "--identity-file", &file])
        .await?;
    ensure!(said.code == Some(1), "one could not be opened: {said:?}");
    for told in [
        "2 keys recorded".to_owned(),
        theirs.identity.recipient().to_string(),
        format!("the escrow {} cannot be opened", escrow::object(garbage)),
    ] {
        ensure!(said.out.contains(&told), "{told}: {said:?}");
    }
    ensure!(vault.restore("b", &point, &shop).await? == "1000");
    let in_use = "select count(*) from lastgood.archive_keys where retired_at is null";
    ensure!(lab.catalog.count(in_use).await? == 0);

    // No backup uses a key that no operator chose.
    let run = lab.enqueue_backup("b").await?;
    let failed = lab.ends(run).await?;
    let why = failed.error.unwrap_or_default();
    ensure!(why.contains("lastgood key create --platform"), "{why}");
    let next = vault.key("create", &["--platform"]).await?;
    ensure!(next != ours && next != theirs.key);
    ensure!(key_of(&vault.back_up("b").await?) == Some(next));

    // Each action was recorded before it was taken.
    let audit = lab.run(&["audit"]).await?.succeeded()?.out;
    for act in ["create_key", "recover_keys"] {
        ensure!(audit.contains(act), "{audit}");
    }
    let secret = theirs.identity.to_line();
    ensure!(!audit.contains(secret.expose_secret()), "a secret is seen");
    Ok(())
}

#[tokio::test]
async fn a_restore_of_the_newest_says_which_older_point_opens_when_its_key_is_not_there()
-> Result<()> {
    let (vault, shop) = (Vault::create().await?, shop().await?);
    let lab = &vault.lab;
    vault.add("a", "alpha", &shop.url()).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    let plain = vault.back_up("a").await?;
    vault.key("create", &["--team", "alpha"]).await?;
    vault.back_up("a").await?;
    sqlx::query("delete from lastgood.archive_keys")
        .execute(lab.catalog.pool())
        .await?;
    let database = vault.empty_database(&shop).await?;
    let restore = ["restore", "a", "--into", &database];
    let refused = lab.run(&restore).await?.refused()?;
    ensure!(refused.contains("lastgood key recover"), "{refused}");
    let (_, at) = refused.rsplit_once("--at ").context("no way out is told")?;
    let at = at.trim().trim_end_matches('`');
    let restore = [&restore[..], &["--at", at, "--wait"]].concat();
    let said = lab.run(&restore).await?.succeeded()?;
    ensure!(said.err.contains(&plain.id.to_string()), "{said:?}");
    ensure!(shop.ask_in(&database, COUNT).await? == "1000");
    Ok(())
}

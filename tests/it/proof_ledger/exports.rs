//! An export is believed only as it was signed, by whom it was signed, and with public tools as well as with lastgood.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rstest::rstest;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use uuid::Uuid;

use super::{record, record_as, run_of, with_a_run};
use crate::{
    cli::process::{Said, run, run_on, run_on_with},
    database::TestCatalog,
    end_to_end::faults::skipped,
};

const MASTER_KEY: (&str, &str) = (
    "LASTGOOD_MASTER_KEY",
    "bWFzdGVyLWtleS1tYXN0ZXIta2V5LW1hc3Rlci1rZXk=",
);
const FROM: &str = "2020-01-01";

/// A ledger, and a directory for what is exported.
struct Lab {
    db: TestCatalog,
    home: TempDir,
}

impl Lab {
    /// Returns a ledger with proofs of two teams, and a signing key whose public half is in `key.pem`.
    async fn create() -> Result<Self> {
        let (db, ours) = with_a_run().await?;
        db.add("market", "other", "pro").await?;
        let theirs = run_of(&db, "market").await?;
        for (run, point) in [(ours, 1), (theirs, 2), (ours, 3), (ours, 1)] {
            let point = Uuid::from_u128(point);
            sqlx::query(
                "insert into lastgood.restore_points (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
                 select $1, resource_id, now(), 'v1/' || $1, $2, 5, 4 from lastgood.runs where id = $3 on conflict do nothing",
            )
            .bind(point)
            .bind(json!({ "archive": { "blake3": "0a".repeat(32) } }))
            .bind(run)
            .execute(db.pool())
            .await?;
            record(&db, run, point).await?;
        }
        let failed = ("drill", Some("“ü” \u{1} differs"));
        record_as(
            &db,
            ours,
            Uuid::new_v4(),
            failed,
            &json!({ "é": [1, {}, "\u{7f}"] }),
        )
        .await?;
        let lab = Self {
            db,
            home: tempfile::tempdir()?,
        };
        lab.with_key(&["key", "create", "--signing"]).await?;
        lab.save_keys("key.pem").await?;
        Ok(lab)
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    /// Runs a command with the master key, which has to succeed.
    async fn with_key(&self, arguments: &[&str]) -> Result<Said> {
        let said = run_on_with(&self.db, MASTER_KEY, arguments).await?;
        ensure!(said.code == 0, "{said:?}");
        Ok(said)
    }

    async fn save_keys(&self, name: &str) -> Result<String> {
        let said = run_on(&self.db, &["key", "signing"]).await?;
        fs::write(self.path(name), &said.out)?;
        Ok(said.out)
    }

    async fn export(&self, name: &str) -> Result<Value> {
        let path = self.path(name);
        self.with_key(&[
            "proof", "export", "--team", "acme", "--from", FROM, "-o", &path,
        ])
        .await?;
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    }

    async fn verify(&self, export: &str, key: &str) -> Result<Said> {
        let (export, key) = (self.path(export), self.path(key));
        run(&["--json", "proof", "verify", &export, "--key", &key]).await
    }
}

fn payload(envelope: &Value) -> Result<Value> {
    let text = envelope["payload"].as_str().context("no payload")?;
    Ok(serde_json::from_slice(&STANDARD.decode(text)?)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_a_signed_statement_about_one_teams_archives() -> Result<()> {
    let lab = Lab::create().await?;
    let envelope = lab.export("export.json").await?;
    assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
    let statement = payload(&envelope)?;
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://lastgood.dev/proofs/v1");
    let archive = |point| json!({ "name": Uuid::from_u128(point).to_string(), "digest": { "blake3": "0a".repeat(32) } });
    assert_eq!(statement["subject"], json!([archive(1), archive(3)]));
    let predicate = &statement["predicate"];
    let proofs = predicate["proofs"].as_array().context("no proofs")?;
    let numbers: Vec<_> = proofs
        .iter()
        .filter_map(|proof| proof["number"].as_i64())
        .collect();
    assert_eq!(numbers, [1, 3, 4, 5]);
    assert_eq!(
        predicate["outcomes"],
        json!({ "proven": 3, "differs": 0, "failed": 1, "not_possible": 0 })
    );
    assert_eq!(
        predicate["chain"],
        json!({ "number": 5, "hash": proofs[3]["hash"] })
    );
    let own = lab.db.catalog.installations().await?.own;
    assert_eq!(predicate["installation"], own.to_string());

    let said = lab.verify("export.json", "key.pem").await?;
    let verified = said.json()?;
    ensure!(said.code == 0 && verified["is_valid"] == true, "{said:?}");
    assert_eq!(verified["outcomes"], predicate["outcomes"]);
    assert_eq!(verified["fingerprint"], envelope["signatures"][0]["keyid"]);
    let audited = "select count(*) from lastgood.audit where action = 'export_proofs'";
    assert_eq!(lab.db.count(audited).await?, 1);
    // An existing file is not replaced.
    let path = lab.path("export.json");
    let again = [
        "proof", "export", "--team", "acme", "--from", FROM, "-o", &path,
    ];
    let again = run_on_with(&lab.db, MASTER_KEY, &again).await?;
    ensure!(
        again.code == 1 && again.err.contains("export.json"),
        "{again:?}"
    );
    Ok(())
}

/// Replaces the payload by what `change` makes of it, as somebody without the key would.
fn repack(envelope: &mut Value, change: impl FnOnce(String) -> String) -> Result<()> {
    let text = envelope["payload"].as_str().context("no payload")?;
    let changed = change(String::from_utf8(STANDARD.decode(text)?)?);
    envelope["payload"] = STANDARD.encode(changed).into();
    Ok(())
}

#[rstest]
#[case::a_failure_made_proven(|it: &mut Value| repack(it, |text| text.replace("\"failed\"", "\"proven\"")), "changed after it was signed")]
#[case::one_byte(|it: &mut Value| repack(it, |text| text.replacen("shop", "shoq", 1)), "changed after it was signed")]
#[case::another_type(|it: &mut Value| { it["payloadType"] = "application/json".into(); Ok(()) }, "application/json")]
#[case::no_signature(|it: &mut Value| { it["signatures"] = json!([]); Ok(()) }, "none of the keys")]
#[case::no_envelope(|it: &mut Value| { *it = json!({}); Ok(()) }, "no signed export")]
#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_changed_is_refused(
    #[case] change: fn(&mut Value) -> Result<()>,
    #[case] because: &str,
) -> Result<()> {
    let lab = Lab::create().await?;
    let mut envelope = lab.export("export.json").await?;
    change(&mut envelope)?;
    fs::write(lab.path("export.json"), envelope.to_string())?;
    let said = lab.verify("export.json", "key.pem").await?;
    ensure!(said.code == 1 && said.err.contains(because), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_old_exports_verify_with_the_old_key_and_no_other() -> Result<()> {
    let lab = Lab::create().await?;
    lab.export("old.json").await?;
    lab.with_key(&["key", "rotate", "--signing"]).await?;
    let both = lab.save_keys("both.pem").await?;
    let new = both.split("# signing key").nth(1).context("no key")?;
    fs::write(lab.path("new.pem"), new)?;
    lab.export("new.json").await?;
    for (export, key, is_valid) in [
        ("old.json", "key.pem", true),
        ("old.json", "both.pem", true),
        ("old.json", "new.pem", false),
        ("new.json", "new.pem", true),
        ("new.json", "key.pem", false),
    ] {
        let said = lab.verify(export, key).await?;
        ensure!((said.code == 0) == is_valid, "{export} {key}: {said:?}");
        ensure!(
            is_valid || said.err.contains("none of the keys given"),
            "{said:?}"
        );
    }
    let kept = "select count(*) from lastgood.signing_keys where (seed_sealed is null) = (retired_at is not null)";
    assert_eq!(
        lab.db.count(kept).await?,
        2,
        "the old private half is destroyed"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_to_sign_is_named() -> Result<()> {
    let (db, _) = with_a_run().await?;
    let export = ["proof", "export", "--team", "acme", "--from", FROM];
    let said = run_on_with(&db, MASTER_KEY, &export).await?;
    ensure!(
        said.code == 1 && said.err.contains("key create --signing"),
        "{said:?}"
    );
    let said = run_on(&db, &["key", "create", "--signing"]).await?;
    ensure!(
        said.code == 1 && said.err.contains("LASTGOOD_MASTER_KEY"),
        "{said:?}"
    );
    let said = run_on_with(&db, MASTER_KEY, &["key", "rotate", "--signing"]).await?;
    ensure!(
        said.code == 1 && said.err.contains("key create"),
        "{said:?}"
    );
    let made = run_on_with(&db, MASTER_KEY, &["key", "create", "--signing"]).await?;
    ensure!(made.code == 0, "{made:?}");
    let said = run_on_with(&db, MASTER_KEY, &["key", "create", "--signing"]).await?;
    ensure!(said.code == 1, "{said:?}");
    let said = run_on(&db, &export).await?;
    ensure!(
        said.code == 1 && said.err.contains("LASTGOOD_MASTER_KEY"),
        "{said:?}"
    );
    let future = [&export[..], &["--to", "2100-01-01"]].concat();
    let said = run_on_with(&db, MASTER_KEY, &future).await?;
    ensure!(said.code == 1 && said.err.contains("future"), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_chain_is_not_exported() -> Result<()> {
    let lab = Lab::create().await?;
    sqlx::raw_sql(
        "alter table lastgood.proofs disable trigger all; update lastgood.proofs set outcome = 'proven', because = null,
             because_kind = null where outcome = 'failed'",
    )
    .execute(lab.db.pool())
    .await?;
    let export = ["proof", "export", "--team", "acme", "--from", FROM];
    let said = run_on_with(&lab.db, MASTER_KEY, &export).await?;
    ensure!(
        said.code == 1 && said.err.contains("proof 5 was changed"),
        "{said:?}"
    );
    ensure!(said.out.is_empty(), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_the_master_key_reseals_the_signing_key() -> Result<()> {
    const NEXT: &str = "dGhlLW5leHQtbWFzdGVyLWtleS1vZi10aGlzLXRlc3Q=";
    let lab = Lab::create().await?;
    let keys = [
        ("LASTGOOD_MASTER_KEY", NEXT),
        ("LASTGOOD_PREVIOUS_MASTER_KEY", MASTER_KEY.1),
    ];
    let said =
        crate::cli::process::run_on_with_all(&lab.db, &keys, &["--json", "key", "rotate-master"])
            .await?;
    let report = said.json()?;
    ensure!(said.code == 0 && report["signing_keys"] == 1, "{said:?}");
    let path = lab.path("export.json");
    let export = [
        "proof", "export", "--team", "acme", "--from", FROM, "-o", &path,
    ];
    let said = run_on_with(&lab.db, ("LASTGOOD_MASTER_KEY", NEXT), &export).await?;
    ensure!(said.code == 0, "{said:?}");
    let said = lab.verify("export.json", "key.pem").await?;
    ensure!(said.code == 0, "{said:?}");
    Ok(())
}

/// Returns the script of the page for auditors.
fn script() -> Result<String> {
    let page = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/how-to/show-your-auditor.md"
    );
    let text = fs::read_to_string(page)?;
    let after = text
        .split("```sh\n#!/bin/sh\n")
        .nth(1)
        .context("the page has no script")?;
    Ok(after.split("```").next().unwrap_or_default().to_owned())
}

async fn by_hand(script: &Path, export: &str, key: &str) -> Result<bool> {
    let done = Command::new("sh")
        .arg(script)
        .args([export, key])
        .output()
        .await?;
    Ok(done.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_script_verifies_an_export_with_public_tools_alone() -> Result<()> {
    let lab = Lab::create().await?;
    let has = async |program: &str, argument: &str, word: &str| {
        let said = Command::new(program).arg(argument).output().await;
        said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(word))
    };
    if !has("openssl", "version", "OpenSSL 3").await
        || !has("python3", "--version", "Python 3").await
    {
        skipped("an export verified by hand: there is no OpenSSL 3 or no Python 3 on this machine");
        return Ok(());
    }
    let script_path = lab.home.path().join("verify.sh");
    fs::write(&script_path, script()?)?;
    let mut envelope = lab.export("export.json").await?;
    let (export, key) = (lab.path("export.json"), lab.path("key.pem"));
    ensure!(
        by_hand(&script_path, &export, &key).await?,
        "a good export is refused"
    );

    repack(&mut envelope, |text| text.replacen("shop", "shoq", 1))?;
    fs::write(&export, envelope.to_string())?;
    ensure!(
        !by_hand(&script_path, &export, &key).await?,
        "a changed byte is accepted"
    );

    lab.with_key(&["key", "rotate", "--signing"]).await?;
    let other = lab.path("other.json");
    lab.export("other.json").await?;
    ensure!(
        !by_hand(&script_path, &other, &key).await?,
        "another key is accepted"
    );
    lab.save_keys("new.pem").await?;
    ensure!(
        by_hand(&script_path, &other, &lab.path("new.pem")).await?,
        "the new key is refused"
    );
    Ok(())
}

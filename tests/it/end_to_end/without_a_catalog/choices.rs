//! A skipped point is reported, and an ambiguous choice is left to the operator.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use uuid::Uuid;

use super::{Night, ids};

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
    ensure!(
        refused.contains("--even-suspect needs --point"),
        "{refused}"
    );
    let insisting = ["--point", &newer, "--even-suspect"];
    ensure!(night.restored(&insisting).await?.1 == "2000");

    // The same happens if its archive is gone.
    fs::write(night.path(&night.newer.manifest_key), before)?;
    let archive = crate::end_to_end::store::archive(&night.vault.lab.store(), &night.newer)?;
    let bytes = fs::read(&archive)?;
    fs::remove_file(&archive)?;
    let text = night.list(&[]).await?.succeeded()?.out;
    ensure!(text.contains(&format!("INCOMPLETE: {newer}: ")), "{text}");
    let (said, count) = night.restored(&[]).await?;
    ensure!(
        count == "1000" && said.err.contains("incomplete"),
        "{said:?}"
    );

    // Damage is detected while reading, before the target is touched. No older point is restored silently in its place.
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

    // Without archives, no point can be restored by default.
    for point in [&night.newer, &night.older] {
        fs::remove_file(crate::end_to_end::store::archive(
            &night.vault.lab.store(),
            point,
        )?)?;
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
    // Two installations in one store, as before stores had an identity. The other installation's point is the newest.
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

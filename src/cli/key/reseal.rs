//! `lastgood key reseal`: after the master key was lost and the catalog was not. Archive keys come back from their escrows, URLs do not.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::{Context as _, bail, ensure};
use lastgood_jobs::key::Identity;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::escrow::{Opened, master_keys, open_all, stores_to_read};
use crate::{
    catalog::{Audit, Catalog, SealedKey, UnopenedUrl},
    cli::output::{Output, counted, printable},
    config::StorageArgs,
    keys,
    master::{self, Held},
    nouns::Key,
    secret::{MasterKeys, read_secret_file},
};

/// How many resources with a lost URL are named.
const NAMED: i64 = 20;

/// What was recovered and what was not.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// The number of the sealing key.
    master_key: i32,
    /// The number of the key that this run gave up.
    lost: Option<i32>,
    /// Archive keys that opened without an escrow.
    opened: usize,
    /// Archive keys that were recovered from their escrows.
    recovered: Vec<Uuid>,
    /// Archive keys that were not recovered, each with the reason.
    left: Vec<String>,
    /// Escrows that could not be read.
    faults: Vec<String>,
    /// The first of the resources whose URL no one can open.
    urls: Vec<UnopenedUrl>,
    /// How many such resources there are.
    urls_in_all: i64,
}

/// Reseals under the present master key the archive keys that only a lost master key opens, with their secrets from the escrows.
///
/// `lost` names the master key to give up. If the present one already seals, nothing is given up. Can be interrupted at any time and
/// run again.
///
/// Nothing that the lost key sealed is destroyed before it has been replaced. If that key is found after all, it can be set as the
/// previous key.
pub(super) async fn reseal(
    catalog: &Catalog,
    identity_file: &str,
    lost: Option<i32>,
    storage: &StorageArgs,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let keys = master_keys()?;
    let file = read_secret_file(identity_file)?;
    let recovery = Identity::parse(&file).with_context(|| identity_file.to_owned())?;
    let held = master::look(catalog, &keys).await?;
    let lost = given_up(catalog, &held, lost).await?;
    if let Some(current) = held.current {
        ensure!(
            current >= held.sealing,
            "LASTGOOD_MASTER_KEY is master key {current}, which master key {} has replaced: make a new one; a replaced key never seals \
             again",
            held.sealing
        );
    }
    let mut report = Report {
        lost,
        ..Report::default()
    };
    let stores = stores_to_read(storage).await?;
    let found = open_all(&stores, &recovery, &mut report.faults).await;
    let is_living = |key: &Key| key.shredded_at.is_none();
    if lost.is_some() && found.is_empty() && catalog.keys().await?.iter().any(is_living) {
        for fault in &report.faults {
            output.note(&format!("SKIPPED: {}", printable(fault)));
        }
        bail!(
            "nothing was changed: no escrow in the stores opens with the identity in {identity_file}, so no archive key would be recovered"
        );
    }
    report.master_key = match lost {
        Some(lost) => master::give_up(catalog, &keys, lost).await?,
        None => again(catalog, &keys).await?,
    };
    for row in catalog.keys().await? {
        bring_back(catalog, &keys, &row, &found, &mut report).await?;
    }
    let nobody_has = master::nobody_has(catalog, Some(&keys)).await?;
    (report.urls, report.urls_in_all) = catalog.urls_sealed_under(&nobody_has, NAMED).await?;
    output.show(&report, text)?;
    Ok(if report.left.is_empty() && report.faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns the key to give up, after checking that it is the one meant and that no one has it.
async fn given_up(
    catalog: &Catalog,
    held: &Held,
    lost: Option<i32>,
) -> anyhow::Result<Option<i32>> {
    let sealing = held.sealing;
    if held.current == Some(sealing) {
        return Ok(None);
    }
    ensure!(
        !held.can_seal(),
        "master key {sealing} is not lost, it is set as LASTGOOD_PREVIOUS_MASTER_KEY: run `lastgood key rotate-master`, which reseals \
         everything, URLs included"
    );
    match lost {
        Some(lost) if lost == sealing => {}
        Some(lost) => bail!("master key {sealing} seals this catalog, not {lost}"),
        None => bail!(
            "LASTGOOD_MASTER_KEY is not master key {sealing}, which sealed this catalog. If that one is permanently lost, confirm with --lost \
             {sealing}: no URL that it sealed can be opened again"
        ),
    }
    let having = catalog.consumers_with_master_key(sealing).await?;
    ensure!(
        having.is_empty(),
        "master key {sealing} is not lost: live consumers have it, in their environment or in the file named there: {}",
        having.join(", ")
    );
    Ok(Some(sealing))
}

/// Records that the remaining keys are tried again.
async fn again(catalog: &Catalog, keys: &MasterKeys) -> anyhow::Result<i32> {
    let number = master::hold(catalog, keys).await?.sealing;
    let entry = Audit::new("reseal_keys", json!({ "to": number }));
    catalog.audit(&entry).await?;
    Ok(number)
}

/// Seals the secret of one key anew with the secret from its escrow, unless it opens as it is.
async fn bring_back(
    catalog: &Catalog,
    keys: &MasterKeys,
    row: &Key,
    found: &BTreeMap<Uuid, Opened>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let Some(sealed) = catalog.sealed_key(row.id).await? else {
        return Ok(());
    };
    let Some(was) = &sealed.identity else {
        return Ok(());
    };
    if keys::open(Some(keys), &sealed).is_ok() {
        report.opened += 1;
        return Ok(());
    }
    let identity = match in_escrow(&sealed, found) {
        Ok(identity) => identity,
        Err(why) => {
            report
                .left
                .push(format!("{} of {}: {why}", row.id, row.owner()));
            return Ok(());
        }
    };
    let fresh = keys::seal(keys.current(), row.id, identity)?;
    let is_done = catalog
        .reseal_key(report.master_key, row.id, was, &fresh)
        .await?;
    if is_done {
        report.recovered.push(row.id);
    } else {
        let why = "it was changed concurrently: run this again";
        report
            .left
            .push(format!("{} of {}: {why}", row.id, row.owner()));
    }
    Ok(())
}

/// Returns the identity in the key's escrow if the catalog's public half belongs to it. Anyone who can write to a store can put an
/// escrow there.
fn in_escrow<'a>(
    sealed: &SealedKey,
    found: &'a BTreeMap<Uuid, Opened>,
) -> Result<&'a Identity, &'static str> {
    let opened = found.get(&sealed.id).ok_or(
        "no store has an escrow of this key that opens with this identity: without one, what was encrypted to the key cannot be read",
    )?;
    let identity = &opened.escrow.identity;
    if identity.recipient().to_string() == sealed.recipient {
        Ok(identity)
    } else {
        Err("its escrow holds a different secret from the key on record")
    }
}

fn text(report: &Report) -> String {
    let mut lines = Vec::new();
    if let Some(lost) = report.lost {
        lines.push(format!(
            "master key {lost} is given up: master key {} seals from now on",
            report.master_key
        ));
    }
    lines.push(format!(
        "recovered from escrows and resealed under master key {}: {}; opened without an escrow: {}",
        report.master_key,
        counted(report.recovered.len(), "archive key"),
        report.opened
    ));
    let left = report.left.iter();
    lines.extend(left.map(|key| format!("LEFT: archive key {}", printable(key))));
    let faults = report.faults.iter();
    lines.extend(faults.map(|fault| format!("SKIPPED: {}", printable(fault))));
    if report.urls_in_all > 0 {
        lines.push(format!(
            "LOST: {} that nobody can open, because URLs have no escrow; a resource is not backed up until its URL is set again:",
            counted(report.urls_in_all, "URL")
        ));
        let urls = report.urls.iter();
        lines.extend(urls.map(|it| format!("  lastgood resource set {} --url-stdin", it.resource)));
        let more = report.urls_in_all - i64::try_from(report.urls.len()).unwrap_or(0);
        if more > 0 {
            lines.push(format!(
                "  and {more} more: `lastgood status --limit {}` names them",
                report.urls_in_all
            ));
        }
    }
    lines.join("\n")
}

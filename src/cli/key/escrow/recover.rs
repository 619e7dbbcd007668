//! `lastgood key recover`: after the catalog was lost, recovers keys from their escrows to open what they encrypted.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use lastgood_jobs::{
    escrow::{self, Escrow, object},
    key::Identity,
    resource::TeamId,
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{Named, master_keys, row_of, stores_to_read};
use crate::{
    catalog::{Audit, Catalog, SealedKey},
    cli::output::{Output, counted, instant, printable, table},
    config::StorageArgs,
    keys, master,
    secret::{MasterKeys, read_secret_file},
};

/// What was found and what was done with it.
#[derive(Debug, Default, Serialize)]
struct Report {
    keys: Vec<Recovered>,
    faults: Vec<String>,
}

/// A key whose escrow could be opened.
#[derive(Debug, Serialize)]
struct Recovered {
    id: Uuid,
    /// The team that owns it, according to its escrow; `None` for the platform.
    team: Option<String>,
    recipient: String,
    created_at: DateTime<Utc>,
    store: String,
    is_new: bool,
}

/// An escrow that was opened, and the store that has it.
pub(in crate::cli::key) struct Opened {
    pub(in crate::cli::key) escrow: Escrow,
    store: String,
}

/// Records the keys that the stores have escrows of and the catalog does not know.
///
/// No recovered key becomes the key in use: the recovery recipient is public, so anyone who can write to a store can put a key of their
/// own there. Escrows that cannot be opened are reported and do not stop the others. Recovering nothing is a failure, because whoever
/// runs this has lost something.
pub(in crate::cli::key) async fn recover(
    catalog: &Catalog,
    identity_file: &str,
    storage: &StorageArgs,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let master = master_keys()?;
    let file = read_secret_file(identity_file)?;
    let recovery = Identity::parse(&file).with_context(|| identity_file.to_owned())?;
    let to = master::sealer(catalog, &master).await?;
    let mut report = Report::default();
    let stores = stores_to_read(storage).await?;
    let found = open_all(&stores, &recovery, &mut report.faults).await;
    let entry = Audit::new(
        "recover_keys",
        json!({
            "keys": found.values().map(|it| json!({
                "key": it.escrow.key,
                "team": it.escrow.team.as_ref().map(TeamId::as_str),
                "recipient": it.escrow.identity.recipient().to_string(),
                "store": it.store,
            })).collect::<Vec<_>>(),
            "faults": report.faults.len(),
        }),
    );
    catalog.audit(&entry).await?;
    for Opened { escrow, store } in found.into_values() {
        let recipient = escrow.identity.recipient().to_string();
        let sealed = keys::seal(to.key, escrow.key, &escrow.identity)?;
        let is_new = catalog
            .recover_key(&row_of(&escrow, &recipient, &sealed, to.number))
            .await?;
        let known = catalog.sealed_key(escrow.key).await?;
        if let Some(fault) = known.as_ref().and_then(|known| unopened(known, &master)) {
            report.faults.push(fault);
        }
        if known.is_none_or(|known| known.recipient != recipient) {
            report.faults.push(format!(
                "`{}` in {store} holds a different secret ({recipient}) from the key {} on record: it was not recorded",
                object(escrow.key),
                escrow.key
            ));
            continue;
        }
        report.keys.push(Recovered {
            id: escrow.key,
            team: escrow.team.as_ref().map(ToString::to_string),
            recipient,
            created_at: escrow.created_at,
            store,
            is_new,
        });
    }
    output.show(&report, text)?;
    let is_good = report.faults.is_empty() && report.recorded() > 0;
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns what to do about a key on record whose secret does not open. It is not recovered here; `lastgood key reseal` does that.
fn unopened(known: &SealedKey, master: &MasterKeys) -> Option<String> {
    let is_closed = known.identity.is_some() && keys::open(Some(master), known).is_err();
    is_closed.then(|| {
        format!(
            "key {} is on record, but its secret does not open with the master key here: `lastgood key reseal` recovers it from its escrow",
            known.id
        )
    })
}

impl Report {
    /// Returns how many keys were recorded.
    fn recorded(&self) -> usize {
        self.keys.iter().filter(|key| key.is_new).count()
    }

    /// Returns why no key was recorded.
    fn nothing(&self) -> &'static str {
        match (self.keys.is_empty(), self.faults.is_empty()) {
            (true, true) => {
                "nothing was recovered: no store here holds an escrow; name the stores that were in use when the keys were made (--storage or --stores)"
            }
            (false, true) => {
                "nothing was recovered: every key with an escrow in the stores is on record already, and opens"
            }
            (_, false) => "nothing was recovered, for the reasons below",
        }
    }
}

/// Opens every escrow in every store, the primary first. If two differ, the first one counts and the other is reported.
pub(in crate::cli::key) async fn open_all(
    stores: &[Named],
    recovery: &Identity,
    faults: &mut Vec<String>,
) -> BTreeMap<Uuid, Opened> {
    let mut found = BTreeMap::<Uuid, Opened>::new();
    for Named { name, storage } in stores {
        let keys = match escrow::list(storage).await {
            Ok(keys) => keys,
            Err(error) => {
                faults.push(format!("{name}: {}", error.report()));
                continue;
            }
        };
        for key in keys {
            let escrow = match escrow::open(storage, key, recovery).await {
                Ok(escrow) => escrow,
                Err(error) => {
                    faults.push(format!("{name}: {}", error.report()));
                    continue;
                }
            };
            let (recipient, store) = (escrow.identity.recipient(), name.clone());
            let first = found.entry(key).or_insert_with(|| Opened { escrow, store });
            let counts = first.escrow.identity.recipient();
            if counts != recipient {
                faults.push(format!(
                    "`{}` in {name} holds a different secret ({recipient}) from the one in {} ({counts}), which is used: compare both with \
                     `archive.encryption.recipient` in the manifests",
                    object(key),
                    first.store
                ));
            }
        }
    }
    found
}

fn text(report: &Report) -> String {
    let recorded = report.recorded();
    let told = if recorded == 0 {
        report.nothing().to_owned()
    } else {
        format!(
            "{} recorded. Recovered keys open what was encrypted to them, but encrypt nothing new, because an escrow does not prove \
             who wrote it. Compare the recipients with those you know, then make the next keys: `lastgood key create --platform`, \
             and `--team` for each team above; until then their backups fail",
            counted(recorded, "key")
        )
    };
    let mut lines = vec![
        table(
            ["key", "owner", "recipient", "created", "store", ""],
            report.keys.iter().map(|it| {
                let owner = it.team.as_ref();
                [
                    it.id.to_string(),
                    owner.map_or_else(|| "the platform".to_owned(), |team| format!("team {team}")),
                    it.recipient.clone(),
                    instant(it.created_at),
                    it.store.clone(),
                    if it.is_new { "recorded" } else { "known" }.to_owned(),
                ]
            }),
        ),
        told,
    ];
    lines.extend(
        report
            .faults
            .iter()
            .map(|fault| format!("SKIPPED: {}", printable(fault))),
    );
    if report.keys.is_empty() {
        // Removes the table, which has no rows.
        lines.remove(0);
    }
    lines.join("\n")
}

//! `lastgood catalog rebuild`: fills an empty or incomplete catalog from a store's manifests.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use lastgood_jobs::{
    error::{ErrorKind, JobError},
    inventory::examine,
    sought::Sought,
    storage::{Storage, StorageUrl},
};
use serde::Serialize;
use uuid::Uuid;

use super::output::{Output, printable};
use crate::{
    catalog::{Audit, Catalog, FoundPoint, Installations, Rebuilt},
    stores::{self, Absent, NamedStore, StorageArgs, Stores},
};

/// How many manifests one statement records.
const BATCH: usize = 200;
/// How many manifests are read from the store at once.
const READ_AT_ONCE: usize = 8;
/// How many faults the report lists at the end. Each one is also logged when it is found.
const FAULTS_SHOWN: usize = 1000;
/// How many manifests in a row may be unreadable before the rebuild stops.
const UNREADABLE_MAX: usize = 20;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Record every resource and every restore point that a store has manifests of. Existing records stay as they are
    Rebuild {
        /// The store: a directory, its URL, or its name in the stores file
        #[arg(long, value_name = "STORE")]
        from: String,
        /// The stores file, if --from is a name in it
        #[arg(long, env = "LASTGOOD_STORES", value_name = "FILE")]
        stores: Option<PathBuf>,
        /// Take the place of the installation with this id, whose own catalog is lost: its restore points become this catalog's.
        /// The id is in the store's lastgood-store.json
        #[arg(long, value_name = "ID")]
        adopt_installation: Option<Uuid>,
        /// Only report what would be recorded
        #[arg(long)]
        dry_run: bool,
    },
}

/// What a rebuild has done so far.
#[derive(Debug, Default, Serialize)]
struct Report {
    is_dry_run: bool,
    manifests: u64,
    points: i64,
    resources: i64,
    skipped: u64,
    /// The number of manifests made by each other installation, by its id.
    other_installations: BTreeMap<Uuid, u64>,
    faults: Vec<Fault>,
}

/// A manifest that was not recorded.
#[derive(Debug, Serialize)]
struct Fault {
    manifest: String,
    because: String,
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    let Command::Rebuild {
        from,
        stores,
        adopt_installation,
        dry_run,
    } = command;
    let NamedStore {
        name,
        storage,
        url: from,
    } = store(&from, stores).await?;
    let catalog = super::catalog().await?;
    let mut ours = catalog.installations().await?;
    ours.adopted.extend(adopt_installation);
    is_ours(&storage, &from, &ours).await?;
    if !dry_run {
        let entry = Audit::new(
            "rebuild",
            serde_json::json!({ "from": from.to_string(), "store": name }),
        );
        catalog.audit(&entry).await?;
        if let Some(adopted) = adopt_installation {
            catalog.adopt_installation(adopted).await?;
        }
    }
    let into = Record {
        catalog: &catalog,
        ours: &ours,
        store: &name,
        dry_run,
    };
    let report = rebuild(&into, &storage).await?;
    anyhow::ensure!(
        report.manifests > 0,
        "there is no manifest in {from}: is it the right store?"
    );
    output.show(&report, text)?;
    Ok(
        if report.skipped == 0 && report.other_installations.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        },
    )
}

/// Refuses a store whose installation this catalog does not speak for: its points are somebody else's.
async fn is_ours(storage: &Storage, from: &StorageUrl, ours: &Installations) -> anyhow::Result<()> {
    let identity = storage.identity().await;
    let identity = identity.map_err(|error| anyhow::anyhow!(error.report()))?;
    let theirs = identity.map(|identity| identity.installation);
    let Some(theirs) = theirs.filter(|theirs| !ours.have(*theirs)) else {
        return Ok(());
    };
    anyhow::bail!(
        "the store {from} belongs to installation {theirs}, and this catalog is installation {}: nothing was changed; if the \
         catalog of {theirs} is lost and this one takes its place, use --adopt-installation {theirs}",
        ours.own
    )
}

/// Where to record manifests, and which installations count as this one.
struct Record<'a> {
    catalog: &'a Catalog,
    ours: &'a Installations,
    store: &'a str,
    dry_run: bool,
}

/// Returns the store with this name or address in the stores file or, without such a file, the store at the address.
///
/// Refuses a store that the file does not name: the catalog records stores by name, and could not say where the points are.
async fn store(from: &str, file: Option<PathBuf>) -> anyhow::Result<NamedStore> {
    let url: StorageUrl = from.parse()?;
    let Some(file) = file else {
        return Ok(NamedStore {
            name: stores::PRIMARY.to_owned(),
            storage: stores::open(&url).await?,
            url,
        });
    };
    let args = StorageArgs {
        storage: from.to_owned(),
        stores: Some(file),
    };
    let stores = Stores::open(&args, &Absent::LeftOut).await?;
    let at_address = || stores.iter().find(|store| store.url.is_same_place(&url));
    let store = stores.get(from).or_else(at_address);
    store.cloned().with_context(|| {
        format!(
            "the stores file names no store {from:?}, and no store at that address: add it there, so that the catalog can say which \
             store holds the restore points"
        )
    })
}

/// Reads every manifest once, holding one batch of them at a time.
async fn rebuild(into: &Record<'_>, storage: &Storage) -> anyhow::Result<Report> {
    let Record {
        catalog,
        ours,
        store,
        dry_run,
    } = *into;
    let mut report = Report {
        is_dry_run: dry_run,
        ..Report::default()
    };
    let mut unreadable_in_a_row = 0;
    let mut unknown = BTreeSet::new();
    let examined = storage
        .manifest_keys()
        .await?
        .map_ok(|key| async move {
            let sought = Sought::at(&key);
            let examined = examine(&sought, storage).await;
            Ok::<_, JobError>((key, examined))
        })
        .try_buffer_unordered(READ_AT_ONCE);
    let mut batches = examined.try_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        // The next rebuild records what was read in this batch before the store failed.
        let batch = batch.map_err(|failed| failed.1)?;
        let mut found = Vec::with_capacity(batch.len());
        for (manifest_key, examined) in batch {
            report.manifests += 1;
            match examined {
                Ok(manifest) => {
                    unreadable_in_a_row = 0;
                    let theirs = manifest.installation.filter(|theirs| !ours.have(*theirs));
                    match theirs {
                        Some(theirs) => *report.other_installations.entry(theirs).or_default() += 1,
                        None => found.push(FoundPoint {
                            manifest_key,
                            manifest,
                        }),
                    }
                }
                Err(error) => {
                    let is_of_the_manifest = error.kind() == ErrorKind::Corrupt
                        || matches!(error, JobError::NoSuchPoint { .. });
                    unreadable_in_a_row = if is_of_the_manifest {
                        0
                    } else {
                        unreadable_in_a_row + 1
                    };
                    // A single unreadable manifest is skipped. If the store returns none at all, it may be unreachable.
                    if unreadable_in_a_row == UNREADABLE_MAX {
                        return Err(error).context(format!(
                            "{UNREADABLE_MAX} manifests in a row cannot be read: is the store unreachable? run this again once it answers"
                        ));
                    }
                    report.skip(manifest_key, &error);
                }
            }
        }
        let Rebuilt { points, resources } = if dry_run {
            catalog.would_rebuild(&found, &mut unknown).await?
        } else {
            catalog.rebuild(store, &found).await?
        };
        report.points += points;
        report.resources += resources;
    }
    Ok(report)
}

impl Report {
    /// Notes a manifest that is unreadable or does not describe a restore point.
    fn skip(&mut self, manifest: String, error: &JobError) {
        let because = error.report();
        tracing::warn!(object.key = %manifest, error = because, "a manifest is skipped");
        self.skipped += 1;
        if self.faults.len() < FAULTS_SHOWN {
            self.faults.push(Fault { manifest, because });
        }
    }
}

fn text(report: &Report) -> String {
    let (done, next) = if report.is_dry_run {
        ("would be recorded", "nothing was changed")
    } else {
        (
            "recorded",
            "new resources have no connection and are paused: `lastgood resource set ID --connection …`, then \
             `lastgood resource resume ID`",
        )
    };
    let mut lines = vec![format!(
        "{} manifests read: {} restore points and {} resources {done}\n{next}",
        report.manifests, report.points, report.resources
    )];
    lines.extend(report.faults.iter().map(|fault| {
        format!(
            "SKIPPED: {}: {}",
            printable(&fault.manifest),
            printable(&fault.because)
        )
    }));
    lines.extend(report.other_installations.iter().map(|(theirs, manifests)| {
        format!(
            "NOT OURS: {manifests} manifests are of installation {theirs}, and were left out: if its catalog is lost and this one \
             takes its place, use --adopt-installation {theirs}"
        )
    }));
    let untold = report.skipped - report.faults.len() as u64;
    if untold > 0 {
        lines.push(format!("and {untold} more: see the log"));
    }
    lines.join("\n")
}

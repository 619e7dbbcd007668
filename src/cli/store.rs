//! `lastgood store list|rename|adopt|forget|compare|accept-loss`: the stores' names in the catalog, and what the stores contain.

mod configured;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use lastgood_jobs::{
    error::{JobError, chain},
    storage::Patience,
};
use serde::Serialize;

use self::configured::Configured;
use super::output::{Output, counted, printable, table};
use crate::{
    catalog::{Catalog, OnlyCopy, StoreIdentity},
    config::StorageArgs,
    nouns::{ProblemKind, Store, Told},
    stores::{self, Absent, Candidate, Compared, Stores, StoresError},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the stores that are configured here, and any others with restore points on record
    List {
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// Rename a store in the catalog, after it was renamed in the stores file
    Rename {
        /// Its name in the catalog
        old: String,
        /// Its name in the stores file
        new: String,
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// Accept a store as the one meant by its name, after its identity object was lost, or if it is older than identity objects
    Adopt {
        /// Its name in the stores file; `primary` without one
        name: String,
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// Forget what is on record in a store that is permanently gone, or that should get no more copies. Removes nothing from it
    Forget {
        /// Its name in the catalog
        name: String,
        /// Repeat its name, to give up restore points that no other store has, or if an empty store has its name now
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// Compare each store with the catalog now, and record what it lacks, as consumers do once an hour
    Compare {
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// Accept that what a store lacks is permanently lost, so that retention goes on. Removes nothing itself
    AcceptLoss {
        /// Its name in the catalog
        name: String,
        /// Repeat its name
        #[arg(long, value_name = "NAME")]
        confirm: String,
        #[command(flatten)]
        storage: StorageArgs,
    },
}

/// What comparing one store showed.
#[derive(Debug, Serialize)]
struct Seen {
    store: String,
    #[serde(flatten)]
    compared: Compared,
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    let catalog = super::catalog().await?;
    let done = match command {
        Command::List { storage } => list(&catalog, &storage, output).await,
        Command::Rename { old, new, storage } => {
            rename(&catalog, &old, &new, &storage, output).await
        }
        Command::Adopt { name, storage } => adopt(&catalog, &name, &storage, output).await,
        Command::Forget {
            name,
            confirm,
            storage,
        } => forget(&catalog, &name, confirm.as_deref(), &storage, output).await,
        Command::Compare { storage } => return compare_all(&catalog, &storage, output).await,
        Command::AcceptLoss {
            name,
            confirm,
            storage,
        } => accept_loss(&catalog, &name, &confirm, &storage, output).await,
    };
    done.map(|()| ExitCode::SUCCESS)
}

async fn compare_all(
    catalog: &Catalog,
    storage: &StorageArgs,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let mut seen = Vec::new();
    for candidate in stores::candidates(storage, Patience::default())? {
        seen.push(Seen {
            store: candidate.name().to_owned(),
            compared: compare(catalog, &candidate, storage).await?,
        });
    }
    output.show(&seen, |seen| {
        let lines: Vec<String> = seen.iter().map(told).collect();
        lines.join("\n")
    })?;
    let is_whole = |seen: &Seen| match seen.compared {
        Compared::NotDue | Compared::Listed { missing: 0, .. } => true,
        Compared::NotListed { .. } | Compared::Listed { .. } => false,
    };
    Ok(if seen.iter().all(is_whole) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Compares a store with the catalog if it is the intended one. Problems that are seen from here are reported but not recorded:
/// consumers may see the store differently.
async fn compare(
    catalog: &Catalog,
    candidate: &Candidate,
    storage: &StorageArgs,
) -> anyhow::Result<Compared> {
    let store = match candidate.open().await {
        Ok(store) => store,
        Err(error) => return Ok(not_listed(&error)),
    };
    match stores::identify(&store, storage, catalog).await {
        Ok(_) => {}
        // The store may have been emptied, which the comparison finds out.
        Err(StoresError::Stranger { source, .. }) if source.has_lost_its_identity() => {}
        Err(StoresError::Catalog(error)) => return Err(error.into()),
        Err(error) => return Ok(not_listed(&error)),
    }
    Ok(stores::compare(catalog, &store, Duration::ZERO).await?)
}

fn not_listed(error: &StoresError) -> Compared {
    Compared::NotListed {
        because: chain(error),
    }
}

fn told(seen: &Seen) -> String {
    let store = &seen.store;
    match &seen.compared {
        Compared::NotDue => format!("{store}: somebody else is comparing it"),
        Compared::NotListed { because } => {
            format!("{store}: NOT LISTED: {}", printable(because))
        }
        Compared::Listed {
            points, missing: 0, ..
        } => format!("{store}: all of its {points} restore points are there"),
        Compared::Listed {
            points,
            missing,
            is_mass,
            quarantined,
            forgotten,
        } => {
            let how = if *is_mass { "VANISHED" } else { "MISSING" };
            let mut text = format!(
                "{store}: {how}: {missing} of {points} restore points are not there; {quarantined} were quarantined now, {forgotten} will \
                 be copied again"
            );
            if *is_mass {
                text.push_str(
                    "; nothing expires until that is settled: see docs/how-to/emptied-store.md",
                );
            }
            text
        }
    }
}

/// A store, and how many restore points an order about it gave up.
#[derive(Serialize)]
struct StoreAndLoss {
    #[serde(flatten)]
    store: Store,
    points_lost: i64,
}

async fn accept_loss(
    catalog: &Catalog,
    name: &str,
    confirm: &str,
    storage: &StorageArgs,
    output: &Output,
) -> anyhow::Result<()> {
    confirmed("giving up restore points", name, confirm)?;
    let configured = Configured::read(storage)?;
    let done = StoreAndLoss {
        points_lost: catalog.accept_loss(name).await?,
        store: configured.one(catalog, name).await?,
    };
    output.show(&done, |done| {
        format!(
            "{} of store {name} given up; expired restore points are removed again",
            counted(done.points_lost, "restore point")
        )
    })
}

/// Refuses to give something up unless the store's name was repeated.
fn confirmed(what: &str, name: &str, confirm: &str) -> anyhow::Result<()> {
    let text = || {
        format!(
            "{what} must be confirmed with the store's own name: --confirm {name}, not {confirm}"
        )
    };
    ensure!(confirm == name, Told::new(ProblemKind::NotAccepted, text()));
    Ok(())
}

async fn list(catalog: &Catalog, storage: &StorageArgs, output: &Output) -> anyhow::Result<()> {
    let stores = Configured::read(storage)?.all(catalog).await?;
    output.show(&stores, |stores| {
        table(
            [
                "store",
                "role",
                "restore points on record",
                "id",
                "writes once",
            ],
            stores.iter().map(|it| {
                [
                    it.id.clone(),
                    it.role.to_string().replace('_', " "),
                    it.points.to_string(),
                    it.identity
                        .map_or_else(|| "-".to_owned(), |id| id.to_string()),
                    match it.is_write_once {
                        Some(true) => "yes",
                        Some(false) => "NO",
                        None => "-",
                    }
                    .to_owned(),
                ]
            }),
        )
    })
}

async fn adopt(
    catalog: &Catalog,
    name: &str,
    storage: &StorageArgs,
    output: &Output,
) -> anyhow::Result<()> {
    let configured = Configured::read(storage)?;
    let stores = Stores::open(storage, &Absent::LeftOut).await?;
    let store = stores.get(name).with_context(|| {
        format!(
            "no store {name:?} is configured here, or it is not there: see `lastgood store list`"
        )
    })?;
    let ours = catalog.installations().await?;
    let found = store.storage.identity().await;
    let identity = match found.map_err(|error| anyhow::anyhow!(error.report()))? {
        Some(identity) => identity,
        None => store
            .storage
            .claim(ours.own)
            .await
            .map_err(|error| anyhow::anyhow!(error.report()))?,
    };
    ensure!(
        ours.have(identity.installation),
        "store {name} ({}) belongs to installation {}: if its catalog is lost and this one takes its place, run `lastgood \
         catalog rebuild --from {name} --adopt-installation {}` first",
        store.url,
        identity.installation,
        identity.installation
    );
    let writes_once = store.storage.writes_once().await;
    let adopted = StoreIdentity {
        name: name.to_owned(),
        store_id: identity.store,
        writes_once: writes_once.map_err(|error| anyhow::anyhow!(error.report()))?,
    };
    catalog.replace_store(&adopted).await?;
    let store = configured.one(catalog, name).await?;
    output.show(&store, |_| {
        format!(
            "store {name} is {} from now on: restart the consumers",
            adopted.store_id
        )
    })
}

async fn rename(
    catalog: &Catalog,
    old: &str,
    new: &str,
    storage: &StorageArgs,
    output: &Output,
) -> anyhow::Result<()> {
    let configured = not_configured(old, storage)?;
    let stores = Stores::open(storage, &Absent::LeftOut).await?;
    let store = stores.get(new).with_context(|| {
        format!(
            "no store {new:?} is configured here: name the stores file that lists it (--stores)"
        )
    })?;
    for key in on_record(catalog, old).await? {
        match store.storage.manifest(&key).await {
            Ok(Some(_)) | Err(JobError::BadManifest { .. }) => {}
            Ok(None) => anyhow::bail!(
                "nothing was changed: store {new} ({}) lacks {key}, which is on record in {old}: is it the same store?",
                store.url
            ),
            Err(error) => anyhow::bail!(error.report()),
        }
    }
    let points = catalog.rename_store(old, new).await?;
    output.show(&configured.one(catalog, new).await?, |_| {
        format!(
            "{} on record in {new} now, and no longer in {old}",
            counted(points, "restore point")
        )
    })
}

async fn forget(
    catalog: &Catalog,
    name: &str,
    confirm: Option<&str>,
    storage: &StorageArgs,
    output: &Output,
) -> anyhow::Result<()> {
    on_record(catalog, name).await?;
    let configured = Configured::read(storage)?;
    let only_copy = match confirm {
        None => {
            not_configured(name, storage).context(
                "if the store of that name is lost and its place is empty, say so with --confirm",
            )?;
            OnlyCopy::Refused
        }
        Some(confirm) => {
            confirmed("losing restore points", name, confirm)?;
            OnlyCopy::Lost
        }
    };
    let forgotten = catalog.forget_store(name, only_copy).await?;
    let done = StoreAndLoss {
        store: configured.one(catalog, name).await?,
        points_lost: forgotten.lost,
    };
    output.show(&done, |done| {
        let mut text = format!(
            "store {name} is forgotten: it had {} on record",
            counted(forgotten.points, "restore point")
        );
        if done.points_lost > 0 {
            let lost = format!(
                "\nLOST: {} of them were on record nowhere else, and are quarantined",
                done.points_lost
            );
            text.push_str(&lost);
        }
        text
    })
}

/// Refuses a store that is configured: it is in use, so what is on record in it must stay.
fn not_configured(name: &str, storage: &StorageArgs) -> anyhow::Result<Configured> {
    let configured = Configured::read(storage)?;
    ensure!(
        !configured.has(name),
        "store {name:?} is configured here: first change the stores file (--stores) everywhere, and restart producers and \
         consumers"
    );
    Ok(configured)
}

/// Returns a few of the manifest keys in a store. Refuses a name without any points on record.
async fn on_record(catalog: &Catalog, name: &str) -> anyhow::Result<Vec<String>> {
    let names = [name.to_owned()];
    ensure!(
        !catalog.stores_on_record(&names).await?.is_empty(),
        "no restore points are on record in a store {name:?}: see `lastgood store list`"
    );
    Ok(catalog.manifest_keys_in(name).await?)
}

//! `lastgood store list|rename|forget|compare|accept-loss`: the names under which the catalog knows stores, and what is in them.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, ensure};
use lastgood_jobs::error::JobError;
use serde::Serialize;

use super::output::{Output, printable, table};
use crate::{
    catalog::{Catalog, OnlyCopy},
    config::StorageArgs,
    stores::{self, Absent, Compared, Stores},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the stores that are configured here, and those that restore points are on record in
    List {
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// A store is called otherwise in the stores file now: call it so in the catalog too
    Rename {
        /// Its name in the catalog
        old: String,
        /// Its name in the stores file
        new: String,
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// A store is gone for good, or is to get no copies any more: forget what is on record in it. Removes nothing from it
    Forget {
        /// Its name in the catalog
        name: String,
        /// Repeat its name, to lose the restore points that no other store has, or where an empty store has its name now
        #[arg(long, value_name = "NAME")]
        overwrite: Option<String>,
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// List each store now, and record what it lacks of what is on record in it, as consumers do once an hour
    Compare {
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// What a store was found to lack is lost for good: go on removing what expires. Removes nothing itself
    AcceptLoss {
        /// Its name in the catalog
        name: String,
        /// Repeat its name
        #[arg(long, value_name = "NAME")]
        overwrite: String,
    },
}

/// A store as it is configured, on record, or both.
#[derive(Debug, Serialize)]
struct Listed {
    store: String,
    role: &'static str,
    points: i64,
}

/// What a comparison of one store showed.
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
        Command::Forget {
            name,
            overwrite,
            storage,
        } => forget(&catalog, &name, overwrite.as_deref(), &storage, output).await,
        Command::Compare { storage } => return compare_all(&catalog, &storage, output).await,
        Command::AcceptLoss { name, overwrite } => {
            accept_loss(&catalog, &name, &overwrite, output).await
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

async fn compare_all(
    catalog: &Catalog,
    storage: &StorageArgs,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let stores = Stores::open(storage, &Absent::LeftOut).await?;
    let mut seen = Vec::new();
    for store in stores.iter() {
        seen.push(Seen {
            store: store.name.clone(),
            compared: stores::compare(catalog, store, Duration::ZERO).await?,
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
                "{store}: {how}: {missing} of {points} restore points are not there; {quarantined} were quarantined now, {forgotten} are \
                 to be copied again"
            );
            if *is_mass {
                text.push_str("; nothing expires until that is settled: see docs/emptied-store.md");
            }
            text
        }
    }
}

async fn accept_loss(
    catalog: &Catalog,
    name: &str,
    confirmed: &str,
    output: &Output,
) -> anyhow::Result<()> {
    ensure!(
        confirmed == name,
        "giving restore points up must be confirmed with the store's own name: --overwrite {name}, not {confirmed}"
    );
    let points = catalog.accept_loss(name).await?;
    let done = serde_json::json!({ "store": name, "points": points });
    output.show(&done, |_| {
        format!("{points} restore point(s) of store {name} are given up; what has expired is removed again")
    })
}

async fn list(catalog: &Catalog, storage: &StorageArgs, output: &Output) -> anyhow::Result<()> {
    let (primary, mirrors) = stores::names(storage)?;
    let on_record = catalog.unknown_stores(&[]).await?;
    let points = |name: &str| {
        let found = on_record.iter().find(|it| it.store == name);
        found.map_or(0, |it| it.points)
    };
    let mut listed = vec![Listed {
        points: points(&primary),
        store: primary,
        role: "primary",
    }];
    listed.extend(mirrors.into_iter().map(|store| Listed {
        points: points(&store),
        store,
        role: "mirror",
    }));
    let unknown: Vec<_> = on_record
        .into_iter()
        .filter(|it| listed.iter().all(|known| known.store != it.store))
        .collect();
    listed.extend(unknown.into_iter().map(|it| Listed {
        store: it.store,
        role: "not configured",
        points: it.points,
    }));
    output.show(&listed, |listed| {
        table(
            ["store", "role", "restore points on record"],
            listed
                .iter()
                .map(|it| [it.store.clone(), it.role.to_owned(), it.points.to_string()]),
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
    not_configured(old, storage)?;
    let stores = Stores::open(storage, &Absent::LeftOut).await?;
    let store = stores.get(new).with_context(|| {
        format!("no store is called {new:?} here: give the stores file in which it is (--stores)")
    })?;
    for key in on_record(catalog, old).await? {
        match store.storage.manifest(&key).await {
            Ok(Some(_)) | Err(JobError::BadManifest { .. }) => {}
            Ok(None) => anyhow::bail!(
                "store {new} ({}) lacks {key}, which is on record in {old}: is it the same store? Nothing was changed",
                store.url
            ),
            Err(error) => anyhow::bail!(error.report()),
        }
    }
    let points = catalog.rename_store(old, new).await?;
    let done = serde_json::json!({ "store": new, "was": old, "points": points });
    output.show(&done, |_| {
        format!("{points} restore point(s) that were on record in {old} are on record in {new}")
    })
}

async fn forget(
    catalog: &Catalog,
    name: &str,
    overwrite: Option<&str>,
    storage: &StorageArgs,
    output: &Output,
) -> anyhow::Result<()> {
    on_record(catalog, name).await?;
    let only_copy = match overwrite {
        None => {
            not_configured(name, storage).context(
                "where a store of that name is lost and its place is empty, confirm that with --overwrite",
            )?;
            OnlyCopy::Refused
        }
        Some(confirmed) => {
            ensure!(
                confirmed == name,
                "losing restore points must be confirmed with the store's own name: --overwrite {name}, not {confirmed}"
            );
            OnlyCopy::Lost
        }
    };
    let forgotten = catalog.forget_store(name, only_copy).await?;
    output.show(&forgotten, |forgotten| {
        let mut text = format!(
            "store {name} is forgotten: {} restore point(s) were on record in it",
            forgotten.points
        );
        if forgotten.lost > 0 {
            let lost = format!(
                "\nLOST: {} of them were on record nowhere else, and are quarantined",
                forgotten.lost
            );
            text.push_str(&lost);
        }
        text
    })
}

/// A name that is in the file means a store that is in use: what is on record in it stays.
fn not_configured(name: &str, storage: &StorageArgs) -> anyhow::Result<()> {
    let (primary, mirrors) = stores::names(storage)?;
    ensure!(
        primary != name && !mirrors.iter().any(|mirror| mirror == name),
        "store {name:?} is configured here: first change the stores file (--stores) everywhere, and restart producers and \
         consumers"
    );
    Ok(())
}

/// Returns a few manifests' keys of a store; refuses a name that nothing is on record under.
async fn on_record(catalog: &Catalog, name: &str) -> anyhow::Result<Vec<String>> {
    let names = [name.to_owned()];
    ensure!(
        !catalog.stores_on_record(&names).await?.is_empty(),
        "no restore point is on record in a store {name:?}: see `lastgood store list`"
    );
    Ok(catalog.manifest_keys_in(name).await?)
}

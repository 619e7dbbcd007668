//! `lastgood key create|rotate|list|signing|shred|escrow|recover|rotate-master|reseal`.

mod escrow;
mod reseal;
mod rotate_master;
mod signing;

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use chrono::Utc;
use lastgood_jobs::{
    escrow::{Escrow, object, remove},
    key::Identity,
    resource::TeamId,
};
use serde::Serialize;
use uuid::Uuid;

use self::escrow::{Escrowed, master_keys, row_of, stores, whereabouts, withdraw};
use super::output::{Output, counted, instant, instant_or_dash, table};
use crate::{
    catalog::{Catalog, CatalogError, Succession},
    config::{self, StorageArgs},
    keys,
    master::{self, Sealer},
    nouns::{Key, ProblemKind, Told},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a key: from then on, its owner's archives are encrypted, or with --signing, exports of the ledger of proofs are signed
    Create(Making),
    /// Make the next key: new archives use it, old ones stay readable with the old one. What an old signing key signed stays signed
    Rotate(Making),
    /// List keys, without their secrets, and show which stores have their escrows
    List {
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// Print the public halves of the signing keys as PEM, the one in use first
    Signing,
    /// Destroy all keys of a team: archives encrypted to them can never be read again
    Shred {
        /// The team
        #[arg(long)]
        team: TeamId,
        /// Repeat the team, to confirm
        #[arg(long, value_name = "TEAM")]
        confirm: TeamId,
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// Rewrite every key's escrow for another recovery recipient
    Escrow {
        /// The age public key whose identity is to open the escrows
        // Parsed later: clap would print a wrong value, which may be a secret identity.
        #[arg(long, value_name = "age1…")]
        recipient: String,
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// Reseal all URLs and archive keys under the current master key, in place of the previous one, and report whether the previous one
    /// may be removed. Safe to repeat
    RotateMaster,
    /// After the master key was lost: recover the archive keys from their escrows, and seal them under the current master key. URLs
    /// cannot be recovered
    Reseal {
        /// The recovery identity, as `age-keygen` wrote it
        #[arg(long, value_name = "FILE")]
        identity_file: String,
        /// The number of the master key that is permanently lost, to confirm; without it, the command names the number
        #[arg(long, value_name = "NUMBER")]
        lost: Option<i32>,
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// After the catalog was lost: recover the keys from their escrows in the stores. They open old archives, but encrypt no new ones:
    /// `key create` makes the keys for those
    Recover {
        /// The recovery identity, as `age-keygen` wrote it
        #[arg(long, value_name = "FILE")]
        identity_file: String,
        #[command(flatten)]
        storage: StorageArgs,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Making {
    #[command(flatten)]
    owner: Owner,
    #[command(flatten)]
    storage: StorageArgs,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Owner {
    /// For the archives of this team alone
    #[arg(long)]
    team: Option<TeamId>,
    /// For the archives of every team that has no key of its own
    #[arg(long)]
    platform: bool,
    /// For signing exports of the ledger of proofs; needs no store
    #[arg(long)]
    signing: bool,
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    let catalog = super::catalog().await?;
    let done = match command {
        Command::Create(making) if making.owner.signing => {
            signing::make(&catalog, Succession::First, output).await
        }
        Command::Rotate(making) if making.owner.signing => {
            signing::make(&catalog, Succession::Next, output).await
        }
        Command::Signing => signing::list(&catalog, output).await,
        Command::Create(making) => make(&catalog, &making, Succession::First, output).await,
        Command::Rotate(making) => make(&catalog, &making, Succession::Next, output).await,
        Command::List { storage } => {
            let keys = whereabouts(catalog.keys().await?, &storage).await;
            output.show(&keys, |keys| list(keys))
        }
        Command::Shred {
            team,
            confirm,
            storage,
        } => {
            let not_confirmed = || {
                let text = format!(
                    "shredding must be confirmed with the team's own name: --confirm {team}, not {confirm}"
                );
                Told::new(ProblemKind::NotAccepted, text)
            };
            ensure!(team == confirm, not_confirmed());
            shred(&catalog, &team, &storage, output).await
        }
        Command::Escrow { recipient, storage } => {
            escrow::rewrite(&catalog, &recipient.parse()?, &storage, output).await
        }
        Command::Recover {
            identity_file,
            storage,
        } => return escrow::recover(&catalog, &identity_file, &storage, output).await,
        Command::RotateMaster => return rotate_master::rotate_master(&catalog, output).await,
        Command::Reseal {
            identity_file,
            lost,
            storage,
        } => return reseal::reseal(&catalog, &identity_file, lost, &storage, output).await,
    };
    done.map(|()| ExitCode::SUCCESS)
}

async fn make(
    catalog: &Catalog,
    making: &Making,
    succession: Succession,
    output: &Output,
) -> anyhow::Result<()> {
    let master = master_keys()?;
    let to = master::sealer(catalog, &master).await?;
    let recovery = config::recovery_recipient()?;
    let stores = stores(&making.storage, catalog).await?;
    let escrow = Escrow {
        key: Uuid::new_v4(),
        team: making.owner.team.clone(),
        created_at: Utc::now(),
        identity: Identity::generate(),
    };
    // Written before the key encrypts anything: a key that only the catalog has is lost with the catalog.
    if let Err(error) = escrow::put(&stores, &escrow, &recovery).await {
        withdraw(&stores, escrow.key, output).await;
        return Err(error);
    }
    if let Err(error) = record(catalog, &to, &escrow, succession).await {
        // If the catalog went away, it may have recorded the key.
        let is_doubtful = error
            .downcast_ref::<CatalogError>()
            .is_some_and(CatalogError::may_pass);
        if !is_doubtful {
            withdraw(&stores, escrow.key, output).await;
        }
        return Err(error);
    }
    let made = key(catalog, escrow.key).await?;
    output.show(&made, |made| {
        format!(
            "key {} of {} encrypts its archives from now on; archives made before stay as they are\n\
             its escrow is `{}` in {}, for {recovery}",
            made.id,
            made.owner(),
            object(made.id),
            counted(stores.len(), "store")
        )
    })
}

/// Returns a key as it is now.
async fn key(catalog: &Catalog, id: Uuid) -> anyhow::Result<Key> {
    let mut keys = catalog.keys().await?.into_iter();
    let found = keys.find(|key| key.id == id);
    found.with_context(|| format!("key {id} is not on record"))
}

async fn record(
    catalog: &Catalog,
    to: &Sealer<'_>,
    escrow: &Escrow,
    succession: Succession,
) -> anyhow::Result<()> {
    let recipient = escrow.identity.recipient().to_string();
    let sealed = keys::seal(to.key, escrow.key, &escrow.identity)?;
    let new = row_of(escrow, &recipient, &sealed, to.number);
    Ok(catalog.add_key(&new, succession).await?)
}

async fn shred(
    catalog: &Catalog,
    team: &TeamId,
    storage: &StorageArgs,
    output: &Output,
) -> anyhow::Result<()> {
    let stores = stores(storage, catalog).await?;
    // The catalog comes first: from then on no consumer opens the keys, and the rest can be repeated.
    let shredded = catalog.shred_keys(team.as_str()).await?;
    for store in &stores {
        for key in &shredded.keys {
            let removed = remove(&store.storage, *key).await;
            removed.with_context(|| {
                format!(
                    "the keys of {team} are gone from the catalog, but the escrow `{}` may still be in {}: run this again",
                    object(*key),
                    store.name
                )
            })?;
        }
    }
    let keys = catalog.keys().await?.into_iter();
    let shredded = ShreddedKeys {
        keys: keys.filter(|key| shredded.keys.contains(&key.id)).collect(),
        points_lost: shredded.points_lost,
        points_left: shredded.points_left,
    };
    output.show(&shredded, |shredded| told(team, shredded))
}

/// The keys that were shredded, and what that means for the team's restore points.
#[derive(Serialize)]
struct ShreddedKeys {
    keys: Vec<Key>,
    /// How many can never be read again.
    points_lost: i64,
    /// How many can still be read: they were not encrypted, or encrypted to the platform's key.
    points_left: i64,
}

fn told(team: &TeamId, shredded: &ShreddedKeys) -> String {
    let ShreddedKeys {
        keys,
        points_lost,
        points_left,
    } = shredded;
    let mut text = format!(
        "shredded {} of team {team}: {} can never be read again\n\
         not reached: old versions in a store that keeps versions, backups of the catalog, copies that somebody took\n",
        counted(keys.len(), "key"),
        counted(*points_lost, "restore point")
    );
    if *points_left > 0 {
        let left = format!(
            "STILL READABLE: {} of team {team}, not encrypted to a key of its own\n",
            counted(*points_left, "restore point")
        );
        text.push_str(&left);
    }
    text
}

fn list(keys: &[Escrowed]) -> String {
    if keys.is_empty() {
        return "there is no key: archives are not encrypted; see `lastgood key create --help`"
            .to_owned();
    }
    table(
        [
            "id",
            "owner",
            "recipient",
            "state",
            "created",
            "retired",
            "escrow",
        ],
        keys.iter().map(|escrowed| {
            let key = &escrowed.key;
            let state = match (key.shredded_at, key.retired_at) {
                (Some(_), _) => "shredded",
                (None, Some(_)) => "opens old archives",
                (None, None) => "in use",
            };
            [
                key.id.to_string(),
                key.owner(),
                key.recipient.clone(),
                state.to_owned(),
                instant(key.created_at),
                instant_or_dash(key.retired_at),
                escrowed.told(),
            ]
        }),
    )
}

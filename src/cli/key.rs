//! `lastgood key create|rotate|list|shred|escrow|recover`.

use anyhow::{Context as _, ensure};
use chrono::Utc;
use lastgood_jobs::{
    escrow::{self, Escrow, object},
    key::{Identity, Recipient},
    resource::TeamId,
    storage::Storage,
};
use serde_json::json;
use uuid::Uuid;

use super::output::{Output, instant, instant_or_dash, table};
use crate::{
    catalog::{Audit, Catalog, KeyRow, NewKey, Shredded, Succession},
    config::{self, StorageArgs},
    keys,
    secret::{MasterKey, SecretError, read_secret_file},
    stores::Stores,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a key: from then on, its owner's archives are encrypted
    Create(Making),
    /// Make the next key: new archives use it, old ones stay readable with the old one
    Rotate(Making),
    /// List keys, without their secrets
    List,
    /// Destroy all keys of a team: what was encrypted to them can never be read again
    Shred {
        /// The team
        #[arg(long)]
        team: TeamId,
        /// The team once more, to prove that it is the one that is meant
        #[arg(long, value_name = "TEAM")]
        overwrite: TeamId,
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// Write every key's escrow anew, for another recovery recipient
    Escrow {
        /// The public key of age whose identity is to open them
        #[arg(long, value_name = "age1…")]
        recipient: Recipient,
        #[command(flatten)]
        storage: StorageArgs,
    },
    /// After the loss of the catalog: record again the keys whose escrows the store has
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
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    let catalog = super::catalog().await?;
    match command {
        Command::Create(making) => make(&catalog, &making, Succession::First, output).await,
        Command::Rotate(making) => make(&catalog, &making, Succession::Next, output).await,
        Command::List => output.show(&catalog.keys().await?, |keys| list(keys)),
        Command::Shred {
            team,
            overwrite,
            storage,
        } => {
            ensure!(
                team == overwrite,
                "shredding must be confirmed with the team's own name: --overwrite {team}, not {overwrite}"
            );
            shred(&catalog, &team, &storage, output).await
        }
        Command::Escrow { recipient, storage } => {
            escrow_all(&catalog, &recipient, &storage, output).await
        }
        Command::Recover {
            identity_file,
            storage,
        } => recover(&catalog, &identity_file, &storage, output).await,
    }
}

/// A store, and what it is called.
struct Named {
    name: String,
    storage: Storage,
}

/// Opens every store: an escrow that one of them lacks, or keeps, is a hole.
async fn stores(args: &StorageArgs) -> anyhow::Result<Vec<Named>> {
    let stores = Stores::open(args).await?;
    let named = stores.iter().map(|store| Named {
        name: format!("{} ({})", store.name, store.url),
        storage: store.storage.clone(),
    });
    Ok(named.collect())
}

fn master_key() -> anyhow::Result<MasterKey> {
    Ok(config::master_key()?.ok_or(SecretError::NoMasterKey)?)
}

async fn make(
    catalog: &Catalog,
    making: &Making,
    succession: Succession,
    output: &Output,
) -> anyhow::Result<()> {
    let master = master_key()?;
    let recovery = config::recovery_recipient()?;
    let stores = stores(&making.storage).await?;
    let escrow = Escrow {
        key: Uuid::new_v4(),
        team: making.owner.team.clone(),
        created_at: Utc::now(),
        identity: Identity::generate(),
    };
    // Before it encrypts anything: a key that only the catalog has is lost with the catalog.
    let recorded = match put_escrow(&stores, &escrow, &recovery).await {
        Ok(()) => record(catalog, &master, &escrow, succession).await,
        Err(error) => Err(error),
    };
    if let Err(error) = recorded {
        withdraw(&stores, escrow.key, output).await;
        return Err(error);
    }
    let (id, team) = (escrow.key, &escrow.team);
    let recipient = escrow.identity.recipient();
    let made = json!({ "key": id, "team": team, "recipient": recipient.to_string() });
    output.show(&made, |_| {
        let owner = team.as_ref().map_or_else(
            || "the platform".to_owned(),
            |team| format!("team {team}"),
        );
        format!(
            "key {id} of {owner} encrypts its archives from now on; archives made before stay as they are\n\
             its escrow is `{}` in {} store(s), for {recovery}",
            object(id),
            stores.len()
        )
    })
}

async fn record(
    catalog: &Catalog,
    master: &MasterKey,
    escrow: &Escrow,
    succession: Succession,
) -> anyhow::Result<()> {
    let recipient = escrow.identity.recipient().to_string();
    let sealed = keys::seal(master, escrow.key, &escrow.identity)?;
    let new = row_of(escrow, &recipient, &sealed);
    Ok(catalog.add_key(&new, succession).await?)
}

fn row_of<'a>(escrow: &'a Escrow, recipient: &'a str, identity: &'a [u8]) -> NewKey<'a> {
    NewKey {
        id: escrow.key,
        team: escrow.team.as_ref().map(TeamId::as_str),
        recipient,
        identity,
        created_at: escrow.created_at,
    }
}

async fn put_escrow(stores: &[Named], escrow: &Escrow, recovery: &Recipient) -> anyhow::Result<()> {
    for store in stores {
        let put = escrow::put(&store.storage, escrow, recovery).await;
        put.with_context(|| format!("the store {} did not take the key's escrow", store.name))?;
    }
    Ok(())
}

/// Removes the escrow of a key that was not made. One that stays opens nothing, for nothing was encrypted to it.
async fn withdraw(stores: &[Named], id: Uuid, output: &Output) {
    for store in stores {
        if escrow::remove(&store.storage, id).await.is_err() {
            let object = object(id);
            output.note(&format!(
                "`{object}` stays in {}: it is of no use",
                store.name
            ));
        }
    }
}

async fn shred(
    catalog: &Catalog,
    team: &TeamId,
    storage: &StorageArgs,
    output: &Output,
) -> anyhow::Result<()> {
    let stores = stores(storage).await?;
    // The catalog first: from then on no consumer opens them, and what follows can be repeated.
    let shredded = catalog.shred_keys(team.as_str()).await?;
    for store in &stores {
        for key in &shredded.keys {
            let removed = escrow::remove(&store.storage, *key).await;
            removed.with_context(|| {
                format!(
                    "the keys of {team} are gone from the catalog, but the escrow `{}` may still be in {}: run this again",
                    object(*key),
                    store.name
                )
            })?;
        }
    }
    output.show(&shredded, |shredded| told(team, shredded))
}

fn told(team: &TeamId, shredded: &Shredded) -> String {
    let Shredded {
        keys,
        points_lost,
        points_left,
    } = shredded;
    let mut text = format!(
        "{} key(s) of team {team} were shredded: {points_lost} restore point(s) can never be read again\n\
         not reached: old versions in a store that keeps versions, backups of the catalog, copies that somebody took\n",
        keys.len()
    );
    if *points_left > 0 {
        let left = format!(
            "STILL READABLE: {points_left} restore point(s) of team {team} were not encrypted to a key of its own\n"
        );
        text.push_str(&left);
    }
    text
}

async fn escrow_all(
    catalog: &Catalog,
    recovery: &Recipient,
    storage: &StorageArgs,
    output: &Output,
) -> anyhow::Result<()> {
    let master = master_key()?;
    let stores = stores(storage).await?;
    let mut written = 0;
    for row in catalog.keys().await? {
        let Some(sealed) = catalog.sealed_key(row.id).await? else {
            continue;
        };
        if sealed.identity.is_none() {
            continue;
        }
        let identity = keys::open(Some(&master), &sealed)?;
        let escrow = Escrow {
            key: row.id,
            team: row.team.as_deref().map(str::parse).transpose()?,
            created_at: row.created_at,
            identity,
        };
        put_escrow(&stores, &escrow, recovery).await?;
        written += 1;
    }
    let entry = Audit {
        action: "escrow",
        resource_id: None,
        point_id: None,
        detail: json!({ "recipient": recovery.to_string(), "keys": written }),
    };
    catalog.audit(&entry).await?;
    let done = json!({ "keys": written, "recipient": recovery.to_string() });
    output.show(&done, |_| {
        format!(
            "the escrow of {written} key(s) was written anew for {recovery}: set LASTGOOD_RECOVERY_RECIPIENT to it where \
             keys are made"
        )
    })
}

async fn recover(
    catalog: &Catalog,
    identity_file: &str,
    storage: &StorageArgs,
    output: &Output,
) -> anyhow::Result<()> {
    let master = master_key()?;
    let file = read_secret_file(identity_file)?;
    let recovery = Identity::parse(&file).with_context(|| identity_file.to_owned())?;
    let mut found = Vec::new();
    for store in stores(storage).await? {
        for key in escrow::list(&store.storage).await? {
            found.push(escrow::open(&store.storage, key, &recovery).await?);
        }
    }
    // The newest first: it is the one that its owner used.
    found.sort_by_key(|escrow| std::cmp::Reverse(escrow.created_at));
    let mut recovered = 0;
    for escrow in &found {
        let recipient = escrow.identity.recipient().to_string();
        let sealed = keys::seal(&master, escrow.key, &escrow.identity)?;
        let is_new = catalog
            .recover_key(&row_of(escrow, &recipient, &sealed))
            .await?;
        recovered += i64::from(is_new);
    }
    let entry = Audit {
        action: "recover_keys",
        resource_id: None,
        point_id: None,
        detail: json!({ "keys": recovered }),
    };
    catalog.audit(&entry).await?;
    let done = json!({ "keys": recovered, "known": found.len() as i64 - recovered });
    output.show(&done, |_| {
        format!("{recovered} key(s) were recorded from their escrows: see `lastgood key list`")
    })
}

fn list(keys: &[KeyRow]) -> String {
    if keys.is_empty() {
        return "there is no key: archives are not encrypted; see `lastgood key create --help`"
            .to_owned();
    }
    table(
        ["id", "owner", "recipient", "state", "created", "retired"],
        keys.iter().map(|key| {
            let state = match (key.shredded_at, key.retired_at) {
                (Some(_), _) => "shredded",
                (None, Some(_)) => "opens old archives",
                (None, None) => "in use",
            };
            [
                key.id.to_string(),
                key.team
                    .clone()
                    .map_or_else(|| "the platform".to_owned(), |team| format!("team {team}")),
                key.recipient.clone(),
                state.to_owned(),
                instant(key.created_at),
                instant_or_dash(key.retired_at),
            ]
        }),
    )
}

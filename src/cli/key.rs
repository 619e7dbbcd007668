//! `lastgood key create|rotate|list|shred|escrow`.

use anyhow::{Context as _, ensure};
use lastgood_jobs::{
    escrow,
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
    secret::{MasterKey, SecretError},
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
    }
}

/// A store, and what it is called.
struct Named {
    name: String,
    storage: Storage,
}

/// Opens every store: an escrow that one of them lacks, or keeps, is a hole.
async fn stores(args: &StorageArgs) -> anyhow::Result<Vec<Named>> {
    let name = args.storage.to_string();
    let storage = Storage::open(&args.storage).await;
    let storage = storage.with_context(|| format!("the store {name}"))?;
    Ok(vec![Named { name, storage }])
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
    let team = making.owner.team.as_ref();
    let stores = stores(&making.storage).await?;
    let (id, identity) = (Uuid::new_v4(), Identity::generate());
    // Before it encrypts anything: a key that only the catalog has is lost with the catalog.
    if let Err(error) = put_escrow(&stores, id, team, &identity, &recovery).await {
        withdraw(&stores, id, output).await;
        return Err(error);
    }
    let recipient = identity.recipient().to_string();
    let new = NewKey {
        id,
        team: team.map(TeamId::as_str),
        recipient: &recipient,
        identity: &keys::seal(&master, id, &identity)?,
    };
    if let Err(error) = catalog.add_key(&new, succession).await {
        withdraw(&stores, id, output).await;
        return Err(error.into());
    }
    let made = json!({ "key": id, "team": team, "recipient": recipient });
    output.show(&made, |_| {
        let owner = team.map_or_else(
            || "the platform".to_owned(),
            |team| format!("team {team}"),
        );
        format!(
            "key {id} of {owner} encrypts its archives from now on; archives made before stay as they are\n\
             its escrow is `{}` in {} store(s), for {recovery}",
            escrow::object(id),
            stores.len()
        )
    })
}

async fn put_escrow(
    stores: &[Named],
    id: Uuid,
    team: Option<&TeamId>,
    identity: &Identity,
    recovery: &Recipient,
) -> anyhow::Result<()> {
    for store in stores {
        let put = escrow::put(&store.storage, id, team, identity, recovery).await;
        put.with_context(|| format!("the store {} did not take the key's escrow", store.name))?;
    }
    Ok(())
}

/// Removes the escrow of a key that was not made. One that stays opens nothing, for nothing was encrypted to it.
async fn withdraw(stores: &[Named], id: Uuid, output: &Output) {
    for store in stores {
        if escrow::remove(&store.storage, id).await.is_err() {
            let object = escrow::object(id);
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
                    escrow::object(*key),
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
        text += &format!(
            "STILL READABLE: {points_left} restore point(s) of team {team} were not encrypted to a key of its own\n"
        );
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
        let team = row.team.as_deref().map(str::parse::<TeamId>).transpose()?;
        put_escrow(&stores, row.id, team.as_ref(), &identity, recovery).await?;
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

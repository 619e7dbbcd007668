//! The escrows of keys in the stores: written with each key, rewritten for another recovery recipient, and read after a loss.

mod missing;
mod recover;

use anyhow::Context as _;
use lastgood_jobs::{
    escrow::{self, Escrow, object},
    key::Recipient,
    resource::TeamId,
    storage::Storage,
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    catalog::{Audit, Catalog, NewKey},
    cli::output::{Output, counted},
    config::{self, StorageArgs},
    keys,
    nouns::Key,
    secret::{MasterKeys, SecretError},
    stores::{Absent, Mirrors, Stores},
};

pub(super) use self::{
    missing::{Escrowed, whereabouts},
    recover::{Opened, open_all, recover},
};

/// A store with the name to print.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) storage: Storage,
}

/// Opens every store for writing. All are needed: one store left out would lack an escrow, or keep one that was removed.
pub(super) async fn stores(args: &StorageArgs, catalog: &Catalog) -> anyhow::Result<Vec<Named>> {
    Ok(named(
        &Stores::open_to_write(args, Mirrors::AreNeeded, catalog).await?,
    ))
}

/// Opens the stores that exist, for reading.
pub(super) async fn stores_to_read(args: &StorageArgs) -> anyhow::Result<Vec<Named>> {
    Ok(named(&Stores::open(args, &Absent::LeftOut).await?))
}

fn named(stores: &Stores) -> Vec<Named> {
    let named = stores.iter().map(|store| Named {
        name: format!("{} ({})", store.name, store.url),
        storage: store.storage.clone(),
    });
    named.collect()
}

/// Writes the escrow of a key to every store.
pub(super) async fn put(
    stores: &[Named],
    escrow: &Escrow,
    recovery: &Recipient,
) -> anyhow::Result<()> {
    for store in stores {
        let written = escrow::put(&store.storage, escrow, recovery).await;
        written
            .with_context(|| format!("cannot write the key's escrow to store {}", store.name))?;
    }
    Ok(())
}

/// Removes the escrow of a key that was not made after all. One that remains is harmless: nothing was encrypted to the key.
pub(super) async fn withdraw(stores: &[Named], id: Uuid, output: &Output) {
    for store in stores {
        if escrow::remove(&store.storage, id).await.is_err() {
            let object = object(id);
            output.note(&format!(
                "`{object}` stays in {}: nothing uses it",
                store.name
            ));
        }
    }
}

/// Rewrites the escrow of every key for `recovery`.
pub(super) async fn rewrite(
    catalog: &Catalog,
    recovery: &Recipient,
    storage: &StorageArgs,
    output: &Output,
) -> anyhow::Result<()> {
    let master = master_keys()?;
    let stores = stores(storage, catalog).await?;
    let keys = catalog.keys().await?;
    let entry = Audit::new(
        "escrow",
        json!({ "recipient": recovery.to_string(), "keys": living(&keys) }),
    );
    catalog.audit(&entry).await?;
    let mut written: Vec<Key> = Vec::new();
    for row in keys {
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
        put(&stores, &escrow, recovery).await?;
        written.push(row);
    }
    output.show(&written, |written| {
        format!(
            "{} rewritten for {recovery}: set LASTGOOD_RECOVERY_RECIPIENT to it wherever keys are made",
            counted(written.len(), "escrow")
        )
    })
}

/// Returns how many keys have a secret, and so an escrow.
fn living(keys: &[Key]) -> usize {
    keys.iter().filter(|key| key.shredded_at.is_none()).count()
}

/// Returns the catalog's row for the key in the escrow.
pub(super) fn row_of<'a>(
    escrow: &'a Escrow,
    recipient: &'a str,
    identity: &'a [u8],
    under: i32,
) -> NewKey<'a> {
    NewKey {
        id: escrow.key,
        team: escrow.team.as_ref().map(TeamId::as_str),
        recipient,
        identity,
        under,
        created_at: escrow.created_at,
    }
}

pub(super) fn master_keys() -> anyhow::Result<MasterKeys> {
    Ok(config::master_keys()?.ok_or(SecretError::NoMasterKey)?)
}

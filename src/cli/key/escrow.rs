//! The escrows of keys in the stores: written with each key, anew for another recovery recipient, and read back after a loss.

use anyhow::Context as _;
use lastgood_jobs::{
    escrow::{self, Escrow, object},
    key::{Identity, Recipient},
    resource::TeamId,
    storage::Storage,
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    catalog::{Audit, Catalog, NewKey},
    cli::output::Output,
    config::{self, StorageArgs},
    keys,
    secret::{MasterKey, SecretError, read_secret_file},
    stores::Stores,
};

/// A store, and what it is called.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) storage: Storage,
}

/// Opens every store: an escrow that one of them lacks, or keeps, is a hole.
pub(super) async fn stores(args: &StorageArgs) -> anyhow::Result<Vec<Named>> {
    let stores = Stores::open(args).await?;
    let named = stores.iter().map(|store| Named {
        name: format!("{} ({})", store.name, store.url),
        storage: store.storage.clone(),
    });
    Ok(named.collect())
}

/// Writes the escrow of a key into every store.
pub(super) async fn put(
    stores: &[Named],
    escrow: &Escrow,
    recovery: &Recipient,
) -> anyhow::Result<()> {
    for store in stores {
        let written = escrow::put(&store.storage, escrow, recovery).await;
        written
            .with_context(|| format!("the store {} did not take the key's escrow", store.name))?;
    }
    Ok(())
}

/// Removes the escrow of a key that was not made. One that stays opens nothing, for nothing was encrypted to it.
pub(super) async fn withdraw(stores: &[Named], id: Uuid, output: &Output) {
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

/// Writes the escrow of every key anew, for `recovery`.
pub(super) async fn rewrite(
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
        put(&stores, &escrow, recovery).await?;
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

/// Records the keys whose escrows the stores have, and which the catalog does not know.
pub(super) async fn recover(
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
        recovered += usize::from(is_new);
    }
    let entry = Audit {
        action: "recover_keys",
        resource_id: None,
        point_id: None,
        detail: json!({ "keys": recovered }),
    };
    catalog.audit(&entry).await?;
    let done = json!({ "keys": recovered, "known": found.len() - recovered });
    output.show(&done, |_| {
        format!("{recovered} key(s) were recorded from their escrows: see `lastgood key list`")
    })
}

/// Returns the catalog's row of a key.
pub(super) fn row_of<'a>(escrow: &'a Escrow, recipient: &'a str, identity: &'a [u8]) -> NewKey<'a> {
    NewKey {
        id: escrow.key,
        team: escrow.team.as_ref().map(TeamId::as_str),
        recipient,
        identity,
        created_at: escrow.created_at,
    }
}

pub(super) fn master_key() -> anyhow::Result<MasterKey> {
    Ok(config::master_key()?.ok_or(SecretError::NoMasterKey)?)
}

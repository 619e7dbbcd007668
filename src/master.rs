//! Is the master key of this process the one that seals this catalog? The catalog identifies keys by numbers and proofs.

mod reseal;

use chrono::{DateTime, Utc};

use crate::{
    catalog::{Audit, Catalog, CatalogError, MasterKeyRow},
    keys,
    secret::{MasterKey, MasterKeys, SecretError},
};

pub use reseal::{Named, Resealed, others, reseal};

/// Why this process's master key cannot be used on this catalog.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The catalog failed or refused.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A secret could not be sealed or opened.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The key is not on this catalog's record.
    #[error(
        "LASTGOOD_MASTER_KEY is not the key that sealed this catalog: set master key {sealing}, on record since {}; if that one is lost \
         permanently, `lastgood key reseal` switches to another (docs/how-to/disaster.md)",
        since.format("%Y-%m-%d %H:%M:%SZ")
    )]
    Stranger {
        /// The number of the key that seals.
        sealing: i32,
        /// When it was put on record.
        since: DateTime<Utc>,
    },
    /// A rotation has replaced the key.
    #[error(
        "LASTGOOD_MASTER_KEY is not the key that seals this catalog: it is master key {number}, which master key {sealing} has replaced; \
         set that one"
    )]
    Replaced {
        /// Its number.
        number: i32,
        /// The number of the key that seals.
        sealing: i32,
    },
    /// The key is on record, but no rotation has made it the sealing key yet.
    #[error(
        "LASTGOOD_MASTER_KEY is not yet the key that seals this catalog: set master key {sealing} as LASTGOOD_PREVIOUS_MASTER_KEY until \
         `lastgood key rotate-master` says that it can be removed"
    )]
    NotYet {
        /// The number of the key that seals.
        sealing: i32,
    },
}

/// How this process's master keys relate to the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The number of the sealing key.
    pub sealing: i32,
    /// The number of `LASTGOOD_MASTER_KEY`; `None` if it is not on record.
    pub current: Option<i32>,
    /// The number of `LASTGOOD_PREVIOUS_MASTER_KEY`; `None` if it is not set or not on record.
    pub previous: Option<i32>,
}

impl Held {
    /// Returns the numbers of this process's keys.
    #[must_use]
    pub fn numbers(&self) -> Vec<i32> {
        self.current.into_iter().chain(self.previous).collect()
    }

    /// Returns whether this process has the sealing key.
    #[must_use]
    pub fn can_seal(&self) -> bool {
        self.numbers().contains(&self.sealing)
    }
}

/// The key under which new secrets are sealed.
pub struct Sealer<'a> {
    /// Its number.
    pub number: i32,
    /// The key.
    pub key: &'a MasterKey,
}

/// Returns how this process's keys relate to the catalog, without writing anything.
pub async fn look(catalog: &Catalog, keys: &MasterKeys) -> Result<Held, MasterKeyError> {
    held(catalog, keys, &catalog.master_keys().await?).await
}

/// Like [`look`], but an error if none of the keys is the sealing key.
pub async fn check(catalog: &Catalog, keys: &MasterKeys) -> Result<Held, MasterKeyError> {
    let rows = catalog.master_keys().await?;
    let held = held(catalog, keys, &rows).await?;
    if held.can_seal() {
        return Ok(held);
    }
    Err(refusal(&held, sealing(&rows)?))
}

/// Checks that this process has the sealing key, and returns how its keys relate to the catalog.
///
/// The first process with the key of a catalog that has no proof yet stores one. A next key, set alongside the sealing key, is put on
/// record with a number, but seals nothing until `lastgood key rotate-master`.
pub async fn hold(catalog: &Catalog, keys: &MasterKeys) -> Result<Held, MasterKeyError> {
    // Each pass writes what lets the next one return, or finds that another process has written it.
    loop {
        let rows = catalog.master_keys().await?;
        let held = held(catalog, keys, &rows).await?;
        let sealing = sealing(&rows)?;
        if held.can_seal() && sealing.proof.is_none() {
            let proof = of_sealing(&held, keys).proof()?;
            catalog
                .prove_master_key(sealing.number, None, &proof)
                .await?;
            continue;
        }
        if held.can_seal() && held.current.is_some() {
            return Ok(held);
        }
        let proof = keys.current().proof()?;
        let is_done = match (held.can_seal(), held.current, &sealing.proof) {
            (true, ..) => {
                catalog.add_master_key(after(&rows), &proof).await?;
                true
            }
            // Nothing is sealed under a key whose proof can be replaced: it was only tried once.
            (false, None, Some(was)) => {
                catalog
                    .prove_master_key(sealing.number, Some(was), &proof)
                    .await?
            }
            (false, ..) => false,
        };
        if !is_done {
            return Err(refusal(&held, sealing));
        }
    }
}

/// Returns why none of this process's keys can be used.
fn refusal(held: &Held, sealing: &MasterKeyRow) -> MasterKeyError {
    let number = sealing.number;
    match held.current {
        None => MasterKeyError::Stranger {
            sealing: number,
            since: sealing.added_at,
        },
        Some(current) if current > number => MasterKeyError::NotYet { sealing: number },
        Some(current) => MasterKeyError::Replaced {
            number: current,
            sealing: number,
        },
    }
}

/// Returns the sealing key, which this process must have.
pub async fn sealer<'a>(
    catalog: &Catalog,
    keys: &'a MasterKeys,
) -> Result<Sealer<'a>, MasterKeyError> {
    let held = hold(catalog, keys).await?;
    Ok(Sealer {
        number: held.sealing,
        key: of_sealing(&held, keys),
    })
}

/// Makes `LASTGOOD_MASTER_KEY` the sealing key in place of one that is lost for good, and records who gave that one
/// up. Returns its number.
pub async fn give_up(
    catalog: &Catalog,
    keys: &MasterKeys,
    lost: i32,
) -> Result<i32, MasterKeyError> {
    loop {
        let rows = catalog.master_keys().await?;
        let held = held(catalog, keys, &rows).await?;
        let Some(number) = held.current else {
            catalog
                .add_master_key(after(&rows), &keys.current().proof()?)
                .await?;
            continue;
        };
        let entry = Audit::new(
            "give_up_master_key",
            serde_json::json!({ "lost": lost, "to": number }),
        );
        if number == held.sealing || catalog.let_seal(lost, number, &entry).await? {
            return Ok(number);
        }
        // By now another key seals, and the caller did not say that it is lost.
        if held.sealing != lost {
            return Err(MasterKeyError::Stranger {
                sealing: held.sealing,
                since: sealing(&rows)?.added_at,
            });
        }
    }
}

/// Returns the numbers of the keys that neither this process nor any live consumer has, or nothing if that cannot be known.
pub async fn nobody_has(
    catalog: &Catalog,
    keys: Option<&MasterKeys>,
) -> Result<Vec<i32>, MasterKeyError> {
    let rows = catalog.master_keys().await?;
    let here = match keys {
        Some(keys) => Some(held(catalog, keys, &rows).await?.numbers()),
        None => None,
    };
    let there = catalog.master_keys_of_consumers().await?;
    if here.is_none() && there.is_none() {
        return Ok(Vec::new());
    }
    let had: Vec<i32> = here.into_iter().chain(there).flatten().collect();
    let all = rows.iter().map(|row| row.number);
    Ok(all.filter(|number| !had.contains(number)).collect())
}

async fn held(
    catalog: &Catalog,
    keys: &MasterKeys,
    rows: &[MasterKeyRow],
) -> Result<Held, MasterKeyError> {
    let sealing = sealing(rows)?.number;
    let mut held = Held {
        sealing,
        current: None,
        previous: None,
    };
    for row in rows {
        if held.current.is_none() && is_of(catalog, row, keys.current()).await? {
            held.current = Some(row.number);
        } else if let Some(previous) = keys.previous()
            && is_of(catalog, row, previous).await?
        {
            held.previous = Some(row.number);
        }
    }
    Ok(held)
}

/// Returns whether the row is of this key, by its proof or, without one, by what is sealed under it.
async fn is_of(
    catalog: &Catalog,
    row: &MasterKeyRow,
    key: &MasterKey,
) -> Result<bool, MasterKeyError> {
    if let Some(proof) = &row.proof {
        return Ok(key.is_proven_by(proof));
    }
    let urls = catalog.some_sealed(&[row.number]).await?;
    if urls.iter().any(|(id, sealed)| key.open(id, sealed).is_ok()) {
        return Ok(true);
    }
    let (sealed, keys) = (
        catalog.keys_sealed_under(&[row.number]).await?,
        MasterKeys::from(key.clone()),
    );
    for id in sealed.iter().take(20) {
        if let Some(sealed) = catalog.sealed_key(*id).await?
            && keys::open(Some(&keys), &sealed).is_ok()
        {
            return Ok(true);
        }
    }
    // Nothing is sealed yet, so any key will do.
    Ok(row.seals && urls.is_empty() && sealed.is_empty())
}

fn sealing(rows: &[MasterKeyRow]) -> Result<&MasterKeyRow, CatalogError> {
    rows.iter()
        .find(|row| row.seals)
        .ok_or_else(|| CatalogError::BadRow {
            what: "master keys".to_owned(),
            why: "none of them seals".to_owned(),
        })
}

/// Returns this process's copy of the sealing key.
fn of_sealing<'a>(held: &Held, keys: &'a MasterKeys) -> &'a MasterKey {
    match keys.previous() {
        Some(previous) if held.current != Some(held.sealing) => previous,
        Some(_) | None => keys.current(),
    }
}

/// Returns the number for the next key.
fn after(rows: &[MasterKeyRow]) -> i32 {
    rows.iter().map(|row| row.number).max().unwrap_or(0) + 1
}

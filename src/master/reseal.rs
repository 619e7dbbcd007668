//! Everything that is sealed is sealed anew under the key that seals: row by row, safe to break off anywhere and to begin again.

use lastgood_jobs::error::chain;
use serde::Serialize;
use uuid::Uuid;

use super::{MasterKeyError, Sealer};
use crate::{
    catalog::{Catalog, CatalogError, FreshUrl, SealedCount, SealedKey, SealedUrl},
    keys,
    secret::{MasterKey, MasterKeys, SecretError},
};

/// How many URLs are read and written at once.
const AT_ONCE: i64 = 200;
/// How many of those that are left are named.
const NAMED: usize = 20;

/// So many things, the first of them by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Named {
    /// How many.
    pub all: u64,
    /// Names.
    pub first: Vec<String>,
}

impl Named {
    fn note(&mut self, name: String) {
        self.all += 1;
        if self.first.len() < NAMED {
            self.first.push(name);
        }
    }
}

/// What became of what is sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Resealed {
    /// URLs that were sealed anew.
    pub urls: u64,
    /// Keys of archives that were.
    pub keys: u64,
    /// Resources whose URL opens with no key at hand.
    pub unopened_urls: Named,
    /// Keys of archives whose secret opens with no key at hand.
    pub unopened_keys: Named,
    /// Resources and keys of archives whose row the catalog refuses to change, with the reason.
    pub refused: Named,
    /// Removed resources whose URL opens with no key at hand: nothing needs it.
    pub of_removed: u64,
    /// What is sealed under other keys still, counted when all was done.
    pub others: Vec<SealedCount>,
}

impl Resealed {
    /// Notes what became of a key of archives. One that the catalog refuses to change keeps no other from being sealed.
    fn note_key(
        &mut self,
        id: Uuid,
        written: Result<bool, CatalogError>,
    ) -> Result<(), CatalogError> {
        match written {
            Ok(written) => self.keys += u64::from(written),
            Err(error) if error.is_of_a_row() => {
                self.refused
                    .note(format!("archive key {id}: {}", chain(&error)));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Returns whether everything is sealed under one key, and opens.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unopened_urls.all + self.unopened_keys.all + self.refused.all == 0
            && self.others.is_empty()
    }

    /// Returns whether nothing more needs the other keys.
    #[must_use]
    pub fn needs_no_other(&self) -> bool {
        self.others.is_empty() && self.refused.all == 0
    }
}

/// Seals everything anew under `to` that opens with a key at hand and is not sealed under it yet. What opens with none stays as it
/// is and is told, and so is a row that the catalog refuses; neither keeps the others from being sealed.
///
/// A URL that somebody gives anew meanwhile is never replaced by the old one. What is stored meanwhile is sealed under `to`, for the
/// catalog refuses anything else.
pub async fn reseal(
    catalog: &Catalog,
    keys: &MasterKeys,
    to: &Sealer<'_>,
) -> Result<Resealed, MasterKeyError> {
    let mut done = Resealed::default();
    let mut after: Option<String> = None;
    loop {
        let urls = catalog.sealed_urls(after.as_deref(), AT_ONCE).await?;
        let Some(last) = urls.last() else { break };
        after = Some(last.id.clone());
        let fresh = fresh(urls, keys, to, &mut done)?;
        let (written, refused) = catalog.reseal_urls(to.number, fresh).await?;
        done.urls += written;
        for (url, error) in refused {
            done.refused
                .note(format!("the resource {}: {}", url.id, chain(&error)));
        }
    }
    reseal_keys(catalog, keys, to, &mut done).await?;
    done.others = others(catalog, to.number).await?;
    Ok(done)
}

/// Returns those of the URLs that are to be written.
fn fresh(
    urls: Vec<SealedUrl>,
    keys: &MasterKeys,
    to: &Sealer<'_>,
    done: &mut Resealed,
) -> Result<Vec<FreshUrl>, SecretError> {
    let mut fresh = Vec::new();
    for url in urls {
        let SealedUrl { id, sealed, .. } = url;
        if to.key.open(&id, &sealed).is_ok() {
            // The row may say another key than it is: the seal counts.
            if url.under != to.number {
                fresh.push(FreshUrl {
                    id,
                    was: sealed.clone(),
                    sealed,
                });
            }
            continue;
        }
        match keys.open(&id, &sealed) {
            Ok(opened) => fresh.push(FreshUrl {
                sealed: to.key.seal(&id, &opened)?,
                id,
                was: sealed,
            }),
            Err(_) if url.is_removed => done.of_removed += 1,
            Err(_) => done.unopened_urls.note(id),
        }
    }
    Ok(fresh)
}

/// Returns how much is sealed under other master keys than `number`.
pub async fn others(catalog: &Catalog, number: i32) -> Result<Vec<SealedCount>, CatalogError> {
    let known = catalog.master_keys().await?;
    let others = known.iter().map(|row| row.number);
    let others: Vec<_> = others.filter(|other| *other != number).collect();
    catalog.count_sealed_under(&others).await
}

async fn reseal_keys(
    catalog: &Catalog,
    keys: &MasterKeys,
    to: &Sealer<'_>,
    done: &mut Resealed,
) -> Result<(), MasterKeyError> {
    for row in catalog.keys().await? {
        let Some(sealed) = catalog.sealed_key(row.id).await? else {
            continue;
        };
        let Some(was) = &sealed.identity else {
            continue;
        };
        if opens(to.key, &sealed) {
            if sealed.under != to.number {
                let written = catalog.reseal_key(to.number, row.id, was, was).await;
                done.note_key(row.id, written)?;
            }
            continue;
        }
        match keys::open(Some(keys), &sealed) {
            Ok(identity) => {
                let fresh = keys::seal(to.key, row.id, &identity)?;
                // One that was shredded meanwhile stays so.
                let written = catalog.reseal_key(to.number, row.id, was, &fresh).await;
                done.note_key(row.id, written)?;
            }
            Err(_) => done.unopened_keys.note(row.id.to_string()),
        }
    }
    Ok(())
}

fn opens(key: &MasterKey, sealed: &SealedKey) -> bool {
    keys::open(Some(&MasterKeys::from(key.clone())), sealed).is_ok()
}

//! Seals everything anew under the sealing key, row by row. It can be interrupted at any time and run again.

use lastgood_jobs::error::chain;
use serde::Serialize;
use uuid::Uuid;

use super::{MasterKeyError, Sealer};
use crate::{
    catalog::{Catalog, CatalogError, FreshUrl, SealedCount, SealedKey, SealedUrl},
    keys,
    secret::{MasterKey, MasterKeys, SecretError},
    signing::Signer,
};

/// How many URLs are read and written in one batch.
const AT_ONCE: i64 = 200;
/// How many of the remaining things are named.
const NAMED: usize = 20;

/// A number of things, and the names of the first.
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

/// What resealing did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Resealed {
    /// URLs that were resealed.
    pub urls: u64,
    /// Archive keys that were resealed.
    pub keys: u64,
    /// Signing keys that were resealed: one or none.
    pub signing_keys: u64,
    /// Resources whose URL no key of this process opens.
    pub unopened_urls: Named,
    /// Archive keys whose secret no key of this process opens.
    pub unopened_keys: Named,
    /// The signing key, if no key of this process opens it.
    pub unopened_signing_keys: Named,
    /// Resources and archive keys whose row the catalog refuses to change, with the reason.
    pub refused: Named,
    /// Removed resources whose URL no key of this process opens. Nothing needs these URLs.
    pub of_removed: u64,
    /// What is still sealed under other keys, counted at the end.
    pub others: Vec<SealedCount>,
}

impl Resealed {
    /// Notes the outcome for an archive key. A row that the catalog refuses to change does not stop the others.
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

    /// Returns whether everything is sealed under one key and opens.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let unopened =
            self.unopened_urls.all + self.unopened_keys.all + self.unopened_signing_keys.all;
        unopened + self.refused.all == 0 && self.others.is_empty()
    }

    /// Returns whether the other keys are no longer needed.
    #[must_use]
    pub fn needs_no_other(&self) -> bool {
        self.others.is_empty() && self.refused.all == 0
    }
}

/// Reseals under `to` everything that opens with a key of this process and is not sealed under `to` yet.
///
/// What no key opens, and rows that the catalog refuses to change, are left as they are, reported, and do not stop the others.
///
/// A URL that is given anew in the meantime is never replaced by the old one. Whatever is stored in the meantime is sealed under `to`,
/// because the catalog refuses anything else.
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
    reseal_signing_key(catalog, keys, to, &mut done).await?;
    done.others = others(catalog, to.number).await?;
    Ok(done)
}

/// Returns the URLs that have to be written.
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
            // The row may name the wrong key; the seal decides.
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

/// Returns how much is sealed under master keys other than `number`.
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
                // A key that was shredded in the meantime stays shredded.
                let written = catalog.reseal_key(to.number, row.id, was, &fresh).await;
                done.note_key(row.id, written)?;
            }
            Err(_) => done.unopened_keys.note(row.id.to_string()),
        }
    }
    Ok(())
}

async fn reseal_signing_key(
    catalog: &Catalog,
    keys: &MasterKeys,
    to: &Sealer<'_>,
    done: &mut Resealed,
) -> Result<(), MasterKeyError> {
    let Some(sealed) = catalog.signing_key_in_use().await? else {
        return Ok(());
    };
    let is_under_it = Signer::open(Some(&MasterKeys::from(to.key.clone())), &sealed).is_ok();
    if is_under_it && sealed.under == to.number {
        return Ok(());
    }
    let Ok(signer) = Signer::open(Some(keys), &sealed) else {
        done.unopened_signing_keys.note(sealed.id.to_string());
        return Ok(());
    };
    let fresh = signer.sealed(sealed.id, to.key)?;
    let written = catalog.reseal_signing_key(to.number, &sealed, &fresh).await;
    match written {
        Ok(written) => done.signing_keys += u64::from(written),
        Err(error) if error.is_of_a_row() => {
            let text = format!("signing key {}: {}", sealed.id, chain(&error));
            done.refused.note(text);
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn opens(key: &MasterKey, sealed: &SealedKey) -> bool {
    keys::open(Some(&MasterKeys::from(key.clone())), sealed).is_ok()
}

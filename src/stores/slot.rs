//! One configured store, which may not exist yet, or may not be the one meant.

use std::sync::OnceLock;

use lastgood_jobs::{
    error::JobError,
    storage::{Binding, BucketAccess, Storage, StorageUrl, WriteOnce},
};

use super::{
    NamedStore, StoresError, Stranger,
    recognise::{Known, Recognised, recognise},
};
use crate::catalog::{Catalog, CatalogError};

/// A store to be opened.
#[derive(Debug, Clone)]
pub(super) struct Configured {
    pub(super) name: String,
    pub(super) url: StorageUrl,
    pub(super) access: BucketAccess,
}

/// One of the stores, which may not be open yet.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) configured: Configured,
    pub(super) opened: OnceLock<NamedStore>,
    /// Which store is meant; only for writing.
    pub(super) binding: Option<Binding>,
}

impl Slot {
    /// Opens the store. It must exist, unless `is_made` allows creating it.
    pub(super) async fn open(&self, is_made: bool) -> Result<&NamedStore, JobError> {
        if let Some(opened) = self.opened.get() {
            return Ok(opened);
        }
        let Configured { name, url, access } = &self.configured;
        let storage = if is_made {
            Storage::open_with(url, access).await?
        } else {
            Storage::open_existing(url, access).await?
        };
        let storage = match &self.binding {
            Some(binding) => storage.bound(binding.clone()),
            None => storage,
        };
        Ok(self.opened.get_or_init(|| NamedStore {
            name: name.clone(),
            url: url.clone(),
            storage,
        }))
    }

    pub(super) fn failed(&self, error: JobError) -> StoresError {
        StoresError::Open {
            store: self.configured.name.clone(),
            url: self.configured.url.clone(),
            source: Box::new(error),
        }
    }

    pub(super) fn is_stranger(&self, why: Stranger) -> StoresError {
        StoresError::Stranger {
            store: self.configured.name.clone(),
            url: self.configured.url.clone(),
            source: Box::new(why),
        }
    }

    /// Makes sure, before anything is written, that the store is the one meant. Claims a store that nobody has used.
    pub(super) async fn recognise(
        &self,
        names: &[String],
        catalog: &Catalog,
    ) -> Result<(), Unrecognised> {
        let (Some(store), Some(binding)) = (self.opened.get(), &self.binding) else {
            return Ok(());
        };
        if binding.store().is_some() {
            return store.storage.require().await.map_err(Unrecognised::Away);
        }
        let known = Known::read(catalog, names).await;
        let known = known.map_err(Unrecognised::Catalog)?;
        let accepts_overwrites = self.configured.access.write_once == WriteOnce::Looked;
        match recognise(store, &known, accepts_overwrites, Some(catalog)).await? {
            Recognised::Is(id) => binding.expect(id),
            Recognised::Unclaimed => {}
        }
        Ok(())
    }
}

/// Why a store was not recognised as the one meant.
#[derive(Debug)]
pub(super) enum Unrecognised {
    /// It could not be asked, which may pass.
    Away(JobError),
    /// It is not the one meant.
    Stranger(Stranger),
    Catalog(CatalogError),
}

//! Which store is meant by an address, or by a name in the stores file?

use std::path::Path;

use lastgood_jobs::{
    error::JobError,
    storage::{Storage, StorageUrl},
};

use super::{Configured, NamedStore, PRIMARY, StoresError, environment, file};

/// Opens the store at an address, with the environment's keys if it needs any. The store must exist.
pub async fn open(url: &StorageUrl) -> Result<Storage, StoresError> {
    let access = environment::access(PRIMARY)?;
    let opened = Storage::open_existing(url, &access).await;
    opened.map_err(|error| StoresError::Open {
        store: PRIMARY.to_owned(),
        url: url.clone(),
        source: Box::new(error),
    })
}

/// Opens one store for reading: the one with this name in the stores file, or the one at this address there, or else the one at this
/// address, with the environment's keys if it needs any.
///
/// The store must exist. No other store is contacted, and no other store's keys are needed. A directory given by its path is opened even if
/// the stores file cannot be used.
pub async fn open_one(store: &str, file: Option<&Path>) -> Result<NamedStore, StoresError> {
    let url: StorageUrl = store.parse().map_err(StoresError::FromAddress)?;
    let known = match file.map(|file| file::find(file, store, &url)).transpose() {
        Err(StoresError::Read { .. } | StoresError::File { .. }) if url.is_path() => None,
        known => known?.flatten(),
    };
    let is_known = known.is_some();
    let Configured { name, url, access } = match known {
        Some(known) => known,
        None => Configured {
            name: PRIMARY.to_owned(),
            url,
            access: environment::access(PRIMARY)?,
        },
    };
    match Storage::open_existing(&url, &access).await {
        Ok(storage) => Ok(NamedStore { name, url, storage }),
        Err(JobError::NoStore { .. }) if !is_known && !url.is_path() => {
            Err(StoresError::NoSuchStore {
                store: store.to_owned(),
                known: names(file),
            })
        }
        Err(source) => Err(StoresError::Open {
            store: name,
            url,
            source: Box::new(source),
        }),
    }
}

/// Returns text that says which names stores have.
fn names(file: Option<&Path>) -> String {
    let Some(file) = file else {
        return "no stores file is given (--stores, LASTGOOD_STORES)".to_owned();
    };
    let path = file.display();
    match file::names(file) {
        Ok((first, others)) => {
            let names = std::iter::once(first).chain(others).collect::<Vec<_>>();
            format!("the stores file {path} names {}", names.join(", "))
        }
        Err(_) => format!("the stores file {path} cannot be read"),
    }
}

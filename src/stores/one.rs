//! Which store does somebody mean who names one, by its address or as the stores file does?

use std::path::Path;

use lastgood_jobs::{
    error::JobError,
    storage::{Storage, StorageUrl},
};

use super::{Configured, NamedStore, PRIMARY, StoresError, environment, file};

/// Opens the store at an address, with the keys of the environment where it needs any. It must be there.
pub async fn open(url: &StorageUrl) -> Result<Storage, StoresError> {
    let access = environment::access(PRIMARY)?;
    let opened = Storage::open_existing(url, &access).await;
    opened.map_err(|error| StoresError::Open {
        store: PRIMARY.to_owned(),
        url: url.clone(),
        source: Box::new(error),
    })
}

/// Opens the one store that somebody means, to read from: the one that the stores file calls so, the one at that address there, or
/// else the one at that address, with the keys of the environment where it needs any. It must be there. No other store is asked, and
/// no other's keys are needed. Neither is the stores file where a directory is given by its path.
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

/// Says which stores have names.
fn names(file: Option<&Path>) -> String {
    let Some(file) = file else {
        return "names are those of a stores file, and none is given (--stores, LASTGOOD_STORES)"
            .to_owned();
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

//! Why the stores cannot be used.

use lastgood_jobs::{
    error::JobError,
    storage::{StorageUrl, StorageUrlError},
};

use super::Stranger;
use crate::{catalog::CatalogError, secret::SecretError};

/// Why the stores cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoresError {
    /// The address given for the only store is not valid.
    #[error("--storage (LASTGOOD_STORAGE) cannot be used: {0}")]
    Address(StorageUrlError),
    /// The address of a store to read from is not valid.
    #[error("--from cannot be used: {0}")]
    FromAddress(StorageUrlError),
    /// No store has this name.
    #[error("there is no store {store:?}: {known}, and no directory of that name holds a store")]
    NoSuchStore {
        /// The name that was given.
        store: String,
        /// Which names there are.
        known: String,
    },
    /// The stores file cannot be read.
    #[error("cannot read the stores file {path}")]
    Read {
        /// Its path.
        path: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The stores file does not describe stores.
    #[error("the stores file {path} cannot be used: {why}")]
    File {
        /// Its path.
        path: String,
        /// What is wrong with it. Never shows a value.
        why: String,
    },
    /// A value in the environment cannot be used.
    #[error("{variable} cannot be used: {why}")]
    Environment {
        /// The variable's name.
        variable: &'static str,
        /// What is wrong with it. Never shows the value.
        why: String,
    },
    /// A key cannot be read.
    #[error("the {what} of store {store:?} cannot be used")]
    Secret {
        /// Which key.
        what: &'static str,
        /// The store's name.
        store: String,
        /// Why not.
        #[source]
        source: SecretError,
    },
    /// A store does not open.
    #[error("store {store:?} ({url}) cannot be opened")]
    Open {
        /// The store's name.
        store: String,
        /// The store's address.
        url: StorageUrl,
        /// Why not.
        #[source]
        source: Box<JobError>,
    },
    /// A store is not the one meant, or may not be written to.
    #[error("store {store:?} ({url}) cannot be used")]
    Stranger {
        /// The store's name.
        store: String,
        /// The store's address.
        url: StorageUrl,
        /// Why not.
        #[source]
        source: Box<Stranger>,
    },
    /// The catalog did not answer which stores are meant.
    #[error("cannot read from the catalog which stores are expected")]
    Catalog(#[from] CatalogError),
}

impl StoresError {
    /// Returns the name of the store, if the error is that it does not exist.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        match self {
            Self::Open { store, source, .. } if matches!(**source, JobError::NoStore { .. }) => {
                Some(store.clone())
            }
            Self::Open { .. }
            | Self::Address(_)
            | Self::FromAddress(_)
            | Self::NoSuchStore { .. }
            | Self::Read { .. }
            | Self::File { .. }
            | Self::Environment { .. }
            | Self::Secret { .. }
            | Self::Stranger { .. }
            | Self::Catalog(_) => None,
        }
    }
}

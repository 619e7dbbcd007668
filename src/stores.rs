//! Where do archives live: which stores are there, which is the first, and how is each reached?
//!
//! `--storage URL` is one store, called `primary`, with the keys of the standard `AWS_*` variables. A stores file names
//! several: the first takes the backups, the others get copies.

mod compare;
mod environment;
mod file;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use clap::Args;
use lastgood_jobs::{
    error::{JobError, chain},
    storage::{BucketAccess, Storage, StorageUrl, StorageUrlError},
};

pub use self::compare::{Compared, compare};
use crate::secret::SecretError;

/// The one store of an installation that has no stores file.
pub const PRIMARY: &str = "primary";

/// Which stores there are.
#[derive(Debug, Clone, Args)]
pub struct StorageArgs {
    /// Where archives live: a directory, `file:///path`, or `s3://bucket/prefix` with the standard AWS variables
    // A text: what cannot be parsed may hold a key, and would be printed.
    #[arg(
        long,
        env = "LASTGOOD_STORAGE",
        hide_env_values = true,
        default_value = "lastgood-store",
        value_name = "URL"
    )]
    pub storage: String,
    /// A file that names several stores: the first takes the backups, the others get copies; in place of --storage
    #[arg(long, env = "LASTGOOD_STORES", value_name = "FILE")]
    pub stores: Option<PathBuf>,
}

/// Why the stores cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoresError {
    /// The one store's address is none.
    #[error("--storage (LASTGOOD_STORAGE) cannot be used: {0}")]
    Address(StorageUrlError),
    /// The stores file cannot be read.
    #[error("cannot read the stores file {path}")]
    Read {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The stores file does not say what stores there are.
    #[error("the stores file {path} cannot be used: {why}")]
    File {
        /// Its path.
        path: String,
        /// Why. Never shows a value.
        why: String,
    },
    /// A value in the environment cannot be used.
    #[error("{variable} cannot be used: {why}")]
    Environment {
        /// Its name.
        variable: &'static str,
        /// Why. Never shows the value.
        why: String,
    },
    /// A key cannot be had.
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
    #[error("store {store:?} ({url}) does not open")]
    Open {
        /// Its name.
        store: String,
        /// Its address.
        url: StorageUrl,
        /// Why.
        #[source]
        source: Box<JobError>,
    },
}

impl StoresError {
    /// Returns the name of the store that is not where it should be.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        match self {
            Self::Open { store, source, .. } if matches!(**source, JobError::NoStore { .. }) => {
                Some(store.clone())
            }
            Self::Open { .. }
            | Self::Address(_)
            | Self::Read { .. }
            | Self::File { .. }
            | Self::Environment { .. }
            | Self::Secret { .. } => None,
        }
    }
}

/// A store, open, under its name.
#[derive(Debug, Clone)]
pub struct NamedStore {
    /// What the catalog calls it.
    pub name: String,
    /// Its address.
    pub url: StorageUrl,
    /// The store.
    pub storage: Storage,
}

/// What becomes of a directory in which no store was ever made. A bucket is never made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// A store is made in it.
    Made,
    /// It is refused: all of them are needed.
    Refused,
    /// It is left out, with an error in the log: whoever only reads must not take an empty store for the one that is meant, and
    /// can do with another. One at least must be there.
    LeftOut,
    /// A store is made in it, unless it has one of these names: restore points are on record there, so that it is not mounted,
    /// or is another one. The primary is then refused, and a mirror left out: backups go on without it.
    MadeUnless(BTreeSet<String>),
}

impl Absent {
    fn is_made(&self, name: &str) -> bool {
        match self {
            Self::Made => true,
            Self::Refused | Self::LeftOut => false,
            Self::MadeUnless(used) => !used.contains(name),
        }
    }

    fn is_left_out(&self, is_primary: bool) -> bool {
        match self {
            Self::Made | Self::Refused => false,
            Self::LeftOut => true,
            Self::MadeUnless(_) => !is_primary,
        }
    }
}

/// What is to be opened.
#[derive(Debug, Clone)]
struct Configured {
    name: String,
    url: StorageUrl,
    access: BucketAccess,
}

/// All stores: at least one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stores {
    primary: Arc<NamedStore>,
    mirrors: Arc<[NamedStore]>,
}

impl Stores {
    /// Opens every store that is configured. Of buckets nothing is asked yet.
    pub async fn open(args: &StorageArgs, absent: &Absent) -> Result<Self, StoresError> {
        let (mut opened, mut left_out) = (Vec::new(), None);
        for (index, Configured { name, url, access }) in configured(args)?.into_iter().enumerate() {
            let storage = if absent.is_made(&name) {
                Storage::open_with(&url, &access).await
            } else {
                Storage::open_existing(&url, &access).await
            };
            match storage {
                Ok(storage) => opened.push(NamedStore { name, url, storage }),
                Err(error) => {
                    let is_absent = matches!(error, JobError::NoStore { .. });
                    let failed = StoresError::Open {
                        store: name,
                        url,
                        source: Box::new(error),
                    };
                    if !is_absent || !absent.is_left_out(index == 0) {
                        return Err(failed);
                    }
                    tracing::error!(
                        error = chain(&failed),
                        "this process goes on without one of its stores: start it again once that is there"
                    );
                    left_out = left_out.or(Some(failed));
                }
            }
        }
        let mut opened = opened.into_iter();
        let primary = opened.next().ok_or_else(|| {
            left_out.unwrap_or_else(|| StoresError::File {
                path: String::new(),
                why: "it names no store".to_owned(),
            })
        })?;
        Ok(Self {
            primary: Arc::new(primary),
            mirrors: opened.collect(),
        })
    }

    /// Returns stores that are one directory: for tests.
    #[must_use]
    pub fn of(name: &str, url: StorageUrl, storage: Storage) -> Self {
        let name = name.to_owned();
        Self {
            primary: Arc::new(NamedStore { name, url, storage }),
            mirrors: Arc::new([]),
        }
    }

    /// Returns the store that takes the backups.
    #[must_use]
    pub fn primary(&self) -> &NamedStore {
        &self.primary
    }

    /// Returns the stores that get copies.
    #[must_use]
    pub fn mirrors(&self) -> &[NamedStore] {
        &self.mirrors
    }

    /// Returns a store by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&NamedStore> {
        self.iter().find(|store| store.name == name)
    }

    /// Returns all stores, the primary first.
    pub fn iter(&self) -> impl Iterator<Item = &NamedStore> {
        std::iter::once(&*self.primary).chain(self.mirrors.iter())
    }
}

/// Returns the names of the primary store and of its mirrors, without opening any and without a key at hand.
pub fn names(args: &StorageArgs) -> Result<(String, Vec<String>), StoresError> {
    if let Some(path) = &args.stores {
        return file::names(path);
    }
    let _checked: StorageUrl = args.storage.parse().map_err(StoresError::Address)?;
    Ok((PRIMARY.to_owned(), Vec::new()))
}

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

fn configured(args: &StorageArgs) -> Result<Vec<Configured>, StoresError> {
    match &args.stores {
        Some(path) => file::read(path),
        None => Ok(vec![Configured {
            name: PRIMARY.to_owned(),
            url: args.storage.parse().map_err(StoresError::Address)?,
            access: environment::access(PRIMARY)?,
        }]),
    }
}

#[cfg(test)]
mod tests;

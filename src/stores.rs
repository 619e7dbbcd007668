//! Where do archives live: which stores are there, which is the primary, and how is each reached?
//!
//! `--storage URL` configures one store, called `primary`, whose keys come from the standard `AWS_*` variables. A stores file names
//! several: the first takes the backups, the others get copies.

mod compare;
mod each;
mod environment;
mod error;
mod file;
mod keys;
mod lent;
mod one;
mod recognise;
mod slot;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use clap::Args;
use lastgood_jobs::{
    error::{JobError, chain},
    storage::{Binding, Storage, StorageUrl},
};

pub use self::{
    compare::{Compared, compare},
    each::{Candidate, candidates},
    error::StoresError,
    one::{open, open_one},
    recognise::Stranger,
};
use self::{
    recognise::{Known, Recognised, recognise},
    slot::{Configured, Slot, Unrecognised},
};
use crate::catalog::Catalog;

/// The name of the only store of an installation without a stores file.
pub const PRIMARY: &str = "primary";

/// Which stores there are.
#[derive(Debug, Clone, Args)]
pub struct StorageArgs {
    /// Where archives live: a directory, `file:///path`, or `s3://bucket/prefix` with the standard AWS variables
    // A `String`: text that does not parse may contain a key, and clap would print it.
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

/// An open store and its name.
#[derive(Debug, Clone)]
pub struct NamedStore {
    /// Its name in the catalog.
    pub name: String,
    /// Its address.
    pub url: StorageUrl,
    /// The store.
    pub storage: Storage,
}

/// What to do about a directory that holds no store yet. A bucket is never created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// Create a store in it.
    Made,
    /// Refuse it: all stores are needed.
    Refused,
    /// Leave it out and log an error: a process that only reads must not take an empty store for the right one, and can work with
    /// another. At least one store must be there.
    LeftOut,
    /// Create a store in it, unless it has one of these names. Those stores have restore points on record, so the directory is not
    /// mounted, or is another one. Then the primary is refused, and a mirror is left out: backups go on without it.
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

/// What to do about a mirror that cannot be written to because it is not there, or not the one meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirrors {
    /// Leave it for later: backups go on without it, see [`Stores::look`].
    MayWait,
    /// Refuse it: all stores are needed.
    AreNeeded,
}

/// All stores, at least one of them open. Clones are cheap, and share the stores that are opened later.
#[derive(Debug, Clone)]
pub struct Stores {
    primary: Arc<NamedStore>,
    slots: Arc<[Slot]>,
}

impl Stores {
    /// Opens every configured store for reading. Sends no request to buckets yet.
    pub async fn open(args: &StorageArgs, absent: &Absent) -> Result<Self, StoresError> {
        Self::opened(args, absent, |_| None).await
    }

    /// Opens the stores for writing. Each is compared with the catalog's record of it, and one that nobody has used gets an identity. A
    /// store that cannot be asked is opened all the same, but nothing is written to it until it can.
    ///
    /// Fails with [`StoresError::Stranger`] if a store is not the one meant, belongs to another installation, is the same place as another
    /// store, or overwrites objects that must be written once.
    pub async fn open_to_write(
        args: &StorageArgs,
        mirrors: Mirrors,
        catalog: &Catalog,
    ) -> Result<Self, StoresError> {
        let (primary, others) = names(args)?;
        let names: Vec<String> = std::iter::once(primary).chain(others).collect();
        let used = catalog.stores_on_record(&names).await?;
        let own = catalog.installations().await?.own;
        let absent = Absent::MadeUnless(used.into_iter().collect());
        let stores = Self::opened(args, &absent, |_| Some(Binding::of(own))).await?;
        for (index, slot) in stores.slots.iter().enumerate() {
            let may_wait = index > 0 && mirrors == Mirrors::MayWait;
            if slot.opened.get().is_none() && !may_wait {
                // It was left out because it was absent: opening it again yields the precise error.
                slot.open(false).await.map_err(|error| slot.failed(error))?;
            }
            match slot.recognise(&names, catalog).await {
                Ok(()) => {}
                Err(Unrecognised::Catalog(error)) => return Err(error.into()),
                Err(Unrecognised::Stranger(why)) if why.is_of_the_configuration() || !may_wait => {
                    return Err(slot.is_stranger(why));
                }
                Err(Unrecognised::Stranger(why)) => tracing::error!(
                    error = chain(&slot.is_stranger(why)),
                    "a mirror is not the expected store: this process continues without it until it is"
                ),
                Err(Unrecognised::Away(error)) if mirrors == Mirrors::AreNeeded => {
                    return Err(slot.failed(error));
                }
                Err(Unrecognised::Away(error)) => tracing::error!(
                    error = chain(&slot.failed(error)),
                    "cannot read a store's identity: nothing is written to the store until it can be read"
                ),
            }
        }
        Ok(stores)
    }

    async fn opened(
        args: &StorageArgs,
        absent: &Absent,
        binding: impl Fn(&str) -> Option<Binding>,
    ) -> Result<Self, StoresError> {
        let slots: Arc<[Slot]> = configured(args)?
            .into_iter()
            .map(|configured| Slot {
                binding: binding(&configured.name),
                configured,
                opened: OnceLock::new(),
            })
            .collect();
        let mut left_out = None;
        for (index, slot) in slots.iter().enumerate() {
            if let Err(error) = slot.open(absent.is_made(&slot.configured.name)).await {
                let is_absent = matches!(error, JobError::NoStore { .. });
                let failed = slot.failed(error);
                if !is_absent || !absent.is_left_out(index == 0) {
                    return Err(failed);
                }
                tracing::error!(
                    error = chain(&failed),
                    "a store is missing: this process continues without it"
                );
                left_out = left_out.or(Some(failed));
            }
        }
        let first = slots.iter().find_map(|slot| slot.opened.get());
        let primary = first.cloned().ok_or_else(|| {
            left_out.unwrap_or_else(|| StoresError::File {
                path: String::new(),
                why: "it names no store".to_owned(),
            })
        })?;
        Ok(Self {
            primary: Arc::new(primary),
            slots,
        })
    }

    /// Checks every store again: opens those that were absent, recognises those that could not be asked, and makes sure that all others are
    /// still the same. Returns the faults, each with the store's name.
    pub async fn look(&self, catalog: &Catalog) -> Vec<(String, String)> {
        let names: Vec<String> = self
            .slots
            .iter()
            .map(|slot| slot.configured.name.clone())
            .collect();
        let mut faults = Vec::new();
        for slot in &*self.slots {
            let was_open = slot.opened.get().is_some();
            let looked = match slot.open(false).await {
                Ok(_) => slot.recognise(&names, catalog).await,
                Err(error) => Err(Unrecognised::Away(error)),
            };
            let name = &slot.configured.name;
            match looked {
                Ok(()) if !was_open => tracing::info!(store = name, "a missing store is back"),
                // An error of the catalog says nothing about the store.
                Ok(()) | Err(Unrecognised::Catalog(_)) => {}
                Err(Unrecognised::Away(error)) => faults.push((name.clone(), error.report())),
                Err(Unrecognised::Stranger(why)) => faults.push((name.clone(), chain(&why))),
            }
        }
        faults
    }

    /// Returns stores that consist of one directory, for tests.
    #[must_use]
    pub fn of(name: &str, url: StorageUrl, storage: Storage) -> Self {
        let name = name.to_owned();
        Self {
            primary: Arc::new(NamedStore { name, url, storage }),
            slots: Arc::new([]),
        }
    }

    /// Returns the store that takes the backups.
    #[must_use]
    pub fn primary(&self) -> &NamedStore {
        &self.primary
    }

    /// Returns the mirrors, which get copies, as far as they are open.
    pub fn mirrors(&self) -> impl Iterator<Item = &NamedStore> {
        let opened = self.slots.iter().filter_map(|slot| slot.opened.get());
        opened.filter(|store| store.name != self.primary.name)
    }

    /// Returns a store by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&NamedStore> {
        self.iter().find(|store| store.name == name)
    }

    /// Returns all open stores, the primary first.
    pub fn iter(&self) -> impl Iterator<Item = &NamedStore> {
        std::iter::once(&*self.primary).chain(self.mirrors())
    }
}

/// Returns the id of a store without writing to it; `None`: the store has no identity yet.
///
/// Fails with [`StoresError::Stranger`] if it is not the one meant.
pub async fn identify(
    store: &NamedStore,
    args: &StorageArgs,
    catalog: &Catalog,
) -> Result<Option<uuid::Uuid>, StoresError> {
    let (primary, mirrors) = names(args)?;
    let names: Vec<String> = std::iter::once(primary).chain(mirrors).collect();
    let known = Known::read(catalog, &names).await?;
    match recognise(store, &known, true, None).await {
        Ok(Recognised::Is(id)) => Ok(Some(id)),
        Ok(Recognised::Unclaimed) => Ok(None),
        Err(Unrecognised::Away(error)) => Err(StoresError::Open {
            store: store.name.clone(),
            url: store.url.clone(),
            source: Box::new(error),
        }),
        Err(Unrecognised::Stranger(why)) => Err(StoresError::Stranger {
            store: store.name.clone(),
            url: store.url.clone(),
            source: Box::new(why),
        }),
        Err(Unrecognised::Catalog(error)) => Err(error.into()),
    }
}

/// Returns the names of the primary store and of its mirrors. Opens none of them, and needs no keys.
pub fn names(args: &StorageArgs) -> Result<(String, Vec<String>), StoresError> {
    if let Some(path) = &args.stores {
        return file::names(path);
    }
    let _checked: StorageUrl = args.storage.parse().map_err(StoresError::Address)?;
    Ok((PRIMARY.to_owned(), Vec::new()))
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

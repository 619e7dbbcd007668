//! Where do archives live: which stores are there, which is the first, and how is each reached?
//!
//! `--storage URL` is one store, called `primary`, with the keys of the standard `AWS_*` variables. A stores file names
//! several: the first takes the backups, the others get copies.

mod compare;
mod each;
mod environment;
mod file;
mod keys;
mod lent;
mod one;
mod recognise;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use clap::Args;
use lastgood_jobs::{
    error::{JobError, chain},
    storage::{Binding, BucketAccess, Storage, StorageUrl, StorageUrlError, WriteOnce},
};

use self::recognise::{Known, Recognised, recognise};
pub use self::{
    compare::{Compared, compare},
    each::{Candidate, candidates},
    one::{open, open_one},
    recognise::Stranger,
};
use crate::{
    catalog::{Catalog, CatalogError},
    secret::SecretError,
};

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
    /// The address of a store to read from is none.
    #[error("--from cannot be used: {0}")]
    FromAddress(StorageUrlError),
    /// Nothing is called so.
    #[error("there is no store {store:?}: {known}, and no directory of that name holds a store")]
    NoSuchStore {
        /// What it was called.
        store: String,
        /// Which names there are.
        known: String,
    },
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
    /// A store is not one that may be written to.
    #[error("store {store:?} ({url}) cannot be used")]
    Stranger {
        /// Its name.
        store: String,
        /// Its address.
        url: StorageUrl,
        /// Why.
        #[source]
        source: Box<Stranger>,
    },
    /// The catalog could not be asked which stores are meant.
    #[error("cannot ask the catalog which stores are meant")]
    Catalog(#[from] CatalogError),
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

/// What becomes of a mirror that cannot be written to: not there, or not the one that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirrors {
    /// It is left for later: backups go on without it, see [`Stores::look`].
    MayWait,
    /// It is refused: all of them are needed.
    AreNeeded,
}

/// One of the stores, which may not be there yet.
#[derive(Debug)]
struct Slot {
    configured: Configured,
    opened: OnceLock<NamedStore>,
    /// For whoever writes: which store is meant.
    binding: Option<Binding>,
}

/// All stores: at least one that is open. Cheap to clone, and what one clone opens later, all of them have.
#[derive(Debug, Clone)]
pub struct Stores {
    primary: Arc<NamedStore>,
    slots: Arc<[Slot]>,
}

impl Slot {
    /// Opens the store; it must be there unless it `is_made`.
    async fn open(&self, is_made: bool) -> Result<&NamedStore, JobError> {
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

    fn failed(&self, error: JobError) -> StoresError {
        StoresError::Open {
            store: self.configured.name.clone(),
            url: self.configured.url.clone(),
            source: Box::new(error),
        }
    }

    fn is_stranger(&self, why: Stranger) -> StoresError {
        StoresError::Stranger {
            store: self.configured.name.clone(),
            url: self.configured.url.clone(),
            source: Box::new(why),
        }
    }

    /// Makes sure, for whoever writes, that the store is the one that is meant; one that nobody has used is claimed.
    async fn recognise(&self, names: &[String], catalog: &Catalog) -> Result<(), Unrecognised> {
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

/// Why a store is not known to be the one that is meant.
#[derive(Debug)]
enum Unrecognised {
    /// It could not be asked: that may pass.
    Away(JobError),
    /// It is another one.
    Stranger(Stranger),
    Catalog(CatalogError),
}

impl Stores {
    /// Opens every store that is configured, to read from. Of buckets nothing is asked yet.
    pub async fn open(args: &StorageArgs, absent: &Absent) -> Result<Self, StoresError> {
        Self::opened(args, absent, |_| None).await
    }

    /// Opens the stores to write to them: each is compared with what the catalog has on record of it, and one that nobody has
    /// used is given an identity. One that could not be asked is opened all the same, and takes nothing until it was.
    ///
    /// [`StoresError::Stranger`] where a store is another one than is meant, is another installation's, is one place with
    /// another store, or overwrites what must be written once.
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
                // It was left out for its absence: say so in its own words.
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
                    "this process goes on without one of its mirrors until it is the one that is meant"
                ),
                Err(Unrecognised::Away(error)) if mirrors == Mirrors::AreNeeded => {
                    return Err(slot.failed(error));
                }
                Err(Unrecognised::Away(error)) => tracing::error!(
                    error = chain(&slot.failed(error)),
                    "a store cannot be asked what it is: nothing is written to it until it can"
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
                    "this process goes on without one of its stores"
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

    /// Looks at every store again: opens those that were not there, recognises those that could not be asked, and makes sure that
    /// all others are still what they were. Returns what is wrong, by the store's name.
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
                Ok(()) if !was_open => tracing::info!(store = name, "a store is there now"),
                // An error of the catalog says nothing about the store.
                Ok(()) | Err(Unrecognised::Catalog(_)) => {}
                Err(Unrecognised::Away(error)) => faults.push((name.clone(), error.report())),
                Err(Unrecognised::Stranger(why)) => faults.push((name.clone(), chain(&why))),
            }
        }
        faults
    }

    /// Returns stores that are one directory: for tests.
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

    /// Returns the stores that get copies, those that are there.
    pub fn mirrors(&self) -> impl Iterator<Item = &NamedStore> {
        let opened = self.slots.iter().filter_map(|slot| slot.opened.get());
        opened.filter(|store| store.name != self.primary.name)
    }

    /// Returns a store by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&NamedStore> {
        self.iter().find(|store| store.name == name)
    }

    /// Returns all stores that are there, the primary first.
    pub fn iter(&self) -> impl Iterator<Item = &NamedStore> {
        std::iter::once(&*self.primary).chain(self.mirrors())
    }
}

/// Returns the id of a store that is only looked at; `None`: it is nobody's yet.
///
/// [`StoresError::Stranger`] where it is not the one that is meant.
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

/// Returns the names of the primary store and of its mirrors, without opening any and without a key at hand.
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

//! Opens each store by itself, for commands that report on all of them. One that cannot be opened hides no other.

use lastgood_jobs::storage::{Patience, Storage, StorageUrl};

use super::{Configured, NamedStore, StorageArgs, StoresError, configured};

/// A configured store that is not open.
#[derive(Debug, Clone)]
pub struct Candidate(Configured);

/// Returns every configured store, the primary first, without opening any. `patience` applies to all requests to them.
///
/// Reads the stores file and the key files, however long that takes: [`crate::blocking`] can bound it.
pub fn candidates(args: &StorageArgs, patience: Patience) -> Result<Vec<Candidate>, StoresError> {
    let all = configured(args)?.into_iter().map(|mut configured| {
        configured.access.patience = patience;
        Candidate(configured)
    });
    Ok(all.collect())
}

impl Candidate {
    /// Returns its name in the catalog.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns its address.
    #[must_use]
    pub fn url(&self) -> &StorageUrl {
        &self.0.url
    }

    /// Opens it for reading. It must exist: nothing is created.
    pub async fn open(&self) -> Result<NamedStore, StoresError> {
        let Configured { name, url, access } = &self.0;
        let opened = Storage::open_existing(url, access).await;
        let storage = opened.map_err(|error| StoresError::Open {
            store: name.clone(),
            url: url.clone(),
            source: Box::new(error),
        })?;
        Ok(NamedStore {
            name: name.clone(),
            url: url.clone(),
            storage,
        })
    }
}

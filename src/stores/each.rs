//! How is each store opened by itself, for whoever reports on all of them? One that cannot be opened hides no other.

use lastgood_jobs::storage::{Patience, Storage, StorageUrl};

use super::{Configured, NamedStore, StorageArgs, StoresError, configured};

/// A store that is configured, and not open.
#[derive(Debug, Clone)]
pub struct Candidate(Configured);

/// Returns every store that is configured, the primary first, to be asked with this patience. Opens none.
///
/// Reads the stores file and the keys' files, for as long as that takes: [`crate::blocking`] has the way to bound it.
pub fn candidates(args: &StorageArgs, patience: Patience) -> Result<Vec<Candidate>, StoresError> {
    let all = configured(args)?.into_iter().map(|mut configured| {
        configured.access.patience = patience;
        Candidate(configured)
    });
    Ok(all.collect())
}

impl Candidate {
    /// Returns what the catalog calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns its address.
    #[must_use]
    pub fn url(&self) -> &StorageUrl {
        &self.0.url
    }

    /// Opens it, to read from. It must be there: nothing is made.
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

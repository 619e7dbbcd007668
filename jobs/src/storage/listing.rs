//! Which objects does a store list, kept small enough for millions of them?

use std::hash::{BuildHasher as _, RandomState};

use futures::TryStreamExt as _;

use super::{Backend, Storage, failure};
use crate::error::JobError;

/// The keys that a store listed below `v1/`, as fingerprints of eight bytes.
///
/// Two keys of which one is there have the same fingerprint once in 2⁶⁴ pairs: then a missing object passes for one that is there,
/// until it is read back.
#[derive(Debug)]
pub struct Listing {
    hasher: RandomState,
    fingerprints: Vec<u64>,
}

impl Listing {
    /// Returns whether the store listed this key.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        let fingerprint = self.hasher.hash_one(key);
        self.fingerprints.binary_search(&fingerprint).is_ok()
    }

    /// Returns how many objects the store listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.fingerprints.len()
    }

    /// Returns whether the store listed nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fingerprints.is_empty()
    }
}

impl Storage {
    /// Lists all archives and manifests. A directory that holds no store any more, because it is not mounted, say, is
    /// [`JobError::NoStore`], and no empty listing.
    pub async fn listing(&self) -> Result<Listing, JobError> {
        match &self.backend {
            Backend::Directory(directory) => directory.require().await?,
            Backend::Bucket(_) => {}
            #[cfg(test)]
            Backend::Memory => {}
        }
        let cannot = |error: opendal::Error| failure("list", "v1/", &error);
        let hasher = RandomState::new();
        let mut fingerprints = Vec::new();
        let objects = self.operator.lister_with("v1/").recursive(true).await;
        let mut objects = objects.map_err(cannot)?;
        while let Some(object) = objects.try_next().await.map_err(cannot)? {
            fingerprints.push(hasher.hash_one(object.path()));
        }
        fingerprints.sort_unstable();
        Ok(Listing {
            hasher,
            fingerprints,
        })
    }

    /// Returns which of these keys have no object. Each is looked for: a listing may be older than what it lacks.
    pub async fn absent(&self, keys: &[String]) -> Result<Vec<String>, JobError> {
        let mut absent = Vec::new();
        for key in keys {
            if self.size(key).await?.is_none() {
                absent.push(key.clone());
            }
        }
        Ok(absent)
    }
}

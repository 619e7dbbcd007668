//! Which objects does a store list?

use std::hash::{BuildHasher as _, RandomState};

use futures::{StreamExt as _, TryStreamExt as _, future::ready, stream, stream::BoxStream};

use super::{
    Backend, Storage,
    directory::{Directory, Entry},
    failure, keys,
};
use crate::{
    error::JobError,
    names::{ResourceId, TeamId},
};

/// How many teams are listed at once when a resource is looked for in all of them.
const LISTED_AT_ONCE: usize = 8;

/// Keys as a store lists them, in no particular order.
type Keys = BoxStream<'static, Result<String, JobError>>;

/// The keys that a store listed below `v1/`, as fingerprints of eight bytes, because millions of them are kept in
/// memory.
///
/// Two keys share a fingerprint once in 2⁶⁴ pairs. If one of them is missing, it passes for present until it is read
/// back.
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
    /// Returns the keys of all manifests, from which a catalog can be rebuilt.
    pub async fn manifest_keys(&self) -> Result<Keys, JobError> {
        self.manifest_keys_below(keys::POINTS.to_owned()).await
    }

    /// Returns the keys of the manifests of one team, of one resource, or of one resource in any team.
    pub async fn manifest_keys_of(
        &self,
        team: Option<&TeamId>,
        resource: Option<&ResourceId>,
    ) -> Result<Keys, JobError> {
        let below = match (team, resource) {
            (None, None) => keys::POINTS.to_owned(),
            (Some(team), None) => keys::team_prefix(team),
            (Some(team), Some(resource)) => keys::resource_prefix(team, resource),
            (None, Some(resource)) => return self.manifest_keys_in_every_team(resource).await,
        };
        self.manifest_keys_below(below).await
    }

    async fn manifest_keys_in_every_team(&self, resource: &ResourceId) -> Result<Keys, JobError> {
        let names = match &self.backend {
            Backend::Directory(directory) => {
                let entries = directory.entries(&Entry::directory(keys::POINTS)).await?;
                let directories = entries.into_iter().filter(|entry| entry.is_directory);
                stream::iter(directories.map(|entry| Ok(entry.name()))).boxed()
            }
            Backend::Bucket(_) => self.prefixes_below_v1().await?,
            #[cfg(test)]
            Backend::Memory => self.prefixes_below_v1().await?,
        };
        let teams = names.try_filter_map(|name| ready(Ok(name.parse::<TeamId>().ok())));
        let (storage, resource) = (self.clone(), resource.clone());
        let of_each = teams.and_then(move |team| {
            let (storage, below) = (storage.clone(), keys::resource_prefix(&team, &resource));
            async move { storage.manifest_keys_below(below).await }
        });
        Ok(of_each.try_flatten_unordered(LISTED_AT_ONCE).boxed())
    }

    async fn prefixes_below_v1(&self) -> Result<Keys, JobError> {
        let cannot = |error: opendal::Error| failure("list", keys::POINTS, &error);
        let entries = self
            .operator
            .lister_with(keys::POINTS)
            .await
            .map_err(cannot)?;
        let names = entries.map_err(cannot).try_filter_map(|entry| {
            let name = entry.path().strip_prefix(keys::POINTS);
            ready(Ok(name
                .and_then(|name| name.strip_suffix('/'))
                .map(str::to_owned)))
        });
        Ok(names.boxed())
    }

    async fn manifest_keys_below(&self, below: String) -> Result<Keys, JobError> {
        let keys = self.keys_below(below).await?;
        Ok(keys.try_filter(|key| ready(keys::is_manifest(key))).boxed())
    }

    /// Returns the keys of all objects below `keys/`, which are the escrows, in no particular order.
    pub(crate) async fn escrow_keys(&self) -> Result<Vec<String>, JobError> {
        self.keys_below(keys::ESCROWS.to_owned())
            .await?
            .try_collect()
            .await
    }

    /// Returns whether the store has an archive of this team whose name says that it is encrypted.
    pub async fn has_encrypted_archives(&self, team: &TeamId) -> Result<bool, JobError> {
        let mut keys = self.keys_below(keys::team_prefix(team)).await?;
        while let Some(key) = keys.try_next().await? {
            if keys::is_encrypted(&key) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the keys of all objects below a prefix that ends with `/`.
    pub(super) async fn keys_below(&self, below: String) -> Result<Keys, JobError> {
        match &self.backend {
            Backend::Directory(directory) => {
                return Ok(walk(directory.clone(), Entry::directory(&below)));
            }
            Backend::Bucket(_) => {}
            #[cfg(test)]
            Backend::Memory => {}
        }
        let objects = self.operator.lister_with(&below).recursive(true).await;
        let objects = objects.map_err(|error| failure("list", &below, &error))?;
        let keys = objects.map_ok(|entry| entry.path().to_owned());
        Ok(keys
            .map_err(move |error| failure("list", &below, &error))
            .boxed())
    }

    /// Lists all archives and manifests.
    ///
    /// A missing store is never an empty listing: a directory without a store, because it is not mounted for example,
    /// is [`JobError::NoStore`], and another store in its place is [`JobError::StoreChanged`]. A store that has lost
    /// its identity is listed, because it may have been emptied.
    pub async fn listing(&self) -> Result<Listing, JobError> {
        if self.meant.is_some() && self.identity().await?.is_some() {
            self.require().await?;
        }
        match &self.backend {
            Backend::Directory(directory) => directory.require_any().await?,
            Backend::Bucket(_) => {}
            #[cfg(test)]
            Backend::Memory => {}
        }
        let hasher = RandomState::new();
        let mut fingerprints = Vec::new();
        let mut keys = self.keys_below(keys::POINTS.to_owned()).await?;
        while let Some(key) = keys.try_next().await? {
            fingerprints.push(hasher.hash_one(key));
        }
        fingerprints.sort_unstable();
        Ok(Listing {
            hasher,
            fingerprints,
        })
    }

    /// Returns which of these keys have no object. Looks for each of them, because a listing may be older than the
    /// object that it lacks.
    pub async fn absent(&self, keys: &[String]) -> Result<Vec<String>, JobError> {
        let mut absent = Vec::new();
        // The listing has already checked that this is the store that is meant.
        let any = Self {
            meant: None,
            ..self.clone()
        };
        for key in keys {
            if any.size(key).await?.is_none() {
                absent.push(key.clone());
            }
        }
        Ok(absent)
    }
}

/// Returns the keys of all files below a directory.
fn walk(directory: Directory, from: Entry) -> Keys {
    let keys = stream::try_unfold(vec![from], move |mut left| {
        let directory = directory.clone();
        async move {
            while let Some(entry) = left.pop() {
                if !entry.is_directory {
                    return Ok(Some((entry.key(), left)));
                }
                left.extend(directory.entries(&entry).await?);
            }
            Ok(None)
        }
    });
    keys.boxed()
}

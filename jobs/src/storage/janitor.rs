//! What do dead attempts leave behind, and who may remove it? Only the janitor, by age, and no other attempt: an
//! attempt cannot know that another is dead, because a catalog that lost commits may have claimed the run twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;

use super::{
    Backend, Storage,
    bucket::{Bucket, Pending},
    directory::{Directory, Entry},
    failure,
    keys::{ArchiveName, CHECKS, ESCROWS, POINTS},
};
use crate::{error::JobError, object_key::ObjectKey};

/// The prefixes of lastgood's own uploads. A store may be a whole bucket that others use too.
const OURS: [&str; 3] = [POINTS, ESCROWS, CHECKS];

/// What the janitor removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many unfinished uploads.
    pub partial: u64,
    /// How many archives without a manifest.
    pub orphans: u64,
}

/// A run whose archives cannot be matched to a manifest by a listing alone.
#[derive(Debug, PartialEq, Eq)]
struct Suspect<'a> {
    /// The file name of the run's manifest, which may not exist.
    manifest: String,
    /// The file names of the run's archives.
    archives: Vec<&'a str>,
}

impl Storage {
    /// Removes what dead attempts left behind before `before`: unfinished uploads, and archives without a manifest.
    ///
    /// Never removes an archive that a manifest describes, nor one whose run's manifest cannot be read. Costs one
    /// listing: a run with one manifest and one archive, which is nearly every run, is judged by its names alone.
    pub async fn sweep(&self, before: DateTime<Utc>) -> Result<Swept, JobError> {
        self.require().await?;
        let partial = match &self.backend {
            Backend::Directory(directory) => {
                let before = SystemTime::from(before);
                directory
                    .remove_partial(move |_, changed| changed < before)
                    .await?
            }
            Backend::Bucket(bucket) => {
                let mut aborted = 0;
                for ours in OURS {
                    let is_old =
                        |upload: &Pending| upload.began.is_some_and(|began| began < before);
                    aborted += abort(bucket, ours, is_old).await?;
                }
                aborted
            }
            #[cfg(test)]
            Backend::Memory => 0,
        };
        let orphans = match &self.backend {
            Backend::Directory(directory) => {
                self.sweep_directories(directory, before.into()).await?
            }
            Backend::Bucket(_) => self.sweep_listing(before.into()).await?,
            #[cfg(test)]
            Backend::Memory => self.sweep_listing(before.into()).await?,
        };
        Ok(Swept { partial, orphans })
    }

    async fn sweep_directories(
        &self,
        store: &Directory,
        before: SystemTime,
    ) -> Result<u64, JobError> {
        let mut orphans = 0;
        let mut left = vec![Entry::directory("v1/")];
        while let Some(directory) = left.pop() {
            let entries = store.entries(&directory).await?;
            let (below, files): (Vec<_>, Vec<_>) =
                entries.into_iter().partition(|entry| entry.is_directory);
            let names: Vec<String> = files.iter().map(Entry::name).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let of = format!("{}/", directory.key().trim_end_matches('/'));
            orphans += self.sweep_names(&of, &names, before).await?;
            left.extend(below);
        }
        Ok(orphans)
    }

    /// Reads one listing of all keys, a thousand at a time: a bucket has no directories that could be walked for less.
    ///
    /// Keys come in order, so a run's objects come together. If they do not, the only cost is that a run is examined in
    /// vain.
    async fn sweep_listing(&self, before: SystemTime) -> Result<u64, JobError> {
        let listing = self.operator.lister_with("v1/").recursive(true).await;
        let mut listing = listing.map_err(|error| failure("list", "v1/", &error))?;
        let mut orphans = 0;
        let (mut directory, mut names) = (String::new(), Vec::<String>::new());
        loop {
            let entry = listing.try_next().await;
            let entry = entry.map_err(|error| failure("list", "v1/", &error))?;
            let place = entry.as_ref().map(|entry| {
                let path = entry.path();
                path.rsplit_once('/').unwrap_or(("", path))
            });
            let is_next = place.is_none_or(|(of, _)| directory.strip_suffix('/') != Some(of));
            if is_next && !names.is_empty() {
                let all: Vec<&str> = names.iter().map(String::as_str).collect();
                orphans += self.sweep_names(&directory, &all, before).await?;
                names.clear();
            }
            let Some((of, name)) = place else {
                return Ok(orphans);
            };
            directory = format!("{of}/");
            names.push(name.to_owned());
        }
    }

    async fn sweep_names(
        &self,
        directory: &str,
        names: &[&str],
        before: SystemTime,
    ) -> Result<u64, JobError> {
        let mut orphans = 0;
        for suspect in suspects(names.iter().copied()) {
            orphans += self.remove_orphans(directory, &suspect, before).await?;
        }
        Ok(orphans)
    }

    /// Removes those of a run's archives that are old and that no manifest describes.
    async fn remove_orphans(
        &self,
        directory: &str,
        suspect: &Suspect<'_>,
        before: SystemTime,
    ) -> Result<u64, JobError> {
        let mut old = Vec::new();
        for name in &suspect.archives {
            let key = format!("{directory}{name}");
            if key.parse::<ObjectKey>().is_err() {
                // None of lastgood's objects has such a name.
                return Ok(0);
            }
            if self.is_older(&key, before).await? {
                old.push(key);
            }
        }
        if old.is_empty() {
            return Ok(0);
        }
        // Read again even if the listing showed no manifest, because it may have been written since.
        let manifest = match self
            .manifest(&format!("{directory}{}", suspect.manifest))
            .await
        {
            Ok(manifest) => manifest,
            // The manifest may be of a newer version, which this build cannot judge. An unreadable manifest keeps its
            // own archives, and does not stop the examination of other runs.
            Err(
                error @ (JobError::BadManifest { .. }
                | JobError::StoreDenied { .. }
                | JobError::StoreUnable { .. }),
            ) => {
                tracing::warn!(
                    error = error.report(),
                    "cannot read a manifest: the janitor keeps its run's archives"
                );
                return Ok(0);
            }
            Err(error) => return Err(error),
        };
        let described = manifest.map(|manifest| manifest.archive.key);
        old.retain(|key| described.as_deref() != Some(key.as_str()));
        for key in &old {
            self.remove(key).await?;
        }
        Ok(old.len() as u64)
    }

    /// Returns how many uploads below `prefix` are unfinished.
    pub(super) async fn unfinished(&self, prefix: &str) -> Result<u64, JobError> {
        match &self.backend {
            Backend::Bucket(bucket) => Ok(bucket.uploads().list(prefix).await?.len() as u64),
            Backend::Directory(_) => Ok(0),
            #[cfg(test)]
            Backend::Memory => Ok(0),
        }
    }

    async fn is_older(&self, key: &str, before: SystemTime) -> Result<bool, JobError> {
        let found = match self.operator.stat(key).await {
            Ok(found) => found,
            Err(error) if error.kind() == opendal::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failure("look for", key, &error)),
        };
        let changed = found.last_modified().map(SystemTime::from);
        Ok(changed.is_some_and(|changed| changed < before))
    }
}

/// Aborts the unfinished uploads below `prefix` for which `dead` returns true.
async fn abort(
    bucket: &Bucket,
    prefix: &str,
    dead: impl Fn(&Pending) -> bool,
) -> Result<u64, JobError> {
    let mut aborted = 0;
    for upload in bucket.uploads().list(prefix).await? {
        if dead(&upload) {
            bucket.uploads().abort(&upload).await?;
            aborted += 1;
        }
    }
    Ok(aborted)
}

/// Returns the runs of one directory that have archives but no manifest, or a manifest and several archives.
fn suspects<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Vec<Suspect<'a>> {
    let all: BTreeSet<&str> = names.clone().collect();
    let mut runs = BTreeMap::<String, Vec<&str>>::new();
    for name in names {
        if let Some(archive) = ArchiveName::parse(name).filter(|archive| archive.is_whole) {
            runs.entry(archive.manifest()).or_default().push(name);
        }
    }
    runs.into_iter()
        .filter(|(manifest, archives)| archives.len() > 1 || !all.contains(manifest.as_str()))
        .map(|(manifest, archives)| Suspect { manifest, archives })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "050607Z-00000000-0000-0000-0000-000000000007";

    #[test]
    fn only_runs_that_names_do_not_explain_are_looked_into() {
        let (manifest, first, second) = (
            format!("{RUN}.manifest.json"),
            format!("{RUN}-e1.pgdump.zst"),
            format!("{RUN}-e2.pgdump.zst"),
        );
        let growing = format!("{second}.x8Ty");
        let suspected = |names: &[&str]| {
            let found = suspects(names.iter().copied());
            found
                .iter()
                .flat_map(|run| run.archives.iter().map(|name| (*name).to_owned()))
                .collect::<Vec<_>>()
        };
        assert_eq!(suspected(&[&manifest, &first]), [""; 0]);
        assert_eq!(suspected(&[&manifest]), [""; 0]);
        assert_eq!(suspected(&[&manifest, &first, &growing, "other"]), [""; 0]);
        assert_eq!(suspected(&[&first]), [first.as_str()]);
        assert_eq!(
            suspected(&[&first, &manifest, &second]),
            [first.as_str(), &second]
        );
        let other = "050607Z-00000000-0000-0000-0000-000000000008.manifest.json";
        assert_eq!(suspected(&[&first, other]), [first.as_str()]);
    }
}

//! What dead attempts leave behind, and who may remove it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::SystemTime,
};

use chrono::{DateTime, Utc};
use opendal::{Entry, EntryMode};

use super::{
    Storage, blocking, failure,
    keys::{ArchiveName, Keys},
};
use crate::error::JobError;

/// What the janitor removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Unfinished uploads.
    pub partial: u64,
    /// Archives that no manifest describes.
    pub orphans: u64,
}

/// A run whose archives a listing alone does not show to be described.
#[derive(Debug, PartialEq, Eq)]
struct Suspect<'a> {
    /// The file name of its manifest, which may not be there.
    manifest: String,
    /// The file names of its archives.
    archives: Vec<&'a str>,
}

impl Storage {
    /// Removes what dead attempts left behind before `before`: unfinished uploads and archives without a manifest.
    ///
    /// Never removes what a manifest describes, nor an archive whose run's manifest cannot be read. Costs a listing: a
    /// run with one manifest and one archive, as all but a few have, is believed by the names alone.
    pub async fn sweep(&self, before: DateTime<Utc>) -> Result<Swept, JobError> {
        let before = SystemTime::from(before);
        let partial = self
            .remove_partial(move |_, changed| changed < before)
            .await?;
        let mut orphans = 0;
        let mut directories = vec!["v1/".to_owned()];
        while let Some(directory) = directories.pop() {
            let entries = self.list(&directory).await?;
            let below = |entry: &&Entry| {
                entry.metadata().mode() == EntryMode::DIR && entry.path() != directory
            };
            directories.extend(
                entries
                    .iter()
                    .filter(below)
                    .map(|entry| entry.path().to_owned()),
            );
            for suspect in suspects(entries.iter().map(Entry::name)) {
                orphans += self.remove_orphans(&directory, &suspect, before).await?;
            }
        }
        Ok(Swept { partial, orphans })
    }

    /// Removes those of a run's archives that are old and that its manifest, if there is any, does not describe.
    async fn remove_orphans(
        &self,
        directory: &str,
        suspect: &Suspect<'_>,
        before: SystemTime,
    ) -> Result<u64, JobError> {
        let mut old = Vec::new();
        for name in &suspect.archives {
            let key = format!("{directory}{name}");
            if self.is_older(&key, before).await? {
                old.push(key);
            }
        }
        if old.is_empty() {
            return Ok(0);
        }
        // Read now even where the listing showed none: it may have been written since.
        let manifest = match self
            .manifest(&format!("{directory}{}", suspect.manifest))
            .await
        {
            Ok(manifest) => manifest,
            // Perhaps of a newer version: what it describes is not ours to judge.
            Err(JobError::BadManifest { .. }) => return Ok(0),
            Err(error) => return Err(error),
        };
        let described = manifest.map(|manifest| manifest.archive.key);
        old.retain(|key| described.as_ref() != Some(key));
        for key in &old {
            self.remove(key).await?;
        }
        Ok(old.len() as u64)
    }

    /// Removes the archives and unfinished uploads of this run's earlier attempts. They are dead: the epoch says so.
    pub(crate) async fn remove_earlier_attempts(&self, keys: &Keys) -> Result<(), JobError> {
        let of = keys.clone();
        self.remove_partial(move |name, _| of.is_of_earlier_attempt(name))
            .await?;
        for entry in self.list(keys.directory()).await? {
            if keys.is_of_earlier_attempt(entry.name()) {
                self.remove(entry.path()).await?;
            }
        }
        Ok(())
    }

    /// Removes everything of this run but its manifest and the archive `kept` that the manifest describes.
    pub(crate) async fn remove_all_but(&self, kept: &str, keys: &Keys) -> Result<(), JobError> {
        let of = keys.clone();
        self.remove_partial(move |name, _| of.is_of_earlier_attempt(name))
            .await?;
        for entry in self.list(keys.directory()).await? {
            if keys.is_of_this_run(entry.name()) && entry.path() != kept {
                self.remove(entry.path()).await?;
            }
        }
        Ok(())
    }

    async fn list(&self, directory: &str) -> Result<Vec<Entry>, JobError> {
        let entries = self.operator.list(directory).await;
        entries.map_err(|error| failure("list", directory, &error))
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

    /// Removes unfinished uploads that are `dead`, by name and last change.
    async fn remove_partial(
        &self,
        dead: impl Fn(&str, SystemTime) -> bool + Send + 'static,
    ) -> Result<u64, JobError> {
        let partial = self.root.join("partial");
        blocking("clean", "partial", move || {
            let mut removed = 0;
            for file in std::fs::read_dir(partial)? {
                let file = file?;
                let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
                let changed = match file.metadata().and_then(|found| found.modified()) {
                    Err(error) if gone(&error) => continue,
                    changed => changed?,
                };
                if dead(&file.file_name().to_string_lossy(), changed) {
                    match std::fs::remove_file(file.path()) {
                        Err(error) if !gone(&error) => return Err(error),
                        _removed_or_gone => removed += 1,
                    }
                }
            }
            Ok(removed)
        })
        .await
    }
}

/// Returns the runs of one directory that have archives and no manifest, or a manifest and more than one archive.
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

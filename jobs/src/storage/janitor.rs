//! What dead attempts leave behind, and who may remove it.

use std::{io, time::SystemTime};

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

impl Storage {
    /// Removes what dead attempts left behind before `before`: unfinished uploads and archives without a manifest.
    ///
    /// Never removes what a manifest describes, nor an archive whose run's manifest cannot be read.
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
            for entry in &entries {
                if self.is_orphan(&directory, entry, before).await? {
                    self.remove(entry.path()).await?;
                    orphans += 1;
                }
            }
        }
        Ok(Swept { partial, orphans })
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

    async fn is_orphan(
        &self,
        directory: &str,
        entry: &Entry,
        before: SystemTime,
    ) -> Result<bool, JobError> {
        let Some(name) = ArchiveName::parse(entry.name()).filter(|name| name.is_whole) else {
            return Ok(false);
        };
        let found = match self.operator.stat(entry.path()).await {
            Ok(found) => found,
            Err(error) if error.kind() == opendal::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failure("look for", entry.path(), &error)),
        };
        let changed = found.last_modified().map(SystemTime::from);
        if changed.is_none_or(|changed| changed >= before) {
            return Ok(false);
        }
        match self
            .manifest(&format!("{directory}{}", name.manifest()))
            .await
        {
            Ok(None) => Ok(true),
            Ok(Some(manifest)) => Ok(manifest.archive.key != entry.path()),
            // Perhaps of a newer version: what it describes is not ours to judge.
            Err(JobError::BadManifest { .. }) => Ok(false),
            Err(error) => Err(error),
        }
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

//! Which restore point is a job about, and does a store hold that one under its key?

use crate::{error::JobError, manifest::Manifest, storage::Storage};

/// A restore point to look for in one or more stores.
#[derive(Debug, Clone, Copy)]
pub struct Sought<'a> {
    /// The key of its manifest.
    pub manifest_key: &'a str,
    /// The manifest as it is known from the catalog or from an earlier read. `None` means that only the store is asked.
    ///
    /// Anybody with write access to a store can replace a manifest and its archive by others that match each other.
    /// Only the recorded manifest reveals that.
    pub recorded: Option<&'a Manifest>,
}

impl<'a> Sought<'a> {
    /// Returns the restore point whose manifest has this key, whatever that manifest says.
    #[must_use]
    pub fn at(manifest_key: &'a str) -> Self {
        Self {
            manifest_key,
            recorded: None,
        }
    }

    /// Reads the manifest from a store. A manifest that differs from the recorded one is [`JobError::BadManifest`].
    pub async fn read(&self, storage: &Storage) -> Result<Manifest, JobError> {
        let key = self.manifest_key;
        let found = storage.manifest(key).await?;
        let found = found.ok_or_else(|| JobError::NoSuchPoint {
            key: key.to_owned(),
        })?;
        match self.recorded {
            Some(recorded) if *recorded != found => Err(JobError::BadManifest {
                key: key.to_owned(),
                why: "it differs from the one that was recorded or read before".to_owned(),
            }),
            Some(_) | None => Ok(found),
        }
    }
}

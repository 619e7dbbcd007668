//! Which restore point is a job about, and is what a store has under its key that one?

use crate::{error::JobError, manifest::Manifest, storage::Storage};

/// A restore point that is looked for in one store or another.
#[derive(Debug, Clone, Copy)]
pub struct Sought<'a> {
    /// Where its manifest is.
    pub manifest_key: &'a str,
    /// What its manifest says, for whoever knows that from elsewhere, or from before; `None`: the store alone is asked.
    ///
    /// Whoever can write to a store can exchange a manifest and its archive for others that agree with each other. Only the
    /// record tells.
    pub recorded: Option<&'a Manifest>,
}

impl<'a> Sought<'a> {
    /// Returns the point whose manifest is at this key, whatever the store says that it is.
    #[must_use]
    pub fn at(manifest_key: &'a str) -> Self {
        Self {
            manifest_key,
            recorded: None,
        }
    }

    /// Reads the manifest from a store. One that is not the recorded one is [`JobError::BadManifest`].
    pub async fn read(&self, storage: &Storage) -> Result<Manifest, JobError> {
        let key = self.manifest_key;
        let found = storage.manifest(key).await?;
        let found = found.ok_or_else(|| JobError::NoSuchPoint {
            key: key.to_owned(),
        })?;
        match self.recorded {
            Some(recorded) if *recorded != found => Err(JobError::BadManifest {
                key: key.to_owned(),
                why: "it is another than the one that was recorded or read before".to_owned(),
            }),
            Some(_) | None => Ok(found),
        }
    }
}

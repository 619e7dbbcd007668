//! The archive that a restore reads: verified once, then read as often as it takes.

use super::super::archive_format::{self, Prelude, Reader, Summary, Visit};
use crate::{
    archive::{self, FormatError, Inspect},
    error::{Damage, JobError},
    manifest::{Details, Manifest},
    worker::Worker,
};

/// A verified archive: what it holds besides its documents.
pub(super) struct Source<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) prelude: Prelude,
    pub(super) summary: Summary,
}

impl<'a> Source<'a> {
    /// Verifies all stored bytes, then every checksum and end mark in the dump.
    pub(super) async fn verify(manifest: &'a Manifest, worker: &Worker) -> Result<Self, JobError> {
        let contents = Contents(Reader::new(PreludeOnly(None)));
        let (prelude, summary) = archive::verify(
            &worker.storage,
            &*worker.keyring,
            &manifest.archive,
            contents,
        )
        .await?;
        Ok(Self {
            manifest,
            prelude,
            summary,
        })
    }

    /// Returns the error for an archive whose bytes are no longer those that were verified.
    pub(super) fn damaged(&self, why: archive_format::FormatError) -> JobError {
        JobError::Damaged {
            key: self.manifest.archive.key.to_string(),
            source: Damage::Dump(why.into()),
        }
    }
}

/// Returns the database in the dump, or `None` for a whole deployment's.
pub(super) fn database(manifest: &Manifest) -> Result<Option<&str>, JobError> {
    match &manifest.details {
        Details::Mongodb { database, .. } => Ok(database.as_deref()),
        Details::Postgres { .. } | Details::Redis { .. } => Err(JobError::BadManifest {
            key: manifest.archive.key.to_string(),
            why: "its details are not MongoDB's".to_owned(),
        }),
    }
}

/// Reads a whole archive and keeps what stands before the documents.
struct Contents(Reader<PreludeOnly>);

impl Inspect for Contents {
    type Contents = (Prelude, Summary);

    fn inspect(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        Ok(self.0.feed(bytes)?)
    }

    fn finish(self) -> Result<Self::Contents, FormatError> {
        let (summary, PreludeOnly(prelude)) = self.0.finish()?;
        Ok((prelude.ok_or(FormatError::CheckStopped)?, summary))
    }
}

struct PreludeOnly(Option<Prelude>);

impl Visit for PreludeOnly {
    fn prelude(&mut self, prelude: &Prelude) -> Result<(), archive_format::FormatError> {
        self.0 = Some(prelude.clone());
        Ok(())
    }

    fn document(&mut self, _: usize, _: &[u8]) -> Result<(), archive_format::FormatError> {
        Ok(())
    }

    fn end(&mut self, _: usize) -> Result<(), archive_format::FormatError> {
        Ok(())
    }
}

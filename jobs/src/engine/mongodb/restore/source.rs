//! The archive that a restore reads: verified once, then read as often as needed.

use bson::RawDocument;

use super::super::oplog::{self, Change, Entry};
use super::plan::Oplog;
use crate::{
    archive,
    error::{Damage, JobError},
    format::{
        FormatError, Inspect,
        mongodump::{self, Namespace, Prelude, Reader, Summary, Visit},
    },
    manifest::{Details, Manifest},
    worker::Worker,
};

/// A verified archive, with what it holds besides its documents.
pub(super) struct Source<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) prelude: Prelude,
    pub(super) summary: Summary,
    /// What its oplog adds; `None` if it has none, or an empty one.
    pub(super) oplog: Option<Oplog>,
}

impl<'a> Source<'a> {
    /// Verifies all stored bytes, then every checksum and end marker in the dump.
    pub(super) async fn verify(manifest: &'a Manifest, worker: &Worker) -> Result<Self, JobError> {
        let contents = Contents(Reader::new(Look::default()));
        let (prelude, summary, oplog) = archive::verify(
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
            oplog,
        })
    }

    /// Returns the error for an archive whose bytes differ from those that were verified.
    pub(super) fn damaged(&self, why: mongodump::FormatError) -> JobError {
        JobError::Damaged {
            key: self.manifest.archive.key.to_string(),
            source: Damage::Dump(why.into()),
        }
    }
}

/// Returns the database in the dump, or `None` for a dump of a whole deployment.
pub(super) fn database(manifest: &Manifest) -> Result<Option<&str>, JobError> {
    match &manifest.details {
        Details::Mongodb { database, .. } => Ok(database.as_deref()),
        Details::Postgres { .. } | Details::Redis { .. } => Err(JobError::BadManifest {
            key: manifest.archive.key.to_string(),
            why: "its details are not MongoDB's".to_owned(),
        }),
    }
}

/// Returns the index of the oplog in a prelude.
pub(in crate::engine::mongodb) fn oplog_at(prelude: &Prelude) -> Option<usize> {
    let is_it = |it: &Namespace| it.database.is_empty() && it.collection == oplog::COLLECTION;
    prelude.namespaces.iter().position(is_it)
}

/// Reads a whole archive, keeps what comes before the documents, and inspects the oplog: an entry that cannot be
/// replayed is refused before the first write.
struct Contents(Reader<Look>);

impl Inspect for Contents {
    type Contents = (Prelude, Summary, Option<Oplog>);

    fn inspect(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        Ok(self.0.feed(bytes)?)
    }

    fn finish(self) -> Result<Self::Contents, FormatError> {
        let (summary, look) = self.0.finish()?;
        let prelude = look.prelude.ok_or(FormatError::CheckStopped)?;
        Ok((prelude, summary, look.oplog))
    }
}

#[derive(Default)]
struct Look {
    prelude: Option<Prelude>,
    oplog_at: Option<usize>,
    oplog: Option<Oplog>,
}

impl Visit for Look {
    fn prelude(&mut self, prelude: &Prelude) -> Result<(), mongodump::FormatError> {
        self.oplog_at = oplog_at(prelude);
        self.prelude = Some(prelude.clone());
        Ok(())
    }

    fn document(&mut self, place: usize, raw: &[u8]) -> Result<(), mongodump::FormatError> {
        if self.oplog_at != Some(place) {
            return Ok(());
        }
        let oplog = self.oplog.get_or_insert_default();
        let entry = RawDocument::from_bytes(raw).map_err(|_| unreplayable("it is broken"))?;
        let entry = oplog::read(entry).map_err(|why| unreplayable(&why.to_string()))?;
        let (Entry::Done(changes) | Entry::Part { changes, .. } | Entry::Last { changes, .. }) =
            entry
        else {
            return Ok(());
        };
        for change in changes {
            match change {
                Change::Create(at, _) => {
                    let name = at.time_series().unwrap_or(&at.collection).to_owned();
                    oplog.makes_in_place |=
                        at.time_series().is_some() || at.collection == "system.js";
                    oplog.names.insert((at.database, name));
                }
                Change::Rename {
                    database,
                    collection,
                    ..
                } => {
                    oplog.names.insert((database, collection));
                }
                Change::Put(..)
                | Change::Update(..)
                | Change::Remove(..)
                | Change::Drop(_)
                | Change::AddIndexes(..)
                | Change::RemoveIndex(..)
                | Change::Modify(..) => {}
            }
        }
        Ok(())
    }

    fn end(&mut self, _: usize) -> Result<(), mongodump::FormatError> {
        Ok(())
    }
}

fn unreplayable(why: &str) -> mongodump::FormatError {
    mongodump::FormatError::Refused {
        why: format!("its oplog has an entry that cannot be replayed: {why}"),
    }
}

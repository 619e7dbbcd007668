//! Reads a restore point back, all of it, and says whether it is whole. Touches nothing else.

use std::sync::Arc;

use crate::{
    archive::{self, FormatError, Inspect, Measured},
    engine::{mongodb, postgres, redis},
    error::{Damage, JobError},
    manifest::Manifest,
    resource::Engine,
    sought::Sought,
    worker::{Progress, Worker},
};

/// A restore point that was read to its last byte and found whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What its manifest says, which is what was found.
    pub manifest: Manifest,
}

/// Reads the archive of a restore point: its size and BLAKE3, zstd, the dump's size and BLAKE3, and the dump's own
/// format up to its end mark, checksums included. Memory is bounded by a few MiB, whatever the size of the database.
///
/// What is wrong with the restore point is [`JobError::Damaged`], [`JobError::BadManifest`] or [`JobError::NoSuchPoint`];
/// every other error says nothing about it. That a server takes the dump back is not proved: that takes a restore.
pub async fn verify(sought: &Sought<'_>, worker: &Worker) -> Result<Verified, JobError> {
    let manifest = sought.read(&worker.storage).await?;
    match manifest.engine {
        Engine::Postgres | Engine::Vector => {
            read(&manifest, postgres::dump::whole(), worker).await?;
        }
        Engine::Mongodb => read(&manifest, mongodb::dump::whole(), worker).await?,
        Engine::Redis => read(&manifest, redis::dump::whole(), worker).await?,
    }
    Ok(Verified { manifest })
}

async fn read(manifest: &Manifest, format: impl Inspect, worker: &Worker) -> Result<(), JobError> {
    let measuring = Measuring {
        format,
        hasher: blake3::Hasher::new(),
        size_bytes: 0,
        // Who lies about a dump's size must not keep us busy for ever.
        expected_bytes: manifest.dump.size_bytes,
        progress: Arc::clone(&worker.progress),
    };
    let read = archive::verify(
        &worker.storage,
        &*worker.keyring,
        &manifest.archive,
        measuring,
    )
    .await;
    let found = read.map_err(fault_of_ours)?;
    let damaged = |source| JobError::Damaged {
        key: manifest.archive.key.to_string(),
        source,
    };
    let what = archive::DUMP;
    if found.size_bytes != manifest.dump.size_bytes {
        return Err(damaged(Damage::Size {
            what,
            expected: manifest.dump.size_bytes,
            found: found.size_bytes,
        }));
    }
    if found.blake3 != manifest.dump.blake3 {
        return Err(damaged(Damage::Hash { what }));
    }
    Ok(())
}

/// A check that stopped knows nothing of the dump: that must not condemn it.
fn fault_of_ours(error: JobError) -> JobError {
    let is_ours = matches!(
        error,
        JobError::Damaged {
            source: Damage::Dump(FormatError::CheckStopped),
            ..
        }
    );
    if !is_ours {
        return error;
    }
    JobError::Stopped {
        what: "the check of the dump",
    }
}

/// Measures the dump beside the check of its format.
struct Measuring<I> {
    format: I,
    hasher: blake3::Hasher,
    size_bytes: u64,
    expected_bytes: u64,
    progress: Arc<Progress>,
}

impl<I: Inspect> Inspect for Measuring<I> {
    type Contents = Measured;

    fn inspect(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        self.size_bytes += bytes.len() as u64;
        self.progress.add_dump(bytes.len() as u64);
        self.hasher.update(bytes);
        self.format.inspect(bytes)
    }

    fn is_satisfied(&self) -> bool {
        self.size_bytes > self.expected_bytes
    }

    fn finish(self) -> Result<Measured, FormatError> {
        if !self.is_satisfied() {
            self.format.finish()?;
        }
        Ok(Measured {
            size_bytes: self.size_bytes,
            blake3: self.hasher.finalize().to_hex().to_string(),
        })
    }
}

#[cfg(test)]
mod tests;

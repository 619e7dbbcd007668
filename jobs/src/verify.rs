//! Reads a whole restore point back, and says whether it is intact. Touches nothing else.

use std::sync::Arc;

use uuid::Uuid;

use crate::{
    archive::{self, Measured},
    engine::{mongodb, postgres, redis},
    error::{Damage, JobError},
    format::{FormatError, Inspect},
    key::Keyring,
    manifest::Manifest,
    names::Engine,
    sought::Sought,
    storage::Storage,
    worker::{Progress, Worker},
};

/// A restore point that was read to its last byte and found intact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The manifest, which the archive matches.
    pub manifest: Manifest,
}

/// Reads the archive of a restore point, and checks all of it.
///
/// Checks the archive's size and BLAKE3, zstd, the dump's size and BLAKE3, and the dump's own format up to its end
/// mark, checksums included. Memory stays within a few MiB whatever the size of the database.
///
/// A restore point that is wrong gives [`JobError::Damaged`], [`JobError::BadManifest`] or [`JobError::NoSuchPoint`];
/// no other error says anything about the restore point. This does not prove that a server accepts the dump: only a
/// restore does.
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

/// Checks that `keyring` opens a restore point's archive, by reading only its header.
///
/// Returns the key's id. `Ok(None)` means that the archive is not encrypted, and says nothing more about it.
pub async fn opens(
    storage: &Storage,
    manifest: &Manifest,
    keyring: &dyn Keyring,
) -> Result<Option<Uuid>, JobError> {
    archive::opens(storage, &manifest.archive, keyring).await
}

async fn read(manifest: &Manifest, format: impl Inspect, worker: &Worker) -> Result<(), JobError> {
    let measuring = Measuring {
        format,
        hasher: blake3::Hasher::new(),
        size_bytes: 0,
        // A dump longer than its manifest says must not keep the worker busy for ever.
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

/// A check that stopped knows nothing about the dump, and must not condemn it.
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

/// Measures the dump while its format is checked.
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

//! What a worker gives to a job.

use std::{
    num::NonZeroU64,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use futures::future::BoxFuture;

use crate::{
    clients::Toolbox,
    key::{ArchiveKey, Keyring},
    storage::Storage,
};

/// Everything that a job may use besides its resource.
#[derive(Clone)]
pub struct Worker {
    /// Where archives live.
    pub storage: Storage,
    /// The client tools that were found.
    pub tools: Arc<Toolbox>,
    /// A private directory of this process for password files, which is removed when the process ends.
    pub work_dir: PathBuf,
    /// The key that new archives are encrypted to; `None` leaves them unencrypted.
    pub encrypt_to: Option<ArchiveKey>,
    /// The source of the identities that open encrypted archives.
    pub keyring: Arc<dyn Keyring>,
    /// Tells whether this attempt still owns its run. Asked right before anything that cannot be undone.
    pub lease: Arc<dyn Lease>,
    /// Counts bytes, to show progress.
    pub progress: Arc<Progress>,
}

/// Proof that an attempt still owns its run.
pub trait Lease: Send + Sync {
    /// Returns whether the lease is alive now. Asks whatever grants it, and returns `false` when in doubt.
    fn is_alive(&self) -> BoxFuture<'_, bool>;

    /// Records that `database` is about to refuse connections, so that somebody opens it whatever happens to this
    /// process.
    ///
    /// Returns `false` when in doubt; then the database must not be closed. The default has nowhere to record it, and
    /// returns `false`.
    fn will_close<'a>(&'a self, database: &'a str) -> BoxFuture<'a, bool> {
        let _ = database;
        Box::pin(std::future::ready(false))
    }

    /// Cancels that record: the database is open.
    fn is_open(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// The progress of a job.
#[derive(Debug, Default)]
pub struct Progress {
    dump_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    /// The size limit of a dump; 0 means no limit.
    dump_limit_bytes: AtomicU64,
    /// 0, or which of a commit and a stop came first.
    decided: AtomicU8,
}

/// One pass over a dump, from its first byte on.
#[derive(Debug)]
pub struct Pass<'a> {
    progress: &'a Progress,
    bytes: u64,
}

impl Pass<'_> {
    /// Adds bytes that this pass has read.
    pub fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        let furthest = &self.progress.dump_bytes;
        furthest.fetch_max(self.bytes, Ordering::Relaxed);
    }
}

/// A commit has begun: nothing can be undone any more.
const COMMITS: u8 = 1;
/// The attempt was stopped before its commit.
const STOPPED: u8 = 2;

impl Progress {
    /// Adds bytes of the dump, before compression or, in a restore, after decompression.
    pub fn add_dump(&self, bytes: u64) {
        self.dump_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Begins to read a dump in a job that may read it more than once: what counts is how far the furthest pass has come.
    #[must_use]
    pub fn pass(&self) -> Pass<'_> {
        Pass {
            progress: self,
            bytes: 0,
        }
    }

    /// Limits the size of dumps from now on; `None` removes the limit.
    pub fn limit_dump(&self, bytes: Option<NonZeroU64>) {
        let bytes = bytes.map_or(0, NonZeroU64::get);
        self.dump_limit_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Returns the size limit of a dump.
    pub(crate) fn dump_limit(&self) -> Option<u64> {
        Some(self.dump_limit_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Adds bytes of the archive, as stored.
    pub fn add_stored(&self, bytes: u64) {
        self.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Passes the point of no return. Returns whether that is still allowed: the attempt may have been stopped first.
    pub fn may_commit(&self) -> bool {
        self.decide(COMMITS) == COMMITS
    }

    /// Stops the attempt unless it has passed the point of no return. Returns whether it has; if so, its outcome is
    /// worth waiting for.
    pub fn commits_already(&self) -> bool {
        self.decide(STOPPED) == COMMITS
    }

    fn decide(&self, wanted: u8) -> u8 {
        let first = self
            .decided
            .compare_exchange(0, wanted, Ordering::SeqCst, Ordering::SeqCst);
        first.map_or_else(|decided| decided, |_| wanted)
    }

    /// Returns the dump bytes and the stored bytes so far.
    #[must_use]
    pub fn so_far(&self) -> (u64, u64) {
        (
            self.dump_bytes.load(Ordering::Relaxed),
            self.stored_bytes.load(Ordering::Relaxed),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_that_is_read_more_than_once_counts_once() {
        let progress = Progress::default();
        for chunks in [[3, 4], [1, 1], [5, 4]] {
            let mut pass = progress.pass();
            for bytes in chunks {
                pass.add(bytes);
            }
        }
        assert_eq!(progress.so_far(), (9, 0));
    }
}

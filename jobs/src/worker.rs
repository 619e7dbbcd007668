//! What a job is given by the worker that runs it.

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
    engine::Toolbox,
    key::{ArchiveKey, Keyring},
    storage::Storage,
};

/// Everything a job may touch besides its resource.
#[derive(Clone)]
pub struct Worker {
    /// Where archives live.
    pub storage: Storage,
    /// The client tools that were found.
    pub tools: Arc<Toolbox>,
    /// A private directory of this process for password files; removed with it.
    pub work_dir: PathBuf,
    /// What new archives are encrypted to; `None`: they are not.
    pub encrypt_to: Option<ArchiveKey>,
    /// Who has what opens the archives that are.
    pub keyring: Arc<dyn Keyring>,
    /// Tells whether this attempt still owns its run; asked right before anything that cannot be taken back.
    pub lease: Arc<dyn Lease>,
    /// Counts bytes for whoever waits.
    pub progress: Arc<Progress>,
}

/// Proof that an attempt still owns its run.
pub trait Lease: Send + Sync {
    /// Returns whether the lease is alive now; asks whoever grants it, and answers `false` when in doubt.
    fn is_alive(&self) -> BoxFuture<'_, bool>;

    /// Writes down that `database` is about to take no connections, so that somebody opens it whatever becomes of this process.
    ///
    /// Answers `false` when in doubt: then it must not be closed. Without a place to write to, which is the default, it answers so.
    fn will_close<'a>(&'a self, database: &'a str) -> BoxFuture<'a, bool> {
        let _ = database;
        Box::pin(std::future::ready(false))
    }

    /// Strikes that out: the database is open.
    fn is_open(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// How far a job is.
#[derive(Debug, Default)]
pub struct Progress {
    dump_bytes: AtomicU64,
    stored_bytes: AtomicU64,
    /// The most that a dump may have; 0: whatever it has.
    dump_limit_bytes: AtomicU64,
    /// 0, or how the race was decided between a commit and a stop.
    decided: AtomicU8,
}

/// A commit has begun: nothing is taken back any more.
const COMMITS: u8 = 1;
/// The attempt was stopped before.
const STOPPED: u8 = 2;

impl Progress {
    /// Adds bytes of the dump, before compression (or after decompression, in a restore).
    pub fn add_dump(&self, bytes: u64) {
        self.dump_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bounds the dumps that are made from now on; `None`: they are as large as they are.
    pub fn limit_dump(&self, bytes: Option<NonZeroU64>) {
        let bytes = bytes.map_or(0, NonZeroU64::get);
        self.dump_limit_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Returns the most that a dump may have.
    pub(crate) fn dump_limit(&self) -> Option<u64> {
        Some(self.dump_limit_bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    /// Adds bytes of the archive, as stored.
    pub fn add_stored(&self, bytes: u64) {
        self.stored_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Passes the point of no return. Returns whether that is still allowed: whoever stopped the attempt may have been first.
    pub fn may_commit(&self) -> bool {
        self.decide(COMMITS) == COMMITS
    }

    /// Stops the attempt where it has not passed the point of no return. Returns whether it has: then there is an outcome to wait for.
    pub fn commits_already(&self) -> bool {
        self.decide(STOPPED) == COMMITS
    }

    fn decide(&self, wanted: u8) -> u8 {
        let first = self
            .decided
            .compare_exchange(0, wanted, Ordering::SeqCst, Ordering::SeqCst);
        first.map_or_else(|decided| decided, |_| wanted)
    }

    /// Returns (dump bytes, stored bytes) so far.
    #[must_use]
    pub fn so_far(&self) -> (u64, u64) {
        (
            self.dump_bytes.load(Ordering::Relaxed),
            self.stored_bytes.load(Ordering::Relaxed),
        )
    }
}

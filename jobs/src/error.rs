//! Why a job failed, whether a retry can help, and what the reader is told.
//!
//! # What is retried
//!
//! An error is *retryable* if the next attempt may find things changed without anybody's help: a server that starts, a
//! network that recovers, a disk on which somebody else frees room, a lock that is released. It is *permanent* if no
//! attempt can succeed before somebody changes something: a URL, a password, a grant, a version, an archive. A
//! permanent failure ends its run at once; a retry would only delay the news to the operator, and hold a slot
//! meanwhile. In doubt, an error is retryable: that costs attempts, never a promise.
//!
//! Each error decides this in one exhaustive method, `is_permanent`, by its variant and by codes (SQLSTATE, MongoDB's
//! numbers, the first word of a Redis error, S3's codes), never by the text of a message. The exception is the output
//! of `pg_dump` and `pg_restore`, which give no code: `postgres/verdict.rs` holds the one table of their messages.
//!
//! # What the reader is told
//!
//! A variant says in lower case *what* failed, on what, and what to do next. `#[source]` says why and is not repeated.
//! Messages of servers, stores and tools are quoted, bounded in length and without control characters.
//!
//! # What the reader is not told
//!
//! No variant holds a secret: of a URL only parameters' names appear, tools' output is scrubbed, and a fault holds
//! nothing but text. No variant names a command of lastgood either: only the caller knows whether there is a catalog to
//! run it against.
//!
//! Each engine has its own error for what only it knows ([`PostgresError`], [`MongodbError`], [`RedisError`]).
//! [`JobError`] has what they share, and the failures of stores and archives. All of them stand below everything else
//! in this crate, because an engine's error may wrap a store's and the other way round.

mod address;
mod damage;
mod fault;
mod judged;
mod kind;
mod mongodb;
pub(crate) mod postgres;
mod redis;
mod story;

use std::io;

pub use self::{
    address::AddressError,
    damage::Damage,
    fault::{ServerFault, StoreFault},
    kind::ErrorKind,
    mongodb::{DumpFault, MongodbError, RestoreFault},
    postgres::PostgresError,
    redis::RedisError,
    story::{MOST_TOLD, chain, story, told},
};
use crate::names::Engine;
pub use crate::{format::FormatError, key::KeyError, object_key::ObjectKeyError};

/// A job's failure.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// An in-place restore was confirmed with another id than the resource's own.
    #[error(
        "a restore in place must be confirmed with the resource's own id {expected:?}, not {given:?}"
    )]
    NotConfirmed {
        /// The id that should have been typed.
        expected: String,
        /// The id that was typed.
        given: String,
    },
    /// No restore of this resource can have made this name.
    #[error(
        "database {database:?} was not kept aside by a restore of database {of:?}: it is not dropped"
    )]
    NotKept {
        /// The database that was to be dropped.
        database: String,
        /// The resource's own database.
        of: String,
    },
    /// The restore point has no manifest.
    #[error("there is no restore point at {key}")]
    NoSuchPoint {
        /// The manifest's key.
        key: String,
    },
    /// The restore point belongs to something else.
    #[error("the restore point belongs to {what} {found:?}, not to {expected:?}")]
    OtherPoint {
        /// `run`, `resource` or `engine`.
        what: &'static str,
        /// What the manifest says.
        found: String,
        /// What the job says.
        expected: String,
    },
    /// The engine cannot be restored in this way.
    #[error("{engine} cannot be restored {how}: {instead}")]
    NotThisWay {
        /// The resource's engine.
        engine: Engine,
        /// The way that was asked for.
        how: &'static str,
        /// The ways that exist.
        instead: &'static str,
    },
    /// The target's secret reference was not resolved.
    #[error("the target's secret reference was not resolved to a URL")]
    NoTargetUrl,
    /// A failure that only the engine of `PostgreSQL` knows.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// A failure that only the engine of MongoDB knows.
    #[error(transparent)]
    Mongodb(#[from] MongodbError),
    /// A failure that only the engine of Redis and Valkey knows.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The role, its password or a host-based rule is wrong.
    #[error(
        "the server refused the role or its password: correct them in the secret behind the URL, or let this worker in{}",
        where_workers_are_let_in(.0)
    )]
    Refused(#[source] ServerFault),
    /// A privilege is missing.
    #[error(
        "the role lacks a privilege that is needed to {doing}: grant it, or use a role that has it"
    )]
    Denied {
        /// What was being done.
        doing: &'static str,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// The connection could not be made, or broke.
    #[error(
        "cannot {doing}: the server could not be reached or went away: check that it is running and has free connections, \
         and that this worker can reach its host and port"
    )]
    Unreachable {
        /// What was being done.
        doing: &'static str,
        /// What happened to the connection.
        #[source]
        source: ServerFault,
    },
    /// The server does not answer.
    #[error(
        "cannot {doing}: no answer from the server within {seconds} s: check whether it is overloaded, or a firewall drops \
         this worker's packets"
    )]
    NoAnswer {
        /// What was being done.
        doing: &'static str,
        /// How long the worker waited for it.
        seconds: u64,
    },
    /// The dump's source reported success, but the stream is not whole.
    #[error("the dump is not whole, although no step reported a failure")]
    DumpNotWhole(#[source] FormatError),
    /// The dump, or the dump in an archive, has a format that only a newer build may know.
    #[error(
        "this version of lastgood ({}) cannot read {what}: upgrade every consumer to a newer one; nothing suggests that \
         the data is damaged",
        env!("CARGO_PKG_VERSION")
    )]
    UnknownFormat {
        /// `the server's dump`, or the dump in an archive.
        what: String,
        /// What this build does not know.
        #[source]
        source: FormatError,
    },
    /// The dump is larger than its tier allows.
    #[error(
        "the dump is larger than {limit_bytes} bytes, the most that the tier allows: raise its maximum_dump_gib in plans.yaml, or \
         move the resource to another tier"
    )]
    DumpTooLarge {
        /// The tier's limit.
        limit_bytes: u64,
    },
    /// The dump is whole, but too small to be true.
    #[error(
        "the dump has only {size_bytes} bytes, and even the dump of an empty database has {floor_bytes}"
    )]
    DumpTooSmall {
        /// The dump's size.
        size_bytes: u64,
        /// The smallest size that any dump has.
        floor_bytes: u64,
    },
    /// The store has no room left.
    #[error("the store is full: cannot {doing}: make room there")]
    StoreFull {
        /// What was being done.
        doing: &'static str,
    },
    /// The store failed.
    #[error("the store failed: cannot {doing} {key}")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// To which object.
        key: String,
        /// Why.
        #[source]
        source: StoreFault,
    },
    /// The store denies access, or the bucket does not exist.
    #[error(
        "the store does not let lastgood {doing} {key}: check that the bucket exists, that its keys are right, and that \
         they have the permissions in docs/how-to/stores.md"
    )]
    StoreDenied {
        /// What was being done.
        doing: &'static str,
        /// To which object.
        key: String,
        /// Whether the same keys worked a moment ago: a restarted server may have forgotten whom it lets in.
        may_pass: bool,
        /// What the store said.
        #[source]
        source: StoreFault,
    },
    /// The store accepts our keys but cannot do this, for a reason that no retry changes.
    #[error("the store cannot {doing} {key}: {advice}")]
    StoreUnable {
        /// What was being done.
        doing: &'static str,
        /// To which object.
        key: String,
        /// What helps.
        advice: &'static str,
        /// What the store said.
        #[source]
        source: StoreFault,
    },
    /// The store has disappeared, or another one is in its place.
    #[error(
        "the store is not the one that was here before: {why}: nothing was written or removed; check that the right one is \
         mounted and configured"
    )]
    StoreChanged {
        /// How it differs. Holds no secret.
        why: String,
    },
    /// The text is not a valid object key.
    #[error(transparent)]
    ObjectKey(#[from] ObjectKeyError),
    /// The store keeps an object that was to be removed.
    #[error(
        "the store refuses to remove {key}: an object lock holds it, or the store's keys may not delete objects"
    )]
    StoreRefuses {
        /// The object.
        key: String,
        /// What the store said.
        #[source]
        source: StoreFault,
    },
    /// The archive does not match its manifest.
    #[error("the archive {key} is damaged: choose another restore point")]
    Damaged {
        /// Its key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: Damage,
    },
    /// The key of an archive is not available.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No store was ever made in this directory.
    #[error(
        "there is no store in {directory}: check that it is mounted, and that the address is right"
    )]
    NoStore {
        /// The directory.
        directory: String,
    },
    /// The escrow of a key cannot be opened with the identity at hand.
    #[error(
        "the escrow {key} cannot be opened: {why}: another store may have an intact copy, or an older version of it"
    )]
    BadEscrow {
        /// Its key in the store.
        key: String,
        /// Why not. Holds no secret.
        why: &'static str,
    },
    /// This build cannot read the manifest.
    #[error("the manifest {key} cannot be read: {why}")]
    BadManifest {
        /// Its key.
        key: String,
        /// Why.
        why: String,
    },
    /// The target is not empty.
    #[error(
        "the target database {database:?} is not empty: it has {found}: restore into an empty one"
    )]
    TargetNotEmpty {
        /// Its name.
        database: String,
        /// An example of what was found.
        found: String,
    },
    /// The target is not empty, and this is not the run's first attempt.
    #[error(
        "the target database {database:?} is not empty: it has {found}: an earlier attempt of this run may have filled \
         it; compare it with the source, or empty it and restore once more"
    )]
    PerhapsFilledBefore {
        /// Its name.
        database: String,
        /// An example of what was found.
        found: String,
    },
    /// The lease is lost: another attempt may own the run by now.
    #[error(
        "the lease is gone: another worker owns the run, and this one published nothing: see how the run ends"
    )]
    LeaseLost,
    /// The scratch server of a drill is not there.
    #[error("the drill's own server failed, which says nothing about the restore point: {how}")]
    ScratchDied {
        /// How it ended, with the end of its log.
        how: String,
    },
    /// The server refused a statement for a reason that no other variant covers.
    #[error("cannot {doing}: the server refused the statement")]
    Statement {
        /// What was being done.
        doing: &'static str,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// The worker's own machine failed.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A task of lastgood's own panicked, or was stopped with its runtime.
    #[error("{what} stopped before it finished")]
    Stopped {
        /// Which task.
        what: &'static str,
    },
}

/// Names PostgreSQL's file of access rules, if it was PostgreSQL that refused: its codes have five letters and digits.
fn where_workers_are_let_in(fault: &ServerFault) -> &'static str {
    match fault.code() {
        Some(code) if code.len() == 5 => " (PostgreSQL: pg_hba.conf)",
        Some(_) | None => "",
    }
}

impl JobError {
    /// Returns the error for a dump that ended by itself but is refused.
    pub(crate) fn of_dump(source: FormatError) -> Self {
        if source.is_unknown() {
            let what = "the server's dump".to_owned();
            return Self::UnknownFormat { what, source };
        }
        Self::DumpNotWhole(source)
    }

    /// Returns the error for an archive that is refused although its hash may be right.
    pub(crate) fn of_archive(key: &str, source: Damage) -> Self {
        match source {
            Damage::Dump(source) if source.is_unknown() => Self::UnknownFormat {
                what: format!("the dump in the archive {key}"),
                source,
            },
            source @ (Damage::Missing
            | Damage::Size { .. }
            | Damage::Hash { .. }
            | Damage::Encryption(_)
            | Damage::Encrypted
            | Damage::NotEncrypted
            | Damage::Compression(_)
            | Damage::Contents(_)
            | Damage::Dump(_)) => Self::Damaged {
                key: key.to_owned(),
                source,
            },
        }
    }

    /// Returns what the tool itself printed, without secrets: the beginning and the end of its stderr. `None` if no
    /// tool spoke.
    #[must_use]
    pub fn tool_words(&self) -> Option<&str> {
        if let Self::Postgres(error) = self {
            error.tool_words()
        } else {
            None
        }
    }

    /// Returns the error with all its causes on one line: see [`chain`].
    #[must_use]
    pub fn report(&self) -> String {
        chain(self)
    }
}

#[cfg(test)]
mod tests;

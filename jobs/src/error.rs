//! Why a job failed, and whether trying again can help.
//!
//! Rules: a variant says *what* failed, in lower case, with what the reader needs to act; `#[source]` says why and is
//! not repeated. No variant ever holds a secret, nor names a command of lastgood's: whether there is a catalog for it to ask, only
//! the caller knows. Retryable or permanent is decided in one exhaustive match, in `judged.rs`.

mod fault;
mod judged;

use std::io;

pub use fault::{ServerFault, StoreFault};

use crate::resource::Engine;
pub use crate::{
    archive::{Damage, FormatError},
    engine::{mongodb::MongodbError, postgres::address::AddressError, redis::RedisError},
    key::KeyError,
    storage::ObjectKeyError,
};

/// Which family a failure belongs to: stored with the run and a metric label. The names are permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The resource, its connection or the request cannot work as they are.
    Config,
    /// The server refused the role or its password.
    Auth,
    /// The server could not be reached, or went away.
    Connect,
    /// A client tool is missing, or of the wrong version.
    Tool,
    /// The dump failed, was cut short, or is too small to be true.
    Dump,
    /// The store failed or is full.
    Storage,
    /// The archive is damaged, or not what its manifest says.
    Corrupt,
    /// The target of a restore cannot take it.
    Target,
    /// The restore failed.
    Restore,
    /// The attempt lost its lease to another.
    LeaseLost,
    /// A fault of lastgood or of the worker's machine.
    Internal,
}

impl ErrorKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Config,
        Self::Auth,
        Self::Connect,
        Self::Tool,
        Self::Dump,
        Self::Storage,
        Self::Corrupt,
        Self::Target,
        Self::Restore,
        Self::LeaseLost,
        Self::Internal,
    ];

    /// Returns the stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Auth => "auth",
            Self::Connect => "connect",
            Self::Tool => "tool",
            Self::Dump => "dump",
            Self::Storage => "storage",
            Self::Corrupt => "corrupt",
            Self::Target => "target",
            Self::Restore => "restore",
            Self::LeaseLost => "lease_lost",
            Self::Internal => "internal",
        }
    }
}

/// A job's failure.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The connection URL does not parse, or asks for what is not supported.
    #[error("the connection URL cannot be used")]
    Address(#[from] AddressError),
    /// The server is there, the database is not.
    #[error(
        "database {database:?} does not exist on its server: correct the name in its URL, or create it; a restore that \
         swaps creates the resource's own"
    )]
    DatabaseGone {
        /// Its name.
        database: String,
    },
    /// An in-place restore whose confirmation names another resource.
    #[error(
        "a restore in place must be confirmed with the resource's own id {expected:?}, not {given:?}"
    )]
    NotConfirmed {
        /// What should have been typed.
        expected: String,
        /// What was typed.
        given: String,
    },
    /// A name that no restore of this resource can have made.
    #[error(
        "database {database:?} was not kept aside by a restore of database {of:?}: it is not dropped"
    )]
    NotKept {
        /// What was to be dropped.
        database: String,
        /// The resource's own database.
        of: String,
    },
    /// A restore point without a manifest.
    #[error("there is no restore point at {key}")]
    NoSuchPoint {
        /// The manifest's key.
        key: String,
    },
    /// A restore point of something else.
    #[error("the restore point is of {what} {found:?}, not of {expected:?}")]
    OtherPoint {
        /// `run`, `resource` or `engine`.
        what: &'static str,
        /// What the manifest says.
        found: String,
        /// What the job says.
        expected: String,
    },
    /// A way to restore that this engine does not have.
    #[error("{engine} cannot be restored {how}: {instead}")]
    NotThisWay {
        /// The resource's engine.
        engine: Engine,
        /// What was asked for.
        how: &'static str,
        /// What there is.
        instead: &'static str,
    },
    /// A restore to a secret reference that nobody resolved.
    #[error("the target's secret reference was not resolved to a URL")]
    NoTargetUrl,

    /// What only MongoDB's engine knows.
    #[error(transparent)]
    Mongodb(#[from] MongodbError),
    /// What only the engine of Redis and Valkey knows.
    #[error(transparent)]
    Redis(#[from] RedisError),

    /// A wrong role, password or host-based rule.
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

    /// Policies hide rows from the role, and a dump without them would be no backup.
    #[error(
        "row-level security hides rows of {tables} from the role: give it BYPASSRLS (`alter role {role} bypassrls`), or let \
         another role that has it make the backups"
    )]
    RowSecurity {
        /// Some of the tables.
        tables: String,
        /// The role, quoted for SQL.
        role: String,
    },
    /// The server did not prove who it is.
    #[error(
        "the server did not prove that it is the one that the URL names: correct its certificate, or host, sslmode and \
         sslrootcert in the URL; nothing was sent"
    )]
    Untrusted {
        /// What is wrong with its certificate.
        #[source]
        source: ServerFault,
    },
    /// A connection of the kind that the URL asks for cannot be made.
    #[error("the connection URL cannot be used: {why}")]
    ConnectionImpossible {
        /// Why, and what to change.
        why: String,
    },
    /// A pooler in transaction or statement mode.
    #[error(
        "{server} is a pooler that shares server connections between clients: what pg_dump sets would reach others' sessions: \
         name the server's own address in the URL, or a pool in session mode"
    )]
    SharedConnections {
        /// The pooler's address.
        server: String,
    },
    /// Transactions that were prepared and never ended hold locks that the dump waits for.
    #[error(
        "pg_dump waited in vain for a lock, and these prepared transactions hold locks: {names}: end each with `commit prepared` \
         or `rollback prepared`"
    )]
    PreparedTransactions {
        /// Their names, and since when they are.
        names: String,
    },

    /// No connection, or one that broke.
    #[error(
        "cannot {doing}: the server could not be reached or went away: see that it runs, has connections left, and that \
         this worker can reach its host and port"
    )]
    Unreachable {
        /// What was being done.
        doing: &'static str,
        /// What happened to the connection.
        #[source]
        source: ServerFault,
    },
    /// A server that does not answer.
    #[error(
        "cannot {doing}: no answer from the server within {seconds} s: see whether it is overloaded, or a firewall \
         drops what this worker sends"
    )]
    NoAnswer {
        /// What was being done.
        doing: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },

    /// A database that lets nobody in: a swap is at work there, or died there.
    #[error(
        "database {database:?} takes no connections: if no restore is at work, run `{by_hand}`"
    )]
    DatabaseClosed {
        /// Its name.
        database: String,
        /// The statement that opens it.
        by_hand: String,
    },

    /// No client tool of the server's major version.
    #[error(
        "no {tool} of major version {wanted} for this server; found {found}: install postgresql-client-{wanted}, or name \
         its directory with --pg-client-dir or LASTGOOD_PG_CLIENT_DIRS"
    )]
    NoClient {
        /// `pg_dump` or `pg_restore`.
        tool: &'static str,
        /// The server's major version.
        wanted: u32,
        /// The majors that were found, and where.
        found: String,
    },
    /// A server from before the oldest dump format that can be checked.
    #[error("PostgreSQL {major} is too old: 10 is the oldest that is supported")]
    ServerTooOld {
        /// The server's major version.
        major: u32,
    },
    /// A tool that is there and does not start.
    #[error("cannot start {tool}")]
    ToolStart {
        /// Its path.
        tool: String,
        /// Why.
        #[source]
        source: io::Error,
    },

    /// `pg_dump` said no.
    #[error("pg_dump failed ({status}): {stderr}")]
    DumpFailed {
        /// Its exit status.
        status: String,
        /// The begin and the end of its stderr, scrubbed: its error first, then what it said before.
        stderr: String,
    },
    /// Whoever made the dump said yes, and the stream says no.
    #[error("the dump is not whole, although nothing on the way reported a failure")]
    DumpNotWhole(#[source] FormatError),
    /// A dump, or the dump in an archive, of a kind that a newer build may know.
    #[error(
        "this version of lastgood ({}) cannot read {what}: run a newer one, on every consumer; nothing says that the data is damaged",
        env!("CARGO_PKG_VERSION")
    )]
    UnknownFormat {
        /// `the server's dump`, or an archive.
        what: String,
        /// What is not known.
        #[source]
        source: FormatError,
    },
    /// A dump that is larger than it may be.
    #[error(
        "the dump is larger than {limit_bytes} bytes, the most that the tier allows: raise its maximum_dump_gib in plans.yaml, or \
         move the resource to another tier"
    )]
    DumpTooLarge {
        /// The tier's limit.
        limit_bytes: u64,
    },
    /// A whole dump that is too small to be true.
    #[error("the dump has {size_bytes} bytes, and even an empty database's has {floor_bytes}")]
    DumpTooSmall {
        /// Its size.
        size_bytes: u64,
        /// The least size of any dump.
        floor_bytes: u64,
    },

    /// No room left.
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

    /// The store does not let us in, or there is no such bucket.
    #[error(
        "the store does not let lastgood {doing} {key}: see that the bucket exists, and that its keys are right and may do \
         what docs/stores.md lists"
    )]
    StoreDenied {
        /// What was being done.
        doing: &'static str,
        /// To which object.
        key: String,
        /// What the store said.
        #[source]
        source: StoreFault,
    },
    /// The store knows us and will not do it, for a reason that no other attempt changes.
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
    /// The store is gone from where it was, or another is in its place.
    #[error(
        "the store is not the one that was here before: {why}: nothing was written or removed; see that the right one is mounted \
         and configured"
    )]
    StoreChanged {
        /// How it is another. Holds no secret.
        why: String,
    },
    /// A text that is no object's key.
    #[error(transparent)]
    ObjectKey(#[from] ObjectKeyError),
    /// The store keeps an object that was to be removed.
    #[error(
        "the store refuses to remove {key}: an object lock holds it, or the right to is missing"
    )]
    StoreRefuses {
        /// The object.
        key: String,
        /// What the store said.
        #[source]
        source: StoreFault,
    },

    /// An archive that is not what its manifest says.
    #[error("the archive {key} is damaged: take another restore point")]
    Damaged {
        /// Its key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: Damage,
    },
    /// An archive whose key cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A directory in which no store was ever made.
    #[error(
        "there is no store in {directory}: see that it is mounted, and that the address is right"
    )]
    NoStore {
        /// The directory.
        directory: String,
    },
    /// The escrow of a key that cannot be opened with the identity at hand.
    #[error(
        "the escrow {key} cannot be opened: {why}: another store may have it whole, or an older version of it"
    )]
    BadEscrow {
        /// Its key in the store.
        key: String,
        /// Why not. Holds no secret.
        why: &'static str,
    },
    /// A manifest that cannot be read by this build.
    #[error("the manifest {key} cannot be read: {why}")]
    BadManifest {
        /// Its key.
        key: String,
        /// Why.
        why: String,
    },

    /// A target that holds something already.
    #[error(
        "the target database {database:?} is not empty: it has {found}: restore into an empty one"
    )]
    TargetNotEmpty {
        /// Its name.
        database: String,
        /// What was found, by example.
        found: String,
    },
    /// A target that holds something, and this is not the run's first attempt.
    #[error(
        "the target database {database:?} is not empty: it has {found}: an earlier attempt of this run may have filled \
         it; compare it with the source, or empty it and restore once more"
    )]
    PerhapsFilledBefore {
        /// Its name.
        database: String,
        /// What was found, by example.
        found: String,
    },
    /// A target older than the dump.
    #[error(
        "the target is PostgreSQL {target}, the dump is of PostgreSQL {dump}: an older server cannot take it"
    )]
    TargetOlder {
        /// The target's major version.
        target: u32,
        /// The dump's.
        dump: u32,
    },
    /// An extension that the target's server does not have.
    #[error("the target's server has no extension {extension:?}: install its package there first")]
    NoExtension {
        /// Its name.
        extension: String,
    },
    /// An extension that only a superuser can bring.
    #[error(
        "only a superuser may create extension {extension:?}: have one run `create extension {extension}` in template1, \
         or restore into an empty database that has it already"
    )]
    ExtensionNeedsSuperuser {
        /// Its name.
        extension: String,
    },
    /// A role that may do everything, and nobody said that it may be used.
    #[error(
        "the URL's role is a superuser, and a restore runs functions that the customer wrote, as that role: restore with a URL of \
         the owner, or say `as_superuser` (--as-superuser) if you trust all who could write to it"
    )]
    AsSuperuser,
    /// A dump whose objects are in tablespaces that the target does not have.
    #[error(
        "objects of the restore point are in tablespaces that are not here, or in which this role may not create: {names}: create \
         them (`grant create on tablespace`), or say `no_tablespaces` (--no-tablespaces) to put everything into the database's own"
    )]
    NoTablespace {
        /// Their names.
        names: String,
    },
    /// A swap that logical replication would not survive.
    #[error(
        "a database that swaps names leaves its logical replication behind: {what}; end it or move it first, restore into an empty \
         database, or say `break_replication` (--break-replication)"
    )]
    BreaksReplication {
        /// Its slots and subscriptions.
        what: String,
    },
    /// A restore in one transaction that the server's lock table has no room for.
    #[error(
        "a restore in one transaction needs about {needed} locks, and the server's lock table has room for {room}: set \
         max_locks_per_transaction to {setting} or more and restart the server, or let the restore swap with a fresh database, \
         which needs no such transaction"
    )]
    LockTableTooSmall {
        /// About how many locks it takes.
        needed: u64,
        /// How many there are.
        room: u64,
        /// The setting that would do.
        setting: u64,
    },
    /// A database that is the server's own.
    #[error(
        "database {database:?} is the server's own, and nothing is restored into it: create an empty one"
    )]
    NotATarget {
        /// Its name.
        database: String,
    },
    /// A database that is somebody else's.
    #[error(
        "database {database:?} does not belong to the owner of the resource's own database: create an empty one that does"
    )]
    OthersDatabase {
        /// Its name.
        database: String,
    },
    /// The target's server refused what a restore has to do there.
    #[error("the target's server refused to {doing}")]
    TargetRefused {
        /// What was being done.
        doing: &'static str,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// The old database is in use by sessions that this role may not end.
    #[error(
        "database {database:?} is still in use: end {sessions} other sessions, or let the role do it"
    )]
    TargetInUse {
        /// Its name.
        database: String,
        /// How many sessions are left.
        sessions: i64,
    },
    /// The old database was closed for a swap, and could not be opened again.
    #[error(
        "the swap failed, and database {database:?} may take no connections now: run `{by_hand}`"
    )]
    LeftClosed {
        /// Its name.
        database: String,
        /// The statement that opens it.
        by_hand: String,
        /// Why it could not be opened.
        #[source]
        source: Box<JobError>,
    },

    /// `pg_restore` said no.
    #[error("pg_restore failed ({status}): {stderr}")]
    RestoreFailed {
        /// Its exit status.
        status: String,
        /// The begin and the end of its stderr, scrubbed.
        stderr: String,
    },
    /// `pg_restore` said yes, and the database says no.
    #[error(
        "the restored database has {found} tables, and the dump has {expected}: do not use it; restore once more, or \
         take another point"
    )]
    RestoreNotWhole {
        /// Tables in the dump.
        expected: u64,
        /// Tables in the database.
        found: u64,
    },

    /// Another attempt may own the run by now.
    #[error(
        "the lease is gone: another worker owns the run, and this one published nothing: see how the run ends"
    )]
    LeaseLost,

    /// The server refused a statement of ours for a reason that none of the above covers.
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
    /// A task of ours panicked or was stopped with its runtime.
    #[error("{what} stopped before its end")]
    Stopped {
        /// Which one.
        what: &'static str,
    },
}

/// Says where PostgreSQL keeps who may connect, if it was PostgreSQL that refused: its codes have five letters and digits.
fn where_workers_are_let_in(fault: &ServerFault) -> &'static str {
    match fault.code() {
        Some(code) if code.len() == 5 => " (PostgreSQL: pg_hba.conf)",
        Some(_) | None => "",
    }
}

impl JobError {
    /// Says why a dump is refused that ended by itself.
    pub(crate) fn of_dump(source: FormatError) -> Self {
        if source.is_unknown() {
            let what = "the server's dump".to_owned();
            return Self::UnknownFormat { what, source };
        }
        Self::DumpNotWhole(source)
    }

    /// Says why an archive is refused whose hash may well be right.
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
            | Damage::Dump(_)) => Self::Damaged {
                key: key.to_owned(),
                source,
            },
        }
    }

    /// Returns what the tool itself said, without secrets: the begin and the end of its stderr. `None` where no tool spoke.
    #[must_use]
    pub fn tool_words(&self) -> Option<&str> {
        if let Self::DumpFailed { stderr, .. } | Self::RestoreFailed { stderr, .. } = self {
            Some(stderr)
        } else {
            None
        }
    }

    /// Returns the whole story on one line: see [`chain`].
    #[must_use]
    pub fn report(&self) -> String {
        chain(self)
    }
}

/// Returns the whole story of an error on one line: what failed and every cause, `: ` between them.
///
/// A cause that the text before it ends with already is not repeated. Lines of one message have ` | ` between them.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let story = story(error);
    let lines = story.lines().map(str::trim).filter(|line| !line.is_empty());
    told(lines.collect::<Vec<_>>().join(" | "))
}

/// The same, in as many lines as the messages have.
#[must_use]
pub fn story(error: &dyn std::error::Error) -> String {
    let mut story = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        let text = text.trim();
        story.truncate(story.trim_end().len());
        if !story.ends_with(text) {
            story.push_str(": ");
            story.push_str(text);
        }
        next = cause.source();
    }
    story
}

/// The most that is told of an error, in bytes: peers' words are in it, and end in tables, logs and answers.
pub const MOST_TOLD: usize = 8 * 1024;

/// Returns a text, or its begin and its end where it has more than [`MOST_TOLD`] bytes.
#[must_use]
pub fn told(text: String) -> String {
    /// Room for the words between the two.
    const CUT: usize = 64;
    if text.len() <= MOST_TOLD {
        return text;
    }
    let (begin, end) = ((MOST_TOLD - CUT) * 3 / 4, (MOST_TOLD - CUT) / 4);
    let begin = text.floor_char_boundary(begin);
    let end = text.ceil_char_boundary(text.len() - end);
    let (head, tail) = (&text[..begin], &text[end..]);
    format!("{head} … [{} bytes left out] … {tail}", end - begin)
}

#[cfg(test)]
mod tests;

//! What can go wrong with PostgreSQL only.

pub(crate) mod verdict;

use std::io;

use self::verdict::Verdict;
use super::{AddressError, ErrorKind, JobError, ServerFault};

/// A failure that only this engine knows.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The connection URL does not parse, or asks for something that is not supported.
    #[error("the connection URL cannot be used")]
    Address(#[from] AddressError),
    /// The server exists, but the database does not.
    #[error(
        "database {database:?} does not exist on its server: correct the name in its URL, or create it; a restore that \
         swaps creates the resource's own"
    )]
    DatabaseGone {
        /// Its name.
        database: String,
    },
    /// Row-level security hides rows from the role, so that a dump would be incomplete.
    #[error(
        "row-level security hides rows of {tables} from the role: give it BYPASSRLS (`alter role {role} bypassrls`), or \
         back up with another role that has it"
    )]
    RowSecurity {
        /// Some of the tables.
        tables: String,
        /// The role, quoted for SQL.
        role: String,
    },
    /// The server did not prove its identity.
    #[error(
        "the server did not prove that it is the one that the URL names: correct its certificate, or host, sslmode and \
         sslrootcert in the URL; nothing was sent"
    )]
    Untrusted {
        /// What is wrong with the server's certificate.
        #[source]
        source: ServerFault,
    },
    /// The URL asks for a connection that cannot be made.
    #[error("the connection URL cannot be used: {why}")]
    ConnectionImpossible {
        /// Why, and what to change.
        why: String,
    },
    /// The server is a pooler in transaction or statement mode.
    #[error(
        "{server} is a pooler that shares server connections between clients, so pg_dump's settings would leak into other \
         sessions: name the server's own address in the URL, or a pool in session mode"
    )]
    SharedConnections {
        /// The pooler's address.
        server: String,
    },
    /// The dump waits for locks that prepared transactions hold.
    #[error(
        "pg_dump timed out waiting for a lock, and these prepared transactions hold locks: {names}: end each with `commit \
         prepared` or `rollback prepared`"
    )]
    PreparedTransactions {
        /// The transactions' names, and when they were prepared.
        names: String,
    },
    /// The database takes no connections: a swap is at work there, or died there.
    #[error(
        "database {database:?} accepts no connections: if no restore is running, run `{by_hand}`"
    )]
    DatabaseClosed {
        /// Its name.
        database: String,
        /// The statement that opens the database.
        by_hand: String,
    },
    /// No client tool of the server's major version is installed.
    #[error(
        "no {tool} of major version {wanted} for this server; found {found}: install postgresql-client-{wanted}, or name \
         its directory with --pg-client-dir or LASTGOOD_PG_CLIENT_DIRS"
    )]
    NoClient {
        /// `pg_dump` or `pg_restore`.
        tool: &'static str,
        /// The server's major version.
        wanted: u32,
        /// The major versions that were found, and where.
        found: String,
    },
    /// The server is older than the oldest dump format that lastgood can check.
    #[error("PostgreSQL {major} is too old: 10 is the oldest supported version")]
    ServerTooOld {
        /// The server's major version.
        major: u32,
    },
    /// The tool exists but does not start.
    #[error("cannot start {tool}")]
    ToolStart {
        /// Its path.
        tool: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `pg_dump` reported a failure.
    #[error("pg_dump failed ({status}): {stderr}")]
    DumpFailed {
        /// Its exit status.
        status: String,
        /// The beginning and the end of its stderr, scrubbed: first its error, then its earlier output.
        stderr: String,
    },
    /// The target is older than the dump.
    #[error(
        "the target is PostgreSQL {target}, but the dump is from PostgreSQL {dump}: restore into a server of that version \
         or newer"
    )]
    TargetOlder {
        /// The target's major version.
        target: u32,
        /// The dump's major version.
        dump: u32,
    },
    /// The target's server does not have an extension.
    #[error("the target's server has no extension {extension:?}: install its package there first")]
    NoExtension {
        /// Its name.
        extension: String,
    },
    /// Only a superuser can create an extension.
    #[error(
        "only a superuser may create extension {extension:?}: have one run `create extension {extension}` in template1, \
         or restore into an empty database that has it already"
    )]
    ExtensionNeedsSuperuser {
        /// Its name.
        extension: String,
    },
    /// The role is a superuser, and the request did not allow that.
    #[error(
        "the URL's role is a superuser, and a restore runs the customer's own functions as that role: restore with a URL \
         of the owner, or say `as_superuser` (--as-superuser) if you trust everybody who could write to the database"
    )]
    AsSuperuser,
    /// The dump has objects in tablespaces that the target does not have.
    #[error(
        "the restore point uses tablespaces that this server lacks, or in which this role may not create objects: {names}: \
         create them or run `grant create on tablespace`, or say `no_tablespaces` (--no-tablespaces) to put everything \
         into the database's own"
    )]
    NoTablespace {
        /// The tablespaces' names.
        names: String,
    },
    /// A swap would break logical replication.
    #[error(
        "a swap leaves the database's logical replication behind: {what}; end it or move it first, restore into an empty \
         database, or say `break_replication` (--break-replication)"
    )]
    BreaksReplication {
        /// The database's slots and subscriptions.
        what: String,
    },
    /// The server's lock table has no room for a restore in one transaction.
    #[error(
        "a restore in one transaction needs about {needed} locks, and the server's lock table has room for {room}: set \
         max_locks_per_transaction to {setting} or more and restart the server, or let the restore swap with a fresh database, \
         which needs no such transaction"
    )]
    LockTableTooSmall {
        /// About how many locks the restore takes.
        needed: u64,
        /// How many locks the table has room for.
        room: u64,
        /// The value of `max_locks_per_transaction` that would do.
        setting: u64,
    },
    /// The database is the server's own.
    #[error(
        "database {database:?} is the server's own, and lastgood restores nothing into it: create an empty one"
    )]
    NotATarget {
        /// Its name.
        database: String,
    },
    /// The database belongs to somebody else.
    #[error(
        "database {database:?} does not belong to the owner of the resource's own database: create an empty one that does"
    )]
    OthersDatabase {
        /// Its name.
        database: String,
    },
    /// The target's server refused something that the restore needs.
    #[error("the target's server refused to {doing}")]
    TargetRefused {
        /// What was being done.
        doing: &'static str,
        /// What the server said.
        #[source]
        source: ServerFault,
    },
    /// Sessions that this role may not end still use the old database.
    #[error(
        "database {database:?} is still in use: end {sessions} other sessions, or allow this role to end them"
    )]
    TargetInUse {
        /// Its name.
        database: String,
        /// How many sessions are left.
        sessions: i64,
    },
    /// The old database was closed for a swap, and could not be reopened.
    #[error(
        "the swap failed, and database {database:?} may still be closed to connections: run `{by_hand}`"
    )]
    LeftClosed {
        /// Its name.
        database: String,
        /// The statement that opens the database.
        by_hand: String,
        /// Why it could not be reopened.
        #[source]
        source: Box<JobError>,
    },
    /// `pg_restore` reported a failure.
    #[error("pg_restore failed ({status}): {stderr}")]
    RestoreFailed {
        /// Its exit status.
        status: String,
        /// The beginning and the end of its stderr, scrubbed.
        stderr: String,
    },
    /// `pg_restore` reported success, but the database is not whole.
    #[error(
        "the restored database has {found} tables, but the dump has {expected}: do not use it; restore once more, or \
         choose another point"
    )]
    RestoreNotWhole {
        /// How many tables the dump has.
        expected: u64,
        /// How many tables the database has.
        found: u64,
    },
}

impl PostgresError {
    /// Returns the family of the failure.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Address(_)
            | Self::DatabaseGone { .. }
            | Self::ConnectionImpossible { .. }
            | Self::SharedConnections { .. }
            | Self::AsSuperuser
            | Self::BreaksReplication { .. } => ErrorKind::Config,
            Self::RowSecurity { .. } => ErrorKind::Auth,
            Self::Untrusted { .. } | Self::DatabaseClosed { .. } => ErrorKind::Connect,
            Self::NoClient { .. } | Self::ServerTooOld { .. } | Self::ToolStart { .. } => {
                ErrorKind::Tool
            }
            Self::DumpFailed { .. } | Self::PreparedTransactions { .. } => ErrorKind::Dump,
            Self::TargetOlder { .. }
            | Self::NoExtension { .. }
            | Self::ExtensionNeedsSuperuser { .. }
            | Self::NoTablespace { .. }
            | Self::LockTableTooSmall { .. }
            | Self::NotATarget { .. }
            | Self::OthersDatabase { .. }
            | Self::TargetRefused { .. }
            | Self::TargetInUse { .. }
            | Self::LeftClosed { .. } => ErrorKind::Target,
            Self::RestoreFailed { .. } | Self::RestoreNotWhole { .. } => ErrorKind::Restore,
        }
    }

    /// Returns whether no retry can succeed before somebody changes something.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Address(_)
            | Self::DatabaseGone { .. }
            | Self::ConnectionImpossible { .. }
            | Self::SharedConnections { .. }
            | Self::Untrusted { .. }
            | Self::RowSecurity { .. }
            | Self::PreparedTransactions { .. }
            | Self::NoClient { .. }
            | Self::ServerTooOld { .. }
            | Self::TargetOlder { .. }
            | Self::NoExtension { .. }
            | Self::ExtensionNeedsSuperuser { .. }
            | Self::AsSuperuser
            | Self::NoTablespace { .. }
            | Self::BreaksReplication { .. }
            | Self::LockTableTooSmall { .. }
            | Self::NotATarget { .. }
            | Self::OthersDatabase { .. } => true,
            Self::DumpFailed { stderr, .. } | Self::RestoreFailed { stderr, .. } => {
                Verdict::of_words(stderr).is_final()
            }
            Self::ToolStart { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ),
            Self::DatabaseClosed { .. }
            | Self::TargetRefused { .. }
            | Self::TargetInUse { .. }
            | Self::LeftClosed { .. }
            | Self::RestoreNotWhole { .. } => false,
        }
    }

    /// Returns what the tool itself printed, without secrets: the beginning and the end of its stderr. `None` if no
    /// tool spoke.
    pub(crate) fn tool_words(&self) -> Option<&str> {
        if let Self::DumpFailed { stderr, .. } | Self::RestoreFailed { stderr, .. } = self {
            Some(stderr)
        } else {
            None
        }
    }
}

impl From<AddressError> for JobError {
    fn from(error: AddressError) -> Self {
        PostgresError::from(error).into()
    }
}

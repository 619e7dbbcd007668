//! Why is there no scratch server?

use std::{io, path::PathBuf};

use crate::error::JobError;

/// What this machine lacks for a drill: it says nothing about the restore point, which stays *unproven*.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPossible {
    /// There is no program of this server, or only of versions that cannot hold the dump.
    #[error(
        "this consumer has no {wanted} to restore into (found {found}): install it here, or name its directory with \
         --drill-program-dir"
    )]
    NoServer {
        /// For example `PostgreSQL 17 (initdb and postgres)`.
        wanted: String,
        /// What there is of that engine, or `none at all`.
        found: String,
    },
    /// The restored data would exceed the limit for drills.
    #[error(
        "the drill would need about {needs_bytes} bytes, and is allowed {allowed_bytes}: raise --drill-max-bytes on a \
         consumer that has the room"
    )]
    TooLarge {
        /// An estimate from the dump's size.
        needs_bytes: u64,
        /// The limit.
        allowed_bytes: u64,
    },
    /// The file system is too full.
    #[error(
        "the drill would need about {needs_bytes} bytes in {}, where {free_bytes} are free: make room there, or choose \
         another --drill-dir", dir.display()
    )]
    NoRoom {
        /// An estimate from the dump's size.
        needs_bytes: u64,
        /// What the file system has free for this process.
        free_bytes: u64,
        /// The directory for drills.
        dir: PathBuf,
    },
    /// The server would hold everything in memory, and there is not enough.
    #[error(
        "the drill would need about {needs_bytes} bytes of memory, and {free_bytes} are free: give this consumer more \
         memory, or let one that has more run the drill"
    )]
    NoMemory {
        /// An estimate from the dump's size.
        needs_bytes: u64,
        /// What the machine has free, within this process's own limit.
        free_bytes: u64,
    },
    /// PostgreSQL's server refuses to run as root.
    #[error(
        "PostgreSQL's server does not run as root: run the consumer as another user, or name one with --drill-user"
    )]
    AsRoot,
    /// The directory for drills cannot be used.
    #[error("drills cannot use {}: {why}: choose another --drill-dir", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The configured server's role could run the customer's code with any right.
    #[error(
        "the role on the server configured for drills is a superuser, so functions in the dump could do anything there: \
         name a role with CREATEDB and no more"
    )]
    Superuser,
    /// The server does not have one of the dump's extensions.
    #[error(
        "{server} of the drill does not have the extension {extension} ({version} in the dump): install it on this \
         consumer, or configure a server for drills that has it"
    )]
    NoExtension {
        /// Its name.
        extension: String,
        /// Its version in the dump.
        version: String,
        /// What was started, such as `PostgreSQL 18.6`.
        server: String,
    },
    /// The configured server is of another major version.
    #[error(
        "the server configured for drills is {found}, but the dump needs {wanted}: configure such a server, or install \
         its programs on this consumer"
    )]
    OtherVersion {
        /// What the dump needs.
        wanted: String,
        /// What is configured.
        found: String,
    },
}

impl NotPossible {
    /// Returns the stored name of the reason. Permanent.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NoServer { .. } => "no_server",
            Self::TooLarge { .. } => "too_large",
            Self::NoRoom { .. } => "no_room",
            Self::NoMemory { .. } => "no_memory",
            Self::AsRoot => "as_root",
            Self::Directory { .. } => "directory",
            Self::Superuser => "superuser",
            Self::NoExtension { .. } => "no_extension",
            Self::OtherVersion { .. } => "other_version",
        }
    }
}

/// A scratch server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// This machine lacks something.
    #[error(transparent)]
    NotPossible(#[from] NotPossible),
    /// Its files could not be made, or its program could not be run.
    #[error("cannot {doing} for the drill's server")]
    Files {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server's program ended by itself.
    #[error("{program} of the drill ended by itself ({status}): {log}")]
    Ended {
        /// Which program.
        program: String,
        /// For example `exit status: 1`.
        status: String,
        /// The end of its log, scrubbed.
        log: String,
    },
    /// The server started and did not accept connections.
    #[error("{program} of the drill did not accept connections within {seconds} s: {log}")]
    Silent {
        /// Which program.
        program: String,
        /// How long was waited.
        seconds: u64,
        /// The end of its log, scrubbed.
        log: String,
    },
    /// The server answered with an error while it was prepared.
    #[error(transparent)]
    Server(#[from] JobError),
}

impl StartError {
    /// Returns what this machine lacks, if that is the reason.
    #[must_use]
    pub fn not_possible(&self) -> Option<&NotPossible> {
        match self {
            Self::NotPossible(reason) => Some(reason),
            Self::Files { .. } | Self::Ended { .. } | Self::Silent { .. } | Self::Server(_) => None,
        }
    }

    /// Returns a function that makes an error of a failed call.
    pub(super) fn files(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Files { doing, source }
    }
}

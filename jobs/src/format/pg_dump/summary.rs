//! The result of scanning an archive: what it holds, or why it is not whole.

use super::layout::{MINOR_NEWEST, MINOR_OLDEST};

/// What an archive says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The server's version as `pg_dump` saw it, e.g. `18.6`.
    pub server_version: String,
    /// The version of `pg_dump`.
    pub dump_version: String,
    /// The number of tables, including partitioned tables and partitions, but not foreign tables and views.
    pub tables: u64,
    /// The number of entries in the table of contents.
    pub entries: u64,
}

/// One entry of the table of contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its id, as `pg_restore -L` uses it.
    pub id: u32,
    /// Its kind: `TABLE`, `EXTENSION`, `COMMENT`, …
    pub kind: String,
    /// Its name.
    pub tag: String,
    /// Its schema, or empty.
    pub namespace: String,
    /// Its tablespace; empty for the database's own.
    pub tablespace: String,
    /// Its SQL, for the kinds whose SQL a restore tries or translates itself; empty for all others.
    pub definition: String,
    /// Its `COPY` statement; empty unless the dump's contents are recorded.
    pub copy: String,
    /// The ids of the entries that it depends on; empty for kinds where nothing needs them.
    pub dependencies: Vec<u32>,
}

impl Entry {
    /// Returns whether a restore inspects the SQL of such an entry.
    pub(super) fn has_sql_to_keep(&self) -> bool {
        match self.kind.as_str() {
            "SCHEMA" | "EXTENSION" | "ACL" | "DATABASE PROPERTIES" => true,
            "COMMENT" => ["SCHEMA ", "DATABASE "]
                .iter()
                .any(|of| self.tag.starts_with(of)),
            _ => false,
        }
    }

    /// Returns whether its SQL says what the entry holds.
    pub(super) fn has_sql_to_record(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "SEQUENCE SET" | "CHECK CONSTRAINT" | "FK CONSTRAINT"
        )
    }

    /// Returns whether a restore needs the dependencies of such an entry.
    pub(super) fn has_dependencies_to_keep(&self) -> bool {
        matches!(self.kind.as_str(), "ACL" | "TABLE DATA")
    }
}

/// What to keep of the table of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing but counts: for a verification.
    Nothing,
    /// What the dump holds, item by item: for a dump in progress.
    Contents,
    /// Every entry: for a restore that has to choose among them.
    Entries,
}

/// Why a stream is not a whole custom archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Another format.
    #[error("it does not begin like a pg_dump custom archive")]
    NotCustom,
    /// An older or newer version of the format.
    #[error(
        "its format is {major}.{minor}, but only 1.{MINOR_OLDEST} to 1.{MINOR_NEWEST} are supported"
    )]
    Version {
        /// The number before the dot.
        major: u8,
        /// The number after the dot.
        minor: u8,
    },
    /// Bytes that are not allowed where they are.
    #[error("it has {what} at byte {at}")]
    Malformed {
        /// What was found.
        what: &'static str,
        /// The byte offset.
        at: u64,
    },
    /// An end in the middle of something.
    #[error("it ends at byte {at}, in the middle of {within}")]
    Truncated {
        /// The byte offset.
        at: u64,
        /// In the middle of what.
        within: &'static str,
    },
    /// An end before everything was there.
    #[error("it ends at byte {at}, and the data of {missing} of its entries is missing")]
    DataMissing {
        /// The byte offset.
        at: u64,
        /// How many entries lack their data.
        missing: usize,
    },
}

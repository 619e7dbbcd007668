//! What a scanned archive tells: what it holds, or why it is not whole.

use super::layout::{MINOR_NEWEST, MINOR_OLDEST};

/// What an archive says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The server's version as `pg_dump` saw it, e.g. `18.6`.
    pub server_version: String,
    /// The version of `pg_dump`.
    pub dump_version: String,
    /// Tables, partitioned ones and partitions included; foreign tables and views are none.
    pub tables: u64,
    /// All entries of the table of contents.
    pub entries: u64,
}

/// One entry of the table of contents, in the archive's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its id, which `pg_restore -L` knows it by.
    pub id: u32,
    /// What it is: `TABLE`, `EXTENSION`, `COMMENT`, …
    pub kind: String,
    /// Its name.
    pub tag: String,
    /// Its schema, or nothing.
    pub namespace: String,
    /// Its tablespace, or nothing: the database's own.
    pub tablespace: String,
    /// Its SQL, of those kinds whose SQL a restore tries or translates itself; empty for all others.
    pub definition: String,
    /// Which entries it depends on; empty for kinds of which nobody asks.
    pub dependencies: Vec<u32>,
}

impl Entry {
    /// Returns whether a restore looks into the SQL of such an entry.
    pub(super) fn has_sql_to_keep(&self) -> bool {
        match self.kind.as_str() {
            "SCHEMA" | "EXTENSION" | "ACL" | "DATABASE PROPERTIES" => true,
            "COMMENT" => ["SCHEMA ", "DATABASE "]
                .iter()
                .any(|of| self.tag.starts_with(of)),
            _ => false,
        }
    }

    /// Returns whether a restore asks what such an entry depends on.
    pub(super) fn has_dependencies_to_keep(&self) -> bool {
        matches!(self.kind.as_str(), "ACL" | "TABLE DATA")
    }
}

/// What is remembered of the table of contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing but numbers: for a dump in flight.
    Nothing,
    /// Every entry: for a restore that has to choose among them.
    Entries,
}

/// Why a stream is no whole custom archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Another format.
    #[error("it does not begin like a pg_dump custom archive")]
    NotCustom,
    /// An older or newer version of the format.
    #[error(
        "its format is {major}.{minor}, and 1.{MINOR_OLDEST} to 1.{MINOR_NEWEST} are supported"
    )]
    Version {
        /// Before the dot.
        major: u8,
        /// After it.
        minor: u8,
    },
    /// Bytes that cannot stand where they are.
    #[error("it has {what} at byte {at}")]
    Malformed {
        /// What was found.
        what: &'static str,
        /// Where.
        at: u64,
    },
    /// An end in the middle of something.
    #[error("it ends at byte {at}, in the middle of {within}")]
    Truncated {
        /// Where.
        at: u64,
        /// Of what.
        within: &'static str,
    },
    /// An end before everything was there.
    #[error("it ends at byte {at}, and the data of {missing} of its entries is missing")]
    DataMissing {
        /// Where.
        at: u64,
        /// How many entries.
        missing: usize,
    },
}

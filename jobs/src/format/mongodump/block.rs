//! The header before a block of documents and at the end of a namespace.

use bson::rawdoc;

use super::{NAME_BYTES_MAX, fields};

/// More than two names of the greatest length, with their fields.
pub(super) const HEADER_BYTES_MAX: usize = 2 * NAME_BYTES_MAX + 1024;

/// Whose block it is, and whether it is the last.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BlockHeader<'a> {
    pub(super) database: &'a str,
    pub(super) collection: &'a str,
    pub(super) mark: Mark,
}

/// What a block header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Documents,
    /// The namespace's end, with the checksum of all its documents.
    End(i64),
}

impl<'a> BlockHeader<'a> {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let (is_end, checksum) = match self.mark {
            Mark::Documents => (false, 0),
            Mark::End(checksum) => (true, checksum),
        };
        let document = rawdoc! {
            "db": self.database,
            "collection": self.collection,
            "EOF": is_end,
            "CRC": checksum,
        };
        document.into_bytes()
    }

    /// Parses a header, or returns what is wrong with it. Every `mongodump` writes these four fields, so all must be
    /// there.
    pub(super) fn parse(document: &'a [u8]) -> Result<Self, &'static str> {
        let (mut database, mut collection, mut is_end, mut checksum) = (None, None, None, None);
        fields::each(document, |key, field| match key {
            "db" => fields::keep(&mut database, fields::text(field)),
            "collection" => fields::keep(&mut collection, fields::text(field)),
            "EOF" => fields::keep(&mut is_end, fields::truth(field)),
            "CRC" => fields::keep(&mut checksum, fields::long(field)),
            _ => Err("a block header with an unknown field"),
        })?;
        let mark = match (is_end, checksum) {
            (Some(true), Some(checksum)) => Mark::End(checksum),
            (Some(false), Some(0)) => Mark::Documents,
            (Some(false), Some(_)) => return Err("a checksum before a namespace's end"),
            (None, _) | (_, None) => return Err("a block header without all of its fields"),
        };
        Ok(Self {
            database: database.ok_or("a block header without a database")?,
            collection: collection.ok_or("a block header without a collection")?,
            mark,
        })
    }
}

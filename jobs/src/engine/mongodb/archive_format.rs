//! How an archive of `mongodump` is written, and whether one that is read is whole and unharmed.
//!
//! ```text
//! 6d e2 99 81                                       the magic number
//! {concurrent_collections, version: "0.1", server_version, tool_version}
//! {db, collection, metadata, size, type}…           the prelude: one for each namespace, views too
//! ff ff ff ff
//! {db, collection, EOF: false, CRC: 0} document… ff ff ff ff     a block; those of several namespaces may alternate
//! {db, collection, EOF: true, CRC} ff ff ff ff      a namespace's end; CRC-64/XZ over all of its documents
//! ```
//!
//! There is no end of the archive. Yet every namespace of the prelude must end once, and the archive ends with the last
//! of them: so one that was cut anywhere differs from a whole one.
//!
//! A time series' documents are its buckets. Before server 8.3 they stand under `system.buckets.NAME`, while the
//! prelude says `NAME`. The oplog is the collection `oplog` of the database with the empty name; `mongodump` of one
//! database puts users and roles into collections named `$admin.system.…`. To the format these are namespaces like any.
//!
//! The reader is as strict as an archive made by any `mongodump` since 3.2 allows, and lenient only thus:
//! - Fields of the prelude may come in any order, and unknown ones are passed over: later versions may add some.
//! - `metadata`, `size`, `type`, `server_version` and `tool_version` may be missing. Before 100.4 there was no `type`;
//!   a view of such an archive is known by `options.viewOn` in its metadata alone.
//! - `type` may be `""` or `"collection"`: both were written, and both mean a collection.
//! - `size` and `concurrent_collections` may be int64; nobody relies on `size`, which `mongodump` leaves at 0.
//! - A block may be empty: `mongodump` writes one for a namespace without documents. It need not be there, either.
//! - Documents of up to 48 MiB are read, where `mongorestore` stops at 16 MiB.

mod block;
mod checksum;
mod fields;
mod prelude;
mod read;
mod told;
mod write;

pub(crate) use self::{
    prelude::{Header, Kind, Namespace, Prelude},
    read::{Reader, Visit},
    told::{FormatError, NamespaceSummary, Summary},
    write::Body,
};

/// `0x8199e26d`, least byte first.
const MAGIC: [u8; 4] = [0x6d, 0xe2, 0x99, 0x81];
/// Stands where a document's length would: no document is that long.
const TERMINATOR: [u8; 4] = [0xff; 4];
/// The one version there has ever been.
const VERSION: &str = "0.1";
/// A document of no fields: its length and a 0.
const DOCUMENT_BYTES_MIN: usize = 5;
/// Three times what a server stores, as its own messages allow.
const DOCUMENT_BYTES_MAX: usize = 48 * 1024 * 1024;
/// One document of the prelude: `mongorestore` reads no longer one.
const PRELUDE_DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The whole prelude, which is kept in memory.
const PRELUDE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// More than a server could open.
const NAMESPACES_MAX: usize = 1_000_000;
/// A name of a database or a collection; servers stop at 255 bytes for both together.
const NAME_BYTES_MAX: usize = 4096;

/// Returns the document's length as its first bytes have it, if it is a possible one.
fn length_of(head: [u8; 4], most: usize) -> Option<usize> {
    let length = usize::try_from(i32::from_le_bytes(head)).ok()?;
    (DOCUMENT_BYTES_MIN..=most)
        .contains(&length)
        .then_some(length)
}

#[cfg(test)]
mod tests;

//! The archive format of `mongodump`: writes it, and checks that an archive is whole and undamaged.
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
//! The archive has no end marker. But every namespace of the prelude must end exactly once, and the archive ends with
//! the last of them. So an archive that was cut anywhere differs from a whole one.
//!
//! The documents of a time series are its buckets. Before server 8.3 they are under `system.buckets.NAME`, while the
//! prelude says `NAME`. The oplog is the collection `oplog` of the database with the empty name. `mongodump` of one
//! database puts users and roles into collections named `$admin.system.…`. The format treats all of these as ordinary
//! namespaces.
//!
//! The reader is as strict as the archives of every `mongodump` since 3.2 allow. It tolerates only this:
//!
//! - Fields of the prelude may come in any order, and unknown fields are skipped: later versions may add some.
//! - `metadata`, `size`, `type`, `server_version` and `tool_version` may be missing. There was no `type` before 100.4:
//!   in such an archive, only `options.viewOn` in its metadata tells that a namespace is a view.
//! - `type` may be `""` or `"collection"`: both have been written, and both mean a collection.
//! - `size` and `concurrent_collections` may be int64; nobody relies on `size`, which `mongodump` leaves at 0.
//! - A block may be empty: `mongodump` writes one for a namespace without documents. It may also be missing.
//! - Documents may have up to 48 MiB, although `mongorestore` stops at 16 MiB.

mod block;
mod checksum;
mod fields;
mod prelude;
mod read;
mod summary;
mod write;

pub use self::summary::FormatError;
pub(crate) use self::{
    prelude::{Header, Kind, Namespace, Prelude},
    read::{Reader, Visit},
    summary::{NamespaceSummary, Summary},
    write::Body,
};

/// `0x8199e26d`, least significant byte first.
const MAGIC: [u8; 4] = [0x6d, 0xe2, 0x99, 0x81];
/// In place of a document's length: no document is that long.
const TERMINATOR: [u8; 4] = [0xff; 4];
/// The only version there has ever been.
const VERSION: &str = "0.1";
/// An empty document: its length and a 0.
const DOCUMENT_BYTES_MIN: usize = 5;
/// Three times what a server stores, which its own messages allow.
const DOCUMENT_BYTES_MAX: usize = 48 * 1024 * 1024;
/// The longest document of the prelude: `mongorestore` reads no longer one.
const PRELUDE_DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest prelude, which is kept in memory.
const PRELUDE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// More than a server could open.
const NAMESPACES_MAX: usize = 1_000_000;
/// The longest name of a database or a collection; servers stop at 255 bytes for both together.
const NAME_BYTES_MAX: usize = 4096;

/// Returns the document's length from its first bytes, if it is possible.
fn length_of(head: [u8; 4], most: usize) -> Option<usize> {
    let length = usize::try_from(i32::from_le_bytes(head)).ok()?;
    (DOCUMENT_BYTES_MIN..=most)
        .contains(&length)
        .then_some(length)
}

#[cfg(test)]
mod tests;

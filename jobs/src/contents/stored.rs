//! The stored form: a skippable zstd frame behind the dump.
//!
//! ```text
//! 5a 2a 4d 18   length (4 bytes, little-endian)   zstd(JSON: {"format":"lastgood-contents","version":1,"items":[…]})
//! ```

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
};

use serde::{Deserialize, Serialize};

use super::{Contents, Item};

/// The value of `format` in the JSON.
const FORMAT: &str = "lastgood-contents";
/// The version that this build writes, and the only one that it reads.
const VERSION: u32 = 1;
/// One of the sixteen magic numbers of skippable frames.
const MAGIC: [u8; 4] = [0x5a, 0x2a, 0x4d, 0x18];
/// The magic number and the length.
const HEAD_BYTES: usize = 8;
/// The largest frame that is written or read. At some 40 bytes for each item, no database has as many.
const FRAME_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The largest JSON.
const JSON_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// The level of compression: hashes do not compress, names do.
const LEVEL: i32 = 3;

/// What a manifest says of the contents that are recorded in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// The version of the stored form.
    pub version: u32,
    /// The size of the frame that holds the list: the last so many bytes of the archive, before encryption.
    pub size_bytes: u64,
    /// How many items of each kind there are.
    pub items: BTreeMap<String, u64>,
    /// How many rows, documents or keys there are in all.
    pub records: u64,
}

/// Why stored contents cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// Of another format.
    #[error("the archive's list of contents is not where its manifest says")]
    NotThere,
    /// Of another version.
    #[error(
        "the archive's list of contents has version {0}, and this build reads version {VERSION}; use a newer lastgood"
    )]
    Version(u32),
    /// Too large to be kept in memory.
    #[error("the archive's list of contents has more than {0} bytes, which no database needs")]
    TooLarge(u64),
    /// Not decompressible.
    #[error("the archive's list of contents cannot be decompressed")]
    Zstd(#[source] io::Error),
    /// Not the right JSON.
    #[error("the archive's list of contents cannot be read")]
    Json(#[source] serde_json::Error),
}

#[derive(Serialize)]
struct Written<'a> {
    format: &'static str,
    version: u32,
    items: &'a [Item],
}

#[derive(Deserialize)]
struct Head {
    format: String,
    version: u32,
}

impl Contents {
    /// Returns the frame to append to an archive, and what the manifest says of it.
    pub(crate) fn to_frame(&self) -> io::Result<(Vec<u8>, Recorded)> {
        let json = serde_json::to_vec(&Written {
            format: FORMAT,
            version: VERSION,
            items: &self.items,
        })?;
        let too_large = || io::Error::other("the list of the dump's contents is too large");
        if json.len() as u64 > JSON_BYTES_MAX {
            return Err(too_large());
        }
        let packed = zstd::bulk::compress(&json, LEVEL)?;
        let length = u32::try_from(packed.len()).map_err(|_| too_large())?;
        let mut frame = Vec::with_capacity(HEAD_BYTES + packed.len());
        frame.extend(MAGIC);
        frame.extend(length.to_le_bytes());
        frame.extend(packed);
        let size_bytes = frame.len() as u64;
        if size_bytes > FRAME_BYTES_MAX {
            return Err(too_large());
        }
        let recorded = Recorded {
            version: VERSION,
            size_bytes,
            items: self.by_kind(),
            records: self.items.iter().filter_map(|item| item.count).sum(),
        };
        Ok((frame, recorded))
    }

    /// Reads the frame.
    pub(crate) fn from_frame(frame: &[u8]) -> Result<Self, ContentsError> {
        let (head, packed) = frame
            .split_first_chunk::<HEAD_BYTES>()
            .ok_or(ContentsError::NotThere)?;
        let [a, b, c, d, length @ ..] = *head;
        if [a, b, c, d] != MAGIC || u32::from_le_bytes(length) as usize != packed.len() {
            return Err(ContentsError::NotThere);
        }
        let unpacking = zstd::Decoder::new(packed).map_err(ContentsError::Zstd)?;
        let mut json = Vec::new();
        let read = unpacking.take(JSON_BYTES_MAX + 1).read_to_end(&mut json);
        if read.map_err(ContentsError::Zstd)? as u64 > JSON_BYTES_MAX {
            return Err(ContentsError::TooLarge(JSON_BYTES_MAX));
        }
        let head: Head = serde_json::from_slice(&json).map_err(ContentsError::Json)?;
        if head.format != FORMAT {
            return Err(ContentsError::NotThere);
        }
        if head.version != VERSION {
            return Err(ContentsError::Version(head.version));
        }
        serde_json::from_slice(&json).map_err(ContentsError::Json)
    }
}

impl Recorded {
    /// Returns the frame's size, if this build can read it.
    pub(crate) fn frame_bytes(&self) -> Result<usize, ContentsError> {
        if self.version != VERSION {
            return Err(ContentsError::Version(self.version));
        }
        let fits = Some(self.size_bytes).filter(|size| *size <= FRAME_BYTES_MAX);
        fits.and_then(|size| usize::try_from(size).ok())
            .ok_or(ContentsError::TooLarge(FRAME_BYTES_MAX))
    }
}

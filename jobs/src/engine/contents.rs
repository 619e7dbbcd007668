//! What does a dump hold, by its bytes alone?

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use bytes::{Bytes, BytesMut};

use super::{mongodb, postgres, redis};
use crate::{
    contents::Contents,
    format::{FormatError, Inspect},
    names::Engine,
};

/// How much is read at a time.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Why a dump's contents could not be told.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The bytes could not be read.
    #[error("the dump could not be read")]
    Read(#[from] io::Error),
    /// They are not a whole dump.
    #[error("the dump is not whole")]
    Format(#[from] FormatError),
}

/// Reads a whole dump, as it was before compression, and returns what it holds. Blocks on the source.
///
/// The versions of PostgreSQL's extensions stand in no dump, and are left out.
pub fn of_dump(engine: Engine, dump: impl Read) -> Result<Contents, DumpError> {
    match engine {
        Engine::Postgres | Engine::Vector => {
            told_by(postgres::dump::recording(BTreeMap::new()), dump)
        }
        Engine::Mongodb => told_by(mongodb::dump::recording(), dump),
        Engine::Redis => told_by(redis::dump::recording(), dump),
    }
}

fn told_by(mut inspector: impl Inspect, mut dump: impl Read) -> Result<Contents, DumpError> {
    loop {
        let mut chunk = BytesMut::zeroed(CHUNK_BYTES);
        let read = dump.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        chunk.truncate(read);
        inspector.inspect_chunk(&Bytes::from(chunk))?;
    }
    let contents = inspector.contents();
    inspector.finish()?;
    Ok(contents)
}

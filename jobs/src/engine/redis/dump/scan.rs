//! Dumps a server that accepts no replicas: reads its keys one by one, and writes them as a server's own file.

use std::{collections::HashSet, mem};

use bytes::Bytes;
use chrono::Utc;

use crate::{
    engine::{
        native::{Spout, Stopped},
        redis::{
            connection::{Connection, meaning, pack},
            reply::{Reply, gibberish},
        },
    },
    error::{JobError, RedisError, ServerFault},
    format::{
        FormatError,
        rdb::{self, Header, RdbWriter, Value, Version, parse_dump_payload},
    },
};

/// How many keys the server looks at in one step.
const COUNT: &[u8] = b"512";
/// The most values that are asked for at a time.
const MOST_AT_ONCE: usize = 512;
/// The most bytes that they should have together: the server holds them all until they are sent.
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;
/// How many bytes are handed over at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// The most keys of one database that can be told apart. Their hashes take 285 MB, and half as much again while the set
/// grows.
const MOST_KEYS: usize = 14_000_000;
/// The format version of a file without values: the oldest in use, which every server reads.
const VERSION_OF_NOTHING: u16 = 9;
/// The oldest format version with functions.
const VERSION_OF_FUNCTIONS: u16 = 10;

/// Writes the keys of these databases into the spout. Keys that disappear in the meantime are left out.
///
/// Memory is bounded by one value, one batch and the hashes of one database's keys. The hashes are needed because
/// `SCAN` may return a key twice, and servers refuse a file with a duplicate key.
pub(super) async fn read(
    connection: &mut Connection,
    databases: Option<Vec<u64>>,
    spout: &Spout,
) -> Result<(), Stopped> {
    let databases = databases
        .ok_or_else(|| nothing_readable(ServerFault::new("INFO is refused as well", None)))?;
    let mut file = File {
        functions: functions(connection).await?,
        writer: None,
        version: None,
        out: Vec::new(),
        spout,
    };
    let mut expiry = None;
    for db in databases {
        let number = db.to_string();
        ask(
            connection,
            "select a database",
            &[b"SELECT", number.as_bytes()],
        )
        .await?;
        read_database(connection, db, &mut expiry, &mut file).await?;
    }
    file.finish().await
}

async fn read_database(
    connection: &mut Connection,
    db: u64,
    expiry: &mut Option<Expiry>,
    file: &mut File<'_>,
) -> Result<(), Stopped> {
    let mut seen = Seen::default();
    let mut cursor = Bytes::from_static(b"0");
    let mut at_once = 16;
    loop {
        let doing = "list the keys";
        let said = ask(connection, doing, &[b"SCAN", &cursor, b"COUNT", COUNT]).await?;
        let (next, mut keys) = step(said).ok_or_else(|| gibberish(doing))?;
        seen.keep_new(&mut keys)?;
        let mut rest = keys.as_slice();
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(rest.len().min(at_once));
            let bytes = read_batch(connection, db, batch, expiry, file).await?;
            let mean = (bytes / batch.len()).max(1);
            at_once = (BYTES_AT_ONCE / mean).clamp(1, MOST_AT_ONCE);
            rest = after;
        }
        cursor = next;
        if cursor.as_ref() == b"0" {
            return Ok(());
        }
    }
}

/// Reads some values, and returns their total size.
async fn read_batch(
    connection: &mut Connection,
    db: u64,
    keys: &[Bytes],
    expiry: &mut Option<Expiry>,
    file: &mut File<'_>,
) -> Result<usize, Stopped> {
    let doing = "read the keys";
    let expiry = match (*expiry, keys.first()) {
        (Some(known), _) => known,
        (None, None) => return Ok(0),
        (None, Some(key)) => *expiry.insert(Expiry::that_is_known(connection, key).await?),
    };
    let mut packed = Vec::new();
    for key in keys {
        pack(&[b"DUMP", key], &mut packed);
        pack(&[expiry.command(), key], &mut packed);
    }
    // Read before the server's clock is: an expiry may come out too early, but never too late.
    let now_ms = Utc::now().timestamp_millis();
    connection.commands.send(doing, &packed).await?;
    let mut bytes = 0;
    for key in keys {
        let payload = allowed(doing, connection.replies.next_value(doing).await?)?;
        let expires = allowed(doing, connection.replies.next(doing).await?)?;
        let expires = expires.as_integer().ok_or_else(|| gibberish(doing))?;
        let (Some(payload), Some(expires_at_ms)) =
            (payload.into_bytes(), expiry.at_ms(expires, now_ms))
        else {
            // It expired or was deleted after it was listed.
            continue;
        };
        bytes += payload.len();
        let header = Header {
            db,
            key,
            expires_at_ms: expires_at_ms.into(),
            idle_seconds: None,
            frequency: None,
        };
        file.value(header, &payload).await?;
    }
    Ok(bytes)
}

/// When a key expires.
enum ExpiresAt {
    Never,
    Millis(u64),
}

impl From<ExpiresAt> for Option<u64> {
    fn from(at: ExpiresAt) -> Self {
        match at {
            ExpiresAt::Never => None,
            ExpiresAt::Millis(at) => Some(at),
        }
    }
}

/// How the server is asked when a key expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry {
    /// As a time by its own clock: from 7.0 on.
    Absolute,
    /// As the time left: for older servers.
    Relative,
}

impl Expiry {
    async fn that_is_known(connection: &mut Connection, key: &[u8]) -> Result<Self, JobError> {
        let said = connection
            .try_to("ask when a key expires", &[b"PEXPIRETIME", key])
            .await?;
        Ok(if said.is_ok() {
            Self::Absolute
        } else {
            Self::Relative
        })
    }

    fn command(self) -> &'static [u8] {
        match self {
            Self::Absolute => b"PEXPIRETIME",
            Self::Relative => b"PTTL",
        }
    }

    /// Returns what an answer means; `None` if the key is gone.
    fn at_ms(self, answer: i64, now_ms: i64) -> Option<ExpiresAt> {
        let at = match (self, answer) {
            (_, -1) => return Some(ExpiresAt::Never),
            (_, ..-1) => return None,
            (Self::Absolute, at) => at,
            (Self::Relative, left) => now_ms.saturating_add(left),
        };
        Some(ExpiresAt::Millis(at.unsigned_abs()))
    }
}

/// The keys of one database that were already returned, as hashes.
#[derive(Default)]
struct Seen {
    hashes: HashSet<[u8; 16]>,
}

impl Seen {
    /// Removes the keys that were returned before.
    fn keep_new(&mut self, keys: &mut Vec<Bytes>) -> Result<(), RedisError> {
        keys.retain(|key| {
            let mut hash = [0; 16];
            blake3::Hasher::new()
                .update(key)
                .finalize_xof()
                .fill(&mut hash);
            self.hashes.insert(hash)
        });
        if self.hashes.len() > MOST_KEYS {
            return Err(RedisError::TooManyKeys { most: MOST_KEYS });
        }
        Ok(())
    }
}

/// The file that is being written.
struct File<'s> {
    functions: Vec<Bytes>,
    writer: Option<RdbWriter>,
    version: Option<Version>,
    out: Vec<u8>,
    spout: &'s Spout,
}

impl File<'_> {
    async fn value(&mut self, header: Header<'_>, payload: &[u8]) -> Result<(), Stopped> {
        let (stored, version) = parse_dump_payload(payload).map_err(no_payload)?;
        if *self.version.get_or_insert(version) != version {
            let what = "values of two versions";
            return Err(no_payload(rdb::FormatError::Malformed { what, at: 0 }).into());
        }
        let writer = self
            .writer
            .get_or_insert_with(|| begin(version, &self.functions, &mut self.out));
        writer.value(&Value { header, stored }, &mut self.out);
        if self.out.len() >= CHUNK_BYTES {
            self.spout.write(mem::take(&mut self.out).into()).await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<(), Stopped> {
        let writer = if let Some(writer) = self.writer {
            writer
        } else {
            let number = if self.functions.is_empty() {
                VERSION_OF_NOTHING
            } else {
                VERSION_OF_FUNCTIONS
            };
            let version = Version::new(number).map_err(no_payload)?;
            begin(version, &self.functions, &mut self.out)
        };
        writer.finish(&mut self.out);
        self.spout.write(self.out.into()).await?;
        Ok(())
    }
}

fn begin(version: Version, functions: &[Bytes], out: &mut Vec<u8>) -> RdbWriter {
    let mut writer = RdbWriter::begin(version, out);
    for source in functions {
        writer.function(source, out);
    }
    writer
}

fn no_payload(error: rdb::FormatError) -> JobError {
    JobError::of_dump(FormatError::Redis(error))
}

/// Returns the sources of the server's functions; empty if the server does not support functions.
async fn functions(connection: &mut Connection) -> Result<Vec<Bytes>, JobError> {
    let doing = "list the functions";
    let said = connection
        .try_to(doing, &[b"FUNCTION", b"LIST", b"WITHCODE"])
        .await?;
    match said {
        Ok(listed) => sources(listed).ok_or_else(|| gibberish(doing)),
        Err(fault) if fault.code() == Some("ERR") => Ok(Vec::new()),
        Err(fault) => Err(refused(doing, fault)),
    }
}

/// Parses the reply to `FUNCTION LIST`: alternating names and values for each library.
fn sources(listed: Reply) -> Option<Vec<Bytes>> {
    let source = |library: Reply| {
        let mut fields = library.into_array()?.into_iter();
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            if name.into_bytes()?.as_ref() == b"library_code" {
                return value.into_bytes();
            }
        }
        None
    };
    listed.into_array()?.into_iter().map(source).collect()
}

/// Parses the reply to `SCAN`: the next cursor, and keys.
fn step(said: Reply) -> Option<(Bytes, Vec<Bytes>)> {
    let mut parts = said.into_array()?.into_iter();
    let (next, keys) = (parts.next()?.into_bytes()?, parts.next()?.into_array()?);
    let keys = keys
        .into_iter()
        .map(Reply::into_bytes)
        .collect::<Option<_>>()?;
    Some((next, keys))
}

async fn ask(
    connection: &mut Connection,
    doing: &'static str,
    command: &[&[u8]],
) -> Result<Reply, JobError> {
    allowed(doing, connection.try_to(doing, command).await?)
}

fn allowed(doing: &'static str, said: Result<Reply, ServerFault>) -> Result<Reply, JobError> {
    said.map_err(|fault| refused(doing, fault))
}

/// Returns the error that says what to grant if neither way is open.
fn refused(doing: &'static str, fault: ServerFault) -> JobError {
    match fault.code() {
        Some("NOPERM") => nothing_readable(fault).into(),
        // SYNC was refused before, so the server allows neither way.
        Some(_) | None => meaning(doing, fault),
    }
}

fn nothing_readable(source: ServerFault) -> RedisError {
    RedisError::NotReadable { source }
}

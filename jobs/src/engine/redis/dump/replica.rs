//! How does a server give its snapshot to a replica? `SYNC`, and the file that follows it.

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::{
    engine::{
        native::{Spout, Stopped},
        redis::{
            connection::{Connection, meaning},
            error::RedisError,
            reply::{Replies, fault, gibberish},
        },
    },
    error::{JobError, ServerFault},
};

/// How much is handed over at a time.
const CHUNK_BYTES: usize = 512 * 1024;
/// Where we can be reached as a replica: nowhere, for no port has this number. The primary lists us with it (`INFO replication`), and
/// Sentinel, which remembers every replica that it sees there for ever and warns that it is down, passes over what has no port.
const NO_PORT: &[u8] = b"65536";
/// How long the mark is that ends a snapshot whose length the server does not know beforehand.
const MARK_BYTES: usize = 40;

/// What a server says to a replica.
pub(super) enum Begun {
    /// The snapshot follows.
    Sending(Ending),
    /// It takes no replicas, or none of our role.
    Refused(ServerFault),
}

/// How the end of a snapshot is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// After so many bytes.
    Length(u64),
    /// Before these bytes, which the server has made up.
    Mark(Bytes),
}

/// Asks for the snapshot, and waits until it begins: a server waits for others, then forks, then saves.
pub(super) async fn begin(connection: &mut Connection) -> Result<Begun, JobError> {
    let doing = "ask for the server's snapshot";
    let options: [&[&[u8]]; 4] = [
        &[b"REPLCONF", b"listening-port", NO_PORT],
        &[b"REPLCONF", b"capa", b"eof"],
        // Valkey writes what a replica of this version can read; to one that says nothing, a format that cannot hold fields
        // that expire, and then it hangs up on the first of them.
        &[b"REPLCONF", b"version", b"9.0.0"],
        // Tells servers to keep no later writes for us.
        &[b"REPLCONF", b"rdb-only", b"1"],
    ];
    for option in options {
        // They spare the server work, or it does not know them; what it thinks of replicas, it says to SYNC.
        let _whatever_it_says = connection.try_to(doing, option).await?;
    }
    let mut packed = Vec::new();
    crate::engine::redis::connection::pack(&[b"SYNC"], &mut packed);
    connection.commands.send(doing, &packed).await?;
    loop {
        let line = connection.replies.line(doing).await?;
        match line.split_first() {
            // It is still there, and not ready yet.
            None => {}
            Some((b'-', said)) => return refusal(doing, fault(said)),
            Some((b'$', said)) => {
                let ending = Ending::read(said).ok_or_else(|| gibberish(doing))?;
                return Ok(Begun::Sending(ending));
            }
            Some(_) => return Err(gibberish(doing)),
        }
    }
}

impl Ending {
    fn read(said: &[u8]) -> Option<Self> {
        if let Some(mark) = said.strip_prefix(b"EOF:") {
            return (mark.len() == MARK_BYTES).then(|| Self::Mark(Bytes::copy_from_slice(mark)));
        }
        std::str::from_utf8(said)
            .ok()?
            .parse()
            .ok()
            .map(Self::Length)
    }
}

/// Tells a server that takes no replicas from one that cannot take one now.
///
/// By its words: Redis has no code for either, and a snapshot that failed must not become a dump that is none.
fn refusal(doing: &'static str, fault: ServerFault) -> Result<Begun, JobError> {
    let words = fault.to_string().to_lowercase();
    let never = [
        "unknown command",
        "not allowed",
        "not available",
        "not supported",
        "unsupported",
        "disabled",
    ];
    match fault.code() {
        Some("NOPERM") => Ok(Begun::Refused(fault)),
        Some("ERR") | None if never.iter().any(|it| words.contains(it)) => {
            Ok(Begun::Refused(fault))
        }
        Some("ERR") | None => Err(RedisError::NoSnapshot { source: fault }.into()),
        Some(_) => Err(meaning(doing, fault)),
    }
}

/// Hands the snapshot over, all of it and nothing else.
pub(super) async fn receive(
    replies: &mut Replies,
    ending: Ending,
    spout: &Spout,
) -> Result<(), Stopped> {
    match ending {
        Ending::Length(length) => receive_length(replies, length, spout).await,
        Ending::Mark(mark) => receive_until(replies, &mark, spout).await,
    }
}

async fn receive_length(replies: &mut Replies, length: u64, spout: &Spout) -> Result<(), Stopped> {
    let mut left = length;
    loop {
        let have = replies.received().len();
        let wanted = usize::try_from(left).unwrap_or(usize::MAX);
        if have >= wanted.min(CHUNK_BYTES) {
            let chunk = replies.received().split_to(have.min(wanted)).freeze();
            left -= chunk.len() as u64;
            if !chunk.is_empty() {
                spout.write(chunk).await?;
            }
            if left == 0 {
                return Ok(());
            }
        }
        receive_more(replies, length - left).await?;
    }
}

async fn receive_until(replies: &mut Replies, mark: &[u8], spout: &Spout) -> Result<(), Stopped> {
    let finder = Finder::new(mark);
    let mut handed_over = 0;
    // Before this place, no mark begins.
    let mut searched = 0;
    loop {
        let unsearched = replies.received().get(searched..).unwrap_or_default();
        if let Some(at) = finder.find(unsearched) {
            let last = replies.received().split_to(searched + at).freeze();
            spout.write(last).await?;
            return Ok(());
        }
        // The begin of a mark may have come, and its end not.
        searched = replies.received().len().saturating_sub(MARK_BYTES - 1);
        if searched >= CHUNK_BYTES {
            let chunk = replies.received().split_to(searched).freeze();
            handed_over += chunk.len() as u64;
            searched = 0;
            spout.write(chunk).await?;
        }
        receive_more(replies, handed_over).await?;
    }
}

/// Waits for more of a snapshot: an end of the connection is a cut here.
async fn receive_more(replies: &mut Replies, handed_over: u64) -> Result<(), JobError> {
    let doing = "receive the server's snapshot";
    let so_far = handed_over + replies.received().len() as u64;
    match replies.receive(doing).await {
        Ok(_) => Ok(()),
        Err(JobError::Unreachable { source, .. }) => Err(RedisError::Cut {
            received_bytes: so_far,
            source,
        }
        .into()),
        Err(error) => Err(error),
    }
}

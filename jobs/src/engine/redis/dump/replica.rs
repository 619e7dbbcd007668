//! Gets a server's snapshot as a replica does: `SYNC`, and the file that follows it.

use bytes::Bytes;
use memchr::memmem::Finder;

use crate::{
    engine::{
        native::{Spout, Stopped},
        redis::{
            connection::{Connection, meaning},
            reply::{Replies, fault, gibberish},
        },
    },
    error::{JobError, RedisError, ServerFault},
};

/// How many bytes are handed over at a time.
const CHUNK_BYTES: usize = 512 * 1024;
/// The port that we announce as a replica. No such port exists, because we cannot be connected to.
///
/// The primary lists us with it (`INFO replication`). Sentinel remembers every replica that it sees there and warns
/// from then on that it is down, but it ignores one without a valid port.
const NO_PORT: &[u8] = b"65536";
/// The length of the mark that ends a snapshot whose length the server does not know in advance.
const MARK_BYTES: usize = 40;

/// The server's answer to a replica.
pub(super) enum Begun {
    /// The snapshot follows.
    Sending(Ending),
    /// It accepts no replicas, or none with our role.
    Refused(ServerFault),
}

/// How the end of a snapshot is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// After this many bytes.
    Length(u64),
    /// At these bytes, which the server chose at random.
    Mark(Bytes),
}

/// Asks for the snapshot, and waits until it begins: the server waits for other replicas, then forks, then saves.
pub(super) async fn begin(connection: &mut Connection) -> Result<Begun, JobError> {
    let doing = "ask for the server's snapshot";
    let options: [&[&[u8]]; 4] = [
        &[b"REPLCONF", b"listening-port", NO_PORT],
        &[b"REPLCONF", b"capa", b"eof"],
        // Valkey writes what a replica of this version can read. For a replica that announces no version, it writes a
        // format that cannot hold expiring fields, and hangs up at the first of them.
        &[b"REPLCONF", b"version", b"9.0.0"],
        // Tells servers not to buffer later writes for us.
        &[b"REPLCONF", b"rdb-only", b"1"],
    ];
    for option in options {
        // These options only save the server work, and it may not know them. If it objects to replicas, it says so to
        // SYNC.
        let _whatever_it_says = connection.try_to(doing, option).await?;
    }
    let mut packed = Vec::new();
    crate::engine::redis::connection::pack(&[b"SYNC"], &mut packed);
    connection.commands.send(doing, &packed).await?;
    loop {
        let line = connection.replies.line(doing).await?;
        match line.split_first() {
            // An empty line: the server is alive but not ready yet.
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

/// Tells a server that never accepts replicas from one that cannot accept one now.
///
/// Judges by the message, because Redis has no code for either. A failed snapshot must not turn into a dump that is not
/// point-in-time.
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

/// Hands over exactly the snapshot.
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
    // No mark begins before this offset.
    let mut searched = 0;
    loop {
        let unsearched = replies.received().get(searched..).unwrap_or_default();
        if let Some(at) = finder.find(unsearched) {
            let last = replies.received().split_to(searched + at).freeze();
            spout.write(last).await?;
            return Ok(());
        }
        // The start of a mark may have arrived without its end.
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

/// Waits for more of a snapshot. Here the end of the connection means that the snapshot was cut.
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

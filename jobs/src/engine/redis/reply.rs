//! Reads a server's replies: RESP2, from a stream that may continue as something else.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::io::{AsyncReadExt as _, ReadHalf};

use super::connection::{Carrier, broken, closed, no_answer};
use crate::{
    error::{JobError, RedisError, ServerFault},
    printable::steers,
};

/// How many bytes are read at a time, if that many are available.
const READ_BYTES: usize = 1024 * 1024;
/// A status, an error or a number.
const LONGEST_LINE: usize = 64 * 1024;
/// The most bytes in one reply: lists of keys and functions, and `INFO`.
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// The most bytes of a value: the longest string, and what `DUMP` adds to it.
const MOST_VALUE_BYTES: usize = 520 * 1024 * 1024;
/// The most parts of one reply, over all levels.
const MOST_PARTS: usize = 1024 * 1024;
/// How deep replies may nest: those of `FUNCTION LIST` are three deep.
const DEEPEST: usize = 8;
/// How many characters of an error are kept: the rest is never useful.
const LONGEST_FAULT: usize = 300;

/// A server's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A status, such as `OK`.
    Status(Bytes),
    Integer(i64),
    /// A string.
    Bulk(Bytes),
    /// Nothing there.
    Nil,
    /// Several replies; an error among them means that a part was refused.
    Array(Vec<Result<Reply, ServerFault>>),
}

impl Reply {
    /// Returns the bytes of a string or a status.
    pub(crate) fn into_bytes(self) -> Option<Bytes> {
        match self {
            Self::Status(bytes) | Self::Bulk(bytes) => Some(bytes),
            Self::Integer(_) | Self::Nil | Self::Array(_) => None,
        }
    }

    /// Returns the parts of an array, if none is an error.
    pub(crate) fn into_array(self) -> Option<Vec<Reply>> {
        match self {
            Self::Array(parts) => parts.into_iter().collect::<Result<_, _>>().ok(),
            Self::Status(_) | Self::Integer(_) | Self::Bulk(_) | Self::Nil => None,
        }
    }

    pub(crate) fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(number) => Some(*number),
            Self::Status(_) | Self::Bulk(_) | Self::Nil | Self::Array(_) => None,
        }
    }
}

/// The receiving half of a connection.
pub(crate) struct Replies {
    stream: ReadHalf<Box<dyn Carrier>>,
    received: BytesMut,
    patience: Duration,
}

impl Replies {
    pub(super) fn new(stream: ReadHalf<Box<dyn Carrier>>, patience: Duration) -> Self {
        Self {
            stream,
            received: BytesMut::with_capacity(READ_BYTES),
            patience,
        }
    }

    /// Waits for the next reply, and returns it or the server's error.
    pub(crate) async fn next(
        &mut self,
        doing: &'static str,
    ) -> Result<Result<Reply, ServerFault>, JobError> {
        let mut room = Room {
            bytes: MOST_BYTES,
            parts: MOST_PARTS,
            depth: DEEPEST,
            is_value: false,
        };
        self.reply(doing, &mut room).await
    }

    /// Waits for the reply to `DUMP`, which may be as large as a value.
    pub(crate) async fn next_value(
        &mut self,
        doing: &'static str,
    ) -> Result<Result<Reply, ServerFault>, JobError> {
        let mut room = Room {
            bytes: MOST_VALUE_BYTES,
            parts: 1,
            depth: 1,
            is_value: true,
        };
        self.reply(doing, &mut room).await
    }

    /// Returns the bytes that were received but not used yet: they include what follows the last reply.
    pub(super) fn received(&mut self) -> &mut BytesMut {
        &mut self.received
    }

    /// Waits for more bytes, and returns how many arrived: at least one.
    pub(super) async fn receive(&mut self, doing: &'static str) -> Result<usize, JobError> {
        // Does nothing while there is room for a decent read.
        if self.received.capacity() - self.received.len() < READ_BYTES / 2 {
            self.received.reserve(READ_BYTES);
        }
        let read = self.stream.read_buf(&mut self.received);
        let read = tokio::time::timeout(self.patience, read).await;
        let read = read.map_err(|_| no_answer(doing, self.patience))?;
        match read.map_err(|error| broken(doing, &error))? {
            0 => Err(closed(doing)),
            read => Ok(read),
        }
    }

    /// Waits for a line, and returns it without its end.
    pub(super) async fn line(&mut self, doing: &'static str) -> Result<Bytes, JobError> {
        let mut searched = 0;
        loop {
            let unsearched = self.received.get(searched..).unwrap_or_default();
            if let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') {
                let mut line = self.received.split_to(searched + at);
                self.received.advance(1);
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                return Ok(line.freeze());
            }
            searched = self.received.len();
            if searched > LONGEST_LINE {
                return Err(gibberish(doing));
            }
            self.receive(doing).await?;
        }
    }

    async fn reply(
        &mut self,
        doing: &'static str,
        room: &mut Room,
    ) -> Result<Result<Reply, ServerFault>, JobError> {
        let mut line = self.line(doing).await?;
        let Some(kind) = line.first().copied() else {
            return Err(gibberish(doing));
        };
        // A reply may have a million lines.
        room.bytes = room
            .bytes
            .checked_sub(line.len())
            .ok_or_else(|| gibberish(doing))?;
        line.advance(1);
        let number = || {
            let text = std::str::from_utf8(&line).ok();
            text.and_then(|it| it.parse::<i64>().ok())
                .ok_or_else(|| gibberish(doing))
        };
        let reply = match kind {
            b'+' => Reply::Status(line),
            b'-' => return Ok(Err(fault(&line))),
            b':' => Reply::Integer(number()?),
            b'$' | b'*' if line.as_ref() == b"-1" => Reply::Nil,
            b'$' => Reply::Bulk(self.string(doing, number()?, room).await?),
            b'*' => Reply::Array(self.array(doing, number()?, room).await?),
            _ => return Err(gibberish(doing)),
        };
        Ok(Ok(reply))
    }

    async fn string(
        &mut self,
        doing: &'static str,
        length: i64,
        room: &mut Room,
    ) -> Result<Bytes, JobError> {
        let length = usize::try_from(length).map_err(|_| gibberish(doing))?;
        let Some(left) = room.bytes.checked_sub(length) else {
            return Err(if room.is_value {
                RedisError::ValueTooLarge { bytes: length }.into()
            } else {
                gibberish(doing)
            });
        };
        room.bytes = left;
        while self.received.len() < length + 2 {
            self.receive(doing).await?;
        }
        let string = self.received.split_to(length).freeze();
        if !self.received.starts_with(b"\r\n") {
            return Err(gibberish(doing));
        }
        self.received.advance(2);
        Ok(string)
    }

    /// Boxed, because an array may hold arrays.
    fn array<'a>(
        &'a mut self,
        doing: &'static str,
        length: i64,
        room: &'a mut Room,
    ) -> BoxFuture<'a, Result<Vec<Result<Reply, ServerFault>>, JobError>> {
        async move {
            let length = usize::try_from(length).map_err(|_| gibberish(doing))?;
            room.parts = room
                .parts
                .checked_sub(length)
                .ok_or_else(|| gibberish(doing))?;
            room.depth = room.depth.checked_sub(1).ok_or_else(|| gibberish(doing))?;
            let mut parts = Vec::new();
            for _ in 0..length {
                parts.push(self.reply(doing, room).await?);
            }
            room.depth += 1;
            Ok(parts)
        }
        .boxed()
    }
}

/// What one reply may still use up.
struct Room {
    bytes: usize,
    parts: usize,
    depth: usize,
    is_value: bool,
}

/// Parses an error reply; its first word is Redis's error code.
pub(super) fn fault(line: &[u8]) -> ServerFault {
    let text = String::from_utf8_lossy(line);
    let code = text.split(' ').next().unwrap_or_default();
    let is_code = !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase());
    let code = is_code.then(|| code.to_owned());
    let mut said: String = text
        .chars()
        .filter(|it| !steers(*it))
        .take(LONGEST_FAULT)
        .collect();
    if said.len() < text.len() {
        said.push('…');
    }
    ServerFault::new(said, code)
}

/// Returns the error for bytes that are not a reply.
pub(super) fn gibberish(doing: &'static str) -> JobError {
    let said = "the answer is not Redis's protocol, or larger than any reply: check that the URL's port is that of a Redis \
                or Valkey server, and use rediss:// if it requires TLS";
    let source = ServerFault::new(said, None);
    JobError::Unreachable { doing, source }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::engine::redis::connection::{Connection, over};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Returns what is read of `said` when it arrives in packets of `packet` bytes, after which the server hangs up.
    async fn heard(said: &[u8], packet: usize) -> Result<Result<Reply, ServerFault>, JobError> {
        let (ours, mut theirs) = tokio::io::duplex(packet);
        let Connection { mut replies, .. } = over(Box::new(ours), PATIENCE);
        let speak = async move {
            for part in said.chunks(packet) {
                if theirs.write_all(part).await.is_err() {
                    return;
                }
            }
        };
        // Hangs up after one reply; otherwise the other side would speak for ever.
        let listen = async move { replies.next("ask").await };
        tokio::join!(speak, listen).1
    }

    fn bulk(text: &'static str) -> Reply {
        Reply::Bulk(text.into())
    }

    #[rstest]
    #[case::status(b"+OK\r\n", Reply::Status("OK".into()))]
    #[case::integer(b":-12\r\n", Reply::Integer(-12))]
    #[case::string(b"$4\r\na\r\nb\r\n", Reply::Bulk("a\r\nb".into()))]
    #[case::empty(b"$0\r\n\r\n", Reply::Bulk("".into()))]
    #[case::nil(b"$-1\r\n", Reply::Nil)]
    #[case::no_array(b"*-1\r\n", Reply::Nil)]
    #[case::nested(
        b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n-ERR no\r\n",
        Reply::Array(vec![Ok(bulk("0")), Ok(Reply::Array(vec![Ok(bulk("a")), Err(fault(b"ERR no"))]))])
    )]
    #[tokio::test]
    async fn a_reply_is_the_same_in_whatever_packets_it_comes(
        #[case] said: &[u8],
        #[case] reply: Reply,
    ) -> anyhow::Result<()> {
        for packet in [1, 2, 3, 1024] {
            assert_eq!(
                heard(said, packet).await?.as_ref(),
                Ok(&reply),
                "packets of {packet}"
            );
        }
        Ok(())
    }

    #[rstest]
    #[case::http(b"HTTP/1.1 400 Bad Request\r\n")]
    #[case::empty_line(b"\r\n")]
    #[case::negative(b"$-2\r\n")]
    #[case::no_number(b":one\r\n")]
    #[case::large_array(b"*99999999\r\n")]
    #[case::deep(b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n")]
    #[case::no_end(b"$1\r\nabc")]
    #[tokio::test]
    async fn what_is_no_reply_is_an_error(#[case] said: &[u8]) {
        let error = heard(said, 64).await.unwrap_err().report();
        assert!(error.contains("not Redis's protocol"), "{error}");
    }

    #[tokio::test]
    async fn a_value_that_is_too_large_is_told_with_what_helps() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let Connection { mut replies, .. } = over(Box::new(ours), PATIENCE);
        let said = theirs.write_all(b"$999999999999\r\n");
        let (said, heard) = tokio::join!(said, replies.next_value("ask"));
        said.unwrap();
        let error = heard.unwrap_err().report();
        assert!(error.contains("let the user replicate"), "{error}");
    }

    /// Sizes that a peer announces are not believed: an oversized reply is refused by its declared length, and many
    /// small parts by their sum.
    #[rstest]
    #[case::declared(b"$100000000\r\n".to_vec())]
    #[case::declared_in_an_array(b"*2\r\n$40000000\r\n".to_vec())]
    #[case::lines([b"*2000\r\n".to_vec(), [vec![b'+'; 60_000], b"\r\n".to_vec()].concat().repeat(2000)].concat())]
    #[tokio::test]
    async fn no_reply_is_buffered_beyond_what_any_reply_has(#[case] said: Vec<u8>) {
        let said = if said.starts_with(b"*2\r\n") {
            [&said[..], &vec![b'x'; 40_000_000], b"\r\n$40000000\r\n"].concat()
        } else {
            said
        };
        let error = heard(&said, 64 * 1024).await.unwrap_err().report();
        assert!(error.contains("larger than any reply"), "{error}");
    }

    #[tokio::test]
    async fn an_endless_line_is_not_kept() {
        let error = heard(&vec![b'+'; 4 * READ_BYTES], 64 * 1024)
            .await
            .unwrap_err()
            .report();
        assert!(error.contains("not Redis's protocol"), "{error}");
    }

    #[tokio::test]
    async fn a_reply_that_is_cut_is_an_error() {
        let error = heard(b"$4\r\nab", 64).await.unwrap_err().report();
        assert!(error.contains("closed the connection"), "{error}");
    }

    #[rstest]
    #[case::coded(b"NOPERM no", Some("NOPERM"), "NOPERM no")]
    #[case::plain(b"no such thing\x07", None, "no such thing…")]
    fn a_fault_is_its_words_and_its_code(
        #[case] line: &[u8],
        #[case] code: Option<&str>,
        #[case] said: &str,
    ) {
        let fault = fault(line);
        assert_eq!((fault.code(), fault.to_string().as_str()), (code, said));
    }
}

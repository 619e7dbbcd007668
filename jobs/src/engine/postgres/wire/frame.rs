//! One message of the protocol: a byte for its kind, a length, and that many bytes. Bounds the length of each kind.

use std::{fmt, io};

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::error::ServerFault;

/// The longest row, or row description: far more than the answer to any of our questions.
const ROW_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The longest error or notice, which may quote a statement.
const WORDS_BYTES_MAX: usize = 1024 * 1024;
/// The longest message of any other kind.
const OTHER_BYTES_MAX: usize = 64 * 1024;

/// A whole message, as received.
pub(super) struct Frame {
    /// Its kind, length and body.
    bytes: Vec<u8>,
}

/// A message that is longer than any of its kind needs to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong {
    kind: u8,
    length: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the server announced a message {:?} of {} bytes, but lastgood accepts at most {}: this is not a PostgreSQL \
             server, or the connection is disturbed",
            char::from(self.kind),
            self.length,
            longest(self.kind)
        )
    }
}

/// Why there is no next message.
pub(super) enum NoFrame {
    TooLong(TooLong),
    Io(io::Error),
}

impl Frame {
    /// Reads the next message. One that is too long is refused by its first five bytes, and none of the rest is read.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Self, NoFrame> {
        let mut head = [0; 5];
        from.read_exact(&mut head).await.map_err(NoFrame::Io)?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        // The length includes itself.
        let body = match length.checked_sub(4) {
            Some(body) if body <= longest(kind) => body,
            Some(_) | None => return Err(NoFrame::TooLong(TooLong { kind, length })),
        };
        let mut bytes = Vec::with_capacity(head.len() + body);
        bytes.extend_from_slice(&head);
        let mut from = from.take(u64::try_from(body).unwrap_or(u64::MAX));
        let read = from.read_to_end(&mut bytes).await.map_err(NoFrame::Io)?;
        if read < body {
            return Err(NoFrame::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(Self { bytes })
    }

    pub(super) fn kind(&self) -> u8 {
        self.bytes.first().copied().unwrap_or_default()
    }

    pub(super) fn body(&self) -> &[u8] {
        self.bytes.get(5..).unwrap_or_default()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the body's first four bytes as a number, and returns it with the rest.
    pub(super) fn number(&self) -> Option<(u32, &[u8])> {
        let (number, rest) = self.body().split_first_chunk()?;
        Some((u32::from_be_bytes(*number), rest))
    }

    /// Parses the body as an error: its message and its SQLSTATE.
    pub(super) fn fault(&self) -> ServerFault {
        let field = |wanted: u8| {
            let mut fields = self.body().split(|byte| *byte == 0);
            let found = fields.find_map(|it| it.split_first().filter(|(kind, _)| **kind == wanted));
            found.map(|(_, text)| String::from_utf8_lossy(text).into_owned())
        };
        let said = field(b'M').unwrap_or_else(|| "an error without a message".to_owned());
        match field(b'C') {
            Some(code) => ServerFault::new(format!("{said} (SQLSTATE {code})"), Some(code)),
            None => ServerFault::new(said, None),
        }
    }
}

/// Returns how long the body of a message of this kind may be.
fn longest(kind: u8) -> usize {
    match kind {
        b'D' | b'T' => ROW_BYTES_MAX,
        b'E' | b'N' => WORDS_BYTES_MAX,
        _ => OTHER_BYTES_MAX,
    }
}

/// Returns an error message in the server's format, for the driver.
pub(super) fn error_message(code: &str, said: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (field, value) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', said)] {
        body.push(field);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    message(b'E', &body)
}

pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    let mut message = vec![kind];
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(body);
    message
}

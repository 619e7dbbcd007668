//! Commands on their way to a server, as bytes, and which of them a reply belongs to.

use std::fmt;

/// About how many bytes go to the server at a time.
pub(super) const BATCH_BYTES: usize = 256 * 1024;
/// How many bytes of a key are shown.
const SHOWN_BYTES: usize = 120;

/// Some commands, in the order of their replies.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) commands: usize,
    /// How many keys are complete in the target once all replies have arrived.
    pub(super) keys: u64,
    /// The database that is selected before the first command.
    pub(super) database: u64,
}

/// What a command was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) command: String,
    /// Its first argument, usually a key, as far as it can be shown.
    pub(super) key: String,
    pub(super) database: u64,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            command,
            key,
            database,
        } = self;
        write!(f, "{command} of {key} in database {database}")
    }
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= BATCH_BYTES
    }

    /// Appends a whole command.
    pub(super) fn command(&mut self, words: &[&[u8]]) {
        self.begin(words.len());
        for word in words {
            self.word(word);
        }
    }

    /// Starts a command of this many words.
    pub(super) fn begin(&mut self, words: usize) {
        self.commands += 1;
        number(b'*', words, &mut self.bytes);
    }

    /// Appends a word to the current command.
    pub(super) fn word(&mut self, word: &[u8]) {
        number(b'$', word.len(), &mut self.bytes);
        self.bytes.extend_from_slice(word);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Appends a word whose length is known before it is written.
    pub(super) fn word_of(&mut self, length: usize, write: impl FnOnce(&mut Vec<u8>)) {
        number(b'$', length, &mut self.bytes);
        write(&mut self.bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// Appends words that are already encoded; see [`word`].
    pub(super) fn encoded(&mut self, words: &[u8]) {
        self.bytes.extend_from_slice(words);
    }

    /// Returns what the command with this number was about. Parsed from the bytes, so that commands that succeed need
    /// no record.
    pub(super) fn about(&self, number: usize) -> Option<About> {
        let mut commands = Commands(&self.bytes);
        let mut database = self.database;
        for _ in 0..number {
            let (command, first) = commands.next()?;
            if command == b"SELECT" {
                let digits = std::str::from_utf8(first).ok()?;
                database = digits.parse().ok()?;
            }
        }
        let (command, first) = commands.next()?;
        Some(About {
            command: shown(command),
            key: shown(first),
            database,
        })
    }
}

/// Appends one encoded word.
pub(super) fn word(word: &[u8], out: &mut Vec<u8>) {
    number(b'$', word.len(), out);
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

/// Returns a key or a name as text, shortened, and escaped so that it cannot break a log line.
pub(super) fn shown(bytes: &[u8]) -> String {
    let (begin, rest) = bytes.split_at(bytes.len().min(SHOWN_BYTES));
    let text = begin.escape_ascii().to_string();
    if rest.is_empty() {
        text
    } else {
        format!("{text}… ({} bytes)", bytes.len())
    }
}

/// Encoded commands, of which the first two words are read.
struct Commands<'a>(&'a [u8]);

impl<'a> Commands<'a> {
    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let words = self.take_number(b'*')?;
        let mut firsts: [&[u8]; 2] = [b"", b""];
        for index in 0..words {
            let length = self.take_number(b'$')?;
            let (word, rest) = self.0.split_at_checked(length)?;
            self.0 = rest.get(2..)?;
            if let Some(first) = firsts.get_mut(index) {
                *first = word;
            }
        }
        let [command, first] = firsts;
        Some((command, first))
    }

    fn take_number(&mut self, sign: u8) -> Option<usize> {
        let end = self.0.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = self.0.split_at_checked(end + 1)?;
        self.0 = rest;
        let digits = line.strip_prefix(&[sign])?.strip_suffix(b"\r\n")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }
}

/// Appends `*3` or `$3` and the line's end. There is one before each word of each command, so it avoids the formatting
/// machinery.
fn number(sign: u8, number: usize, out: &mut Vec<u8>) {
    out.push(sign);
    decimal(number as u64, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends a number's digits.
pub(super) fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let begin = out.len();
    loop {
        // Less than ten, so nothing is truncated.
        out.push(b'0' + (number % 10).to_le_bytes()[0]);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(begin..) {
        digits.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_encoded_as_the_protocol_says() {
        let mut batch = Batch::default();
        batch.command(&[b"SET", b"k\r\n", b""]);
        assert_eq!(batch.bytes, b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n");
        assert_eq!(batch.commands, 1);
    }

    #[test]
    fn each_command_is_found_again_with_its_database() {
        let mut batch = Batch {
            database: 3,
            ..Batch::default()
        };
        batch.command(&[b"DEL", b"*1\r\n$9"]);
        batch.command(&[b"SELECT", b"12"]);
        batch.command(&[b"RESTORE", &[0xff; 200], b"0", b"payload"]);
        let told = |number| batch.about(number).map(|it| (it.command, it.database));
        assert_eq!(told(0), Some(("DEL".to_owned(), 3)));
        assert_eq!(told(1), Some(("SELECT".to_owned(), 3)));
        assert_eq!(told(2), Some(("RESTORE".to_owned(), 12)));
        assert_eq!(told(3), None);
        let key = batch.about(2).map(|it| it.key).unwrap_or_default();
        assert!(
            key.starts_with(r"\xff\xff") && key.ends_with("(200 bytes)"),
            "{key}"
        );
        assert_eq!(
            batch.about(0).map(|it| it.key).as_deref(),
            Some(r"*1\r\n$9")
        );
    }

    #[test]
    fn numbers_have_all_their_digits() {
        for it in [0, 7, 10, 99, 1_234_567_890, u64::MAX] {
            let mut out = Vec::new();
            decimal(it, &mut out);
            assert_eq!(out, it.to_string().into_bytes());
        }
    }
}

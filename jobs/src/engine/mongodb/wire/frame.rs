//! The header of every message of MongoDB's protocol: how long a message is, and whether it may be that long.

use bson::doc;

/// The longest message in any version of MongoDB's protocol, and some room.
const MESSAGE_BYTES_MAX: usize = 48_000_000 + 16 * 1024;
/// The longest document, and what a server may add to one of its own. Answers without a customer's documents are
/// decoded, and then take many times their length in memory.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024 + 64 * 1024;
/// The longest answer to a command that is sent before the server is trusted, or only to see whether it is there.
pub(super) const GREETING_BYTES_MAX: usize = 64 * 1024;

/// A message's length, its id, the id that it answers, and its opcode.
pub(super) const HEAD_BYTES: usize = 16;
/// The offset of a command's name, after the flags, the kind of the first section, its length, and the type of its
/// first field.
const NAME_AT: usize = HEAD_BYTES + 4 + 1 + 4 + 1;
/// How much of a command is inspected.
const COMMAND_BYTES: usize = 64;

const OP_REPLY: i32 = 1;
pub(super) const OP_COMPRESSED: i32 = 2012;
pub(super) const OP_MSG: i32 = 2013;

/// The code of the answer that we give when we refuse the server's. No server has codes below 0.
pub(in super::super) const REFUSED: i32 = -2013;
/// The code of the answer that we give when no server does: `HostUnreachable`, which may be retried.
const UNREACHABLE: i32 = 6;
/// The name of both codes.
pub(in super::super) const SAID_BY_US: &str = "SaidByLastgood";

/// Commands whose answers contain a customer's documents.
const READS: [&[u8]; 3] = [b"aggregate", b"find", b"getMore"];
/// Commands that are sent before the server is trusted, or only to see whether it is there.
const GREETINGS: [&[u8]; 8] = [
    b"buildInfo",
    b"hello",
    b"isMaster",
    b"ismaster",
    b"saslStart",
    b"saslContinue",
    b"authenticate",
    b"ping",
];

#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    length: i32,
    id: i32,
    answers: i32,
    kind: i32,
}

/// An answer that is refused.
#[derive(Debug)]
pub(super) struct Refused {
    /// How many of the bytes before it may still pass.
    pub(super) at: usize,
    /// What the server did.
    pub(super) what: String,
    /// The id of the command that it answers.
    pub(super) answers: i32,
}

/// Follows a server's messages, however they are split.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// How many bytes of the current message are still to come.
    left: usize,
}

/// Follows the driver's commands.
#[derive(Debug, Default)]
pub(super) struct Commands {
    begun: Vec<u8>,
    left: usize,
}

impl Head {
    pub(super) fn parse(bytes: [u8; HEAD_BYTES]) -> Self {
        let numbers = bytes.as_chunks().0;
        let number = |at: usize| numbers.get(at).map_or(0, |it| i32::from_le_bytes(*it));
        Self {
            length: number(0),
            id: number(1),
            answers: number(2),
            kind: number(3),
        }
    }

    /// Returns our own answer to this command, because the server cannot be reached.
    pub(super) fn unreachable(&self, said: &str) -> Vec<u8> {
        answer(self.id, UNREACHABLE, said)
    }

    /// Returns the length of the rest of the message, or what is wrong with it.
    fn rest(&self, limit: usize) -> Result<usize, String> {
        match self.kind {
            OP_MSG | OP_REPLY => {}
            OP_COMPRESSED => {
                return Err("compressed an answer, although lastgood did not ask for that".into());
            }
            kind => return Err(format!("sent a message of the unknown kind {kind}")),
        }
        let length = usize::try_from(self.length).unwrap_or_default();
        let Some(rest) = length.checked_sub(HEAD_BYTES) else {
            let length = self.length;
            return Err(format!(
                "announced a message of {length} bytes, which is shorter than its header"
            ));
        };
        if length > MESSAGE_BYTES_MAX {
            return Err(format!(
                "announced a message of {length} bytes; MongoDB's limit is 48 MB"
            ));
        }
        if length > limit {
            return Err(format!(
                "announced {length} bytes as the answer to a command with a short one; lastgood reads at most {limit}"
            ));
        }
        Ok(rest)
    }
}

impl Answers {
    /// Returns how many of these bytes may pass. The rest is the start of a header, and must be passed again with its
    /// remainder.
    pub(super) fn pass(&mut self, bytes: &[u8], limit: usize) -> Result<usize, Refused> {
        let mut at = 0;
        loop {
            let now = self.left.min(bytes.len() - at);
            self.left -= now;
            at += now;
            let Some(head) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
                return Ok(at);
            };
            let head = Head::parse(*head);
            match head.rest(limit) {
                Ok(rest) => self.left = rest,
                Err(what) => {
                    let answers = head.answers;
                    return Err(Refused { at, what, answers });
                }
            }
            at += HEAD_BYTES;
        }
    }
}

impl Commands {
    /// Reads what the driver sends. Returns how long the answer to its last command may be, if a command began in these
    /// bytes.
    pub(super) fn hear(&mut self, mut bytes: &[u8]) -> Option<usize> {
        let mut limit = None;
        while !bytes.is_empty() {
            let passing = self.left.min(bytes.len());
            self.left -= passing;
            bytes = bytes.get(passing..).unwrap_or_default();
            let length = self.begun.first_chunk().map(|it| u32::from_le_bytes(*it));
            let length = length.map_or(4, |it| usize::try_from(it).unwrap_or(usize::MAX));
            let wanted = length.min(COMMAND_BYTES);
            let (now, later) = bytes.split_at(bytes.len().min(wanted - self.begun.len()));
            self.begun.extend_from_slice(now);
            bytes = later;
            if self.begun.len() == wanted && wanted > 4 {
                limit = Some(answer_limit(&self.begun));
                self.left = length - wanted;
                self.begun.clear();
            }
        }
        limit
    }
}

fn answer_limit(command: &[u8]) -> usize {
    let name = command.get(NAME_AT..).unwrap_or_default();
    let name = name.split(|it| *it == 0).next().unwrap_or_default();
    if GREETINGS.contains(&name) {
        GREETING_BYTES_MAX
    } else if READS.contains(&name) {
        MESSAGE_BYTES_MAX
    } else {
        DOCUMENT_BYTES_MAX
    }
}

/// Returns the answer that the driver gets instead of a refused one.
pub(super) fn refusal(refused: &Refused, said: &str) -> Vec<u8> {
    answer(refused.answers, REFUSED, said)
}

fn answer(answers: i32, code: i32, said: &str) -> Vec<u8> {
    let no = doc! {"ok": 0.0, "code": code, "codeName": SAID_BY_US, "errmsg": said};
    // Never fails: it is a document of our own.
    let body = bson::serialize_to_vec(&no).unwrap_or_default();
    message(answers, OP_MSG, &body)
}

pub(super) fn message(answers: i32, kind: i32, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(HEAD_BYTES + 5 + body.len()).unwrap_or(i32::MAX);
    let mut out = Vec::new();
    for number in [length, 0, answers, kind, 0] {
        out.extend(number.to_le_bytes());
    }
    out.push(0);
    out.extend(body);
    out
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn head(length: i32, kind: i32) -> Vec<u8> {
        [length, 7, 9, kind].map(i32::to_le_bytes).concat()
    }

    fn command(name: &str) -> Vec<u8> {
        message(
            0,
            OP_MSG,
            &bson::serialize_to_vec(&doc! {name: 1, "$db": "admin", "text": "x".repeat(100)})
                .unwrap(),
        )
    }

    #[rstest]
    #[case::of_two_gigabytes(head(i32::MAX, OP_MSG), "2147483647 bytes")]
    #[case::one_too_long(head(48_016_385, OP_MSG), "48016385 bytes")]
    #[case::less_than_its_head(head(15, OP_MSG), "15 bytes")]
    #[case::negative(head(-1, OP_REPLY), "-1 bytes")]
    #[case::compressed(head(100, OP_COMPRESSED), "compressed")]
    #[case::unknown(head(100, 2004), "unknown kind 2004")]
    fn a_message_that_mongodb_does_not_send_is_refused_by_its_head(
        #[case] head: Vec<u8>,
        #[case] told: &str,
    ) {
        let fine = message(9, OP_MSG, &[0; 100]);
        let said = [&fine[..], &head].concat();
        let refused = Answers::default()
            .pass(&said, MESSAGE_BYTES_MAX)
            .unwrap_err();
        assert!(refused.what.contains(told), "{}", refused.what);
        assert_eq!((refused.at, refused.answers), (fine.len(), 9));
    }

    #[test]
    fn messages_pass_however_they_are_cut() {
        let all = [
            message(1, OP_MSG, b""),
            message(2, OP_REPLY, &[1; 50]),
            message(3, OP_MSG, &[2; 300]),
        ]
        .concat();
        for step in 1..all.len() {
            let (mut answers, mut waiting, mut passed) =
                (Answers::default(), Vec::new(), Vec::new());
            for part in all.chunks(step) {
                waiting.extend_from_slice(part);
                let fine = answers.pass(&waiting, MESSAGE_BYTES_MAX).unwrap();
                passed.extend(waiting.drain(..fine));
                assert!(waiting.len() < HEAD_BYTES);
            }
            assert_eq!(passed, all, "in steps of {step}");
        }
    }

    #[rstest]
    #[case("hello", GREETING_BYTES_MAX)]
    #[case("isMaster", GREETING_BYTES_MAX)]
    #[case("saslContinue", GREETING_BYTES_MAX)]
    #[case("buildInfo", GREETING_BYTES_MAX)]
    #[case("listCollections", DOCUMENT_BYTES_MAX)]
    #[case("insert", DOCUMENT_BYTES_MAX)]
    #[case("find", MESSAGE_BYTES_MAX)]
    #[case("getMore", MESSAGE_BYTES_MAX)]
    fn a_commands_name_says_how_long_its_answer_may_be(#[case] name: &str, #[case] limit: usize) {
        let all = [command("ping"), command("find"), command(name)].concat();
        for step in [1, 3, 16, 63, 64, 65, all.len()] {
            let mut commands = Commands::default();
            let last = all.chunks(step).filter_map(|it| commands.hear(it)).last();
            assert_eq!(last, Some(limit), "in steps of {step}");
        }
    }
}

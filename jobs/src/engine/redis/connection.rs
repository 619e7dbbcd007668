//! Our own connection to a server: how it is made, how commands are sent over it, and what its errors mean.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, WriteHalf},
    net::TcpStream,
};

use super::{
    reply::{Replies, Reply},
    tls,
};
use crate::{
    engine::address::redis::Address,
    error::{JobError, RedisError, ServerFault},
};

/// How long TCP, TLS and authentication may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the other end may be silent. A server that forks, or deletes a large value, answers nobody meanwhile.
const PATIENCE: Duration = Duration::from_mins(2);
/// Our name in `CLIENT LIST`.
const NAME: &[u8] = b"lastgood";

/// Any stream that carries the bytes.
pub(super) trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

/// An authenticated connection. Dropping it closes it.
pub(crate) struct Connection {
    /// Sends commands.
    pub(crate) commands: Commands,
    /// Receives their replies; both halves can be used at the same time.
    pub(crate) replies: Replies,
}

impl Connection {
    /// Connects, authenticates, and sets our name.
    pub(crate) async fn open(address: &Address) -> Result<Self, JobError> {
        let doing = "connect";
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, open(address)).await;
        opened.unwrap_or_else(|_| Err(no_answer(doing, CONNECT_TIMEOUT)))
    }

    /// Sends one command and returns its reply. An error reply becomes an error.
    pub(crate) async fn ask(
        &mut self,
        doing: &'static str,
        command: &[&[u8]],
    ) -> Result<Reply, JobError> {
        let answer = self.try_to(doing, command).await?;
        answer.map_err(|fault| meaning(doing, fault))
    }

    /// Sends one command and returns its reply, or the server's error: for commands that the server may well refuse.
    pub(crate) async fn try_to(
        &mut self,
        doing: &'static str,
        command: &[&[u8]],
    ) -> Result<Result<Reply, ServerFault>, JobError> {
        let mut packed = Vec::new();
        pack(command, &mut packed);
        self.commands.send(doing, &packed).await?;
        self.replies.next(doing).await
    }
}

/// The sending half of a connection.
pub(crate) struct Commands {
    stream: WriteHalf<Box<dyn Carrier>>,
    patience: Duration,
}

impl Commands {
    /// Sends commands that were [packed](pack) before. About 100 KiB at a time work well.
    pub(crate) async fn send(
        &mut self,
        doing: &'static str,
        packed: &[u8],
    ) -> Result<(), JobError> {
        let mut rest = packed;
        while !rest.is_empty() {
            let written = tokio::time::timeout(self.patience, self.stream.write(rest)).await;
            let written = written.map_err(|_| no_answer(doing, self.patience))?;
            let written = written.map_err(|error| broken(doing, &error))?;
            if written == 0 {
                return Err(closed(doing));
            }
            rest = rest.get(written..).unwrap_or_default();
        }
        let flushed = tokio::time::timeout(self.patience, self.stream.flush()).await;
        let flushed = flushed.map_err(|_| no_answer(doing, self.patience))?;
        flushed.map_err(|error| broken(doing, &error))
    }
}

/// Appends a command in wire format.
pub(crate) fn pack(command: &[&[u8]], into: &mut Vec<u8>) {
    into.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
    for part in command {
        into.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        into.extend_from_slice(part);
        into.extend_from_slice(b"\r\n");
    }
}

async fn open(address: &Address) -> Result<Connection, JobError> {
    let doing = "connect";
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await;
    let tcp = tcp.map_err(|error| broken(doing, &error))?;
    tcp.set_nodelay(true)
        .map_err(|error| broken(doing, &error))?;
    let stream: Box<dyn Carrier> = match &address.tls {
        None => Box::new(tcp),
        Some(tls) => Box::new(tls::wrap(tcp, address, tls).await?),
    };
    let mut connection = over(stream, PATIENCE);
    match greet(&mut connection, address).await {
        Ok(()) => Ok(connection),
        // The server sent no valid reply, or nothing: it may expect TLS.
        Err(JobError::Unreachable { .. })
            if address.tls.is_none() && tls::is_spoken(address).await =>
        {
            let server = address.server();
            Err(RedisError::NeedsTls { server }.into())
        }
        Err(error) => Err(error),
    }
}

async fn greet(connection: &mut Connection, address: &Address) -> Result<(), JobError> {
    authenticate(connection, address).await?;
    introduce(connection).await
}

/// Makes a connection from a fresh stream.
pub(super) fn over(stream: Box<dyn Carrier>, patience: Duration) -> Connection {
    let (from, to) = tokio::io::split(stream);
    Connection {
        commands: Commands {
            stream: to,
            patience,
        },
        replies: Replies::new(from, patience),
    }
}

async fn authenticate(connection: &mut Connection, address: &Address) -> Result<(), JobError> {
    let user = address.user.as_deref().map(str::as_bytes);
    let password = address
        .password
        .as_ref()
        .map(|it| it.expose_secret().as_bytes());
    let said = match (user, password) {
        (None, None) => return Ok(()),
        // Servers without users know this form, too.
        (None, Some(password)) => {
            connection
                .try_to("authenticate", &[b"AUTH", password])
                .await?
        }
        (Some(user), password) => {
            let command = [b"AUTH".as_slice(), user, password.unwrap_or_default()];
            connection.try_to("authenticate", &command).await?
        }
    };
    said.map(|_| ())
        .map_err(|fault| JobError::Refused(without_password(fault)))
}

/// Removes from an error what may repeat our arguments: some servers quote what they do not understand.
fn without_password(fault: ServerFault) -> ServerFault {
    let text = fault.to_string();
    let harmless = [
        "WRONGPASS ",
        "NOPERM ",
        "ERR AUTH <password> ",
        "ERR Client sent AUTH",
        "ERR invalid password",
    ];
    if harmless.iter().any(|it| text.starts_with(it)) {
        return fault;
    }
    let code = fault.code().unwrap_or_default();
    let said = format!("{code} (the rest is left out, because it could repeat the password)");
    ServerFault::new(said, fault.code().map(str::to_owned))
}

/// Sets our name, and learns whether the server lets us in at all. Unlike `PING`, this may be denied without harm.
async fn introduce(connection: &mut Connection) -> Result<(), JobError> {
    let doing = "connect";
    let said = connection
        .try_to(doing, &[b"CLIENT", b"SETNAME", NAME])
        .await?;
    match said {
        Ok(_) => Ok(()),
        Err(fault) => match fault.code() {
            Some("NOAUTH" | "DENIED") => Err(JobError::Refused(fault)),
            // The next reply would be the end of the connection, which explains less.
            Some("ERR") if fault.to_string().starts_with("ERR max number of clients") => {
                Err(JobError::Unreachable {
                    doing,
                    source: fault,
                })
            }
            // Our name is optional.
            Some(_) | None => Ok(()),
        },
    }
}

/// Returns what an error reply means, by its first word, which is Redis's error code.
pub(crate) fn meaning(doing: &'static str, source: ServerFault) -> JobError {
    match source.code() {
        Some("NOAUTH" | "WRONGPASS" | "DENIED") => JobError::Refused(source),
        Some("NOPERM") => JobError::Denied { doing, source },
        // If a transaction was aborted for lack of a privilege, only the message says so.
        Some("EXECABORT") if source.to_string().contains("NOPERM") => {
            JobError::Denied { doing, source }
        }
        Some(
            "LOADING" | "MASTERDOWN" | "NOMASTERLINK" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN"
            | "UNBLOCKED",
        ) => RedisError::NotReady { doing, source }.into(),
        Some("ERR") if is_unknown_command(&source) => RedisError::NoSuchCommand {
            doing,
            source: without_arguments(&source),
        }
        .into(),
        Some(_) | None => match advice(&source) {
            Some(advice) => RedisError::CannotWrite { advice, source }.into(),
            None => RedisError::Said { doing, source }.into(),
        },
    }
}

/// Returns what to do about a server that takes no writes, or not this one, whatever is written; `None` for other
/// errors.
pub(super) fn advice(fault: &ServerFault) -> Option<&'static str> {
    match fault.code()? {
        "OOM" => Some("it has reached its maxmemory: raise it, or use a larger server"),
        "MISCONF" => Some(
            "it cannot save to its disk and takes no writes until it can: see its log, and make room there",
        ),
        "READONLY" => Some("it is a replica, or became one: name its primary"),
        "NOREPLICAS" => Some(
            "too few replicas follow it: bring them back, or lower min-replicas-to-write until the restore is done",
        ),
        "BUSYGROUP" => {
            Some("somebody else writes to it: keep its clients out until the restore is done")
        }
        _ => None,
    }
}

/// Redis has no code for this, and the wording has never changed.
fn is_unknown_command(fault: &ServerFault) -> bool {
    let words = fault.to_string().to_lowercase();
    words.starts_with("err unknown command") || words.starts_with("err unknown subcommand")
}

/// Removes the arguments that a server repeats when it does not understand a command: they may be a customer's keys.
fn without_arguments(fault: &ServerFault) -> ServerFault {
    let text = fault.to_string();
    let said = text.split(", with args").next().unwrap_or(&text);
    let said = said.split("(possibly in").next().unwrap_or(said);
    ServerFault::new(said.trim_end(), fault.code().map(str::to_owned))
}

/// Returns the error for a failure of the connection itself.
pub(super) fn broken(doing: &'static str, error: &std::io::Error) -> JobError {
    let source = ServerFault::new(error.to_string(), None);
    JobError::Unreachable { doing, source }
}

/// Returns the error for a connection that the other end has closed.
pub(super) fn closed(doing: &'static str) -> JobError {
    let source = ServerFault::new("the server closed the connection", None);
    JobError::Unreachable { doing, source }
}

/// Returns the error for an other end that was silent for too long.
pub(super) fn no_answer(doing: &'static str, waited: Duration) -> JobError {
    JobError::NoAnswer {
        doing,
        seconds: waited.as_secs(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn commands_are_packed_one_after_the_other() {
        let mut packed = Vec::new();
        pack(&[b"PING"], &mut packed);
        pack(&[b"GET", b"a\r\n"], &mut packed);
        assert_eq!(
            packed,
            b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n"
        );
    }

    #[rstest]
    #[case::unknown("ERR unknown command 'AUTH', with args beginning with: 'hunter2'")]
    #[case::bare("hunter2")]
    fn what_may_repeat_a_password_is_left_out(#[case] said: &str) {
        let code = said.split(' ').next().filter(|it| *it == "ERR");
        let fault = without_password(ServerFault::new(said, code.map(str::to_owned)));
        assert!(
            !format!("{fault} {fault:?}").contains("hunter2"),
            "{fault:?}"
        );
    }

    #[rstest]
    #[case::wrong("WRONGPASS", "auth", true)]
    #[case::none("NOAUTH", "auth", true)]
    #[case::not_allowed("NOPERM", "auth", true)]
    #[case::transaction("EXECABORT Transaction discarded because of: NOPERM", "auth", true)]
    #[case::loading("LOADING", "connect", false)]
    #[case::script("BUSY", "connect", false)]
    #[case::replicas("NOREPLICAS", "target", false)]
    #[case::disk("MISCONF", "target", false)]
    #[case::memory("OOM", "target", true)]
    #[case::replica("READONLY", "target", false)]
    #[case::other("ERR", "connect", false)]
    fn an_error_reply_is_understood_by_its_first_word(
        #[case] code: &str,
        #[case] kind: &str,
        #[case] is_permanent: bool,
    ) {
        let first = code.split(' ').next().map(str::to_owned);
        let fault = ServerFault::new(format!("{code} no"), first);
        let error = meaning("connect", fault);
        assert_eq!(
            (error.kind().as_str(), error.is_permanent()),
            (kind, is_permanent)
        );
    }

    #[test]
    fn a_command_that_was_renamed_away_is_told_once_and_without_its_arguments() {
        let said = "ERR unknown command 'DUMP', with args beginning with: 'hunter2' ";
        let error = meaning(
            "read the keys",
            ServerFault::new(said, Some("ERR".to_owned())),
        );
        let report = error.report();
        assert_eq!(
            (error.kind().as_str(), error.is_permanent()),
            ("config", true)
        );
        assert!(
            report.contains("rename-command") && report.contains("'DUMP'"),
            "{report}"
        );
        assert!(!report.contains("hunter2"), "{report}");
    }
}

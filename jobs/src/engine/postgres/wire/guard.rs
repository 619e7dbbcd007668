//! Stands between an open connection and the driver, and passes on only what has a bounded size.

use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

use super::{
    NoSession, Session,
    frame::{Frame, NoFrame, error_message, message},
    login::Open,
    odd,
};
use crate::error::ServerFault;

/// The SQLSTATE that the driver gets when a server announces or sends too much: protocol violation.
const FOREIGN_SIZE: &str = "08P01";
/// How much memory one answer may cost the driver.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// What each message costs besides its bytes.
const MESSAGE_COST: usize = 256;
/// How many unsolicited parameter statuses a server may send: the driver keeps all of them.
const STATUS_MESSAGES_MAX: usize = 10_000;
/// Arbitrary: the driver derives the socket's name from it.
const PORT: u16 = 5432;

/// Hands an open connection to the driver, over a socket that only this process can reach.
pub(super) async fn drive(open: Open) -> Result<Session, NoSession> {
    let process = open.process;
    // Nobody else can enter the directory. It is removed once the driver has connected.
    let directory = tempfile::tempdir().map_err(|error| local(&error))?;
    let path = directory.path().join(format!(".s.PGSQL.{PORT}"));
    let listener = UnixListener::bind(&path).map_err(|error| local(&error))?;
    tokio::spawn(async move {
        if let Ok((driver, _)) = listener.accept().await {
            drop(listener);
            stand_between(driver, open).await;
        }
    });
    // Whatever the driver's options take from the worker's environment ends at the guard, or is overwritten here.
    let options = PgConnectOptions::new_without_pgpass()
        .socket(directory.path())
        .port(PORT)
        .username("guarded")
        .database("guarded")
        .password("")
        .ssl_mode(PgSslMode::Disable)
        // Poolers between us and the server may not support prepared statements.
        .statement_cache_capacity(0)
        .disable_statement_logging();
    match options.connect().await {
        Ok(connection) => Ok(Session {
            connection,
            process,
        }),
        Err(error) => Err(NoSession::Broken(ServerFault::from(&error))),
    }
}

fn local(error: &std::io::Error) -> NoSession {
    odd(format!(
        "cannot make a private socket in the directory for temporary files: {error}"
    ))
}

/// Passes on everything in both directions, until one side is done.
async fn stand_between(mut driver: UnixStream, open: Open) {
    let Open { stream, told, .. } = open;
    let (mut from_driver, mut to_driver) = driver.split();
    // The driver's startup message ends here: we are already logged in.
    if skip_introduction(&mut from_driver).await.is_none() {
        return;
    }
    let welcome = [message(b'R', &[0; 4]), told].concat();
    if to_driver.write_all(&welcome).await.is_err() {
        return;
    }
    // Splits the buffered stream, so that bytes that were read ahead are not lost.
    let (mut from_server, mut to_server) = tokio::io::split(stream);
    tokio::select! {
        _ = tokio::io::copy(&mut from_driver, &mut to_server) => {
            let _ended_either_way = to_server.flush().await;
        }
        () = pass_on(&mut from_server, &mut to_driver) => {}
    }
}

async fn skip_introduction(from: &mut (impl AsyncRead + Unpin)) -> Option<()> {
    use tokio::io::AsyncReadExt as _;
    let length = usize::try_from(from.read_u32().await.ok()?).ok()?;
    let mut rest = vec![0; length.checked_sub(4)?];
    from.read_exact(&mut rest).await.ok()?;
    Some(())
}

/// Passes on the server's messages, as long as each message and each answer has a size that our questions can cause.
pub(super) async fn pass_on(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) {
    let (mut left, mut statuses) = (ANSWER_BYTES_MAX, STATUS_MESSAGES_MAX);
    loop {
        let frame = match Frame::read(from).await {
            Ok(frame) => frame,
            Err(NoFrame::TooLong(what)) => return refuse(to, &what.to_string()).await,
            // The driver sees the end of the connection.
            Err(NoFrame::Io(_)) => return,
        };
        let cost = frame.bytes().len() + MESSAGE_COST;
        match (frame.kind(), left.checked_sub(cost)) {
            (b'Z', _) => left = ANSWER_BYTES_MAX,
            (_, Some(rest)) => left = rest,
            (_, None) => {
                return refuse(to, "the server's answer to one statement does not end").await;
            }
        }
        if frame.kind() == b'S' {
            match statuses.checked_sub(1) {
                Some(rest) => statuses = rest,
                None => {
                    return refuse(to, "the server's messages about its settings do not end").await;
                }
            }
        }
        if to.write_all(frame.bytes()).await.is_err() {
            return;
        }
    }
}

async fn refuse(to: &mut (impl AsyncWrite + Unpin), why: &str) {
    let said = error_message(FOREIGN_SIZE, why);
    let _gone_either_way = to.write_all(&said).await;
}

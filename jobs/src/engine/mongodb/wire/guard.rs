//! Carries bytes between the driver and a server, and bounds every answer before the driver sees it.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::timeout,
};

use super::{
    frame::{self, Answers, Commands, GREETING_BYTES_MAX, HEAD_BYTES, Head, Refused},
    heard::{Heard, Trouble},
};

/// How many bytes are carried at once.
const CHUNK_BYTES: usize = 512 * 1024;
/// How long the driver may take to read our final answer, or to send its first command.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Why a connection ended.
enum End {
    /// The driver or the server closed it, or it broke.
    Closed,
    /// The server ended it before it answered anything.
    Unanswered,
    Refused(Refused),
}

/// Carries everything between the driver and a server until either closes the connection.
pub(super) async fn carry(
    mut driver: TcpStream,
    server: impl AsyncRead + AsyncWrite + Send,
    name: &str,
    heard: &Heard,
) -> io::Result<()> {
    let limit = AtomicUsize::new(GREETING_BYTES_MAX);
    let end = {
        let (from_driver, to_driver) = driver.split();
        let (from_server, to_server) = tokio::io::split(server);
        tokio::select! {
            _ended = ask(from_driver, to_server, &limit) => End::Closed,
            end = answer(from_server, to_driver, &limit, || heard.answered(name)) => end,
        }
    };
    match end {
        End::Closed => Ok(()),
        End::Unanswered => {
            let why = "it closed the connection before any answer: check whether it requires TLS (tls=true), or a client \
                       certificate (tlsCertificateKeyFile)";
            heard.away(name, Trouble::Away(why.to_owned()));
            Ok(())
        }
        End::Refused(refused) => {
            let what = format!("at {name} {}", refused.what);
            heard.refused(&what);
            last_words(driver, &frame::refusal(&refused, &what)).await
        }
    }
}

/// Answers the driver's first command in place of a server that cannot be reached.
pub(super) async fn answer_for(mut driver: TcpStream, said: &str) -> io::Result<()> {
    let mut head = [0; HEAD_BYTES];
    timeout(LAST_WORDS, driver.read_exact(&mut head)).await??;
    last_words(driver, &Head::parse(head).unreachable(said)).await
}

/// Sends the driver a final answer, and waits until the driver closes. Closing with unread bytes would reset the
/// connection, and the answer would be lost.
async fn last_words(mut driver: TcpStream, words: &[u8]) -> io::Result<()> {
    driver.write_all(words).await?;
    driver.shutdown().await?;
    let mut nowhere = tokio::io::sink();
    timeout(LAST_WORDS, tokio::io::copy(&mut driver, &mut nowhere)).await??;
    Ok(())
}

/// Carries the driver's commands to the server, and records how long the next answer may be.
async fn ask(
    mut driver: ReadHalf<'_>,
    mut server: impl AsyncWrite + Unpin,
    limit: &AtomicUsize,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut commands = Commands::default();
    loop {
        let read = driver.read(&mut chunk).await?;
        let said = chunk.get(..read).unwrap_or_default();
        if said.is_empty() {
            return Ok(());
        }
        // The driver sends a long command in two parts, and holds the second until the first is acknowledged.
        rustix::net::sockopt::set_tcp_quickack(driver.as_ref(), true)?;
        if let Some(next) = commands.hear(said) {
            limit.store(next, Ordering::Relaxed);
        }
        server.write_all(said).await?;
        server.flush().await?;
    }
}

/// Carries the server's answers to the driver, each as soon as its header is found valid.
async fn answer(
    mut server: impl AsyncRead + Unpin,
    mut driver: WriteHalf<'_>,
    limit: &AtomicUsize,
    answered: impl Fn(),
) -> End {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut answers = Answers::default();
    let mut waiting = 0;
    let mut is_silent = true;
    loop {
        let filled = fill(&mut server, &mut chunk, waiting).await;
        let Some(said) = filled.and_then(|filled| chunk.get(..filled)) else {
            return if is_silent {
                End::Unanswered
            } else {
                End::Closed
            };
        };
        let passed = answers.pass(said, limit.load(Ordering::Relaxed));
        let fine = match &passed {
            Ok(fine) => *fine,
            Err(refused) => refused.at,
        };
        if driver
            .write_all(said.get(..fine).unwrap_or_default())
            .await
            .is_err()
        {
            return End::Closed;
        }
        if let Err(refused) = passed {
            return End::Refused(refused);
        }
        if is_silent && fine > 0 {
            is_silent = false;
            answered();
        }
        waiting = said.len() - fine;
        chunk.copy_within(fine..fine + waiting, 0);
    }
}

/// Reads what is available into a buffer that already holds `filled` bytes. Returns how many it holds then; `None` at
/// the end.
async fn fill(
    server: &mut (impl AsyncRead + Unpin),
    chunk: &mut [u8],
    mut filled: usize,
) -> Option<usize> {
    let room = chunk.get_mut(filled..)?;
    match server.read(room).await {
        Ok(0) | Err(_) => return None,
        Ok(read) => filled += read,
    }
    // TLS yields one record at a time. If this meets the end, the next read does again.
    while let Some(room) = chunk.get_mut(filled..).filter(|room| !room.is_empty()) {
        match server.read(room).now_or_never() {
            Some(Ok(read @ 1..)) => filled += read,
            Some(_) | None => break,
        }
    }
    Some(filled)
}

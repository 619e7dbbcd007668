//! Servers that send what no server should.

use std::time::Duration;

use anyhow::{Result, ensure};
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    frame::{error_message, message},
    *,
};

/// Serves clients: takes the first message of each, and sends `says`, again and again if it is to have no end.
async fn server(says: Vec<u8>, without_end: bool) -> Result<Address> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let says = says.clone();
            tokio::spawn(async move {
                introduced(&mut client).await?;
                client.write_all(&says).await?;
                if without_end {
                    loop {
                        client.write_all(&says).await?;
                    }
                }
                let mut rest = Vec::new();
                client.read_to_end(&mut rest).await
            });
        }
    });
    let url = format!("postgres://u:hunter2@127.0.0.1:{port}/d?sslmode=disable");
    Ok(Address::parse(&url.into())?)
}

async fn introduced(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = client.read_u32().await?;
    let mut rest = vec![0; usize::try_from(length).unwrap_or_default() - 4];
    client.read_exact(&mut rest).await?;
    Ok(rest)
}

async fn opened(address: &Address) -> Result<Session, NoSession> {
    let opened = open(address, &address.places()[0], None);
    let within = tokio::time::timeout(Duration::from_secs(30), opened).await;
    within.unwrap_or_else(|_| Err(odd("no end within 30 s")))
}

/// Lets us in, with nothing else to say.
fn welcome() -> Vec<u8> {
    [
        message(b'R', &[0; 4]),
        message(b'K', &[0, 0, 0, 7, 0, 0, 0, 9]),
        message(b'Z', b"I"),
    ]
    .concat()
}

fn header(kind: u8, length: u32) -> Vec<u8> {
    [&[kind][..], &length.to_be_bytes()].concat()
}

/// Guards against believing a length that a peer announces before the bytes are there. Only five bytes of each message
/// are read.
#[rstest]
#[case::error_of_two_gigabytes(header(b'E', 0x7fff_fff0), "at most 1048576")]
#[case::less_than_itself(header(b'E', 3), "of 3 bytes")]
#[case::other(header(b'R', 0x7fff_fff0), "at most 65536")]
#[case::no_postgres(b"HTTP/1.1 400 Bad Request\r\n".to_vec(), "this is not a PostgreSQL server")]
#[tokio::test]
async fn an_absurd_length_is_refused_before_the_session(
    #[case] says: Vec<u8>,
    #[case] told: &str,
) -> Result<()> {
    let address = server(says, false).await?;
    let Err(NoSession::Broken(why)) = opened(&address).await else {
        anyhow::bail!("it was not refused");
    };
    ensure!(why.to_string().contains(told), "{why}");
    Ok(())
}

#[rstest]
#[case::error(header(b'E', 0x7fff_fff0), false, "at most 1048576")]
#[case::row(header(b'D', 0x7fff_fff0), false, "at most 16777216")]
#[case::rows(message(b'N', b"M\0\0"), true, "does not end")]
#[tokio::test]
async fn the_driver_never_sees_an_answer_that_is_too_large(
    #[case] says: Vec<u8>,
    #[case] without_end: bool,
    #[case] told: &str,
) -> Result<()> {
    let (mut ours, mut theirs) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(async move {
        let mut there = theirs.write_all(&says).await;
        while without_end && there.is_ok() {
            there = theirs.write_all(&says).await;
        }
        // Kept open: the guard has to end by itself.
        theirs
    });
    let mut said = tokio::io::sink();
    let mut last = Last::default();
    guard::pass_on(&mut ours, &mut Both(&mut said, &mut last)).await;
    drop(ours);
    serving.await?;
    let text = String::from_utf8_lossy(&last.0);
    ensure!(text.contains(told) && text.contains("08P01"), "{text}");
    Ok(())
}

/// The last bytes that were written.
#[derive(Default)]
struct Last(Vec<u8>);

struct Both<'a>(&'a mut tokio::io::Sink, &'a mut Last);

impl AsyncWrite for Both<'_> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        self.1.0 = bytes.to_vec();
        std::pin::Pin::new(&mut *self.0).poll_write(cx, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut *self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut *self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn what_the_server_says_before_the_first_statement_reaches_the_driver() -> Result<()> {
    let address = server(welcome(), false).await?;
    let session = opened(&address).await;
    let Ok(session) = session else {
        anyhow::bail!("no session: {:?}", session.err());
    };
    ensure!(session.process == 7);
    Ok(())
}

#[tokio::test]
async fn a_server_that_tells_of_itself_without_end_is_left() -> Result<()> {
    let told = [message(b'R', &[0; 4]), message(b'S', b"a\0b\0")].concat();
    let endless = server(message(b'S', &[b'x'; 1000]), true).await?;
    ensure!(opened(&endless).await.is_err());
    let address = server(told, false).await?;
    drop(address);
    Ok(())
}

#[tokio::test]
async fn a_refusal_keeps_its_code() -> Result<()> {
    let address = server(error_message("3D000", "no such database"), false).await?;
    let Err(NoSession::Refused(why)) = opened(&address).await else {
        anyhow::bail!("it was not refused");
    };
    ensure!(why.code() == Some("3D000"), "{why}");
    ensure!(
        why.to_string() == "no such database (SQLSTATE 3D000)",
        "{why}"
    );
    Ok(())
}

/// Guards against a server that talks us out of `require`.
#[tokio::test]
async fn a_binding_that_is_demanded_and_not_offered_sends_no_password() -> Result<()> {
    let offer = [&[0, 0, 0, 10][..], b"SCRAM-SHA-256\0\0"].concat();
    for says in [
        message(b'R', &offer),
        message(b'R', &[0, 0, 0, 3]),
        message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]),
        message(b'R', &[0; 4]),
    ] {
        let address = server(says, false).await?;
        let place = address.places()[0].clone();
        let url = format!("postgres://u:hunter2@{place}/d?sslmode=disable&channel_binding=require");
        let address = Address::parse(&url.into())?;
        let refused = opened(&address).await.err();
        ensure!(
            matches!(&refused, Some(NoSession::Impossible(why)) if why.contains("channel_binding")),
            "{refused:?}"
        );
    }
    Ok(())
}

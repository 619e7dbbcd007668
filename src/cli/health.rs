//! `lastgood health`: is the service on this machine ready? For container health checks, since the image has no curl.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::output::Output;

const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// More than `/readyz` ever returns.
const LONGEST_ANSWER: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The address at which the service serves /readyz: that of its own --listen
    #[arg(long, env = "LASTGOOD_LISTEN", default_value = "127.0.0.1:9750")]
    listen: SocketAddr,
}

pub(super) async fn run(args: &Args, output: &Output) -> anyhow::Result<()> {
    let address = reachable(args.listen);
    let answer = tokio::time::timeout(ANSWERS_WITHIN, ask(address))
        .await
        .with_context(|| format!("{address} did not answer within 5 s"))?
        .with_context(|| {
            format!("nothing serves /readyz at {address}: give the right address with --listen")
        })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split_whitespace().nth(1).unwrap_or("no status");
    anyhow::ensure!(status == "200", "not ready ({status}): {}", body.trim());
    output.show(&serde_json::json!({ "is_ready": true }), |_| {
        "ready".to_owned()
    })
}

/// Returns the address to connect to. A service that listens on every address is asked on the loopback address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let question = format!("GET /readyz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

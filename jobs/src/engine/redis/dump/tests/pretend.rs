//! A server that speaks as much of Redis's protocol as a dump needs, and answers `SYNC` as a test wants.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{
        AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
        AsyncWriteExt as _, BufReader,
    },
    net::TcpListener,
    task::JoinHandle,
};

/// Part of every URL here, and of nothing else.
pub(super) const PASSWORD: &str = "hunter2-marker";

/// What a server does after it has answered `SYNC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// Goes on as for a replica, until the other end hangs up.
    Streams,
    HangsUp,
}

/// What a server answers.
pub(super) struct Script {
    pub(super) to_auth: String,
    pub(super) to_name: &'static str,
    pub(super) to_replconf: &'static str,
    pub(super) info: String,
    /// `None` hangs up.
    pub(super) to_scan: Option<&'static str>,
    pub(super) to_sync: Vec<Vec<u8>>,
    pub(super) then: Then,
    /// The commands that it received, in order.
    pub(super) asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    /// A server that answers `SYNC` with these packets, and stays.
    pub(super) fn sync(packets: Vec<Vec<u8>>) -> Self {
        Self {
            to_auth: "+OK\r\n".to_owned(),
            to_name: "+OK\r\n",
            to_replconf: "+OK\r\n",
            to_scan: None,
            info: "redis_version:7.0.15\r\nrole:master\r\n".to_owned(),
            to_sync: packets,
            then: Then::Streams,
            asked: Arc::default(),
        }
    }

    /// Returns the answer to a command other than `SYNC`; `None` hangs up.
    fn answer(&self, command: &str) -> Option<String> {
        match command.split(' ').next()? {
            "AUTH" => Some(self.to_auth.clone()),
            "CLIENT" => Some(self.to_name.to_owned()),
            "INFO" => Some(format!("${}\r\n{}\r\n", self.info.len(), self.info)),
            "REPLCONF" => Some(self.to_replconf.to_owned()),
            "TIME" => Some("*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n".to_owned()),
            "FUNCTION" => Some("-ERR unknown command\r\n".to_owned()),
            "SCAN" => self.to_scan.map(str::to_owned),
            "SELECT" => Some("+OK\r\n".to_owned()),
            _ => None,
        }
    }
}

/// The server; it stops when dropped.
pub(super) struct Pretend {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    serving: JoinHandle<()>,
}

impl Pretend {
    pub(super) async fn start(script: Script) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let asked = script.asked.clone();
        let script = Arc::new(script);
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // Ends with its connection, however that ends.
                tokio::spawn(serve(client, script.clone()));
            }
        });
        Ok(Self {
            address,
            asked,
            serving,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("redis://:{PASSWORD}@{}", self.address)
    }

    /// Returns how many commands with this prefix it received.
    pub(super) fn asked(&self, command: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|it| it.starts_with(command)).count()
    }
}

impl Drop for Pretend {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Answers on one connection, until either end hangs up.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send,
    script: Arc<Script>,
) -> Result<()> {
    let (from, mut to) = tokio::io::split(stream);
    let mut from = BufReader::new(from);
    loop {
        let command = heard(&mut from).await?;
        script.asked.lock().unwrap().push(command.clone());
        if command != "SYNC" {
            let answer = script.answer(&command).context("the script has no more")?;
            to.write_all(answer.as_bytes()).await?;
            continue;
        }
        for packet in &script.to_sync {
            to.write_all(packet).await?;
            to.flush().await?;
            // So that the other end can read it before the next packet arrives.
            tokio::task::yield_now().await;
        }
        match script.then {
            Then::HangsUp => return Ok(()),
            Then::Streams => to.write_all(b"*1\r\n$4\r\nPING\r\n").await?,
        }
    }
}

/// Reads a command, and joins its words with spaces.
async fn heard(from: &mut (impl AsyncBufRead + Unpin)) -> Result<String> {
    let mut words = Vec::new();
    for _ in 0..length(from, '*').await? {
        let mut word = vec![0; length(from, '$').await? + 2];
        from.read_exact(&mut word).await?;
        words.push(String::from_utf8(word)?.trim_end().to_owned());
    }
    Ok(words.join(" "))
}

async fn length(from: &mut (impl AsyncBufRead + Unpin), kind: char) -> Result<usize> {
    let mut line = String::new();
    from.read_line(&mut line).await?;
    let number = line.trim_end().strip_prefix(kind);
    Ok(number.context("no command")?.parse()?)
}

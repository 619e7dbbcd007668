//! A network that misbehaves on demand, between lastgood and an S3 server.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

const HEAD_BYTES_MAX: usize = 64 * 1024;
const DENIED: &str =
    "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>";
const BUSY: &str =
    "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is answered with 503; the server never sees it.
    Busy,
    /// It is answered with 403; the server never sees it.
    Deny,
    /// It is answered with this status and code; the server never sees it.
    Say(u16, &'static str),
    /// It is passed on without its condition, as if the service did not support it.
    Unconditionally,
    /// The connection is cut in the middle of the body.
    CutRequest,
    /// The server executes it, and its answer is lost.
    LoseAnswer,
    /// The connection is cut in the middle of the answer.
    CutAnswer,
    /// It is never answered; the proxy waits until the client goes away.
    Silence,
    /// The answer comes late.
    Slow(Duration),
}

/// Which requests are affected, how many of them, and what happens to them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    pub(super) method: &'static str,
    /// A part of the request line.
    pub(super) with: &'static str,
    pub(super) times: usize,
    pub(super) fault: Fault,
}

pub(super) struct Proxy {
    pub(super) url: String,
    rules: Arc<Mutex<Vec<Rule>>>,
    conditional_posts: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    listening: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn to(endpoint: &str, rules: &[Rule]) -> Result<Self> {
        let server = endpoint
            .strip_prefix("http://")
            .context("not http")?
            .to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let rules = Arc::new(Mutex::new(rules.to_vec()));
        let shared = Arc::clone(&rules);
        let conditional_posts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&conditional_posts);
        let heads = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&heads);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, rules) = (server.clone(), Arc::clone(&shared));
                let (counted, noted) = (Arc::clone(&counted), Arc::clone(&noted));
                tokio::spawn(async move {
                    drop(serve(client, &server, &rules, &counted, &noted).await);
                });
            }
        });
        Ok(Self {
            url,
            rules,
            conditional_posts,
            heads,
            listening,
        })
    }

    /// Returns the head of every request received, in order.
    pub(super) fn heads(&self) -> Vec<String> {
        let heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        heads.clone()
    }

    /// Returns how many POST requests carried a condition.
    pub(super) fn conditional_posts(&self) -> usize {
        self.conditional_posts.load(Ordering::SeqCst)
    }

    /// Returns how many faults are left.
    pub(super) fn left(&self) -> usize {
        let rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.iter().map(|rule| rule.times).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Forwards one request. A connection carries only one.
async fn serve(
    mut client: TcpStream,
    server: &str,
    rules: &Mutex<Vec<Rule>>,
    conditional_posts: &AtomicUsize,
    heads: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let (head, mut body) = read_head(&mut client).await?;
    note(heads, &head);
    if head.starts_with("POST") && head.to_lowercase().contains("if-none-match") {
        conditional_posts.fetch_add(1, Ordering::SeqCst);
    }
    let line = head.lines().next().unwrap_or_default().to_owned();
    let length = length_of(&head);
    let fault = take(rules, &line);
    if fault == Some(Fault::CutRequest) {
        let mut some = vec![0; (length / 2).saturating_sub(body.len())];
        client.read_exact(&mut some).await?;
        return Ok(());
    }
    let begun = body.len();
    body.resize(length.max(begun), 0);
    if head.to_lowercase().contains("expect: 100-continue") {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    client
        .read_exact(body.get_mut(begun..).unwrap_or_default())
        .await?;
    match fault {
        Some(fault @ (Fault::Busy | Fault::Deny | Fault::Say(..))) => {
            let (status, said) = match fault {
                Fault::Say(status, code) => (
                    format!("{status} Told"),
                    format!("<Error><Code>{code}</Code><Message>no</Message></Error>"),
                ),
                Fault::Deny => ("403 Forbidden".to_owned(), DENIED.to_owned()),
                Fault::Busy
                | Fault::Unconditionally
                | Fault::CutRequest
                | Fault::LoseAnswer
                | Fault::CutAnswer
                | Fault::Silence
                | Fault::Slow(_) => ("503 Slow Down".to_owned(), BUSY.to_owned()),
            };
            // The answer to a HEAD has no body, but states its length.
            let shown = if line.starts_with("HEAD") { "" } else { &said };
            let answer = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n{shown}",
                said.len()
            );
            return client.write_all(answer.as_bytes()).await;
        }
        Some(Fault::Silence) => {
            client.read_to_end(&mut Vec::new()).await?;
            return Ok(());
        }
        Some(Fault::Slow(wait)) => tokio::time::sleep(wait).await,
        Some(Fault::CutRequest | Fault::LoseAnswer | Fault::CutAnswer | Fault::Unconditionally)
        | None => {}
    }
    let mut upstream = TcpStream::connect(server).await?;
    let (first, others) = head.split_once("\r\n").unwrap_or((&head, ""));
    let is_kept = |line: &&str| {
        fault != Some(Fault::Unconditionally) || !line.to_lowercase().starts_with("if-none-match:")
    };
    let others: String = others.split_inclusive("\r\n").filter(is_kept).collect();
    let head = format!("{first}\r\nconnection: close\r\n{others}");
    upstream.write_all(head.as_bytes()).await?;
    upstream.write_all(&body).await?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await?;
    match fault {
        Some(Fault::LoseAnswer) => Ok(()),
        Some(Fault::CutAnswer) => {
            let half = answer.get(..answer.len() / 2).unwrap_or_default();
            client.write_all(half).await
        }
        _ => client.write_all(&answer).await,
    }
}

fn note(heads: &Mutex<Vec<String>>, head: &str) {
    let mut heads = heads.lock().unwrap_or_else(PoisonError::into_inner);
    heads.push(head.to_owned());
}

fn take(rules: &Mutex<Vec<Rule>>, line: &str) -> Option<Fault> {
    let mut rules = rules.lock().unwrap_or_else(PoisonError::into_inner);
    let rule = rules
        .iter_mut()
        .find(|rule| rule.times > 0 && line.starts_with(rule.method) && line.contains(rule.with))?;
    rule.times -= 1;
    Some(rule.fault)
}

/// Returns a request's head, and the part of its body that was read with it.
async fn read_head(client: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = read.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&read).into_owned(), body));
        }
        if read.len() > HEAD_BYTES_MAX || client.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn length_of(head: &str) -> usize {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    length.unwrap_or(0)
}

//! A proxy to a server that breaks when a given statement passes, and then refuses some connections before it works
//! again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use url::Url;

/// The proxy, which is gone once this is dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    /// How many connections are still refused once it is broken.
    pub(crate) refusals: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Breaks the first connection on which `statement` arrives, before the statement reaches the server, and refuses
    /// the next `refusals` connections.
    pub(crate) async fn breaking_at(
        statement: &'static str,
        refusals: usize,
        server: &Url,
    ) -> Result<Self> {
        let host = server.host_str().context("a server has a host")?;
        let to = format!("{host}:{}", server.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let left = Arc::new(AtomicUsize::new(refusals));
        let (is_broken, refusals) = (Arc::new(AtomicBool::new(false)), left.clone());
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if is_broken.load(Ordering::SeqCst) && left.load(Ordering::SeqCst) > 0 {
                    left.fetch_sub(1, Ordering::SeqCst);
                    continue;
                }
                tokio::spawn(pass(client, to.clone(), statement, is_broken.clone()));
            }
        });
        Ok(Self {
            port,
            refusals,
            serving,
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(mut client: TcpStream, to: String, statement: &str, is_broken: Arc<AtomicBool>) {
    let Ok(mut server) = TcpStream::connect(to).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let there = async {
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut chunk).await {
            let (said, _) = chunk.split_at(read);
            let has_it = said
                .windows(statement.len())
                .any(|part| part == statement.as_bytes());
            if has_it && !is_broken.swap(true, Ordering::SeqCst) {
                return;
            }
            if to_server.write_all(said).await.is_err() {
                return;
            }
        }
    };
    let back = tokio::io::copy(&mut from_server, &mut to_client);
    tokio::select! {
        () = there => {}
        _ = back => {}
    }
}

//! A proxy in front of an S3 server that denies some requests, as a bucket's policy or an object lock would, or changes them on the way.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Returns the server's words if the request that begins with these bytes is denied. Otherwise it may change them, and not their number.
type Rule = dyn Fn(&mut [u8]) -> Option<&'static str> + Send + Sync;

pub(super) struct Guard {
    pub(super) url: String,
    listening: JoinHandle<()>,
}

impl Guard {
    pub(super) async fn before(
        endpoint: &str,
        rule: impl Fn(&mut [u8]) -> Option<&'static str> + Send + Sync + 'static,
    ) -> Result<Self> {
        let server = endpoint
            .strip_prefix("http://")
            .context("not http")?
            .to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let rule: Arc<Rule> = Arc::new(rule);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, rule) = (server.clone(), Arc::clone(&rule));
                tokio::spawn(async move { drop(pass(client, &server, &*rule).await) });
            }
        });
        Ok(Self { url, listening })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Forwards a connection. A request that is denied gets its answer here, and the connection is closed.
async fn pass(mut client: TcpStream, server: &str, rule: &Rule) -> Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = {
            let (mut from_client, mut to_client) = client.split();
            let (mut from_server, mut to_server) = server.split();
            let answers = tokio::io::copy(&mut from_server, &mut to_client);
            tokio::select! {
                read = from_client.read(&mut buffer) => {
                    let read = read?;
                    let bytes = buffer.get_mut(..read).unwrap_or_default();
                    // A request starts a read of its own, because the client waits for each answer before its next request.
                    let answer = denial(bytes, rule);
                    if answer.is_none() {
                        to_server.write_all(bytes).await?;
                    }
                    (read > 0).then_some(answer)
                }
                _ended = answers => None,
            }
        };
        match read {
            Some(None) => {}
            Some(Some(answer)) => {
                client.write_all(answer.as_bytes()).await?;
                return Ok(client.shutdown().await?);
            }
            None => return Ok(()),
        }
    }
}

/// Returns the answer to a request that is denied.
fn denial(request: &mut [u8], rule: &Rule) -> Option<String> {
    let body = format!(
        "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>{}</Message></Error>",
        rule(request)?
    );
    let head = format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // The answer to a HEAD has no body.
    let has_body = !request.starts_with(b"HEAD ");
    Some(if has_body { head + &body } else { head })
}

//! A service whose answers never end does not fill the memory: each answer is cut off at its limit.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::{Result, ensure};
use futures::TryStreamExt as _;
use rstest::rstest;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{
    super::{JobError, Storage},
    stores::{Kind, Store, access},
};

/// The largest answer that is accepted, plus what two sockets and a few parts read ahead hold.
const SENT_MAX: usize = 64 * 1024 * 1024;

/// A service that answers everything but a HEAD with `status` and endless bytes. The first HEAD of an object says that
/// it is small, and the next that it is huge.
struct Endless {
    url: String,
    sent: Arc<AtomicUsize>,
    listening: JoinHandle<()>,
}

impl Endless {
    async fn start(status: &'static str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (sent, heads) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&sent);
        let listening = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(
                    client,
                    status,
                    Arc::clone(&counted),
                    Arc::clone(&heads),
                ));
            }
        });
        Ok(Self {
            url,
            sent,
            listening,
        })
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    status: &'static str,
    sent: Arc<AtomicUsize>,
    heads: Arc<AtomicUsize>,
) -> std::io::Result<()> {
    let mut asked = Vec::new();
    while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
        if client.read_buf(&mut asked).await? == 0 {
            return Ok(());
        }
    }
    if asked.starts_with(b"HEAD") {
        let size = [1000, 1_u64 << 40][heads.fetch_add(1, Ordering::SeqCst).min(1)];
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n");
        return client.write_all(head.as_bytes()).await;
    }
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
        1_u64 << 40
    );
    client.write_all(head.as_bytes()).await?;
    let bytes = vec![b' '; 64 * 1024];
    loop {
        client.write_all(&bytes).await?;
        sent.fetch_add(bytes.len(), Ordering::SeqCst);
    }
}

#[derive(Debug, Clone, Copy)]
enum Asked {
    Listing,
    Uploads,
    Removal,
    Manifest,
    Identity,
}

async fn ask(storage: &Storage, asked: Asked) -> Result<(), JobError> {
    match asked {
        Asked::Listing => {
            let keys = storage.manifest_keys().await?;
            keys.try_collect::<Vec<_>>().await.map(drop)
        }
        Asked::Uploads => storage.unfinished("v1/").await.map(drop),
        Asked::Removal => storage.remove("v1/a").await,
        Asked::Identity => storage.identity().await.map(drop),
        Asked::Manifest => storage.manifest("v1/a.manifest.json").await.map(drop),
    }
}

#[rstest]
#[case::a_listing(Asked::Listing, "200 OK", "longer than 16777216 bytes")]
#[case::unfinished_uploads(Asked::Uploads, "200 OK", "longer than 16777216 bytes")]
#[case::a_refusal(Asked::Listing, "403 Forbidden", "longer than 65536 bytes")]
#[case::a_refused_removal(Asked::Removal, "403 Forbidden", "longer than 65536 bytes")]
#[case::a_fault(Asked::Uploads, "500 Internal Server Error", "longer than 65536 bytes")]
#[case::a_manifest(Asked::Manifest, "206 Partial Content", "longer than")]
#[case::an_identity(Asked::Identity, "200 OK", "longer than 16777216 bytes")]
#[tokio::test]
async fn an_answer_that_never_ends_is_cut_off(
    #[case] asked: Asked,
    #[case] status: &'static str,
    #[case] told: &str,
) -> Result<()> {
    let service = Endless::start(status).await?;
    let mut access = access(Kind::Moto)?;
    access.endpoint = Some(service.url.clone());
    access.patience.tries = 0;
    let store = Store::in_bucket(&access, "x").await?;
    let error = ask(&store.storage, asked).await.unwrap_err();
    let report = error.report();
    ensure!(report.contains(told), "{report}");
    let sent = service.sent.load(Ordering::SeqCst);
    ensure!(sent < SENT_MAX, "{sent} bytes were taken: {report}");
    Ok(())
}

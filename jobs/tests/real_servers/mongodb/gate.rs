//! A proxy to a server on which a given statement waits every time, until the test lets it pass.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};

use crate::lab::until;

/// The gate, which is gone once this is dropped.
pub(crate) struct Gate {
    pub(crate) port: u16,
    waiting: Arc<AtomicUsize>,
    passes: Arc<Semaphore>,
    serving: JoinHandle<()>,
}

impl Gate {
    /// Holds up anything that contains this statement on its way to the server on that port.
    pub(crate) async fn at(statement: Vec<u8>, port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let own_port = listener.local_addr()?.port();
        let (waiting, passes) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let (statement, at) = (Arc::new(statement), (Arc::clone(&waiting), passes.clone()));
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, port, statement.clone(), at.clone()));
            }
        });
        Ok(Self {
            port: own_port,
            waiting,
            passes,
            serving,
        })
    }

    /// Waits until a statement waits at the gate.
    pub(crate) async fn is_reached(&self) -> Result<()> {
        until("the gate is reached", || async {
            Ok(self.waiting.load(Ordering::SeqCst) > 0)
        })
        .await
    }

    /// Lets the waiting statement pass. The next one waits again.
    pub(crate) async fn pass_one(&self) -> Result<()> {
        self.is_reached().await?;
        self.passes.add_permits(1);
        until("it has passed", || async {
            Ok(self.passes.available_permits() == 0)
        })
        .await
    }

    /// Lets all statements pass.
    pub(crate) fn open(&self) {
        self.passes.add_permits(1_000_000);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type At = (Arc<AtomicUsize>, Arc<Semaphore>);

async fn pass(mut client: TcpStream, port: u16, statement: Arc<Vec<u8>>, (waiting, passes): At) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
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
                .any(|part| part == statement.as_slice());
            if has_it {
                waiting.fetch_add(1, Ordering::SeqCst);
                if let Ok(permit) = passes.acquire().await {
                    permit.forget();
                }
                waiting.fetch_sub(1, Ordering::SeqCst);
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

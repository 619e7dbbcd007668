//! How many connections are accepted at once, how long may a request's head take, and how do connections end?

use std::{
    io::{self, ErrorKind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service as _;

/// How long a drain leaves a connection open that has not sent a request yet: one may be on its way.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How long to wait after the system failed to accept a connection, for lack of file descriptors, say.
const BREATH: Duration = Duration::from_secs(1);

/// What clients may use of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The most connections at once. Further ones wait in the system's backlog.
    pub(crate) connections: usize,
    /// How long a request's head may take, including the wait for its first byte.
    pub(crate) head_within: Duration,
    /// How long a connection may last, whatever happens on it; `None` sets no limit.
    pub(crate) lasts: Option<Duration>,
}

/// Serves until `stop`, then until every request in flight is answered.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    bounds: Bounds,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(bounds.connections));
    let open = TaskTracker::new();
    let taking = async {
        // The semaphore is never closed.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let stream = accept(&listener).await;
            let connection = Connection {
                app: app.clone(),
                has_asked: Arc::default(),
                stop: stop.clone(),
                _place: place,
            };
            open.spawn(connection.serve(stream, bounds));
        }
    };
    tokio::select! {
        () = taking => {}
        () = stop.cancelled() => {}
    }
    drop(listener);
    open.close();
    open.wait().await;
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_peer(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections for now");
                sleep(BREATH).await;
            }
        }
    }
}

fn is_of_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
    )
}

struct Connection {
    app: Router,
    /// Whether a whole request head has arrived.
    has_asked: Arc<AtomicBool>,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn serve(self, stream: TcpStream, bounds: Bounds) {
        let serving = self.serve_for_ever(stream, bounds.head_within);
        match bounds.lasts {
            // Otherwise a client that never reads the answer would hold its place for good.
            Some(lasts) => {
                if timeout(lasts, serving).await.is_err() {
                    tracing::debug!("a connection lasted too long");
                }
            }
            None => serving.await,
        }
    }

    async fn serve_for_ever(self, stream: TcpStream, head_within: Duration) {
        // Events are small, and must not wait for the next one to fill a packet.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection ended at its beginning");
            return;
        }
        let service = service_fn(|request: hyper::Request<Incoming>| {
            self.has_asked.store(true, Ordering::Relaxed);
            self.app.clone().call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_within)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = self.nobody_asks() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }

    /// Returns after a short wait if the connection has sent no request by then. Otherwise never returns.
    async fn nobody_asks(&self) {
        sleep(LAST_WORD).await;
        if self.has_asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

//! The HTTP endpoints that every service has: metrics, liveness and readiness.

pub(crate) mod listener;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use self::listener::Bounds;

/// The limits for anyone who reaches the port: enough for several Prometheus servers and probes, and far below the limit on a process's
/// open files.
const BOUNDS: Bounds = Bounds {
    connections: 64,
    head_within: Duration::from_secs(5),
    lasts: Some(Duration::from_mins(2)),
};

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: choose another --listen")]
pub struct ListenError {
    address: SocketAddr,
    #[source]
    source: std::io::Error,
}

struct Face {
    metrics: PrometheusHandle,
    ready: watch::Receiver<bool>,
}

/// Opens the listener and returns its address (useful with port 0) and the server, which runs until `until`.
///
/// Connections are bounded like the API's, so that idle clients cannot use up the files that backups need.
pub async fn serve(
    address: SocketAddr,
    metrics: PrometheusHandle,
    ready: watch::Receiver<bool>,
    until: CancellationToken,
) -> Result<(SocketAddr, impl Future<Output = ()>), ListenError> {
    let unusable = |source| ListenError { address, source };
    let listener = TcpListener::bind(address).await.map_err(unusable)?;
    let bound = listener.local_addr().map_err(unusable)?;
    let router = face(metrics, ready);
    Ok((bound, listener::serve(listener, router, BOUNDS, until)))
}

/// Returns the routes that every service has.
pub fn face(metrics: PrometheusHandle, ready: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readiness))
        .with_state(Arc::new(Face { metrics, ready }))
}

async fn render(State(face): State<Arc<Face>>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        face.metrics.render(),
    )
}

async fn readiness(State(face): State<Arc<Face>>) -> impl IntoResponse {
    if *face.ready.borrow() {
        (StatusCode::OK, "ready\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the catalog does not answer or cannot be used (see the log), or this process is draining\n",
        )
    }
}

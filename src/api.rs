//! The HTTP API for other services. Each noun has a file with its routes.

mod access;
mod backups;
mod connection;
mod document;
mod envelope;
mod events;
mod overview;
mod problem;
mod promise;
mod put;
mod queue;
mod read;
mod resources;
mod restores;
mod runs;
mod streams;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{Router, extract::DefaultBodyLimit, middleware};
use lastgood_jobs::error::chain;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

use self::{
    problem::{Kind, Problem},
    streams::Streams,
};
use crate::{
    catalog::{Catalog, answered},
    http::{
        self,
        listener::{self, Bounds},
    },
    metrics,
    plan::{Plans, PlansFile, Reload, Source},
    secret::MasterKeys,
};

/// The most event streams open at once. Each one polls the catalog.
const STREAMS: usize = 256;
/// How often the API checks the plans file for changes and asks the catalog whether it can be written to.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How the API is to run.
pub struct Settings {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// How long a drain waits for requests in flight.
    pub drain_timeout: Duration,
    /// Whether `/capabilities` answers without a token, for a website, say.
    pub has_public_capabilities: bool,
    /// The keys that seal URLs. Without them, no resource with a URL can be registered.
    pub master_keys: Option<MasterKeys>,
    /// The most connections at once. Event streams take at most half of them.
    pub connections: usize,
    /// How long a client may take to send a request's head.
    pub head_within: Duration,
    /// How long a request may take to be answered. An event stream may then stay open for longer.
    pub answered_within: Duration,
}

/// What every request shares.
struct Api {
    catalog: Catalog,
    plans: watch::Receiver<InForce>,
    has_public_capabilities: bool,
    master_keys: Option<MasterKeys>,
    streams: Streams,
    /// Limits the requests that may wait for another session's transaction, so that they cannot use up the
    /// connections to the catalog.
    asks: Semaphore,
    /// Ends the event streams when it is cancelled.
    stop: CancellationToken,
}

/// The plans in force, and where they come from.
#[derive(Clone)]
struct InForce {
    plans: Plans,
    source: Source,
}

impl InForce {
    fn of(file: &PlansFile) -> Self {
        Self {
            plans: file.plans().clone(),
            source: file.source(),
        }
    }
}

/// Serves until `stop`, then drains: requests in flight finish and event streams end.
///
/// Refuses to listen beyond the loopback interface while there is no token.
pub async fn serve(
    catalog: Catalog,
    plans: PlansFile,
    settings: Settings,
    recorder: metrics_exporter_prometheus::PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // Otherwise everyone could reach the listener and no one could use it.
    anyhow::ensure!(
        settings.listen.ip().is_loopback() || catalog.has_tokens().await?,
        "there is no token yet, and {} can be reached from elsewhere: make one first (`lastgood token create`), or use --listen 127.0.0.1:{}",
        settings.listen,
        settings.listen.port()
    );
    let listener = TcpListener::bind(settings.listen).await.with_context(|| {
        format!(
            "cannot listen on {}: choose another --listen",
            settings.listen
        )
    })?;
    serve_on(listener, catalog, plans, settings, recorder, stop).await
}

/// Serves on a listener that is already open.
pub async fn serve_on(
    listener: TcpListener,
    catalog: Catalog,
    plans: PlansFile,
    settings: Settings,
    recorder: metrics_exporter_prometheus::PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    if settings.master_keys.is_none() {
        tracing::warn!(
            "LASTGOOD_MASTER_KEY is not set: this process cannot register resources with a URL"
        );
    }
    let address = listener.local_addr()?;
    let drain_timeout = settings.drain_timeout;
    let bounds = Bounds {
        connections: settings.connections,
        head_within: settings.head_within,
        lasts: None,
    };
    let (app, switches) = app(catalog.clone(), &plans, settings, recorder, stop.clone());
    tracing::info!(
        http.address = %address,
        "API started at http://{address}/api/v1, documentation at http://{address}/api/docs, metrics at http://{address}/metrics"
    );

    let looking = tokio::spawn(look_for_ever(catalog, plans, switches, stop.clone()));
    let overtime = async {
        stop.cancelled().await;
        tracing::info!(
            drain.seconds = drain_timeout.as_secs(),
            "draining: requests may finish"
        );
        tokio::time::sleep(drain_timeout).await;
    };
    tokio::select! {
        () = listener::serve(listener, app, bounds, stop.clone()) => {}
        () = overtime => tracing::warn!("the drain timeout has passed: requests still in flight were cut off"),
    }
    looking.abort();
    tracing::info!("API stopped");
    Ok(())
}

/// The senders through which a running API learns of new plans and of its readiness.
pub struct Switches {
    plans: watch::Sender<InForce>,
    ready: watch::Sender<bool>,
}

/// Returns the router of everything that is served, and the senders that change its plans and its readiness.
pub fn app(
    catalog: Catalog,
    plans: &PlansFile,
    settings: Settings,
    recorder: metrics_exporter_prometheus::PrometheusHandle,
    stop: CancellationToken,
) -> (Router, Switches) {
    let (publish, in_force) = watch::channel(InForce::of(plans));
    let (ready, is_ready) = watch::channel(true);
    let connections = catalog.pool().options().get_max_connections();
    let api = Arc::new(Api {
        asks: Semaphore::new(usize::try_from(connections / 2).unwrap_or(1).max(1)),
        catalog,
        plans: in_force,
        has_public_capabilities: settings.has_public_capabilities,
        master_keys: settings.master_keys,
        streams: Streams::new(STREAMS.min(settings.connections / 2)),
        stop,
    });
    let (routes, document) = routes();
    metrics::prime_api(&operations(&document));
    let app = routes
        .with_state(api)
        .merge(SwaggerUi::new("/api/docs").url("/api/v1/openapi.json", document))
        .merge(http::face(recorder, is_ready))
        .fallback(async || Problem::new(Kind::NotFound, "there is no such path: see /api/docs"))
        .method_not_allowed_fallback(async || {
            Problem::new(
                Kind::NoSuchMethod,
                "this path does not support this method: see the `allow` header and /api/docs",
            )
        })
        .layer(DefaultBodyLimit::max(read::LARGEST_BODY))
        .layer(middleware::from_fn_with_state(
            settings.answered_within,
            envelope::envelope,
        ));
    let switches = Switches {
        plans: publish,
        ready,
    };
    (app, switches)
}

/// Returns the OpenAPI document as it is served.
#[must_use]
pub fn document() -> OpenApi {
    routes().1
}

/// Returns every route below `/api/v1`, and the document that describes them.
fn routes() -> (Router<Arc<Api>>, OpenApi) {
    let (router, mut document) = document::router()
        .nest("/api/v1", resources::routes())
        .nest("/api/v1", backups::routes())
        .nest("/api/v1", restores::routes())
        .nest("/api/v1", runs::routes())
        .nest("/api/v1", queue::routes())
        .nest("/api/v1", overview::routes())
        .nest("/api/v1", promise::routes())
        .split_for_parts();
    document::complete(&mut document);
    (router, document)
}

/// Returns the method and the route of each operation.
fn operations(document: &OpenApi) -> Vec<(&'static str, String)> {
    let paths = document.paths.paths.iter();
    paths
        .flat_map(|(path, item)| document::methods(item).map(move |method| (method, path.clone())))
        .collect()
}

/// Reloads the plans and updates readiness until `stop`.
async fn look_for_ever(
    catalog: Catalog,
    mut plans: PlansFile,
    switches: Switches,
    stop: CancellationToken,
) {
    if let Some(fault) = plans.fault() {
        tracing::error!(error = %fault, "the built-in plans are in force: the plans file cannot be used");
    }
    let keeps_sessions = catalog.keeps_sessions().await;
    let mut timer = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => {
                switches.ready.send_replace(false);
                return;
            }
            _ = timer.tick() => {}
        }
        match plans.reload_within(LOOK_EVERY).await {
            Reload::Unchanged | Reload::Mended => {}
            Reload::Changed => {
                tracing::info!("the plans file changed, new plans are in force");
                switches.plans.send_replace(InForce::of(&plans));
            }
            Reload::Kept(fault) => {
                tracing::error!(error = %fault, "the plans file cannot be used, the last good plans stay in force");
            }
        }
        let is_writable = match answered(LOOK_EVERY, catalog.write_fault()).await {
            Ok(None) => true,
            Ok(Some(fault)) => {
                tracing::error!("{fault}");
                false
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "the catalog does not answer");
                false
            }
        };
        switches.ready.send_replace(is_writable && keeps_sessions);
    }
}

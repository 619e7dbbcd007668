//! `lastgood api`.

use std::{net::SocketAddr, time::Duration};

use rustix::process::{Resource, getrlimit};

use crate::{
    api::{Settings, serve},
    catalog::Catalog,
    config::{self, PlansArgs},
    master, metrics,
    plan::PlansFile,
};

/// The most connections to the catalog.
const TO_CATALOG: u32 = 16;
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// Longer than a request may take to be answered.
const LONGEST_STATEMENT: Duration = Duration::from_secs(35);
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// The most client connections, if the limit on open files allows it.
const MOST_CONNECTIONS: u64 = 1024;
/// Open files that are not client connections: those to the catalog, the plans file and the runtime's own.
const OTHER_FILES: u64 = 64;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to serve the API, its documentation, /metrics, /healthz and /readyz. Beyond this machine only once there is a token
    #[arg(long, env = "LASTGOOD_LISTEN", default_value = "127.0.0.1:9752")]
    listen: SocketAddr,
    /// Serve /api/v1/capabilities to anybody without a token, e.g. for a website
    #[arg(long, env = "LASTGOOD_PUBLIC_CAPABILITIES", value_parser = crate::config::flag)]
    public_capabilities: bool,
    #[command(flatten)]
    plans: PlansArgs,
    /// How long a drain lets requests finish
    #[arg(long, env = "LASTGOOD_DRAIN_TIMEOUT", default_value = "25s", value_parser = crate::config::duration)]
    drain_timeout: Duration,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let recorder = metrics::install()?;
    let stop = super::stop_on_signal()?;
    let catalog =
        Catalog::open_bounded(&config::database_url()?, TO_CATALOG, LONGEST_STATEMENT).await?;
    let master_keys = config::master_keys()?;
    if let Some(keys) = &master_keys {
        master::hold(&catalog, keys).await?;
    }
    let settings = Settings {
        listen: args.listen,
        drain_timeout: args.drain_timeout,
        has_public_capabilities: args.public_capabilities,
        master_keys,
        connections: connections(),
        head_within: HEAD_WITHIN,
        answered_within: ANSWERED_WITHIN,
    };
    serve(
        catalog,
        PlansFile::load(args.plans.plans),
        settings,
        recorder,
        stop.drain,
    )
    .await
}

/// Returns the most client connections. Without this limit, they could use up the files that the catalog's connections need.
fn connections() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let most = files
        .saturating_sub(OTHER_FILES)
        .clamp(16, MOST_CONNECTIONS);
    usize::try_from(most).unwrap_or(16)
}

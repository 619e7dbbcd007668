//! `lastgood api`.

use std::{net::SocketAddr, time::Duration};

use crate::{
    api::{Settings, serve},
    catalog::Catalog,
    config::{self, PlansArgs, VerificationArgs},
    metrics,
    plan::PlansFile,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to serve the API, its documentation, /metrics, /healthz and /readyz. Beyond this machine only where there is a token
    #[arg(long, env = "LASTGOOD_LISTEN", default_value = "127.0.0.1:9752")]
    listen: SocketAddr,
    /// Let anybody ask for /api/v1/capabilities, without a token: a website, say
    #[arg(long, env = "LASTGOOD_PUBLIC_CAPABILITIES")]
    public_capabilities: bool,
    #[command(flatten)]
    plans: PlansArgs,
    #[command(flatten)]
    verification: VerificationArgs,
    /// How long a drain lets requests finish
    #[arg(long, env = "LASTGOOD_DRAIN_TIMEOUT", default_value = "25s", value_parser = crate::config::duration)]
    drain_timeout: Duration,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let recorder = metrics::install()?;
    let stop = super::stop_on_signal()?;
    let catalog = Catalog::open(&config::database_url()?, 16).await?;
    let settings = Settings {
        listen: args.listen,
        drain_timeout: args.drain_timeout,
        has_public_capabilities: args.public_capabilities,
        verify_within: args.verification.within(),
        master_key: config::master_key()?,
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

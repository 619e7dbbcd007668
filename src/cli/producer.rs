//! `lastgood producer`.

use std::{net::SocketAddr, time::Duration};

use crate::{
    catalog::Catalog,
    config::{self, PlansArgs, RetentionArgs, StorageArgs, VerificationArgs},
    metrics,
    plan::PlansFile,
    producer::{Settings, Upkeep, produce},
    stores,
};

/// Twice the longest slot.
const SHORTEST_HISTORY: Duration = Duration::from_hours(48);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    plans: PlansArgs,
    /// How often to look for due backups
    #[arg(long, env = "LASTGOOD_TICK", default_value = "60s", value_parser = crate::config::duration)]
    tick: Duration,
    /// How often to look for leases of lost workers
    #[arg(long, env = "LASTGOOD_REAP", default_value = "5s", value_parser = crate::config::duration)]
    reap: Duration,
    /// The lease that consumers use: how long to wait after an outage before leases are taken back
    #[arg(long, env = "LASTGOOD_LEASE", default_value = "30s", value_parser = crate::config::duration)]
    lease: Duration,
    /// How often to measure exposure and the queue for the metrics
    #[arg(long, env = "LASTGOOD_OBSERVE", default_value = "15s", value_parser = crate::config::duration)]
    observe: Duration,
    /// How often to look for restore points that need a copy, a verification or removal
    #[arg(long, env = "LASTGOOD_UPKEEP", default_value = "1m", value_parser = crate::config::duration)]
    upkeep: Duration,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    verification: VerificationArgs,
    #[command(flatten)]
    retention: RetentionArgs,
    /// How long ended runs stay on record, at least 2 days; 0: for ever. Runs that a restore point or a slot needs stay longer
    #[arg(long, env = "LASTGOOD_HISTORY", default_value = "90d", value_parser = crate::config::duration)]
    history: Duration,
    /// Where to serve /metrics, /healthz and /readyz
    #[arg(long, env = "LASTGOOD_LISTEN", default_value = "127.0.0.1:9750")]
    listen: SocketAddr,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.history.is_zero() || args.history >= SHORTEST_HISTORY,
        "a history under 2 days would forget runs that the longest slot needs: use --history 90d, or 0 to keep everything"
    );
    let recorder = metrics::install()?;
    let stop = super::stop_on_signal()?.drain;
    let catalog = Catalog::open(&config::database_url()?, 4).await?;
    let settings = Settings {
        tick: at_least(args.tick, 1),
        reap: at_least(args.reap, 1),
        lease: args.lease,
        observe: at_least(args.observe, 1),
        upkeep: Upkeep {
            every: at_least(args.upkeep, 1),
            verify_within: args.verification.within(),
            grace: args.retention.grace(),
            stores: stores::names(&args.storage)?,
        },
        history: Some(args.history).filter(|history| !history.is_zero()),
        listen: args.listen,
    };
    produce(
        catalog,
        PlansFile::load(args.plans.plans),
        &settings,
        recorder,
        stop,
    )
    .await
}

/// Returns the interval, or a minimum: an interval of zero would spin.
fn at_least(interval: Duration, seconds: u64) -> Duration {
    interval.max(Duration::from_secs(seconds))
}

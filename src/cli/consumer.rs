//! `lastgood consumer`, and `lastgood consumer list|drain`.

mod fleet;

use std::{
    net::SocketAddr, os::unix::fs::MetadataExt as _, path::PathBuf, sync::Arc, time::Duration,
};

use lastgood_jobs::resource::Engine;

use super::output::Output;
use crate::{
    catalog::Catalog,
    config::{self, DrillArgs, StorageArgs, ToolsArgs},
    consumer::{Settings, Shared, consume, upkeep_slots},
    metrics,
    queue::Limits,
    stores::{Mirrors, Stores},
};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    #[command(subcommand)]
    fleet: Option<fleet::Command>,
    #[command(flatten)]
    work: WorkArgs,
}

#[derive(Debug, clap::Args)]
struct WorkArgs {
    /// The engines to serve
    #[arg(
        long,
        env = "LASTGOOD_ENGINES",
        value_delimiter = ',',
        default_value = "postgres,vector,mongodb,redis"
    )]
    engines: Vec<Engine>,
    /// How many backups and restores of each engine to execute at once; half as many copies, verifications and removals run
    /// beside them, at least one
    #[arg(long, env = "LASTGOOD_SLOTS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: u32,
    /// How many runs of one team may execute at once in one engine's queue, across all consumers; its restores are counted
    /// separately. Default: half of the engine's live slots, at least two
    #[arg(long, env = "LASTGOOD_TEAM_SLOTS", value_parser = clap::value_parser!(u32).range(1..))]
    team_slots: Option<u32>,
    /// How many dumps may read from one server at once, across all consumers
    #[arg(long, env = "LASTGOOD_SERVER_SLOTS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    server_slots: u32,
    #[command(flatten)]
    storage: StorageArgs,
    #[command(flatten)]
    tools: ToolsArgs,
    #[command(flatten)]
    drills: DrillArgs,
    /// Refuse servers that do not have to prove their identity: see docs/explanation/transport.md
    #[arg(long, env = "LASTGOOD_REQUIRE_VERIFIED_TLS", value_parser = crate::config::flag)]
    require_verified_tls: bool,
    /// How long a lease lasts without renewal; after that, a lost worker's runs are taken over
    #[arg(long, env = "LASTGOOD_LEASE", default_value = "30s", value_parser = crate::config::duration)]
    lease: Duration,
    /// How often to look for runs when nothing wakes this consumer
    #[arg(long, env = "LASTGOOD_POLL", default_value = "2s", value_parser = crate::config::duration)]
    poll: Duration,
    /// The longest an attempt may take
    #[arg(long, env = "LASTGOOD_JOB_TIMEOUT", default_value = "12h", value_parser = crate::config::duration)]
    job_timeout: Duration,
    /// How long a drain lets runs finish before it gives their leases back
    #[arg(long, env = "LASTGOOD_DRAIN_TIMEOUT", default_value = "25s", value_parser = crate::config::duration)]
    drain_timeout: Duration,
    /// How old an unfinished upload, or an archive without a manifest, must be for the janitor to remove it: longer than any
    /// backup takes
    #[arg(long, env = "LASTGOOD_JANITOR_AGE", default_value = "24h", value_parser = crate::config::duration)]
    janitor_age: Duration,
    /// How often to clean up each store and compare its contents with the catalog
    #[arg(long, env = "LASTGOOD_JANITOR_EVERY", default_value = "1h", value_parser = crate::config::duration)]
    janitor_every: Duration,
    /// Where to serve /metrics, /healthz and /readyz
    #[arg(long, env = "LASTGOOD_LISTEN", default_value = "127.0.0.1:9751")]
    listen: SocketAddr,
    /// Where private files (password files, for the length of a job) are kept
    #[arg(long, env = "LASTGOOD_WORK_DIR")]
    work_dir: Option<PathBuf>,
}

pub(super) async fn run(args: Args, output: &Output) -> anyhow::Result<()> {
    match args.fleet {
        Some(command) => fleet::run(command, output).await,
        None => work(args.work).await,
    }
}

async fn work(mut args: WorkArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.lease >= Duration::from_secs(3),
        "a lease under 3 s cannot be renewed in time: use --lease 30s"
    );
    anyhow::ensure!(
        args.janitor_age >= args.job_timeout,
        "--janitor-age {} is less than --job-timeout {}: the janitor would remove uploads that are still under way; raise the one \
         or lower the other",
        humantime::format_duration(args.janitor_age),
        humantime::format_duration(args.job_timeout)
    );
    args.engines.sort();
    args.engines.dedup();
    let recorder = metrics::install()?;
    let stop = super::stop_on_signal()?;
    // The claim, the renewal and the finish of each slot must not wait long for one another.
    let of_engine = args
        .slots
        .saturating_add(upkeep_slots(args.slots))
        .saturating_add(args.drills.drill_slots);
    let slots = u32::try_from(args.engines.len())?.saturating_mul(of_engine);
    let catalog =
        Catalog::open_sparing(&config::database_url()?, slots.saturating_add(4).min(32)).await?;
    let work_dir = args.work_dir.unwrap_or_else(default_work_dir);
    let shared = Shared {
        drills: args.drills.discover(&work_dir).await.map(Arc::new),
        stores: open_stores(&args.storage, &catalog).await?,
        catalog,
        tools: Arc::new(args.tools.discover().await),
        master_keys: config::master_keys()?,
        work_dir: PathBuf::new(),
        require_verified_tls: args.require_verified_tls,
    };
    let settings = Settings {
        engines: args.engines,
        slots: args.slots,
        drill_slots: args.drills.drill_slots,
        limits: Limits {
            team_slots: args.team_slots,
            server_slots: args.server_slots,
        },
        lease: args.lease,
        poll: args.poll.max(Duration::from_millis(100)),
        job_timeout: args.job_timeout,
        drain_timeout: args.drain_timeout,
        janitor_age: args.janitor_age,
        janitor_every: args.janitor_every.max(Duration::from_secs(1)),
        listen: args.listen,
        work_dir,
    };
    consume(shared, &settings, recorder, stop).await
}

/// Opens the stores. One that has points on record must exist: if it is only not mounted, creating it would put it on the wrong disk.
async fn open_stores(storage: &StorageArgs, catalog: &Catalog) -> anyhow::Result<Stores> {
    let opened = Stores::open_to_write(storage, Mirrors::MayWait, catalog).await;
    opened.map_err(|error| match error.missing() {
        Some(store) => {
            let why = format!(
                "store {store} is on record, so no new one is created; if it is permanently lost: `lastgood store forget {store} \
                 --confirm {store}`"
            );
            anyhow::Error::from(error).context(why)
        }
        None => error.into(),
    })
}

/// Returns a directory of this user's own, so that users do not get in each other's way.
pub(super) fn default_work_dir() -> PathBuf {
    let user = std::fs::metadata("/proc/self").map_or(0, |of_this_process| of_this_process.uid());
    std::env::temp_dir().join(format!("lastgood-{user}"))
}

//! The command line: nouns, then verbs, and what all commands share.

mod api;
mod audit;
mod backup;
mod catalog;
mod consumer;
mod doctor;
mod drill;
mod health;
mod key;
mod limits;
mod locate;
mod output;
mod plans;
mod point;
mod producer;
mod promise;
mod proof;
mod queue;
mod resource;
mod restore;
mod retention;
mod run;
mod status;
mod store;
mod token;
mod verify;
mod wait;

use std::{io::Write as _, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, error::ErrorKind};
use lastgood_jobs::{attempt::RunId, resource::ResourceId};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::{
    catalog::Catalog,
    config,
    consumer::Stop,
    nouns::{ProblemKind, Run, Told},
    version::VERSION,
};
use output::Output;

/// Keeps the promise that you lose at most N minutes of data, and proves it.
#[derive(Debug, Parser)]
#[command(
    name = "lastgood",
    version = VERSION,
    arg_required_else_help = true,
    max_term_width = 120
)]
pub struct Cli {
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create or update the catalog's schema
    Migrate,
    /// Turn plans into due backups, take back the leases of lost workers, and measure exposure
    Producer(producer::Args),
    /// Claim runs and execute them; list and drain consumers
    Consumer(consumer::Args),
    /// Serve the HTTP API for other services
    Api(api::Args),
    /// Make, list and revoke the HTTP API's tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Show and change how many ad-hoc backups services may ask for
    #[command(subcommand)]
    Limits(limits::Command),
    /// Register, show, pause, resume and remove protected databases
    #[command(subcommand)]
    Resource(resource::Command),
    /// Make a backup now
    #[command(subcommand)]
    Backup(backup::Command),
    /// List, show, download, pin and hold restore points; confirm suspect ones
    #[command(subcommand)]
    Point(point::Command),
    /// Restore a resource from a restore point
    Restore(restore::Args),
    /// Read restore points back, all of them or some, and report whether they are whole
    Verify(verify::Args),
    /// Prove by a restore into a server of the consumer's own that a restore point can be restored
    #[command(subcommand)]
    Drill(drill::Command),
    /// Explain which restore points are kept and which expire
    #[command(subcommand)]
    Retention(retention::Command),
    /// List, show, retry and cancel runs
    #[command(subcommand)]
    Run(run::Command),
    /// Pause, resume and drain the queue, and show what is in it
    #[command(subcommand)]
    Queue(queue::Command),
    /// Show exposure against the promise, worst first, and everything that needs attention
    Status(status::Args),
    /// Show how the promises were kept, and how much of the error budgets is left
    #[command(subcommand)]
    Promise(promise::Command),
    /// Rebuild a lost catalog from a store's manifests
    #[command(subcommand)]
    Catalog(catalog::Command),
    /// List stores and compare them with the catalog; record that one was renamed or replaced, or forget one that is gone
    #[command(subcommand)]
    Store(store::Command),
    /// Check a plans file, show the plans, or simulate them
    #[command(subcommand)]
    Plans(plans::Command),
    /// Make, rotate, list and shred the keys that archives are encrypted to, and those that sign exports of the ledger
    #[command(subcommand)]
    Key(key::Command),
    /// Show what is proven about restore points, check the ledger's chain, and export it, signed
    #[command(subcommand)]
    Proof(proof::Command),
    /// Show who took actions that cannot be undone, or that let data out
    Audit(audit::Args),
    /// Check the database, the store, the client tools, the clock and the keys
    Doctor(doctor::Args),
    /// Ask a service on this machine whether it is ready: a container's health check
    #[command(hide = true)]
    Health(health::Args),
    /// Print a shell's completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Parses this process's command line. A wrong one is reported and ends the process with exit code 2.
#[must_use]
pub fn parse() -> Cli {
    let mut command = Cli::command();
    let given = command.get_matches_mut();
    if let Some(("restore", restore)) = given.subcommand()
        && let Some(why) = restore::meaningless(restore)
    {
        command.error(ErrorKind::ArgumentConflict, why).exit();
    }
    Cli::from_arg_matches(&given).unwrap_or_else(|error| error.exit())
}

/// Runs one command to its end. Exit codes: 0 done, 1 failed, 2 wrong usage.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    start_log();
    // Files that are written, archives above all, must be readable by this user alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let output = Output::new(cli.json);
    let patience = cli.command.patience();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let outcome = runtime.block_on(dispatch(cli.command, &output));
            // A blocking thread that is still hashing must not hold up the exit.
            runtime.shutdown_timeout(patience);
            outcome
        });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            output.error(&error);
            ExitCode::FAILURE
        }
    }
}

impl Command {
    /// Returns how long the exit waits for calls still under way. The doctor has already reported the ones that hang.
    fn patience(&self) -> Duration {
        if matches!(self, Self::Doctor(_)) {
            Duration::ZERO
        } else {
            Duration::from_secs(5)
        }
    }
}

async fn dispatch(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Migrate => {
            let catalog = Catalog::connect(&config::database_url()?, 1).await?;
            catalog.migrate().await?;
            let answer = serde_json::json!({ "is_migrated": true });
            output.show(&answer, |_| "the catalog's schema is up to date".to_owned())?;
        }
        Command::Producer(args) => producer::run(args).await?,
        Command::Consumer(args) => consumer::run(args, output).await?,
        Command::Api(args) => api::run(args).await?,
        Command::Token(command) => token::run(command, output).await?,
        Command::Limits(command) => limits::run(command, output).await?,
        Command::Resource(command) => resource::run(command, output).await?,
        Command::Backup(command) => return backup::run(command, output).await,
        Command::Point(command) => return point::run(command, output).await,
        Command::Restore(args) => return restore::run(args, output).await,
        Command::Verify(args) => return verify::run(args, output).await,
        Command::Drill(command) => return drill::run(command, output).await,
        Command::Retention(command) => return retention::run(command, output).await,
        Command::Run(command) => return run::run(command, output).await,
        Command::Queue(command) => return queue::run(command, output).await,
        Command::Status(args) => return status::run(&args, output).await,
        Command::Promise(command) => return promise::run(command, output).await,
        Command::Catalog(command) => return catalog::run(command, output).await,
        Command::Proof(command) => return proof::run(command, output).await,
        Command::Store(command) => return store::run(command, output).await,
        Command::Plans(command) => return plans::run(command, output).await,
        Command::Key(command) => return key::run(command, output).await,
        Command::Audit(args) => audit::run(&args, output).await?,
        Command::Doctor(args) => return doctor::run(&args, output).await,
        Command::Health(args) => health::run(&args, output).await?,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lastgood", &mut script);
            std::io::stdout().write_all(&script)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The resource that a list is narrowed to: given as an argument, or with --resource.
#[derive(Debug, clap::Args)]
struct OneResource {
    /// Only this resource's
    #[arg(value_name = "RESOURCE")]
    positional: Option<ResourceId>,
    /// The same as RESOURCE
    #[arg(long, value_name = "RESOURCE", conflicts_with = "positional")]
    resource: Option<ResourceId>,
}

impl OneResource {
    fn resource(&self) -> Option<&ResourceId> {
        self.resource.as_ref().or(self.positional.as_ref())
    }
}

/// Opens the catalog for a command with only a few queries.
async fn catalog() -> anyhow::Result<Catalog> {
    Ok(Catalog::open(&config::database_url()?, 2).await?)
}

/// Returns a run that was enqueued just now.
async fn read_back(catalog: &Catalog, run: RunId) -> anyhow::Result<Run> {
    catalog.run(run).await.with_context(|| {
        format!("run {run} is enqueued, but cannot be read back: see `lastgood run show {run}`")
    })
}

/// Opens the catalog for a command that also works from a store alone. The error names that way.
async fn catalog_or(instead: &str) -> anyhow::Result<Catalog> {
    catalog().await.map_err(|error| {
        let story = lastgood_jobs::error::story(error.as_ref());
        let text =
            format!("{story}; if the catalog is lost: `{instead}`, see docs/how-to/disaster.md");
        Told::new(ProblemKind::of_any(&error), text).into()
    })
}

fn start_log() {
    let filter = EnvFilter::try_from_env("LASTGOOD_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn,apalis=warn,apalis_core=warn"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(
            &std::io::stderr.make_writer(),
        ));
    if std::env::var("LASTGOOD_LOG_FORMAT").is_ok_and(|format| format == "json") {
        log.json().init();
    } else {
        log.init();
    }
}

/// Returns the stop that signals trigger: the first SIGTERM or SIGINT starts a drain, the second ends the process at once.
fn stop_on_signal() -> anyhow::Result<Stop> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = Stop::default();
    let asked = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // An operator may have ordered the drain already.
            if asked.drain.is_cancelled() {
                return asked.at_once.cancel();
            }
            asked.drain.cancel();
        }
    });
    Ok(stop)
}

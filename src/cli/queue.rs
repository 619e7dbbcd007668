//! `lastgood queue pause|resume|drain|stats`.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use lastgood_jobs::resource::{Engine, TeamId, Tier};
use serde::Serialize;

use super::output::{Output, bytes, instant, printable, span, table};
use crate::{
    catalog::{Catalog, Order, Paused, QueueFigures, Scope},
    nouns::{Pause, ProblemKind, RunningRun, Told},
};

/// How often a drain checks whether something still runs.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Stop these runs from being claimed; running ones continue, and due backups are still enqueued
    Pause {
        #[command(flatten)]
        scope: ScopeArgs,
        /// Why: shown to anybody who finds it paused
        #[arg(long)]
        reason: String,
    },
    /// End the pause of exactly this scope
    Resume {
        #[command(flatten)]
        scope: ScopeArgs,
        /// Why, for the audit log
        #[arg(long)]
        reason: Option<String>,
    },
    /// Pause everything and wait until nothing runs; the pause stays
    Drain {
        /// How long to wait
        #[arg(long, default_value = "1h", value_parser = crate::config::duration)]
        timeout: Duration,
        /// Why: shown to anybody who finds it paused
        #[arg(long, default_value = "drain")]
        reason: String,
    },
    /// Count the runs that wait, run or failed, and show what is paused
    Stats,
}

#[derive(Debug, clap::Args)]
pub(super) struct ScopeArgs {
    /// Only this engine
    #[arg(long)]
    engine: Option<Engine>,
    /// Only resources on this tier
    #[arg(long)]
    tier: Option<Tier>,
    /// Only this team's resources
    #[arg(long)]
    team: Option<TeamId>,
}

impl From<ScopeArgs> for Scope {
    fn from(args: ScopeArgs) -> Self {
        Self {
            engine: args.engine.map(|engine| engine.to_string()),
            tier: args.tier.map(|tier| tier.to_string()),
            team: args.team.map(|team| team.to_string()),
        }
    }
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    let catalog = super::catalog().await?;
    match command {
        Command::Pause { scope, reason } => {
            let order = Order::of_this_user(Some(&reason));
            pause(&catalog, &scope.into(), &order, output).await?;
        }
        Command::Resume { scope, reason } => {
            let order = Order::of_this_user(reason.as_deref());
            resume(&catalog, &scope.into(), &order, output).await?;
        }
        Command::Drain { timeout, reason } => {
            let order = Order::of_this_user(Some(&reason));
            return drain(&catalog, &order, timeout, output).await;
        }
        Command::Stats => {
            let figures = QueueStats {
                queues: catalog.queue_figures().await?,
                at: catalog.now().await?,
                pauses: catalog.pauses().await?,
            };
            output.show(&figures, stats)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn pause(
    catalog: &Catalog,
    scope: &Scope,
    order: &Order,
    output: &Output,
) -> anyhow::Result<()> {
    match catalog.pause(scope, order).await? {
        Paused::New(pause) => {
            let resources = catalog.resources_in(scope).await?;
            if resources == 0 {
                // A pause with a misspelt name covers nothing, and would look like success.
                output.note("NOTHING IS IN IT NOW: is the name right? `lastgood resource list` shows all names");
            }
            output.show(&pause, |pause| {
                format!(
                    "paused {} ({resources} resources): none of their runs are claimed until `{}`",
                    covered(pause),
                    how_to_resume(pause)
                )
            })
        }
        Paused::Already(pause) => output.show(&pause, |pause| {
            format!("already paused: {}", described(pause))
        }),
    }
}

async fn resume(
    catalog: &Catalog,
    scope: &Scope,
    order: &Order,
    output: &Output,
) -> anyhow::Result<()> {
    if let Some(pause) = catalog.resume(scope, order).await? {
        for pause in catalog.pauses().await? {
            output.note(&format!("still paused: {}", described(&pause)));
        }
        return output.show(&pause, |pause| format!("resumed {}", covered(pause)));
    }
    let pauses = catalog.pauses().await?;
    let there: Vec<_> = pauses.iter().map(how_to_resume).collect();
    let others = if there.is_empty() {
        ", nor any other pause".to_owned()
    } else {
        format!("; these end the others: `{}`", there.join("`, `"))
    };
    let text = format!("there is no pause of exactly this scope{others}");
    Err(Told::new(ProblemKind::NotFound, text).into())
}

/// Figures of all queues.
#[derive(Serialize)]
struct QueueStats {
    /// The instant they are valid for, by the catalog's clock.
    at: DateTime<Utc>,
    /// The queues that have queued, running or recently failed runs.
    queues: Vec<QueueFigures>,
    /// The pauses in force.
    pauses: Vec<Pause>,
}

async fn drain(
    catalog: &Catalog,
    order: &Order,
    timeout: Duration,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let pause = match catalog.pause(&Scope::default(), order).await? {
        Paused::New(pause) | Paused::Already(pause) => pause,
    };
    let deadline = Instant::now() + timeout;
    let drained = loop {
        let drained = catalog.drained().await?;
        if drained.is_drained || !drained.is_paused || Instant::now() >= deadline {
            break drained;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    output.show(&drained, |drained| {
        if !drained.is_paused {
            return "NOT DRAINED: somebody resumed the queue in the meantime, and runs are claimed again; `lastgood audit` shows who"
                .to_owned();
        }
        let then = format!("everything stays paused until `{}`", how_to_resume(&pause));
        if drained.is_drained {
            return format!("drained: nothing runs, {then}");
        }
        format!(
            "NOT DRAINED in time: these runs are still running; {then}\n{}",
            running(&drained.running)
        )
    })?;
    Ok(if drained.is_drained {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

pub(super) fn running(runs: &[RunningRun]) -> String {
    table(
        [
            "run", "resource", "kind", "for", "dumped", "stored", "consumer",
        ],
        runs.iter().map(|run| {
            [
                run.id.to_string(),
                run.resource.clone(),
                run.kind.to_string(),
                lasted(run),
                bytes(run.dump_bytes),
                bytes(run.stored_bytes),
                run.consumer.clone(),
            ]
        }),
    )
}

pub(super) fn lasted(run: &RunningRun) -> String {
    span(chrono::TimeDelta::seconds(run.running_seconds))
}

fn stats(stats: &QueueStats) -> String {
    let mut parts = vec![table(
        [
            "queue",
            "runnable",
            "waits for its time",
            "running",
            "failed in 24 h",
            "oldest runnable",
        ],
        stats.queues.iter().map(|queue| {
            [
                queue.engine.clone(),
                queue.runnable.to_string(),
                queue.waiting.to_string(),
                queue.running.to_string(),
                queue.failed.to_string(),
                queue
                    .oldest_runnable_at
                    .map_or_else(|| "-".to_owned(), |since| span(stats.at - since)),
            ]
        }),
    )];
    if stats.queues.is_empty() {
        parts = vec!["the queue is empty, and nothing failed in the last 24 hours".to_owned()];
    }
    parts.extend(
        stats
            .pauses
            .iter()
            .map(|pause| format!("PAUSED: {}", described(pause))),
    );
    parts.join("\n")
}

/// Returns what a pause covers, who paused it and why, and how to end it.
pub(super) fn described(pause: &Pause) -> String {
    format!(
        "{} since {}, by {}: {}; `{}`",
        covered(pause),
        instant(pause.created_at),
        printable(&pause.by),
        printable(&pause.reason),
        how_to_resume(pause)
    )
}

fn covered(pause: &Pause) -> String {
    let parts = words(pause, |name, value| format!("{name} {value}"));
    if parts.is_empty() {
        "everything".to_owned()
    } else {
        parts.join(", ")
    }
}

fn how_to_resume(pause: &Pause) -> String {
    let flags = words(pause, |name, value| format!(" --{name} {value}"));
    format!("lastgood queue resume{}", flags.concat())
}

fn words(pause: &Pause, word: impl Fn(&str, &str) -> String) -> Vec<String> {
    [
        ("engine", &pause.engine),
        ("tier", &pause.tier),
        ("team", &pause.team),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(word(name, &printable(value.as_ref()?))))
    .collect()
}

//! `lastgood run retry|cancel`: orders about single runs or in bulk.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use chrono::Utc;
use lastgood_jobs::{
    attempt::RunId,
    error::ErrorKind,
    resource::{Engine, TeamId, Tier},
};
use serde::Serialize;

use crate::{
    catalog::{Catalog, CatalogError, FailedFilter, Mode, Order, Ordered},
    cli::output::{Output, table},
    nouns::OrderedRun,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RetryArgs {
    /// The runs
    #[arg(required_unless_present = "failed", conflicts_with = "failed")]
    ids: Vec<RunId>,
    /// All failed backups and upkeep. A restore is retried only by its id
    #[arg(long)]
    failed: bool,
    /// With --failed: only this engine's
    #[arg(long, requires = "failed")]
    engine: Option<Engine>,
    /// With --failed: only those of resources on this tier
    #[arg(long, requires = "failed")]
    tier: Option<Tier>,
    /// With --failed: only those of this team's resources
    #[arg(long, requires = "failed")]
    team: Option<TeamId>,
    /// With --failed: only those that failed within this time
    #[arg(long, requires = "failed", default_value_if("failed", "true", "24h"), value_parser = crate::config::duration)]
    since: Option<Duration>,
    /// With --failed: only those with an error of this kind, as `run list` shows it
    #[arg(long, requires = "failed", value_parser = error_kind)]
    error_kind: Option<String>,
    #[command(flatten)]
    order: OrderArgs,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CancelArgs {
    /// The runs
    #[arg(required = true)]
    ids: Vec<RunId>,
    #[command(flatten)]
    order: OrderArgs,
}

#[derive(Debug, clap::Args)]
struct OrderArgs {
    /// Why, for the audit log
    #[arg(long)]
    reason: Option<String>,
    /// Show what would happen, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl OrderArgs {
    fn mode(&self) -> Mode {
        if self.dry_run {
            Mode::Rehearsal
        } else {
            Mode::Real
        }
    }
}

/// Parses an error kind. A misspelt one is refused: it would match nothing and look like success.
fn error_kind(text: &str) -> Result<String, String> {
    let kinds = ErrorKind::ALL.map(ErrorKind::as_str);
    // What the reaper records for a run whose worker was lost in its last attempt.
    let known = kinds.into_iter().chain(["worker_lost"]);
    if known.clone().any(|kind| kind == text) {
        return Ok(text.to_owned());
    }
    let known: Vec<_> = known.collect();
    Err(format!(
        "there is no such kind of error; use one of {}",
        known.join(", ")
    ))
}

pub(super) async fn retry(
    catalog: &Catalog,
    args: RetryArgs,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let in_bulk = args.failed;
    let mode = args.order.mode();
    let order = Order::of_this_user(args.order.reason.as_deref());
    let ids = if in_bulk {
        let filter = FailedFilter {
            engine: args.engine.map(|engine| engine.to_string()),
            tier: args.tier.map(|tier| tier.to_string()),
            team: args.team.map(|team| team.to_string()),
            since: args.since.map(|since| Utc::now() - since),
            error_kind: args.error_kind,
        };
        catalog.failed_runs(&filter).await?
    } else {
        args.ids
    };
    let answers = each(ids, catalog, mode, |id| catalog.retry_run(id, &order, mode)).await;
    let all_done = answers.show(mode, output)?;
    // A bulk retry does not fail because some runs need no retry.
    Ok(exit_code(all_done || in_bulk))
}

pub(super) async fn cancel(
    catalog: &Catalog,
    args: CancelArgs,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let mode = args.order.mode();
    let order = Order::of_this_user(args.order.reason.as_deref());
    let answers = each(args.ids, catalog, mode, |id| {
        catalog.cancel_run(id, &order, mode)
    })
    .await;
    Ok(exit_code(answers.show(mode, output)?))
}

/// The outcome of an order about one run.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Given(Box<OrderedRun>),
    NoSuchRun { id: RunId, refused_because: String },
}

impl Answer {
    async fn of(ordered: Ordered, catalog: &Catalog, mode: Mode) -> anyhow::Result<Self> {
        let mut run = catalog.run(ordered.id).await.with_context(|| {
            format!(
                "the order about run {} is given (it was {}), but the run cannot be read back",
                ordered.id, ordered.was
            )
        })?;
        if mode == Mode::Rehearsal {
            run.state = ordered.state;
        }
        Ok(Self::Given(Box::new(OrderedRun {
            run,
            was: ordered.was,
            refused_because: ordered.refused.map(|refused| refused.to_string()),
        })))
    }

    fn refused(&self) -> Option<&str> {
        match self {
            Self::Given(ordered) => ordered.refused_because.as_deref(),
            Self::NoSuchRun {
                refused_because, ..
            } => Some(refused_because),
        }
    }

    fn row(&self) -> [String; 6] {
        let refused = self.refused().unwrap_or("-").to_owned();
        match self {
            Self::Given(ordered) => [
                ordered.run.id.to_string(),
                ordered.run.resource.clone(),
                ordered.run.kind.to_string(),
                ordered.was.to_string(),
                ordered.run.state.to_string(),
                refused,
            ],
            Self::NoSuchRun { id, .. } => {
                let nothing = || "-".to_owned();
                [
                    id.to_string(),
                    nothing(),
                    nothing(),
                    nothing(),
                    nothing(),
                    refused,
                ]
            }
        }
    }
}

/// The outcomes of the orders so far.
struct Answers {
    given: Vec<Answer>,
    /// The error that stopped the remaining orders.
    fault: Option<anyhow::Error>,
}

/// Gives the order for each run. A run that does not exist does not stop the rest, and if something does, the
/// outcomes so far are returned.
async fn each<F: Future<Output = Result<Ordered, CatalogError>>>(
    ids: Vec<RunId>,
    catalog: &Catalog,
    mode: Mode,
    order: impl Fn(RunId) -> F,
) -> Answers {
    let mut given = Vec::new();
    for id in ids {
        let answer = match order(id).await {
            Ok(ordered) => Answer::of(ordered, catalog, mode).await,
            Err(error @ CatalogError::NotFound { .. }) => Ok(Answer::NoSuchRun {
                id,
                refused_because: error.to_string(),
            }),
            Err(error) => Err(error.into()),
        };
        match answer {
            Ok(answer) => given.push(answer),
            Err(error) => {
                return Answers {
                    given,
                    fault: Some(error),
                };
            }
        }
    }
    Answers { given, fault: None }
}

impl Answers {
    /// Prints the outcomes and returns whether every order was carried out.
    fn show(self, mode: Mode, output: &Output) -> anyhow::Result<bool> {
        let Self { given, fault } = self;
        if fault.is_none() || !given.is_empty() {
            output.show(&given, |given| told(given, mode))?;
        }
        match fault {
            Some(fault) => Err(fault),
            None => Ok(given.iter().all(|answer| answer.refused().is_none())),
        }
    }
}

fn exit_code(all_done: bool) -> ExitCode {
    if all_done {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn told(answers: &[Answer], mode: Mode) -> String {
    let changed = answers.iter().filter(|it| it.refused().is_none()).count();
    let of = answers.len();
    let sum = match mode {
        Mode::Real => format!("{changed} of {of} runs changed"),
        Mode::Rehearsal => format!("{changed} of {of} runs would change: nothing was changed"),
    };
    if answers.is_empty() {
        return sum;
    }
    let heading = match mode {
        Mode::Real => "is",
        Mode::Rehearsal => "would be",
    };
    let headings = ["id", "resource", "kind", "was", heading, "refused"];
    table(headings, answers.iter().map(Answer::row)) + &sum
}

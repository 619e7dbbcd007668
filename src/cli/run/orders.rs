//! `lastgood run retry|cancel`: orders about runs, one by one or in bulk.

use std::{process::ExitCode, time::Duration};

use chrono::Utc;
use lastgood_jobs::resource::{Engine, TeamId, Tier};
use uuid::Uuid;

use crate::{
    catalog::{Catalog, FailedFilter, Mode, Order, Ordered},
    cli::output::{Output, table},
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct RetryArgs {
    /// The runs
    #[arg(required_unless_present = "failed", conflicts_with = "failed")]
    ids: Vec<Uuid>,
    /// All that failed: backups and upkeep. A restore is tried again by its id alone
    #[arg(long)]
    failed: bool,
    /// With --failed: only this engine's
    #[arg(long, requires = "failed")]
    engine: Option<Engine>,
    /// With --failed: only of resources on this tier
    #[arg(long, requires = "failed")]
    tier: Option<Tier>,
    /// With --failed: only of this team's resources
    #[arg(long, requires = "failed")]
    team: Option<TeamId>,
    /// With --failed: only what failed within this time
    #[arg(long, requires = "failed", default_value_if("failed", "true", "24h"), value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// With --failed: only errors of this kind, as `run list` shows it
    #[arg(long, requires = "failed")]
    error_kind: Option<String>,
    #[command(flatten)]
    order: OrderArgs,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CancelArgs {
    /// The runs
    #[arg(required = true)]
    ids: Vec<Uuid>,
    #[command(flatten)]
    order: OrderArgs,
}

#[derive(Debug, clap::Args)]
struct OrderArgs {
    /// Why, for the audit
    #[arg(long)]
    because: Option<String>,
    /// Say what would become of it, and change nothing
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

pub(super) async fn retry(
    catalog: &Catalog,
    args: RetryArgs,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let in_bulk = args.failed;
    let mode = args.order.mode();
    let order = Order::of_this_user(args.order.because.as_deref());
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
    let mut answers = Vec::new();
    for id in ids {
        answers.push(catalog.retry_run(id, &order, mode).await?);
    }
    output.show(&answers, |answers| told(answers, mode))?;
    // In bulk, what needs no retry is no failure.
    Ok(exit_code(!in_bulk && any_refused(&answers)))
}

pub(super) async fn cancel(
    catalog: &Catalog,
    args: CancelArgs,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let mode = args.order.mode();
    let order = Order::of_this_user(args.order.because.as_deref());
    let mut answers = Vec::new();
    for id in args.ids {
        answers.push(catalog.cancel_run(id, &order, mode).await?);
    }
    output.show(&answers, |answers| told(answers, mode))?;
    Ok(exit_code(any_refused(&answers)))
}

fn any_refused(answers: &[Ordered]) -> bool {
    answers.iter().any(|answer| answer.refused.is_some())
}

fn exit_code(failed: bool) -> ExitCode {
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn told(answers: &[Ordered], mode: Mode) -> String {
    let rows = answers.iter().map(|answer| {
        [
            answer.id.to_string(),
            answer.resource_id.clone(),
            answer.kind.clone(),
            answer.was.clone(),
            answer.state.clone(),
            answer
                .refused
                .as_ref()
                .map_or_else(|| "-".to_owned(), ToString::to_string),
        ]
    });
    let changed = answers.iter().filter(|it| it.refused.is_none()).count();
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
    table(["id", "resource", "kind", "was", heading, "refused"], rows) + &sum
}

//! `lastgood promise`: how the promises were kept, against their objectives, and what a team gets to keep of it.

use std::process::ExitCode;

use chrono::{NaiveDate, TimeDelta};
use lastgood_jobs::resource::{ResourceId, TeamId, Tier};

use super::output::{Output, instant, instant_or_dash, span, table};
use crate::{
    attained::{self, Asked},
    config::PlansArgs,
    nouns::{BrokenTime, KeptPromise, PromiseReport, PromiseStatement},
    plan::{Plans, PlansFile},
    promise::Month,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show how the promises were kept by tier and team, the error budgets, and the resources that were broken for longest
    Report(ReportArgs),
    /// Show how the promises to a team were kept in a month, for the team to keep
    Statement(StatementArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    plans: PlansArgs,
    /// Only this team's
    #[arg(long)]
    team: Option<TeamId>,
    /// Only those of this tier
    #[arg(long)]
    tier: Option<Tier>,
    /// Only that of this resource, with the times in which it was broken
    #[arg(long)]
    resource: Option<ResourceId>,
    /// The first day in UTC, e.g. 2026-11-01; 29 days before the last if it is left out
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<NaiveDate>,
    /// The last day in UTC; today if it is left out
    #[arg(long, value_name = "DAY", value_parser = day)]
    to: Option<NaiveDate>,
    /// Show at most this many teams and resources
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
}

#[derive(Debug, clap::Args)]
pub(super) struct StatementArgs {
    #[command(flatten)]
    plans: PlansArgs,
    /// The team
    #[arg(long)]
    team: TeamId,
    /// The month in UTC, e.g. 2026-11
    #[arg(long)]
    month: Month,
}

/// Parses a day.
fn day(text: &str) -> Result<NaiveDate, String> {
    text.parse()
        .map_err(|_| "not a day: give a year, a month and a day, e.g. 2026-11-01".to_owned())
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Report(args) => {
            attained::checked(args.from, args.to).map_err(anyhow::Error::msg)?;
            let plans = plans(&args.plans, output);
            let asked = Asked {
                from: args.from,
                to: args.to,
                team: args.team.map(|team| team.to_string()),
                tier: args.tier.map(|tier| tier.to_string()),
                resource: args.resource.map(|resource| resource.to_string()),
                limit: args.limit,
            };
            let report = attained::report(&super::catalog().await?, &plans, &asked).await?;
            output.show(&report, report_text)?;
        }
        Command::Statement(args) => {
            let plans = plans(&args.plans, output);
            let catalog = super::catalog().await?;
            let team = args.team.as_str();
            let statement = attained::statement(&catalog, &plans, team, args.month).await?;
            output.show(&statement, statement_text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the plans whose objectives count.
fn plans(args: &PlansArgs, output: &Output) -> Plans {
    let file = PlansFile::load(&args.plans);
    if let Some(fault) = file.fault() {
        output.note(&format!(
            "{fault}\nthe objectives are those of the built-in plans"
        ));
    }
    file.plans().clone()
}

fn report_text(report: &PromiseReport) -> String {
    let mut parts = vec![format!(
        "from {} to {} in UTC, counted until {}",
        report.from,
        report.to,
        instant_or_dash(report.counted_until)
    )];
    let sections = [
        ("tiers", &report.tiers),
        ("teams", &report.teams),
        ("resources", &report.resources),
    ];
    for (what, promises) in sections {
        if !promises.is_empty() {
            parts.push(format!("\n{what}:\n{}", promises_text(promises)));
        }
    }
    if report.tiers.is_empty() && report.resources.is_empty() {
        parts.push("nothing that was promised is counted in this time".to_owned());
    }
    if let Some(breaches) = &report.breaches {
        parts.push(breaches_text(breaches));
    }
    parts.join("\n")
}

fn statement_text(statement: &PromiseStatement) -> String {
    let mut parts = vec![format!(
        "how the promises to team {} were kept in {}, as of {}",
        statement.team,
        statement.month,
        instant(statement.at)
    )];
    if !statement.is_complete {
        parts.push(format!(
            "INCOMPLETE: {} of {} days are counted for good",
            statement.counted_days, statement.days
        ));
    }
    if statement.tiers.is_empty() {
        parts.push("nothing was promised".to_owned());
    } else {
        parts.push(promises_text(&statement.tiers));
    }
    if statement.broken.is_empty() {
        parts.push("no promise was broken".to_owned());
    } else {
        parts.push(format!(
            "broken promises:\n{}",
            promises_text(&statement.broken)
        ));
    }
    parts.join("\n")
}

fn promises_text(promises: &[KeptPromise]) -> String {
    table(
        [
            "tier",
            "of",
            "attained",
            "objective",
            "late",
            "broken",
            "budget left",
            "burn rate",
            "paused",
            "down",
            "worst exposure",
        ],
        promises.iter().map(|it| {
            let dash = || "-".to_owned();
            let percent =
                |percent: Option<f64>| percent.map_or_else(dash, |percent| format!("{percent} %"));
            [
                it.tier.clone(),
                of(it),
                percent(it.attained_percent),
                percent(it.objective_percent),
                seconds(it.late_seconds),
                seconds(it.broken_seconds),
                it.budget_left_seconds.map_or_else(dash, signed),
                it.burn_rate.map_or_else(dash, |rate| rate.to_string()),
                seconds(it.paused_seconds),
                seconds(it.down_seconds),
                seconds(it.worst_exposure_seconds),
            ]
        }),
    )
}

/// Returns whose promise it is: a resource's, a team's, or that of so many resources.
fn of(it: &KeptPromise) -> String {
    match (&it.resource, &it.team) {
        (Some(resource), _) => resource.clone(),
        (None, Some(team)) => format!("{team} ({})", it.resources),
        (None, None) => format!("{} resources", it.resources),
    }
}

fn breaches_text(breaches: &[BrokenTime]) -> String {
    if breaches.is_empty() {
        return "\nnot broken in the last 7 days".to_owned();
    }
    let rows = breaches.iter().map(|it| {
        [
            instant(it.broken_at),
            instant(it.ended_at),
            span(it.ended_at - it.broken_at),
            seconds(it.worst_exposure_seconds),
        ]
    });
    let table = table(["from", "until", "for", "worst exposure"], rows);
    format!("\nbroken in the last 7 days:\n{table}")
}

fn seconds(count: i64) -> String {
    if count == 0 {
        "0".to_owned()
    } else {
        span(TimeDelta::seconds(count))
    }
}

fn signed(count: i64) -> String {
    let sign = if count < 0 { "-" } else { "" };
    format!("{sign}{}", seconds(count.saturating_abs()))
}

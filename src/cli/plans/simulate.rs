//! `lastgood plans simulate`: what the plans need, and which promises will break.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use lastgood_jobs::resource::Engine;
use serde::Serialize;

use super::told;
use crate::{
    catalog::Catalog,
    cli::output::{Output, counted},
    config::PlansArgs,
    nouns::Consumer,
    plan::{Plans, PlansFile, doubts},
    planner::{Forecast, Growth, Question, Rate, TierChange, changes, forecast},
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plans to simulate; without it, those in force
    file: Option<PathBuf>,
    #[command(flatten)]
    plans: PlansArgs,
    /// How many consumers there would be, each of which serves every engine; without it, those that are alive
    #[arg(long, requires = "slots", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    consumers: Option<u32>,
    /// How many backups of each engine each of them would execute at once
    #[arg(long, requires = "consumers", value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: Option<u32>,
    /// How many runs of one team may execute at once in one engine's queue. Default: half of the engine's slots, at least two
    #[arg(long, env = "LASTGOOD_TEAM_SLOTS", value_parser = clap::value_parser!(u32).range(1..))]
    team_slots: Option<u32>,
    /// How many dumps may read from one server at once
    #[arg(long, env = "LASTGOOD_SERVER_SLOTS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    server_slots: u32,
    /// How durations and sizes grow, such as 10%/month; without it, each resource's by its own trend of the last 30 days
    #[arg(long, value_name = "RATE", allow_hyphen_values = true)]
    grow: Option<Rate>,
    /// What a store charges for a gigabyte (1,000,000,000 bytes) in a month
    #[arg(long, value_name = "PRICE", value_parser = price)]
    price_per_gb_month: Option<f64>,
    /// Name at most this many resources of each kind
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    limit: u16,
}

fn price(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(price) if price.is_finite() && price >= 0.0 => Ok(price),
        Ok(_) | Err(_) => Err("is not a price: give a number, such as 0.023".to_owned()),
    }
}

/// The answer.
#[derive(Debug, Serialize)]
pub(super) struct Simulated {
    /// The file that was simulated; null: the plans in force.
    pub(super) file: Option<PathBuf>,
    /// How durations and sizes were taken to grow; null: each by its own trend.
    pub(super) growth: Option<String>,
    /// What the file changes against the plans in force.
    pub(super) changes: Vec<TierChange>,
    #[serde(flatten)]
    pub(super) forecast: Forecast,
}

pub(super) async fn run(args: Args, output: &Output) -> anyhow::Result<ExitCode> {
    let in_force = PlansFile::load(args.plans.plans.clone());
    if let Some(fault) = in_force.fault() {
        output.note(&format!(
            "{fault}\nthe built-in plans stand in for the plans in force"
        ));
    }
    let plans = match &args.file {
        None => in_force.plans().clone(),
        Some(file) => read(file, output)?,
    };
    let catalog = crate::cli::catalog().await?;
    if catalog.scheduling().await?.differs_from(in_force.plans()) {
        output.note("a producer goes by other plans than these: changes are shown against these");
    }
    let slots = slots(&catalog, &args).await?;
    let fleet = catalog
        .fleet(|read| {
            if read % 10_000 == 0 {
                output.note(&format!("{read} resources read"));
            }
        })
        .await?;
    if fleet.of_unknown_engines > 0 {
        output.note(&format!(
            "{} resources have an engine that this version does not know: they are left out",
            fleet.of_unknown_engines
        ));
    }
    let midnight = catalog
        .now()
        .await?
        .date_naive()
        .and_time(chrono::NaiveTime::MIN);
    let simulated = Simulated {
        changes: changes(in_force.plans(), &plans, &fleet.resources),
        growth: args.grow.map(|rate| rate.to_string()),
        file: args.file,
        forecast: tokio::task::spawn_blocking(move || {
            forecast(&Question {
                plans: &plans,
                fleet: &fleet.resources,
                slots,
                team_slots: args.team_slots,
                server_slots: args.server_slots,
                growth: args.grow.map_or(Growth::Own, Growth::Given),
                price_per_gb_month: args.price_per_gb_month,
                midnight: midnight.and_utc(),
                named: args.limit.into(),
            })
        })
        .await
        .context("the simulation ended early")?,
    };
    output.show(&simulated, told::text)?;
    Ok(ExitCode::SUCCESS)
}

/// Reads a file that may come into force. What is merely odd about it is said.
fn read(file: &Path, output: &Output) -> anyhow::Result<Plans> {
    let loaded = PlansFile::load(file);
    if let Some(fault) = loaded.fault() {
        anyhow::bail!("{fault}");
    }
    for doubt in doubts(loaded.plans()) {
        output.note(&doubt);
    }
    Ok(loaded.plans().clone())
}

/// Returns how many backups of each engine execute at once: what was given, or what the live consumers have.
async fn slots(catalog: &Catalog, args: &Args) -> anyhow::Result<[u32; Engine::ALL.len()]> {
    if let (Some(consumers), Some(slots)) = (args.consumers, args.slots) {
        return Ok([consumers.saturating_mul(slots); Engine::ALL.len()]);
    }
    let live = catalog.live_consumers().await?;
    let taking: Vec<_> = live.iter().filter(|it| it.takes_new()).collect();
    anyhow::ensure!(
        !taking.is_empty(),
        "no consumer is alive, so there are no slots to simulate: give --consumers and --slots"
    );
    Ok(Engine::ALL.map(|engine| {
        let serves = |it: &&&Consumer| it.engines.iter().any(|name| name == engine.as_str());
        let slots = |it: &&Consumer| it.slots.unsigned_abs();
        taking.iter().filter(serves).map(slots).sum()
    }))
}

/// Returns a count of resources.
pub(super) fn resources(count: usize) -> String {
    match u32::try_from(count) {
        Ok(count) => counted(count, "resource"),
        Err(_) => format!("{count} resources"),
    }
}

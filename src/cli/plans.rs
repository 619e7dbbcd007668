//! `lastgood plans check|show|simulate`.

mod simulate;
mod told;

use std::{path::PathBuf, process::ExitCode};

use super::output::{Output, table};
use crate::{
    config::PlansArgs,
    nouns::{HEADINGS, Tier, tiers},
    plan::{PlansFile, check},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Check a plans file strictly: exit code 1 on any doubt
    Check {
        /// The file
        file: PathBuf,
    },
    /// Show the plans, with the cadence that each RPO leads to
    Show(PlansArgs),
    /// Predict from what backups took which promises will break, and what slots and storage the plans need
    Simulate(simulate::Args),
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check { file } => {
            let problems = check(&file);
            output.show(
                &serde_json::json!({ "is_good": problems.is_empty(), "problems": problems }),
                |_| {
                    if problems.is_empty() {
                        format!("{}: good", file.display())
                    } else {
                        problems.join("\n")
                    }
                },
            )?;
            Ok(if problems.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Simulate(args) => simulate::run(args, output).await,
        Command::Show(args) => {
            let plans = PlansFile::load(args.plans);
            if let Some(fault) = plans.fault() {
                output.note(&format!("{fault}\nthese are the built-in plans:"));
            }
            output.show(&tiers(plans.plans()), |tiers| {
                table(HEADINGS, tiers.iter().map(Tier::cells))
            })?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

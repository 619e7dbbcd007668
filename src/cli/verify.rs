//! `lastgood verify [RESOURCE|--all|--sample 5%|--point ID]`.

use std::{collections::HashMap, process::ExitCode, time::Duration};

use lastgood_jobs::{attempt::RunId, resource::ResourceId};
use serde::Serialize;
use uuid::Uuid;

use super::output::{Output, printable, table};
use crate::{
    catalog::{ASKED_AT_ONCE, Asked, Catalog, Selection},
    run::RunState,
};

/// How many times in a row the catalog may fail to answer.
const PATIENCE: u32 = 120;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).multiple(true).args(["resource", "all", "sample", "point"])))]
pub(super) struct Args {
    /// All restore points of this resource, including those found damaged or missing: one that is whole again becomes usable again
    #[arg(conflicts_with_all = ["all", "point"])]
    resource: Option<ResourceId>,
    /// All restore points, 10,000 at a time, including those found damaged or missing
    #[arg(long, conflicts_with_all = ["sample", "point"])]
    all: bool,
    /// This percentage of the usable restore points, chosen at random; at least one
    #[arg(long, value_name = "PERCENT", value_parser = percent, conflicts_with = "point")]
    sample: Option<f64>,
    /// This restore point, even if it was found damaged: if it is whole again, it becomes usable again
    #[arg(long, value_name = "ID")]
    point: Option<Uuid>,
    /// Wait for all of them to end; exit code 1 if one is damaged or could not be verified
    #[arg(long)]
    wait: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>();
    number
        .ok()
        .filter(|number| *number > 0.0 && *number <= 100.0)
        .map(|number| number / 100.0)
        .ok_or_else(|| "give more than 0% and at most 100%, e.g. 5%".to_owned())
}

/// What a verification showed.
#[derive(Serialize)]
struct Shown {
    run: RunId,
    point: Uuid,
    resource: String,
    result: &'static str,
    because: Option<String>,
}

pub(super) async fn run(args: Args, output: &Output) -> anyhow::Result<ExitCode> {
    let catalog = super::catalog().await?;
    if let Some(resource) = &args.resource {
        catalog.resource(resource.as_str()).await?;
    }
    if let Some(point) = args.point {
        catalog.point(point).await?;
    }
    let selection = Selection {
        point: args.point,
        resource_id: args.resource.as_ref().map(ResourceId::as_str),
        part: args.sample,
    };
    let asked = catalog.ask_for_verifications(&selection).await?;
    if i64::try_from(asked.len()) == Ok(ASKED_AT_ONCE) {
        output.note(&format!(
            "only {ASKED_AT_ONCE} are verified at a time, those with the oldest proof first: when they have ended, run this again for \
             the others"
        ));
    }
    if args.wait {
        return wait(&catalog, asked, output).await;
    }
    output.show(&asked, |asked| {
        format!(
            "{} verifications enqueued: see `lastgood run list --kind verify`",
            asked.len()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn wait(catalog: &Catalog, asked: Vec<Asked>, output: &Output) -> anyhow::Result<ExitCode> {
    output.note(&format!(
        "{} verifications continue if this command is interrupted: see `lastgood run list --kind verify`",
        asked.len()
    ));
    let ids: Vec<_> = asked.iter().map(|it| it.run).collect();
    let ended = ended(catalog, &ids).await?;
    let results: Vec<_> = asked
        .into_iter()
        .map(|it| {
            let (result, because) = ended.get(&it.run).cloned().unwrap_or(("unknown", None));
            Shown {
                run: it.run,
                point: it.point,
                resource: it.resource,
                result,
                because,
            }
        })
        .collect();
    let all_are_whole = results
        .iter()
        .all(|it| matches!(it.result, "whole" | "expired"));
    output.show(&results, |results| {
        table(
            ["point", "resource", "result", "why"],
            results.iter().map(|it| {
                [
                    it.point.to_string(),
                    it.resource.clone(),
                    match it.result {
                        "damaged" => "DAMAGED".to_owned(),
                        other => other.replace('_', " "),
                    },
                    printable(it.because.as_deref().unwrap_or("-")),
                ]
            }),
        )
    })?;
    Ok(if all_are_whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Waits until all runs have ended, and returns what they showed.
async fn ended(
    catalog: &Catalog,
    runs: &[RunId],
) -> anyhow::Result<HashMap<RunId, (&'static str, Option<String>)>> {
    let mut unanswered = 0;
    loop {
        match catalog.verdicts(runs).await {
            Ok(verdicts) if verdicts.len() == runs.len() => {
                let shown = verdicts.into_iter().map(|it| {
                    let result = match (it.state == RunState::Succeeded, it.is_proof) {
                        (true, true) => "whole",
                        (true, false) => "expired",
                        (false, _) if it.is_condemned => "damaged",
                        (false, _) => "not_verified",
                    };
                    (it.run, (result, it.error))
                });
                return Ok(shown.collect());
            }
            Ok(_) => unanswered = 0,
            Err(error) if unanswered < PATIENCE && error.may_pass() => unanswered += 1,
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

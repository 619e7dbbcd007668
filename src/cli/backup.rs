//! `lastgood backup now`.

use std::process::ExitCode;

use lastgood_jobs::{job::Job, resource::ResourceId};

use super::{output::Output, point, wait::wait};
use crate::catalog::{Enqueued, NewRun, Order, ResourceStatus};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a restore point now, outside the schedule
    Now(NowArgs),
    /// List restore points: an alias of `point list`
    #[command(hide = true)]
    List(point::ListArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct NowArgs {
    /// The resource
    resource: ResourceId,
    /// Wait for the run to end; exit code 1 if it fails
    #[arg(long)]
    wait: bool,
    /// Treat repeated requests with the same key as one request
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Now(args) => now(&args, output).await,
        Command::List(args) => point::list(args, output).await,
    }
}

async fn now(args: &NowArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let catalog = super::catalog().await?;
    let resource = &args.resource;
    let row = catalog.resource(resource.as_str()).await?;
    anyhow::ensure!(
        row.status != ResourceStatus::Removed,
        "{resource} was removed: it cannot be backed up"
    );
    let new = NewRun {
        resource_id: resource.as_str(),
        queue: &row.engine,
        job: &Job::Backup {},
        idempotency_key: args.idempotency_key.as_deref(),
        asked: None,
    };
    let enqueued = catalog.enqueue(&new, &Order::of_this_user(None)).await?;
    let run = enqueued.id();
    if args.wait {
        return wait(&catalog, run, output).await;
    }
    let duplicate = matches!(enqueued, Enqueued::Duplicate(_));
    let answer = serde_json::json!({ "run": run, "duplicate": duplicate });
    output.show(&answer, |_| {
        let what = if duplicate {
            "was enqueued by an earlier request with this key"
        } else {
            "enqueued"
        };
        format!("run {run} {what}: see `lastgood run show {run}`")
    })?;
    Ok(ExitCode::SUCCESS)
}

//! `lastgood backup now`.

use std::process::ExitCode;

use lastgood_jobs::{job::Job, resource::ResourceId};

use super::{
    output::Output,
    point, read_back,
    run::details,
    wait::{exit_code, wait},
};
use crate::{
    catalog::{CatalogError, Enqueued, NewRun, Order},
    nouns::ResourceStatus,
};

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
        CatalogError::Removed(row.id)
    );
    let new = NewRun {
        resource_id: resource.as_str(),
        queue: &row.engine,
        job: &Job::Backup {},
        idempotency_key: args.idempotency_key.as_deref(),
        asked: None,
    };
    let enqueued = catalog.enqueue(&new, &Order::of_this_user(None)).await?;
    if args.wait {
        let ended = wait(&catalog, enqueued.id(), output).await?;
        output.show(&ended, details)?;
        return Ok(exit_code(&ended));
    }
    let run = read_back(&catalog, enqueued.id()).await?;
    output.show(&run, |run| {
        let what = match enqueued {
            Enqueued::New(_) => "enqueued",
            Enqueued::Duplicate(_) => "was enqueued by an earlier request with this key",
        };
        format!("run {} {what}: see `lastgood run show {}`", run.id, run.id)
    })?;
    Ok(ExitCode::SUCCESS)
}

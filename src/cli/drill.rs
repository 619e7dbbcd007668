//! `lastgood drill now`.

use std::process::ExitCode;

use lastgood_jobs::resource::ResourceId;
use uuid::Uuid;

use super::{
    output::{Output, printable},
    read_back,
    wait::wait,
};
use crate::{nouns::Run, request, run::RunState};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Restore a restore point into a server of the consumer's own, and compare it with what was dumped
    Now(NowArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct NowArgs {
    /// The resource
    resource: ResourceId,
    /// This restore point instead of the newest trusted one
    #[arg(long, value_name = "ID")]
    point: Option<Uuid>,
    /// Wait for the drill to end; exit code 1 unless it proves the restore point
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Now(args) => now(&args, output).await,
    }
}

async fn now(args: &NowArgs, output: &Output) -> anyhow::Result<ExitCode> {
    let catalog = super::catalog().await?;
    catalog.resource(args.resource.as_str()).await?;
    let asked = request::drill(&catalog, &args.resource, args.point).await?;
    if args.wait {
        let ended = wait(&catalog, asked.run, output).await?;
        output.show(&ended, told)?;
        return Ok(if outcome(&ended) == Some("proven") {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let run = read_back(&catalog, asked.run).await?;
    output.show(&run, |run| {
        let what = if asked.is_new {
            "enqueued"
        } else {
            "of this resource waits or runs already"
        };
        format!(
            "drill {} {what}: see `lastgood run show {}`",
            run.id, run.id
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

fn outcome(run: &Run) -> Option<&str> {
    run.report.as_ref()?.get("drill")?.as_str()
}

/// Returns what a drill has shown, in a sentence.
fn told(run: &Run) -> String {
    let report = run.report.as_ref();
    let text = |field: &str| {
        let text = report.and_then(|it| it.get(field))?.as_str()?;
        Some(printable(text))
    };
    let number = |field: &str| report.and_then(|it| it.get(field))?.as_u64();
    let because = text("because").unwrap_or_default();
    match outcome(run) {
        Some("proven") => format!(
            "proven: {} items with {} records came back as they were dumped, on {}; see `lastgood proof list`",
            number("items").unwrap_or_default(),
            number("records").unwrap_or_default(),
            text("server").unwrap_or_default()
        ),
        Some("differs") => format!("DIFFERS: {because}"),
        Some("failed") => format!("FAILED: {because}"),
        Some(_) => format!("not possible, so nothing is proven: {because}"),
        None if run.state == RunState::Succeeded => {
            format!(
                "nothing was drilled: {}",
                text("skipped").unwrap_or_default()
            )
        }
        None => format!(
            "the drill {}: {}",
            run.state,
            printable(run.error.as_deref().unwrap_or("see its attempts"))
        ),
    }
}

//! `lastgood run list|show`.

use lastgood_jobs::resource::ResourceId;
use uuid::Uuid;

use super::output::{Output, bytes, instant, instant_or_dash, printable, table};
use crate::catalog::{RunFilter, RunRow};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List runs, newest first
    List {
        /// Only this resource's
        #[arg(long)]
        resource: Option<ResourceId>,
        /// Only those in this state
        #[arg(long, value_parser = ["queued", "running", "succeeded", "failed", "cancelled"])]
        state: Option<String>,
        /// Only those of this kind
        #[arg(long, value_parser = ["backup", "restore", "drop_replaced"])]
        kind: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: i64,
    },
    /// Show one run
    Show {
        /// Its id
        id: Uuid,
    },
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    let catalog = super::catalog().await?;
    match command {
        Command::List {
            resource,
            state,
            kind,
            limit,
        } => {
            let filter = RunFilter {
                resource_id: resource.map(|id| id.to_string()),
                state,
                kind,
                limit,
            };
            let runs = catalog.runs(&filter).await?;
            output.show(&runs, |runs| list(runs))
        }
        Command::Show { id } => output.show(&catalog.run(id).await?, details),
    }
}

fn list(runs: &[RunRow]) -> String {
    table(
        [
            "id", "resource", "kind", "trigger", "state", "attempt", "created", "error",
        ],
        runs.iter().map(|run| {
            [
                run.id.to_string(),
                run.resource_id.clone(),
                run.kind.clone(),
                run.trigger.clone(),
                run.state.clone(),
                format!("{}/{}", run.attempt, run.max_attempts),
                instant(run.created_at),
                run.error_kind.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        }),
    )
}

/// Returns one run as an operator reads it.
pub(super) fn details(run: &RunRow) -> String {
    let mut text = format!(
        "run {id}\n  {kind} of {resource} ({engine}), {trigger}\n  state     {state}, attempt {attempt} of {max}\n  slot      {slot}\n  \
         created   {created}\n  started   {started}\n  finished  {finished}\n  bytes     {dump} dumped, {stored} stored",
        id = run.id,
        kind = run.kind,
        resource = run.resource_id,
        engine = run.engine,
        trigger = run.trigger,
        state = run.state,
        attempt = run.attempt,
        max = run.max_attempts,
        slot = instant_or_dash(run.slot),
        created = instant(run.created_at),
        started = instant_or_dash(run.started_at),
        finished = instant_or_dash(run.finished_at),
        dump = bytes(run.dump_bytes),
        stored = bytes(run.stored_bytes),
    );
    text.push_str(&last_words(run));
    text
}

/// Who has it or when it may be had, why it failed, what it brought.
fn last_words(run: &RunRow) -> String {
    let lease = match (&run.lease_by, run.lease_until) {
        (Some(worker), Some(until)) => format!("\n  lease     {worker} until {}", instant(until)),
        _ if run.state == "queued" => format!("\n  runnable  {}", instant(run.run_at)),
        _ => String::new(),
    };
    let error = match (&run.error_kind, &run.error) {
        (Some(kind), Some(error)) => {
            let lines: Vec<_> = error.lines().map(printable).collect();
            format!("\n  error     {kind}: {}", lines.join("\n            "))
        }
        _ => String::new(),
    };
    let result = run
        .result
        .as_ref()
        .map_or_else(String::new, |result| format!("\n  result    {result}"));
    lease + &error + &result
}

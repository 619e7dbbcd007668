//! `lastgood run list|show|retry|cancel`.

mod orders;
mod report;

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use lastgood_jobs::{
    attempt::RunId,
    resource::{Engine, ResourceId, TeamId},
};

use super::{
    audit::since,
    output::{Output, bytes, instant, printable, span, table},
    restore::parse_time,
};
use crate::{
    catalog::RunFilter,
    nouns::{Attempt, Run, RunAndAttempts},
    run::{RunKind, RunState},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List runs, newest first
    List {
        #[command(flatten)]
        of: super::OneResource,
        /// Only those of this team's resources
        #[arg(long)]
        team: Option<TeamId>,
        /// Only those of this engine
        #[arg(long)]
        engine: Option<Engine>,
        /// Only those in this state
        #[arg(long)]
        state: Option<RunState>,
        /// Only those of this kind
        #[arg(long)]
        kind: Option<RunKind>,
        /// Nothing older than this: a time, e.g. 2026-11-23T04:00:00Z, or how long ago, e.g. 7d
        #[arg(long, value_name = "TIME", value_parser = since)]
        since: Option<DateTime<Utc>>,
        /// Nothing from this instant on, e.g. 2026-11-23T04:00:00Z
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        before: Option<DateTime<Utc>>,
        /// At most this many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..))]
        limit: i64,
    },
    /// Show one run and each of its attempts
    Show {
        /// Its id
        id: RunId,
    },
    /// Put failed or cancelled runs back into the queue, with all their attempts
    Retry(orders::RetryArgs),
    /// Cancel waiting and running runs; running ones are stopped within seconds
    Cancel(orders::CancelArgs),
}

pub(super) async fn run(command: Command, output: &Output) -> anyhow::Result<ExitCode> {
    let catalog = super::catalog().await?;
    match command {
        Command::List {
            of,
            team,
            engine,
            state,
            kind,
            since,
            before,
            limit,
        } => {
            let filter = RunFilter {
                resource_id: of.resource().map(ResourceId::to_string),
                team: team.map(|team| team.to_string()),
                engine: engine.map(|engine| engine.to_string()),
                state,
                kind,
                since,
                before,
                limit,
            };
            let runs = catalog.runs(&filter).await?;
            output.show(&runs, |runs| list(runs))?;
        }
        Command::Show { id } => {
            let shown = RunAndAttempts {
                run: catalog.run(id).await?,
                attempts: catalog.attempts(id).await?,
            };
            output.show(&shown, |shown| {
                details(&shown.run) + &attempts(&shown.attempts)
            })?;
        }
        Command::Retry(args) => return orders::retry(&catalog, args, output).await,
        Command::Cancel(args) => return orders::cancel(&catalog, args, output).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns every finished attempt, with all that is known about why it failed.
fn attempts(attempts: &[Attempt]) -> String {
    attempts.iter().map(attempt).collect()
}

fn attempt(row: &Attempt) -> String {
    let error = row.error_kind.as_ref().zip(row.error.as_ref());
    let error = error.map(|(kind, error)| format!("\n    {kind}: {}", indented(error)));
    // The error of a failed tool already repeats the tool's output.
    let is_told = |words: &&String| row.error.as_ref().is_some_and(|it| it.contains(*words));
    let words = row.tool_words.as_ref().filter(|words| !is_told(words));
    let words = words.map(|words| format!("\n    the tool said: {}", indented(words)));
    format!(
        "\n  attempt {} (epoch {}) {} after {} on {}, at {}{}{}",
        row.attempt,
        row.epoch,
        row.result,
        span(row.finished_at - row.started_at),
        printable(&row.consumer),
        instant(row.finished_at),
        error.unwrap_or_default(),
        words.unwrap_or_default()
    )
}

fn indented(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(printable).collect();
    lines.join("\n      ")
}

fn list(runs: &[Run]) -> String {
    table(
        [
            "id", "resource", "kind", "trigger", "state", "attempt", "created", "error",
        ],
        runs.iter().map(|run| {
            [
                run.id.to_string(),
                run.resource.clone(),
                run.kind.to_string(),
                run.trigger.to_string(),
                run.state.to_string(),
                format!("{}/{}", run.attempt, run.max_attempts),
                instant(run.created_at),
                run.error_kind.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        }),
    )
}

/// Returns one run as an operator reads it: one line for each detail that applies.
pub(super) fn details(run: &Run) -> String {
    let lines = [
        (
            "state",
            Some(format!(
                "{}, attempt {} of {}",
                run.state, run.attempt, run.max_attempts
            )),
        ),
        ("slot", run.slot_at.map(instant)),
        ("created", Some(instant(run.created_at))),
        (
            "runnable",
            (run.state == RunState::Queued).then(|| instant(run.runnable_at)),
        ),
        ("started", run.started_at.map(instant)),
        ("finished", run.finished_at.map(instant)),
        ("lease", lease(run)),
        ("bytes", moved(run)),
        ("error", error(run)),
        (
            "result",
            run.report
                .as_ref()
                .map(|report| report::sentences(report).join("\n            ")),
        ),
        ("kept", kept(run)),
    ];
    let told = lines
        .into_iter()
        .filter_map(|(name, text)| Some(format!("\n  {name:<9} {}", text?)));
    let (id, kind, trigger) = (run.id, run.kind, run.trigger);
    let head = format!(
        "run {id}\n  {kind} of {} ({}), {trigger}",
        run.resource, run.engine
    );
    head + &told.collect::<String>()
}

fn lease(run: &Run) -> Option<String> {
    let (consumer, until) = run.consumer.as_ref().zip(run.lease_expires_at)?;
    Some(format!("{consumer} until {}", instant(until)))
}

fn moved(run: &Run) -> Option<String> {
    if run.dump_bytes == 0 {
        return None;
    }
    let (dump, stored) = (bytes(run.dump_bytes), bytes(run.stored_bytes));
    Some(match run.kind {
        RunKind::Restore => format!("{dump} restored"),
        RunKind::Verify => format!("{dump} of the dump read back"),
        RunKind::Drill => format!("{dump} restored and dumped again"),
        RunKind::Backup => format!("{dump} dumped, {stored} stored"),
        RunKind::Copy | RunKind::Expire | RunKind::DropReplaced => {
            format!("{dump} read, {stored} stored")
        }
    })
}

/// Returns how to drop the database that a restore replaced and kept.
fn kept(run: &Run) -> Option<String> {
    let database = printable(run.report.as_ref()?.get("kept")?.as_str()?);
    Some(format!(
        "the replaced database is {database}; when you are sure: lastgood resource drop-replaced {} -- {}",
        run.resource,
        shell_word(&database)
    ))
}

/// Quotes a customer's name for pasting into a shell.
fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Returns the last error, including that of a run that is being retried.
fn error(run: &Run) -> Option<String> {
    let (kind, error) = run.error_kind.as_ref().zip(run.error.as_ref())?;
    let lines: Vec<_> = error.lines().map(printable).collect();
    Some(format!("{kind}: {}", lines.join("\n            ")))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("shop_1", "shop_1")]
    #[case::space("my shop", "'my shop'")]
    #[case::quote("sing'le", r"'sing'\''le'")]
    #[case::command("a;rm -rf ~", "'a;rm -rf ~'")]
    #[case::expansion("$(id)`id`\\", r"'$(id)`id`\'")]
    fn what_a_customer_has_named_is_one_word_to_a_shell(#[case] name: &str, #[case] word: &str) {
        assert_eq!(shell_word(name), word);
    }
}

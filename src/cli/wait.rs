//! `--wait`: follows a run to its end, with progress where somebody watches.

use std::{process::ExitCode, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::{output::Output, run::details};
use crate::catalog::{Catalog, RunRow};

/// How many times in a row the catalog may fail to answer.
const PATIENCE: u32 = 120;

/// Follows a run and returns success only if it succeeded. A catalog that does not answer for a while ends nothing: the run
/// goes on without us.
pub(super) async fn wait(
    catalog: &Catalog,
    run: Uuid,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    output.note(&format!(
        "run {run} goes on if this is interrupted: see `lastgood run show {run}`"
    ));
    let bar = bar(output);
    let mut unanswered = 0;
    let ended = loop {
        match catalog.run(run).await {
            Ok(row) if row.has_ended() => break row,
            Ok(row) => {
                unanswered = 0;
                show(&bar, &row);
            }
            Err(error) if unanswered < PATIENCE && error.may_pass() => {
                unanswered += 1;
                bar.set_message("the catalog does not answer, trying again");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    bar.finish_and_clear();
    output.show(&ended, details)?;
    Ok(if ended.state == "succeeded" {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// indicatif draws on a terminal only, and on standard error.
fn bar(output: &Output) -> ProgressBar {
    if output.is_json() {
        return ProgressBar::hidden();
    }
    let style = "{spinner} {msg} {binary_bytes} ({binary_bytes_per_sec}), {elapsed}";
    let bar = ProgressBar::no_length();
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn show(bar: &ProgressBar, row: &RunRow) {
    bar.set_message(match (row.state.as_str(), row.attempt) {
        ("queued", 0) => format!("{} waits for a consumer", row.kind),
        ("queued", attempt) => format!(
            "{} waits after attempt {attempt} of {}",
            row.kind, row.max_attempts
        ),
        (_, 1) => format!("{} runs", row.kind),
        (_, attempt) => format!(
            "{} runs, attempt {attempt} of {}",
            row.kind, row.max_attempts
        ),
    });
    bar.set_position(row.dump_bytes.unsigned_abs());
}

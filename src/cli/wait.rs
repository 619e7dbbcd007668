//! `--wait`: follows a run to its end, with progress where somebody watches.

use std::{process::ExitCode, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::{output::Output, run::details};
use crate::catalog::{Catalog, RunRow};

/// Follows a run and returns success only if it succeeded.
pub(super) async fn wait(
    catalog: &Catalog,
    run: Uuid,
    output: &Output,
) -> anyhow::Result<ExitCode> {
    let bar = bar(output);
    let ended = loop {
        let row = catalog.run(run).await?;
        if row.has_ended() {
            break row;
        }
        show(&bar, &row);
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

//! `--wait`: follows a run to its end, with progress where somebody watches.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use uuid::Uuid;

use super::{output::Output, queue::described, run::details};
use crate::catalog::{Catalog, CatalogError, RunRow};

/// How many times in a row the catalog may fail to answer.
const PATIENCE: u32 = 120;
/// How often it is asked why nobody takes the run.
const LOOK_EVERY: Duration = Duration::from_secs(5);

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
    let mut hindrance = Hindrance::default();
    let mut unanswered = 0;
    let ended = loop {
        match catalog.run(run).await {
            Ok(row) if row.has_ended() => break row,
            Ok(row) => {
                unanswered = 0;
                show(&bar, &row);
                if row.state == "queued" {
                    hindrance.tell(catalog, &row, output).await;
                }
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

/// Why nobody may take a run that waits, told once each.
#[derive(Default)]
struct Hindrance {
    told: Option<String>,
    looked_at: Option<Instant>,
}

impl Hindrance {
    /// Where the catalog does not say it now, it does the next time.
    async fn tell(&mut self, catalog: &Catalog, row: &RunRow, output: &Output) {
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked_at = Some(Instant::now());
        if let Ok(Some(why)) = why_it_waits(catalog, row).await
            && self.told.as_ref() != Some(&why)
        {
            output.note(&why);
            self.told = Some(why);
        }
    }
}

async fn why_it_waits(catalog: &Catalog, row: &RunRow) -> Result<Option<String>, CatalogError> {
    if let Some(pause) = catalog.pause_over(&row.resource_id).await? {
        return Ok(Some(format!(
            "it waits for the end of a pause: {}",
            described(&pause)
        )));
    }
    let consumers = catalog.live_consumers().await?;
    let is_served = consumers
        .iter()
        .any(|consumer| consumer.state == "running" && consumer.queues.contains(&row.engine));
    Ok((!is_served).then(|| {
        format!(
            "it waits for a consumer that serves {}: none is running now",
            row.engine
        )
    }))
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

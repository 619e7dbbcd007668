//! `--wait`: follows a run to its end, with progress on a terminal.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use lastgood_jobs::attempt::RunId;

use super::{output::Output, queue::described};
use crate::{
    catalog::{Catalog, CatalogError},
    nouns::Run,
    run::{RunKind, RunState},
};

/// How many times in a row the catalog may fail to answer.
const PATIENCE: u32 = 120;
/// How often to ask why no consumer takes the run.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Follows a run, and returns it when it has ended.
///
/// A catalog that does not answer for a while is no reason to stop: the run continues regardless.
pub(super) async fn wait(catalog: &Catalog, run: RunId, output: &Output) -> anyhow::Result<Run> {
    output.note(&format!(
        "run {run} continues if this command is interrupted: see `lastgood run show {run}`"
    ));
    let bar = bar(output);
    let mut hindrance = Hindrance::default();
    let mut unanswered = 0;
    let ended = loop {
        match catalog.run(run).await {
            Ok(run) if run.state.has_ended() => break run,
            Ok(run) => {
                unanswered = 0;
                show(&bar, &run);
                if run.state == RunState::Queued {
                    hindrance.tell(catalog, &run, output).await;
                }
            }
            Err(error) if unanswered < PATIENCE && error.may_pass() => {
                unanswered += 1;
                bar.set_message("the catalog does not answer, retrying");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    bar.finish_and_clear();
    Ok(ended)
}

/// Returns success only if the run succeeded.
pub(super) fn exit_code(run: &Run) -> ExitCode {
    if run.state == RunState::Succeeded {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Why no consumer may take a waiting run. Each reason is printed once.
#[derive(Default)]
struct Hindrance {
    told: Option<String>,
    looked_at: Option<Instant>,
}

impl Hindrance {
    /// Prints the reason, if there is a new one. If the catalog does not answer now, the next call asks again.
    async fn tell(&mut self, catalog: &Catalog, run: &Run, output: &Output) {
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked_at = Some(Instant::now());
        if let Ok(Some(why)) = why_it_waits(catalog, run).await
            && self.told.as_ref() != Some(&why)
        {
            output.note(&why);
            self.told = Some(why);
        }
    }
}

async fn why_it_waits(catalog: &Catalog, run: &Run) -> Result<Option<String>, CatalogError> {
    if let Some(pause) = catalog.pause_over(&run.resource).await? {
        return Ok(Some(format!(
            "it waits for a pause to end: {}",
            described(&pause)
        )));
    }
    if run.kind == RunKind::Drill && !catalog.is_drilled(&run.engine).await? {
        return Ok(Some(format!(
            "it waits for a consumer that runs drills of {}: no live one has such a server's programs; see docs/how-to/drills.md",
            run.engine
        )));
    }
    let consumers = catalog.live_consumers().await?;
    let is_served = consumers
        .iter()
        .any(|consumer| consumer.takes_new() && consumer.engines.contains(&run.engine));
    Ok((!is_served).then(|| {
        format!(
            "it waits for a consumer that serves {}: there is no live one now",
            run.engine
        )
    }))
}

/// Returns a progress bar. indicatif draws only on a terminal, on standard error.
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

fn show(bar: &ProgressBar, run: &Run) {
    let (kind, most) = (run.kind, run.max_attempts);
    let is_waiting = run.state == RunState::Queued;
    bar.set_message(match (is_waiting, run.attempt) {
        (true, 0) => format!("{kind} waits for a consumer"),
        (true, attempt) => format!("{kind} waits after attempt {attempt} of {most}"),
        (false, 1) => format!("{kind} runs"),
        (false, attempt) => format!("{kind} runs, attempt {attempt} of {most}"),
    });
    bar.set_position(run.dump_bytes.unsigned_abs());
}

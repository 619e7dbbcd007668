//! How are checks run side by side and given up in time? A check that never answers must not delay the others' results.

use std::time::Duration;

use lastgood_jobs::error::chain;
use serde::Serialize;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::blocking::Calls;

/// Limits the file reads that may hang. They run outside the runtime.
static READS: Calls = Calls::at_most(16);
/// Longer than any round, which ends first.
const LONGEST_READ: Duration = Duration::from_hours(1);

/// A check and what it found.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) is_good: bool,
    pub(super) found: String,
    /// Whether the check could be made. One that needs the catalog, for example, finds nothing while the catalog is unreachable.
    #[serde(skip)]
    was_possible: bool,
}

/// The check needs something that is unavailable, which another check reports.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("not looked at: {0}")]
pub(super) struct Impossible(pub(super) &'static str);

impl Check {
    fn of(name: &'static str, found: anyhow::Result<String>) -> Self {
        match found {
            Ok(found) => Self {
                name,
                is_good: true,
                found,
                was_possible: true,
            },
            Err(error) => Self {
                name,
                is_good: false,
                found: chain(error.as_ref()),
                was_possible: !error.is::<Impossible>(),
            },
        }
    }

    /// Returns the line to print.
    pub(super) fn line(&self) -> String {
        let mark = match (self.is_good, self.was_possible) {
            (true, _) => "ok  ",
            (false, true) => "FAIL",
            (false, false) => "--  ",
        };
        format!("{mark} {:<13} {}\n", self.name, self.found)
    }
}

/// Checks under way, which all end at one instant.
pub(super) struct Round {
    within: Duration,
    end: Instant,
    asked: Vec<Asked>,
}

struct Asked {
    name: &'static str,
    look_at: String,
    /// The check that this one depends on, and what to say if that one got no answer.
    needs: Option<(&'static str, Impossible)>,
    answer: JoinHandle<anyhow::Result<String>>,
}

impl Round {
    /// Begins a round that ends after `within`.
    pub(super) fn begin(within: Duration) -> Self {
        Self {
            within,
            end: Instant::now() + within,
            asked: Vec::new(),
        }
    }

    /// Begins a check. `look_at` says what to look at if it does not answer in time.
    pub(super) fn ask(
        &mut self,
        name: &'static str,
        look_at: impl Into<String>,
        check: impl Future<Output = anyhow::Result<String>> + Send + 'static,
    ) {
        self.ask_where(name, look_at, None, check);
    }

    /// Like [`Self::ask`], for a check that depends on an earlier one getting an answer.
    pub(super) fn ask_where(
        &mut self,
        name: &'static str,
        look_at: impl Into<String>,
        needs: Option<(&'static str, Impossible)>,
        check: impl Future<Output = anyhow::Result<String>> + Send + 'static,
    ) {
        self.asked.push(Asked {
            name,
            look_at: look_at.into(),
            needs,
            answer: tokio::spawn(check),
        });
    }

    /// Returns what each check found, in the order in which they were begun.
    pub(super) async fn answers(self) -> Vec<Check> {
        let mut checks = Vec::new();
        let mut unanswered = Vec::new();
        for Asked {
            name,
            look_at,
            needs,
            mut answer,
        } in self.asked
        {
            let found = match timeout_at(self.end, &mut answer).await {
                Ok(Ok(found)) => found,
                Ok(Err(panicked)) => Err(anyhow::anyhow!("the check itself failed: {panicked}")),
                Err(_) => {
                    answer.abort();
                    unanswered.push(name);
                    Err(match needs {
                        Some((other, impossible)) if unanswered.contains(&other) => {
                            impossible.into()
                        }
                        Some(_) | None => anyhow::anyhow!(
                            "no answer within {}: {look_at}",
                            humantime::format_duration(self.within)
                        ),
                    })
                }
            };
            checks.push(Check::of(name, found));
        }
        checks
    }
}

/// Calls a function that reads files, which may hang, and returns its result.
pub(super) async fn read<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    let read = READS.answered(LONGEST_READ, call).await;
    read.ok_or_else(|| anyhow::anyhow!("a file system does not answer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_check_is_told_in_its_order_though_one_never_answers() {
        let mut round = Round::begin(Duration::from_millis(200));
        round.ask("first", "", async { Ok("good".to_owned()) });
        round.ask("second", "see the server", std::future::pending());
        round.ask("third", "", async {
            Err(Impossible("it needs the second").into())
        });
        round.ask("fourth", "", async { Err(anyhow::anyhow!("bad")) });
        let needs = |other| Some((other, Impossible("it needs another")));
        round.ask_where("fifth", "", needs("second"), std::future::pending());
        round.ask_where("sixth", "see it", needs("first"), std::future::pending());
        let lines: Vec<String> = round.answers().await.iter().map(Check::line).collect();
        assert_eq!(
            lines,
            [
                "ok   first         good\n",
                "FAIL second        no answer within 200ms: see the server\n",
                "--   third         not looked at: it needs the second\n",
                "FAIL fourth        bad\n",
                "--   fifth         not looked at: it needs another\n",
                "FAIL sixth         no answer within 200ms: see it\n",
            ]
        );
    }
}

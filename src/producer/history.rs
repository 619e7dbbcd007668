//! Removes old history: ended runs in small batches, and the rows of consumers that are long dead. The audit log stays.

use std::time::{Duration, Instant};

use lastgood_jobs::error::chain;
use tokio::time::MissedTickBehavior;

use crate::{
    catalog::{Bookmark, Catalog, CatalogError, answered},
    metrics,
};

/// How often a few batches are removed.
const EVERY: Duration = Duration::from_mins(1);
/// Runs per batch: so few that nobody waits long for their locks.
const BATCH: i64 = 1000;
/// Batches per time.
const BATCHES: usize = 20;
/// How long to rest once all old history has been looked at: restore points will need most of the rest for a long time.
const REST: Duration = Duration::from_hours(1);
/// How long the row of a consumer that is no longer seen stays.
const DEAD_FOR: Duration = Duration::from_hours(7 * 24);
/// The time limit of each step: a connection can hang without an error.
const PRUNE_WITHIN: Duration = Duration::from_mins(1);

/// Removes runs that ended more than `history` ago, and dead consumers. Without `history`, only dead consumers.
pub(super) async fn prune_for_ever(catalog: Catalog, history: Option<Duration>) {
    let mut timer = tokio::time::interval(EVERY);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pass = Pass::default();
    loop {
        timer.tick().await;
        let forgetting = catalog.forget_consumers(DEAD_FOR);
        if let Err(error) = answered(PRUNE_WITHIN, forgetting).await {
            tracing::warn!(error = chain(&error), "cannot forget dead consumers");
        }
        let Some(history) = history.filter(|_| !pass.rests()) else {
            continue;
        };
        match answered(PRUNE_WITHIN, pass.go_on(&catalog, history)).await {
            Ok(0) => {}
            Ok(gone) => tracing::info!(history.gone = gone, "old runs were removed"),
            Err(error) => tracing::warn!(error = chain(&error), "cannot remove old runs"),
        }
    }
}

/// One pass over all old history.
struct Pass {
    from: Bookmark,
    ended: Option<Instant>,
}

impl Default for Pass {
    fn default() -> Self {
        Self {
            from: Bookmark::START,
            ended: None,
        }
    }
}

impl Pass {
    fn rests(&self) -> bool {
        self.ended.is_some_and(|at| at.elapsed() < REST)
    }

    async fn go_on(&mut self, catalog: &Catalog, history: Duration) -> Result<i64, CatalogError> {
        let mut gone = 0;
        for _ in 0..BATCHES {
            let pruned = catalog.prune(history, self.from, BATCH).await?;
            gone += pruned.gone;
            metrics::pruned(pruned.gone.unsigned_abs());
            if let Some(next) = pruned.next {
                self.from = next;
            } else {
                *self = Self {
                    ended: Some(Instant::now()),
                    ..Self::default()
                };
                break;
            }
        }
        Ok(gone)
    }
}

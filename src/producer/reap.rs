//! The reaper: takes runs back from lost workers, but not because of its own outage, and fails runs that no worker can ever take.

use std::time::{Duration, Instant};

use lastgood_jobs::{error::chain, resource::Engine};
use tokio::time::MissedTickBehavior;

use crate::{catalog::Catalog, metrics, queue::Ledger};

/// Looks for expired leases; never returns.
pub(super) async fn reap_for_ever(catalog: Catalog, every: Duration, lease: Duration) {
    let ledger = Ledger::new(catalog.pool().clone(), "reaper", lease);
    let mut timer = tokio::time::interval(every);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut contact = Contact::begin();
    loop {
        timer.tick().await;
        if !contact.has_lasted(lease, every) {
            // Workers may have been cut off together with this process: give them one lease to renew.
            match catalog.now().await {
                Ok(_) => contact.seen(),
                Err(_) => contact.lost(),
            }
            continue;
        }
        match ledger.reap().await {
            Ok(reaped) => {
                contact.seen();
                for run in reaped {
                    metrics::reaped(&run.queue, run.kind, run.state);
                    tracing::warn!(run.id = %run.id, run.kind = %run.kind, run.state = %run.state, queue.name = run.queue, "took back the lease of a lost worker");
                }
            }
            Err(error) => {
                contact.lost();
                tracing::error!(error = chain(&error), "cannot look for expired leases");
                continue;
            }
        }
        refuse_unknown(&ledger).await;
    }
}

/// Fails the runs of engines that nobody serves, so that their queue does not get stuck silently.
async fn refuse_unknown(ledger: &Ledger) {
    let known = Engine::ALL.map(|engine| engine.to_string());
    match ledger.refuse_unknown(&known).await {
        Ok(refused) => {
            for run in refused {
                metrics::refused_unknown(run.kind);
                tracing::error!(run.id = %run.id, run.kind = %run.kind, queue.name = run.queue, "run failed: its engine is not supported, and no live consumer serves it");
            }
        }
        Err(error) => {
            tracing::error!(
                error = chain(&error),
                "cannot look for runs of unknown engines"
            );
        }
    }
}

/// How long this process has been in contact with the catalog without a gap.
struct Contact {
    since: Option<Instant>,
    last: Instant,
}

impl Contact {
    fn begin() -> Self {
        let now = Instant::now();
        Self {
            since: Some(now),
            last: now,
        }
    }

    /// Returns whether the contact has lasted for one lease. A gap much longer than the interval means that this process itself stood
    /// still, stopped or suspended.
    fn has_lasted(&mut self, lease: Duration, every: Duration) -> bool {
        if self.last.elapsed() > every * 3 + Duration::from_secs(1) {
            self.since = None;
        }
        self.since.is_some_and(|since| since.elapsed() >= lease)
    }

    fn seen(&mut self) {
        self.last = Instant::now();
        self.since.get_or_insert(self.last);
    }

    fn lost(&mut self) {
        self.last = Instant::now();
        self.since = None;
    }
}

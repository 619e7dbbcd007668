//! Tells an attempt that it is over before it ends by itself: compares what this process executes with the catalog.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::Ledger;
use lastgood_jobs::attempt::Attempt;
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

/// How often to look when no notification arrives. Notifications are a hint; this poll is the guarantee.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The attempts that this process executes now.
#[derive(Clone, Default)]
pub struct InFlight {
    attempts: Arc<Mutex<HashMap<Attempt, CancellationToken>>>,
}

impl InFlight {
    /// Registers an attempt for as long as the returned value lives.
    pub(super) fn enter(&self, attempt: Attempt) -> Entered {
        let over = CancellationToken::new();
        self.locked().insert(attempt, over.clone());
        Entered {
            in_flight: self.clone(),
            attempt,
            over,
        }
    }

    fn all(&self) -> Vec<Attempt> {
        self.locked().keys().copied().collect()
    }

    fn end(&self, attempt: Attempt) {
        if let Some(over) = self.locked().get(&attempt) {
            over.cancel();
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Attempt, CancellationToken>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Entered {
    in_flight: InFlight,
    attempt: Attempt,
    over: CancellationToken,
}

impl Entered {
    /// Resolves when the run is no longer this attempt's because it was cancelled or taken away.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.in_flight.locked().remove(&self.attempt);
    }
}

/// Ends the attempts in flight whose runs were cancelled or taken away; never returns.
///
/// Looks every 2 s, and whenever `wake` is notified. One statement covers all attempts; if there are none, nothing is sent.
pub async fn watch(ledger: Ledger, in_flight: InFlight, wake: Arc<Notify>) {
    loop {
        tokio::select! {
            () = wake.notified() => {}
            () = sleep(LOOK_EVERY) => {}
        }
        let attempts = in_flight.all();
        if attempts.is_empty() {
            continue;
        }
        match ledger.over(&attempts).await {
            Ok(over) => over.into_iter().for_each(|attempt| in_flight.end(attempt)),
            // Not essential: each renewal of a lease finds out the same.
            Err(error) => tracing::warn!(%error, "cannot look for cancelled runs, trying again"),
        }
    }
}

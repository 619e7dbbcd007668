//! The loop that claims runs: a task of its own, because apalis stops polling its backend the moment a drain begins.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use apalis::prelude::WorkerContext;
use futures::task::AtomicWaker;
use lastgood_jobs::{error::ErrorKind, worker::Progress};
use serde::de::DeserializeOwned;
use tokio::{sync::OwnedSemaphorePermit, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{Failure, Queue, Run, store::Claimed};

/// Claimed runs on their way to apalis.
pub(super) struct Handoff<A> {
    runs: Mutex<VecDeque<Run<A>>>,
    pub(super) waker: AtomicWaker,
}

impl<A> Handoff<A> {
    pub(super) fn new() -> Self {
        Self {
            runs: Mutex::new(VecDeque::new()),
            waker: AtomicWaker::new(),
        }
    }

    pub(super) fn take_one(&self) -> Option<Run<A>> {
        self.locked().pop_front()
    }

    fn put(&self, run: Run<A>) {
        self.locked().push_back(run);
        self.waker.wake();
    }

    fn take_all(&self) -> VecDeque<Run<A>> {
        std::mem::take(&mut *self.locked())
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, VecDeque<Run<A>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Claims for as long as the worker takes work, then gives back what was claimed but not started.
pub(super) async fn claim_loop<A: DeserializeOwned>(
    queue: Queue,
    handoff: Arc<Handoff<A>>,
    worker: WorkerContext,
    stop: CancellationToken,
) {
    let mut pace = Pace::Eager;
    while !worker.is_shutting_down() && !stop.is_cancelled() {
        if worker.is_paused() || pace != Pace::Eager {
            tokio::select! {
                () = stop.cancelled() => break,
                // After an error the wake-up is no reason to hurry.
                () = queue.wake.notified(), if pace == Pace::Idle => {}
                () = sleep(pace.wait(queue.poll)) => {}
            }
        }
        if worker.is_paused() {
            continue;
        }
        let Some(permits) = free_slots(&queue, &stop).await else {
            continue;
        };
        // The wait for a slot may have been long, and a drain may be what freed it.
        if worker.is_shutting_down() || worker.is_paused() {
            continue;
        }
        let slots = permits.num_permits();
        pace = match queue.store.claim(&queue.name, queue.lane, slots).await {
            Ok(rows) => {
                let found = !rows.is_empty();
                hand_over(&queue, &handoff, rows, permits);
                if found { Pace::Eager } else { Pace::Idle }
            }
            Err(error) => {
                tracing::warn!(queue.name = %queue.name, %error, "cannot claim, will look again");
                pace.after_error()
            }
        };
    }
    for run in handoff.take_all() {
        queue.store.release(run.as_attempt()).await;
    }
}

/// When to look next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// There was something: there may be more, also where fewer runs came than there were slots, for a limit may have held some
    /// back for others.
    Eager,
    /// Nothing may be claimed.
    Idle,
    /// The database failed so many times in a row.
    Failing(u32),
}

impl Pace {
    fn after_error(self) -> Self {
        match self {
            Self::Failing(times) => Self::Failing((times + 1).min(4)),
            Self::Eager | Self::Idle => Self::Failing(0),
        }
    }

    /// Jittered by a quarter, so that replicas do not poll in step.
    fn wait(self, poll: Duration) -> Duration {
        let factor = match self {
            Self::Failing(times) => 2_u32.pow(times),
            Self::Eager | Self::Idle => 1,
        };
        poll.mul_f64(0.75 + fastrand::f64() / 2.0) * factor
    }
}

/// Waits for a free slot, then takes every other free one with it. `None`: look at the worker's state again.
async fn free_slots(queue: &Queue, stop: &CancellationToken) -> Option<OwnedSemaphorePermit> {
    let mut permits = tokio::select! {
        () = stop.cancelled() => return None,
        permit = queue.slots.clone().acquire_owned() => permit.ok()?,
        () = sleep(queue.poll) => return None,
    };
    let rest = u32::try_from(queue.slots.available_permits()).unwrap_or(u32::MAX);
    if let Ok(more) = queue.slots.clone().try_acquire_many_owned(rest) {
        permits.merge(more);
    }
    Some(permits)
}

/// Decodes each row by itself: one that does not decode fails alone, without delaying its batch.
fn hand_over<A: DeserializeOwned>(
    queue: &Queue,
    handoff: &Handoff<A>,
    rows: Vec<Claimed>,
    mut permits: OwnedSemaphorePermit,
) {
    for row in rows {
        let permit = permits.split(1);
        match decode::<A>(&row) {
            Ok(args) => handoff.put(run(queue, row, args, permit)),
            Err(failure) => {
                let queue = queue.clone();
                tokio::spawn(async move {
                    tracing::error!(run.id = %row.id, resource.id = %row.resource_id, error = %failure, "a run's payload does not decode");
                    crate::metrics::run_ended(
                        &queue.name,
                        &row.kind,
                        crate::metrics::RunResult::Failed,
                        Duration::ZERO,
                    );
                    queue
                        .store
                        .finish(row.as_attempt(), &Err(failure), (0, 0), &queue.give_back)
                        .await;
                    drop(permit);
                });
            }
        }
    }
}

fn decode<A: DeserializeOwned>(row: &Claimed) -> Result<A, Failure> {
    let named = row.args.get("kind").and_then(serde_json::Value::as_str);
    if named != Some(row.kind.as_str()) {
        let message = format!(
            "the payload is of kind {:?}, the run of kind {:?}: enqueue it again",
            named.unwrap_or("none"),
            row.kind
        );
        return Err(Failure::permanent(ErrorKind::Config, message));
    }
    A::deserialize(&row.args).map_err(|error| {
        Failure::permanent(
            ErrorKind::Config,
            format!("the payload does not decode: {error}: enqueue it again with a payload of this version"),
        )
    })
}

fn run<A>(queue: &Queue, row: Claimed, args: A, permit: Option<OwnedSemaphorePermit>) -> Run<A> {
    let progress = Arc::<Progress>::default();
    let attempt = row.as_attempt();
    Run {
        id: row.id,
        resource_id: row.resource_id,
        kind: row.kind,
        slot: row.slot,
        attempt: row.attempt,
        epoch: row.epoch,
        attempt_id: row.attempt_id,
        created_at: row.created_at,
        args,
        progress: Arc::clone(&progress),
        lease: super::LeaseHandle {
            store: queue.store.clone(),
            attempt,
            progress,
        },
        permit,
    }
}

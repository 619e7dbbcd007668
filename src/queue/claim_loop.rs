//! Passes claimed runs of a queue on to apalis. The loop is a task of its
//! own, because apalis stops polling its backend the moment a drain begins.

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

use super::{Failure, Queue, Run, ledger::Claimed};
use crate::run::RunKind;

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

/// Hands over claimed runs for as long as the worker takes work, then gives back those that were not started.
pub(super) async fn claim_loop<A: DeserializeOwned>(
    queue: Queue,
    handoff: Arc<Handoff<A>>,
    worker: WorkerContext,
    stop: CancellationToken,
) {
    let asked = worker.clone();
    let is_taking = move || !asked.is_shutting_down() && !asked.is_paused();
    let mut claimed = queue.claims.take(&queue, is_taking);
    while !worker.is_shutting_down() {
        tokio::select! {
            () = stop.cancelled() => break,
            got = claimed.recv() => match got {
                Some((row, permit)) => hand_over(&queue, &handoff, row, permit),
                None => break,
            },
            () = sleep(queue.poll) => queue.claims.keep_serving(),
        }
    }
    claimed.close();
    while let Some((row, permit)) = claimed.recv().await {
        queue.ledger.release(row.as_attempt()).await;
        drop(permit);
    }
    for run in handoff.take_all() {
        queue.ledger.release(run.as_attempt()).await;
    }
}

/// Decodes a claimed row and hands it over. A row that does not decode fails alone.
fn hand_over<A: DeserializeOwned>(
    queue: &Queue,
    handoff: &Handoff<A>,
    row: Claimed,
    permit: OwnedSemaphorePermit,
) {
    match decode::<A>(&row) {
        Ok((kind, args)) => handoff.put(run(queue, row, kind, args, permit)),
        Err(failure) => {
            let queue = queue.clone();
            tokio::spawn(async move {
                tracing::error!(run.id = %row.id, resource.id = %row.resource_id, error = %failure, "cannot decode a run's payload");
                crate::metrics::run_ended(
                    &queue.name,
                    row.kind.parse().ok(),
                    crate::metrics::RunResult::Failed,
                    Duration::ZERO,
                );
                queue
                    .ledger
                    .finish(row.as_attempt(), &Err(failure), (0, 0), &queue.give_back)
                    .await;
                drop(permit);
            });
        }
    }
}

fn decode<A: DeserializeOwned>(row: &Claimed) -> Result<(RunKind, A), Failure> {
    let named = row.args.get("kind").and_then(serde_json::Value::as_str);
    if named != Some(row.kind.as_str()) {
        let message = format!(
            "the payload is of kind {:?}, the run of kind {:?}: enqueue it again",
            named.unwrap_or("none"),
            row.kind
        );
        return Err(Failure::permanent(ErrorKind::Config, message));
    }
    let Ok(kind) = row.kind.parse() else {
        let message = format!(
            "this build cannot execute runs of kind {:?}: upgrade the consumers",
            row.kind
        );
        return Err(Failure::permanent(ErrorKind::Config, message));
    };
    match A::deserialize(&row.args) {
        Ok(args) => Ok((kind, args)),
        Err(error) => Err(Failure::permanent(
            ErrorKind::Config,
            format!(
                "cannot decode the payload: {error}: enqueue it again with a payload of this version"
            ),
        )),
    }
}

fn run<A>(
    queue: &Queue,
    row: Claimed,
    kind: RunKind,
    args: A,
    permit: OwnedSemaphorePermit,
) -> Run<A> {
    let progress = Arc::<Progress>::default();
    let attempt = row.as_attempt();
    Run {
        id: row.id,
        resource_id: row.resource_id,
        kind,
        slot: row.slot,
        attempt: row.attempt,
        epoch: row.epoch,
        attempt_id: row.attempt_id,
        created_at: row.created_at,
        args,
        progress: Arc::clone(&progress),
        lease: super::LeaseHandle {
            ledger: queue.ledger.clone(),
            attempt,
            progress,
        },
        permit: Some(permit),
    }
}

//! Runs a handler: in a task of its own, with renewals of its lease, a time limit and a fenced end.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use apalis::prelude::{AbortError, BoxDynError, Task};
use futures::future::{BoxFuture, FutureExt};
use lastgood_jobs::{attempt::Attempt, error::ErrorKind, worker::Progress};
use tokio::{
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tower::{Layer, Service};
use tracing::Instrument;

use super::{Condemned, Failure, Outcome, Queue, Run, ledger::Renewal};
use crate::{
    metrics::{self, Proof, RunResult},
    proof::{ProofKind, ProofOutcome},
    run::{RunKind, RunState},
};

/// How long a stopped attempt whose commit has begun may take to report how the commit ended.
const COMMIT_WITHIN: Duration = Duration::from_mins(1);
/// The same while the consumer is stopping.
const COMMIT_WHILE_STOPPING: Duration = Duration::from_secs(4);

/// The backend's own layer. It is the outermost one, so that no other layer can hide an outcome from the queue.
#[derive(Clone)]
pub struct Supervise {
    queue: Queue,
}

impl Supervise {
    pub(super) fn new(queue: Queue) -> Self {
        Self { queue }
    }
}

impl<S> Layer<S> for Supervise {
    type Service = Supervised<S>;

    fn layer(&self, inner: S) -> Supervised<S> {
        Supervised {
            queue: self.queue.clone(),
            inner,
        }
    }
}

/// A handler under supervision.
pub struct Supervised<S> {
    queue: Queue,
    inner: S,
}

impl<S, A> Service<Task<Run<A>>> for Supervised<S>
where
    S: Service<Task<Run<A>>, Response = Outcome>,
    S::Error: Into<BoxDynError> + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = BoxDynError;
    type Future = BoxFuture<'static, Result<(), BoxDynError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut task: Task<Run<A>>) -> Self::Future {
        let run = &mut task.args;
        let permit = run.permit.take();
        let attempt = Supervision {
            queue: self.queue.clone(),
            attempt: run.as_attempt(),
            kind: run.kind,
            progress: Arc::clone(&run.progress),
        };
        let span = tracing::info_span!(
            "run", run.id = %run.id, run.kind = %run.kind, run.attempt = run.attempt, run.epoch = run.epoch.0,
            resource.id = %run.resource_id, queue.name = %self.queue.name,
        );
        let work = self.inner.call(task).instrument(span.clone());
        // A task of its own: all workers of a monitor share one task, and a restarted worker drops its futures.
        let supervised = tokio::spawn(
            async move {
                attempt
                    .supervise(work.map(|done| done.map_err(Into::into)))
                    .await;
                drop(permit);
                // The end of this run may free a limit that held others back.
                attempt.queue.claims.wake().notify_one();
            }
            .instrument(span),
        );
        async move { supervised.await.map_err(Into::into) }.boxed()
    }
}

/// One attempt while it runs.
struct Supervision {
    queue: Queue,
    attempt: Attempt,
    kind: RunKind,
    progress: Arc<Progress>,
}

/// How an attempt ended, before it is recorded.
enum Ending {
    Done(Result<Outcome, Failure>),
    TimedOut,
    LeaseLost,
    GivenBack,
}

impl Supervision {
    async fn supervise(
        &self,
        work: impl Future<Output = Result<Outcome, BoxDynError>> + Send + 'static,
    ) {
        let began = Instant::now();
        // Another task, so that a handler that keeps its thread busy cannot starve its own renewals.
        let mut handler = JoinSet::new();
        handler.spawn(work);
        let in_flight = self.queue.in_flight.enter(self.attempt);
        let ending = tokio::select! {
            biased; // what is done is done
            joined = handler.join_next() => Ending::Done(outcome(joined)),
            () = sleep(self.queue.timeout) => Ending::TimedOut,
            () = self.keep_lease() => Ending::LeaseLost,
            () = in_flight.over() => Ending::LeaseLost,
            () = self.queue.give_back.cancelled() => Ending::GivenBack,
        };
        let ending = match self.committed(&ending, &mut handler).await {
            Some(done) => Ending::Done(done),
            None => ending,
        };
        // The slot is free only once the handler is really gone.
        handler.shutdown().await;
        drop(in_flight);
        self.record(ending, began.elapsed()).await;
    }

    /// Decides whether an attempt may be stopped now. If it is about to write its restore point or exchange its database, and can no
    /// longer be held back, waits for its outcome and returns it.
    ///
    /// `None`: stop the attempt. It had not begun to commit, or did not report in time.
    async fn committed(
        &self,
        ending: &Ending,
        handler: &mut JoinSet<Result<Outcome, BoxDynError>>,
    ) -> Option<Result<Outcome, Failure>> {
        let patience = match ending {
            Ending::Done(_) => return None,
            Ending::GivenBack => COMMIT_WHILE_STOPPING,
            Ending::TimedOut | Ending::LeaseLost => COMMIT_WITHIN,
        };
        if !self.progress.commits_already() {
            return None;
        }
        let renewals = async {
            self.keep_lease().await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            joined = handler.join_next() => Some(outcome(joined)),
            () = renewals => None,
            () = sleep(patience) => None,
        }
    }

    async fn record(&self, ending: Ending, took: Duration) {
        let (queue, kind) = (&*self.queue.name, Some(self.kind));
        match ending {
            Ending::LeaseLost if self.was_cancelled().await => {
                tracing::warn!("an operator cancelled the run: the attempt was stopped");
                metrics::run_ended(queue, kind, RunResult::Cancelled, took);
            }
            Ending::LeaseLost => {
                tracing::error!("lease lost: the attempt was stopped, another worker owns the run");
                metrics::run_ended(queue, kind, RunResult::LeaseLost, took);
            }
            Ending::TimedOut => {
                let done = Err(self.timed_out());
                self.finish(&done, took).await;
            }
            Ending::GivenBack => {
                self.queue.ledger.release(self.attempt).await;
                tracing::info!("run given back: the drain ran out of time");
                metrics::run_ended(queue, kind, RunResult::GivenBack, took);
            }
            Ending::Done(done) => self.finish(&done, took).await,
        }
    }

    async fn finish(&self, done: &Result<Outcome, Failure>, took: Duration) {
        let (queue, kind) = (&*self.queue.name, Some(self.kind));
        let moved = self.progress.so_far();
        let ledger = &self.queue.ledger;
        let state = ledger
            .finish(self.attempt, done, moved, &self.queue.give_back)
            .await;
        let mut result = result(done, state);
        if result == RunResult::LeaseLost && self.was_cancelled().await {
            result = RunResult::Cancelled;
            self.record_late(done).await;
        }
        log_end(done, result, took);
        metrics::run_ended(queue, kind, result, took);
        if let (RunResult::Succeeded, Ok(Outcome::RestorePoint(point))) = (result, done) {
            metrics::restore_point_made(queue, &point.manifest);
        }
        if state.is_some() {
            tell_of_proof(queue, done);
        }
    }

    async fn was_cancelled(&self) -> bool {
        self.queue.ledger.was_cancelled(self.attempt).await
    }

    /// Records what was done although the run was cancelled: a restore point whose manifest was written, or a database that was exchanged.
    async fn record_late(&self, done: &Result<Outcome, Failure>) {
        let ledger = &self.queue.ledger;
        let recorded = match done {
            Ok(Outcome::RestorePoint(point)) => ledger.record_late(self.attempt, point).await,
            Ok(
                Outcome::Report(report)
                | Outcome::Proof { report, .. }
                | Outcome::Unproven { report, .. }
                | Outcome::Salvaged { report, .. },
            ) => {
                let late = ledger.record_late_report(self.attempt, report);
                late.await
            }
            Err(_) => return,
        };
        match recorded {
            Ok(true) => {
                tracing::warn!(
                    "the run was cancelled too late: its work was already done, and is recorded"
                );
            }
            Ok(false) => {}
            Err(error) => {
                tracing::error!(%error, "the run was cancelled too late: its work was already done, but cannot be recorded; `lastgood catalog rebuild` records a restore point");
            }
        }
    }

    /// Renews the lease until the run is certainly no longer this attempt's. A database error does not prove that.
    async fn keep_lease(&self) {
        let third = self.queue.ledger.lease() / 3;
        loop {
            sleep(third).await;
            let renewal = self
                .queue
                .ledger
                .renew(self.attempt, self.progress.so_far());
            match timeout(third, renewal).await {
                Ok(Ok(Renewal::Extended)) => {}
                Ok(Ok(Renewal::Lost)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew a lease, trying again"),
                Err(_) => tracing::warn!("cannot renew a lease in time, trying again"),
            }
        }
    }

    fn timed_out(&self) -> Failure {
        let limit = self.queue.timeout.as_secs();
        Failure::retryable(
            ErrorKind::Internal,
            format!("stopped after {limit} s, the longest an attempt may take (--job-timeout)"),
        )
    }
}

fn outcome(
    joined: Option<Result<Result<Outcome, BoxDynError>, JoinError>>,
) -> Result<Outcome, Failure> {
    match joined {
        Some(Ok(Ok(outcome))) => Ok(outcome),
        Some(Ok(Err(error))) => Err(failure(error)),
        // The panic's text stays out of the catalog, because it may quote secrets that the handler held.
        Some(Err(_)) | None => Err(Failure::retryable(
            ErrorKind::Internal,
            "the handler panicked: see the worker's log",
        )),
    }
}

fn failure(error: BoxDynError) -> Failure {
    match error.downcast::<Failure>() {
        Ok(failure) => *failure,
        Err(error) => Failure {
            kind: ErrorKind::Internal.as_str(),
            permanent: error.is::<AbortError>(),
            condemned: None,
            lacking: None,
            proof: None,
            tool_words: None,
            is_outage: false,
            message: error.to_string(),
        },
    }
}

/// Reports what was learned about a restore point, once that is recorded.
fn tell_of_proof(queue: &str, done: &Result<Outcome, Failure>) {
    match done {
        Ok(Outcome::Proof { proof, .. }) => match proof.kind {
            ProofKind::Drill => metrics::drilled(queue, proof.verdict.outcome()),
            ProofKind::Verification | ProofKind::Restore => {
                metrics::verified(queue, Proof::Whole);
            }
        },
        Ok(Outcome::Unproven { proof, .. }) => {
            metrics::drilled(queue, proof.verdict.outcome());
            let because = proof.verdict.because().map(|it| it.sentence.as_str());
            match proof.verdict.outcome() {
                ProofOutcome::Differs | ProofOutcome::Failed => {
                    tracing::error!(point.id = %proof.point, because, "a drill found a restore point wanting: it is quarantined once another consumer agrees");
                }
                ProofOutcome::NotPossible | ProofOutcome::Proven => {
                    tracing::warn!(point.id = %proof.point, because, "a restore point could not be drilled: it stays unproven");
                }
            }
        }
        Err(Failure {
            condemned: Some(Condemned::Damaged(point)),
            message,
            ..
        }) => {
            metrics::verified(queue, Proof::Damaged);
            tracing::error!(point.id = %point, error = message, "a restore point is damaged: it is quarantined, and a new backup replaces it if it was needed");
        }
        Err(Failure {
            condemned: Some(Condemned::Shredded(point)),
            message,
            ..
        }) => {
            tracing::warn!(point.id = %point, error = message, "a restore point can no longer be opened: it is quarantined");
        }
        Ok(Outcome::RestorePoint(_) | Outcome::Report(_) | Outcome::Salvaged { .. }) | Err(_) => {}
    }
}

fn result(done: &Result<Outcome, Failure>, state: Option<RunState>) -> RunResult {
    match (done, state) {
        (_, None) => RunResult::LeaseLost,
        (Ok(_), Some(_)) => RunResult::Succeeded,
        (Err(failure), Some(_)) if failure.is_outage => RunResult::GivenBack,
        (Err(_), Some(RunState::Failed)) => RunResult::Failed,
        (Err(_), Some(_)) => RunResult::Retried,
    }
}

fn log_end(done: &Result<Outcome, Failure>, result: RunResult, took: Duration) {
    let seconds = took.as_secs_f64();
    match (result, done) {
        (RunResult::Succeeded, _) => tracing::info!(run.seconds = seconds, "run succeeded"),
        (RunResult::Cancelled, _) => {
            tracing::warn!(
                run.seconds = seconds,
                "outcome refused: an operator cancelled the run"
            );
        }
        (RunResult::GivenBack, Err(failure)) => {
            tracing::warn!(run.seconds = seconds, error = %failure, "run given back without spending an attempt: the catalog did not answer");
        }
        (RunResult::LeaseLost | RunResult::GivenBack, _) => {
            tracing::error!(
                run.seconds = seconds,
                "outcome refused: the run no longer belongs to this attempt"
            );
        }
        (RunResult::Failed, Err(failure)) => {
            tracing::error!(run.seconds = seconds, error.kind = failure.kind, error = %failure, "run failed");
        }
        (RunResult::Retried | RunResult::Failed, _) => {
            let error = done
                .as_ref()
                .err()
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::warn!(
                run.seconds = seconds,
                error,
                "attempt failed, the run will be tried again"
            );
        }
    }
}

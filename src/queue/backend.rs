//! The apalis backend: yields claimed runs, and never an error, because an error would end the worker.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use apalis::prelude::{Backend, Task, TaskBuilder, TaskId, WorkerContext};
use apalis_core::backend::{BackendConfig, finalize::Ephemeral};
use futures::FutureExt;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Queue, Run,
    claim_loop::{Handoff, claim_loop},
    supervise::Supervise,
};

/// The runs of one queue, as apalis polls them. `A` is the payload's type.
#[must_use = "a backend does nothing unless a worker polls it"]
pub struct Runs<A> {
    queue: Queue,
    handoff: Arc<Handoff<A>>,
    /// Cancels the claim loop when dropped, also when a worker is restarted.
    stop: Option<DropGuard>,
    claiming: Option<JoinHandle<()>>,
}

impl<A> Runs<A> {
    /// Returns the backend of `queue`. It claims nothing until a worker polls it.
    pub fn new(queue: Queue) -> Self {
        Self {
            queue,
            handoff: Arc::new(Handoff::new()),
            stop: None,
            claiming: None,
        }
    }
}

impl<A: DeserializeOwned + Send + 'static> Backend for Runs<A> {
    type Task = Task<Run<A>>;
    type Error = Infallible;

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        // Respawned if it ever panicked: a worker that claims nothing would look alive for ever.
        if self.claiming.as_ref().is_none_or(JoinHandle::is_finished) {
            let stop = CancellationToken::new();
            self.stop = Some(stop.clone().drop_guard());
            self.claiming = Some(tokio::spawn(claim_loop(
                self.queue.clone(),
                Arc::clone(&self.handoff),
                worker.clone(),
                stop,
            )));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, Infallible>>> {
        self.handoff.waker.register(cx.waker());
        // Never `Ready(None)`: that would end the worker for good.
        let Some(run) = self.handoff.take_one() else {
            return Poll::Pending;
        };
        let id = TaskId::from_string(run.id.to_string());
        let earlier = usize::try_from(run.attempt - 1).unwrap_or(0);
        let task = TaskBuilder::new(run)
            .task_id(id)
            .attempt(earlier)
            .queue((&*self.queue.name).into())
            .build();
        Poll::Ready(Some(Ok(task)))
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        _: &WorkerContext,
    ) -> Poll<Result<(), Infallible>> {
        self.stop = None;
        if let Some(claiming) = &mut self.claiming {
            if let Err(error) = std::task::ready!(claiming.poll_unpin(cx)) {
                tracing::error!(queue.name = %self.queue.name, %error, "the claim loop failed");
            }
            self.claiming = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<A> BackendConfig for Runs<A> {
    type Args = Run<A>;
    type Id = TaskId;
    // `Durable` would decode inside `poll_next`, where one bad row would end the worker.
    type Kind = Ephemeral;
    type Config = Queue;
    type Layer = Supervise;

    fn config(&self) -> &Queue {
        &self.queue
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Supervise {
        Supervise::new(self.queue.clone())
    }
}

//! Work that outlives its attempt: once begun it is not stopped half way, and the process waits for it before it exits.

use std::sync::LazyLock;

use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::task::TaskTracker;

/// One per process, so that a `Drop`, which cannot await, can hand over its clean-up without being told where.
static DETACHED: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// Starts work that goes on even when its starter stops waiting for it.
pub(crate) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    DETACHED.spawn(work)
}

/// Does the same from a `Drop`, which cannot await. Without a runtime the process is about to end, and nothing is done.
pub(crate) fn spawn_from_drop(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        DETACHED.spawn_on(work, &runtime);
    }
}

/// Returns once no detached work is left: unfinished uploads are removed, and swaps that had begun are done.
///
/// Call this after the last job has ended or was stopped, and bound the wait: a store or a server may not answer.
pub async fn settled() {
    DETACHED.close();
    DETACHED.wait().await;
}

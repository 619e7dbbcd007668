//! Work that outlives its attempt: once begun it is not stopped half way, and a process waits for it before it ends.

use std::sync::LazyLock;

use tokio::{runtime::Handle, task::JoinHandle};
use tokio_util::task::TaskTracker;

/// One for the process: a dropped value, which can wait for nothing, hands its clean-up over without being told to whom.
static DETACHED: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// Starts work that whoever started it may stop waiting for, but not stop.
pub(crate) fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    DETACHED.spawn(work)
}

/// Starts the same from where nothing can be awaited. Without a runtime the process is about to end, and nothing is done.
pub(crate) fn spawn_from_drop(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        DETACHED.spawn_on(work, &runtime);
    }
}

/// Returns once no such work is left: half an upload is removed, a swap that had begun is done.
///
/// Ask after the last job has ended or was stopped, and bound the wait: a store or a server may not answer.
pub async fn settled() {
    DETACHED.close();
    DETACHED.wait().await;
}

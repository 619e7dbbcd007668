//! How are calls made that may never return, such as a read from a mount that hangs? On a thread of their own, with a
//! time limit on the wait.
//!
//! They must not run on the runtime's threads, where one such call would stall everything else. They must not run on the runtime's
//! blocking pool either: its threads are limited, and a process waits for them when it exits.

use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

/// Calls of one purpose, limited in number at any one time. Abandoned calls count, so that they cannot use up the process's threads.
pub struct Calls(Semaphore);

impl Calls {
    /// Returns a set of calls of which at most `calls` run at once.
    #[must_use]
    pub const fn at_most(calls: usize) -> Self {
        Self(Semaphore::const_new(calls))
    }

    /// Returns what `call` returns, or `None` if it takes longer than `within`. It then runs on, and its result is dropped.
    pub async fn answered<T: Send + 'static>(
        &'static self,
        within: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let calling = async {
            // The semaphore is never closed.
            let place = self.0.acquire().await.ok()?;
            let (tell, told) = oneshot::channel();
            let thread = std::thread::Builder::new().name("lastgood-blocking".to_owned());
            let begun = thread.spawn(move || {
                // The waiting side may have given up.
                drop(tell.send(call()));
                drop(place);
            });
            begun.ok()?;
            told.await.ok()
        };
        tokio::time::timeout(within, calling).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    /// The test's runtime has a single thread, which the blocking call must not hold up.
    #[tokio::test]
    async fn a_call_that_never_returns_is_given_up_and_stops_nobody_else() {
        static CALLS: Calls = Calls::at_most(1);
        let (release, released) = mpsc::channel::<()>();
        let hangs = move || released.recv().is_ok();
        assert_eq!(CALLS.answered(Duration::from_millis(20), hangs).await, None);
        // The abandoned call still holds its place.
        assert_eq!(CALLS.answered(Duration::from_millis(20), || 1).await, None);
        release.send(()).unwrap();
        assert_eq!(CALLS.answered(LONG, || 2).await, Some(2));
    }
}

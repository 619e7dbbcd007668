//! How is a call made that may never return, a read from a mount that hangs, say? On a thread of its own, for which nobody waits for ever.
//!
//! Not on the runtime's threads: one such call would stop everything else there. Nor on its pool for blocking calls, whose threads are few and
//! which a process waits for when it ends.

use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

/// Calls of one purpose, of which only so many may be under way, abandoned ones included: they cannot use up the process's threads.
pub struct Calls(Semaphore);

impl Calls {
    /// Returns the calls of one purpose, at most so many at once.
    #[must_use]
    pub const fn at_most(calls: usize) -> Self {
        Self(Semaphore::const_new(calls))
    }

    /// Returns what `call` returns, or `None` where it has not within `within`: then it goes on by itself, and what it returns is dropped.
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
                // Nobody may wait for it any more.
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

    /// A blocking call on the runtime: here the runtime has one thread, and goes on.
    #[tokio::test]
    async fn a_call_that_never_returns_is_given_up_and_stops_nobody_else() {
        static CALLS: Calls = Calls::at_most(1);
        let (release, released) = mpsc::channel::<()>();
        let hangs = move || released.recv().is_ok();
        assert_eq!(CALLS.answered(Duration::from_millis(20), hangs).await, None);
        // It still has its place: so many threads and no more.
        assert_eq!(CALLS.answered(Duration::from_millis(20), || 1).await, None);
        release.send(()).unwrap();
        assert_eq!(CALLS.answered(LONG, || 2).await, Some(2));
    }
}

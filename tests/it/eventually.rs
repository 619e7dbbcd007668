//! Waits for a condition until a deadline, never for a fixed time.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout};

/// Long enough for a busy machine, short enough not to hold up the tests when something fails.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Waits until `condition` holds. Fails with `what` after `deadline`.
pub(crate) async fn eventually(
    deadline: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let end = Instant::now() + deadline;
    while !condition().await? {
        if Instant::now() >= end {
            bail!("not within {deadline:?}: {what}");
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Waits until a condition that needs no query holds. Fails with `what` after a while.
pub(crate) async fn soon(what: &str, condition: impl Fn() -> bool) -> Result<()> {
    let holds = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    within(SOON, what, holds).await
}

/// Waits for a future. Fails with `what` after `deadline`.
pub(crate) async fn within<T>(
    deadline: Duration,
    what: &str,
    future: impl Future<Output = T>,
) -> Result<T> {
    match timeout(deadline, future).await {
        Ok(done) => Ok(done),
        Err(_) => bail!("not within {deadline:?}: {what}"),
    }
}

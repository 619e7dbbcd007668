//! Waits up to a millisecond for more of the same, because a statement for many runs costs little more than one for a single run.

use std::time::Duration;

use tokio::{sync::Notify, time::timeout};

/// How long to wait at most. No job notices.
const AT_MOST: Duration = Duration::from_millis(1);

/// How many are worth a statement of their own: to wait for more would only leave the server idle.
const ENOUGH: usize = 28;

/// Waits until there are enough, or a millisecond has passed. `more` is notified of each that joins.
pub(super) async fn gathered(more: &Notify, how_many: impl Fn() -> usize) {
    let enough = async {
        while how_many() < ENOUGH {
            more.notified().await;
        }
    };
    // Those that are there by then will do.
    let _enough_or_not = timeout(AT_MOST, enough).await;
}

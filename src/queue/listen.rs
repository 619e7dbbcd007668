//! Wake-ups: one LISTEN connection per process. A wake-up is a hint that can be lost.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::Notify;

use super::Queue;

/// The tasks to wake.
#[derive(Clone, Default)]
pub struct Wakers {
    /// The claim loops, by queue name.
    pub queues: HashMap<Arc<str>, Vec<Arc<Notify>>>,
    /// Wakes the task that looks for cancelled runs.
    pub cancelled: Arc<Notify>,
    /// The worker's name, and the waker of the task that looks for an order to drain it.
    pub drain: (Arc<str>, Arc<Notify>),
}

impl Wakers {
    /// Returns wakers for the claim loops of these queues.
    #[must_use]
    pub fn of(queues: &[Queue]) -> Self {
        let mut wakers = Self::default();
        for queue in queues {
            let of_name = wakers.queues.entry(Arc::clone(&queue.name)).or_default();
            of_name.push(queue.claims.wake());
        }
        wakers
    }
}

/// Wakes the claim loops when runs arrive, and the other tasks when an operator gives an order; never returns. Notifications can be lost,
/// so every woken task also polls.
pub async fn listen(pool: PgPool, wakers: Wakers) {
    loop {
        if let Err(error) = listen_until_lost(&pool, &wakers).await {
            tracing::warn!(%error, "not listening for new runs, polling meanwhile");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn listen_until_lost(pool: &PgPool, wakers: &Wakers) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener
        .listen_all(["lastgood_runs", "lastgood_orders"])
        .await?;
    let (worker, drain) = &wakers.drain;
    loop {
        // Notifications may have been lost while this connection was not listening.
        wakers
            .queues
            .values()
            .flatten()
            .for_each(|waker| waker.notify_one());
        wakers.cancelled.notify_one();
        drain.notify_one();
        while let Some(notification) = listener.try_recv().await? {
            match (notification.channel(), notification.payload()) {
                ("lastgood_runs", queue) => {
                    let woken = wakers.queues.get(queue).into_iter().flatten();
                    woken.for_each(|waker| waker.notify_one());
                }
                (_, to) if to == &**worker => drain.notify_one(),
                _ => wakers.cancelled.notify_one(),
            }
        }
    }
}

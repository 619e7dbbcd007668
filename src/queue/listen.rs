//! Wake-ups: one LISTEN connection per process, a hint that can be lost.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::Notify;

use super::Queue;

/// Who to wake.
#[derive(Clone, Default)]
pub struct Wakers {
    /// The claim loops, by queue name.
    pub queues: HashMap<Arc<str>, Vec<Arc<Notify>>>,
    /// Who looks for cancelled runs.
    pub cancelled: Arc<Notify>,
    /// Who looks for an order to drain, and the name that the order is for.
    pub drain: (Arc<str>, Arc<Notify>),
}

impl Wakers {
    /// Returns those of the claim loops of these queues.
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

/// Wakes the claim loops when runs arrive, and others when an operator orders something; never returns. Polls are the guarantee
/// behind it.
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
        // A fresh connection may have missed some.
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

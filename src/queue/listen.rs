//! Wake-ups: one LISTEN connection per process, a hint that can be lost.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{PgPool, postgres::PgListener};
use tokio::sync::Notify;

/// Who to wake, by queue name.
pub type Wakers = Arc<HashMap<Arc<str>, Vec<Arc<Notify>>>>;

/// Wakes the claim loops when runs arrive; never returns. The poll is the guarantee behind it.
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
    listener.listen("lastgood_runs").await?;
    loop {
        // A fresh connection may have missed some.
        wakers
            .values()
            .flatten()
            .for_each(|waker| waker.notify_one());
        while let Some(notification) = listener.try_recv().await? {
            let woken = wakers.get(notification.payload());
            woken
                .into_iter()
                .flatten()
                .for_each(|waker| waker.notify_one());
        }
    }
}

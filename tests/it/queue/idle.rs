//! Many waiting consumers share one catalog, with few connections each.

use anyhow::Result;
use futures::future::try_join_all;
use lastgood::catalog::Catalog;

use super::workers::{Settings, Workers, becomes, enqueue, report, with_a_shop};
use crate::eventually::{SOON, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_waits_holds_three_connections_whatever_it_held_before() -> Result<()> {
    let db = with_a_shop().await?;
    let consumer = Catalog::open_sparing(&db.url(), 12).await?;
    let settings = Settings {
        queues: &["postgres", "vector", "mongodb", "redis"],
        poll: std::time::Duration::from_secs(2),
        listens: true,
        ..Settings::default()
    };
    let workers = Workers::start(&consumer, &settings, |_| async { Ok(report()) });
    let id = enqueue(&db, "shop").await?;
    becomes(&db, id, "succeeded").await?;
    let busy = (0..8).map(|_| sqlx::query("select pg_sleep(0.5)").execute(consumer.pool()));
    try_join_all(busy).await?;
    assert!(consumer.pool().size() > 3, "it was not busy");
    eventually(SOON, "three connections are left", async || {
        Ok(consumer.pool().size() <= 3)
    })
    .await?;
    workers.stop().await
}

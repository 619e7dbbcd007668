//! Sentinel remembers every replica that it ever saw. A backup must not become one of them.

use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::Result;

use super::{
    dumps::back_up,
    lab::Lab,
    server::{Flavour::Redis7, Server},
};
use crate::lab::until;

#[tokio::test]
async fn a_backup_is_no_replica_that_sentinel_waits_for_ever_after() -> Result<()> {
    let Some(primary) = Server::start(Redis7, &[]).await? else {
        return Ok(());
    };
    let Some(sentinel) = primary.watched_by_sentinel().await? else {
        return Ok(());
    };
    // The backup waits this long for its snapshot, and is listed as a replica meanwhile.
    primary
        .run(0, "SET a 1\nCONFIG SET repl-diskless-sync-delay 4")
        .await?;
    sentinel.run(0, "SENTINEL DEBUG info-period 100").await?;
    let lab = Lab::new().await?;
    let url = primary.url();
    let (made, seen) = tokio::join!(back_up(&lab, &url), is_seen(&primary, &sentinel));
    made?;
    seen?;
    let replicas: Vec<redis::Value> = sentinel.ask(0, &["SENTINEL", "REPLICAS", "shop"]).await?;
    assert!(replicas.is_empty(), "{replicas:?}");
    Ok(())
}

/// Waits until the primary lists a replica and Sentinel has then asked it twice.
async fn is_seen(primary: &Server, sentinel: &Server) -> Result<()> {
    let listed = || async {
        let info: String = primary.ask(0, &["INFO", "replication"]).await?;
        Ok(info.contains("slave0:"))
    };
    until("the backup is listed as a replica", listed).await?;
    let (last, asked) = (AtomicI64::new(i64::MAX), AtomicI64::new(0));
    let twice = || async {
        let about: Vec<String> = sentinel.ask(0, &["SENTINEL", "MASTER", "shop"]).await?;
        let age = about.iter().skip_while(|it| *it != "info-refresh").nth(1);
        let age: i64 = age.and_then(|age| age.parse().ok()).unwrap_or(i64::MAX);
        if age < last.swap(age, Ordering::SeqCst) {
            asked.fetch_add(1, Ordering::SeqCst);
        }
        Ok(asked.load(Ordering::SeqCst) > 2)
    };
    until("Sentinel has asked the primary", twice).await
}

//! SIGTERM lets running work finish, or gives it back unharmed when the drain runs out of time.

use anyhow::{Context as _, Result};
use lastgood::run::RunState;

use super::{
    customer::{Customer, Rights},
    gate::{FakeTools, LARGE_TABLE, tools_at_work},
    lab::{Lab, PATIENCE},
    store,
};
use crate::eventually::eventually;

async fn stands_half_way(lab: &Lab) -> Result<()> {
    eventually(PATIENCE, "half an archive is in the store", async || {
        let files = store::files(&lab.store())?;
        Ok(files.iter().any(|file| file.starts_with("partial/")))
    })
    .await
}

async fn installation() -> Result<(Lab, Customer, FakeTools)> {
    let (mut lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    shop.run(LARGE_TABLE).await?;
    lab.add("shop", &shop).await?;
    let tools = FakeTools::gated()?;
    lab.set("LASTGOOD_PG_CLIENT_DIRS", tools.path());
    Ok((lab, shop, tools))
}

#[tokio::test]
async fn what_finishes_within_the_drain_is_recorded() -> Result<()> {
    let (lab, shop, tools) = installation().await?;
    let mut consumer = lab.consumer("consumer", &["--drain-timeout", "5m"]).await?;
    let run = lab.enqueue_backup("shop").await?;
    stands_half_way(&lab).await?;
    consumer.signal("TERM")?;
    eventually(PATIENCE, "the consumer drains", async || {
        Ok(consumer.get("/readyz").await?.contains("503"))
    })
    .await?;
    // Of another resource, because each resource has only one dump at a time.
    lab.add("other", &shop).await?;
    let waits = lab.enqueue_backup("other").await?;
    tools.open()?;
    assert!(consumer.exit().await?.success(), "{}", consumer.log()?);
    let row = lab.row(run).await?;
    assert_eq!((row.state.as_str(), row.attempt), ("succeeded", 1));
    let row = lab.row(waits).await?;
    assert_eq!(
        (row.state.as_str(), row.attempt),
        ("queued", 0),
        "a draining consumer claimed it"
    );
    lab.has_points(1).await?;
    assert!(tools_at_work(&shop.name, "pg_dump")?.is_empty());
    Ok(())
}

#[tokio::test]
async fn what_does_not_is_given_back_and_its_attempt_is_not_spent() -> Result<()> {
    let (lab, shop, tools) = installation().await?;
    // So short that the process could end before its partial archive is removed.
    let mut consumer = lab.consumer("first", &["--drain-timeout", "1ms"]).await?;
    let run = lab.enqueue_backup("shop").await?;
    stands_half_way(&lab).await?;
    consumer.signal("TERM")?;
    assert!(consumer.exit().await?.success(), "{}", consumer.log()?);
    let row = lab.row(run).await?;
    assert_eq!(
        (row.state.as_str(), row.attempt, row.consumer),
        ("queued", 0, None)
    );
    assert_eq!(row.error_kind, None);
    eventually(PATIENCE, "no child is left", async || {
        Ok(tools_at_work(&shop.name, "pg_dump")?.is_empty())
    })
    .await?;
    lab.has_points(0).await?;
    assert_eq!(store::files(&lab.home.path().join("work"))?.len(), 0);

    tools.open()?;
    let _second = lab.consumer("second", &[]).await?;
    assert_eq!(lab.succeeds(run).await?.attempt, 1);
    lab.has_points(1).await?;
    Ok(())
}

#[tokio::test]
async fn a_consumer_whose_registration_was_forgotten_is_seen_again() -> Result<()> {
    let lab = Lab::create().await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    lab.catalog
        .execute("delete from lastgood.consumers")
        .await?;
    eventually(PATIENCE, "it is seen", async || {
        Ok(lab.catalog.catalog.live_consumers().await?.len() == 1)
    })
    .await
}

#[tokio::test]
async fn a_sigterm_after_an_operators_drain_is_the_second_order_to_stop() -> Result<()> {
    let (lab, shop, _tools) = installation().await?;
    let mut consumer = lab.consumer("consumer", &["--drain-timeout", "1h"]).await?;
    let run = lab.enqueue_backup("shop").await?;
    stands_half_way(&lab).await?;
    let id = lab.row(run).await?.consumer.context("nobody has it")?;
    lab.run(&["consumer", "drain", &id]).await?;
    eventually(PATIENCE, "the consumer drains", async || {
        Ok(consumer.get("/readyz").await?.contains("503"))
    })
    .await?;
    consumer.signal("TERM")?;
    assert!(consumer.exit().await?.success(), "{}", consumer.log()?);
    assert_eq!(lab.row(run).await?.state, RunState::Queued);
    eventually(PATIENCE, "no child is left", async || {
        Ok(tools_at_work(&shop.name, "pg_dump")?.is_empty())
    })
    .await
}

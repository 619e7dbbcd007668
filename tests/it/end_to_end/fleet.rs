//! With many resources and several consumers, each slot is backed up once.

use anyhow::{Result, ensure};
use lastgood::run::RunState;

use super::{
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE},
    program::Service,
};
use crate::eventually::eventually;

const RESOURCES: usize = 30;

async fn lets_ticks_pass(producer: &Service, ticks: f64) -> Result<()> {
    let series = "lastgood_ticks_total{result=\"succeeded\"}";
    let so_far = producer.metric(series).await?;
    producer.shows(series, so_far + ticks).await
}

#[tokio::test]
async fn two_consumers_back_up_each_slot_of_thirty_resources_once() -> Result<()> {
    let (mut lab, shop) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    shop.run("create table orders as select n from generate_series(1, 100) n")
        .await?;
    lab.set("SHOP_URL", shop.url());
    for n in 0..RESOURCES {
        let (id, team) = (format!("shop-{n}"), format!("team-{}", n % 7));
        let args = [
            "resource",
            "add",
            &id,
            "--team",
            &team,
            "--tier",
            "pro",
            "--engine",
            "vector",
            "--connection",
            "env:SHOP_URL",
        ];
        lab.run(&args).await?.succeeded()?;
    }
    let consumers = [lab.consumer("a", &[]).await?, lab.consumer("b", &[]).await?];
    let producer = lab.producer()?;
    eventually(PATIENCE, "every resource has a restore point", async || {
        let backed_up = "select count(distinct resource_id) from lastgood.restore_points";
        Ok(usize::try_from(lab.catalog.count(backed_up).await?)? == RESOURCES)
    })
    .await?;
    lets_ticks_pass(&producer, 3.0).await?;

    // If an hour has begun in the meantime, each resource has one more slot.
    let runs = lab.runs().await?;
    let mut slots: Vec<_> = runs
        .iter()
        .map(|run| (&run.resource, run.slot_at))
        .collect();
    slots.sort();
    let all = slots.len();
    slots.dedup();
    assert_eq!(slots.len(), all, "a slot has two runs");
    for run in &runs {
        ensure!(
            run.state != RunState::Failed && run.attempt <= 1 && run.error.is_none(),
            "{run:?}"
        );
    }
    let mut done = 0.0;
    for consumer in &consumers {
        let succeeded =
            "lastgood_runs_total{engine=\"vector\",kind=\"backup\",result=\"succeeded\"}";
        let its = consumer.metric(succeeded).await?;
        assert!(its > 0.0, "a consumer was idle");
        done += its;
    }
    assert!(done >= 30.0, "{done}");
    Ok(())
}

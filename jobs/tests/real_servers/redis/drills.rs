//! A drill proves a restore point of Redis and Valkey, and tells which part of the keys is not as it was.

use anyhow::{Context as _, Result};
use lastgood_jobs::{
    contents::Fact,
    drill::{Outcome, Unproven},
};
use rstest::rstest;

use super::{
    dumps::back_up,
    lab::Lab,
    server::{
        Flavour::{self, Redis6, Valkey9},
        Server,
    },
    shop::fill,
};
use crate::drills::{Ground, differs_in, forge, is_not_possible};

#[rstest]
#[case::redis(Redis6)]
#[case::valkey(Valkey9)]
#[tokio::test]
async fn a_point_is_proven_item_by_item(#[case] flavour: Flavour) -> Result<()> {
    let Some(server) = Server::start(flavour, &[]).await? else {
        return Ok(());
    };
    fill(&server).await?;
    let lab = Lab::new().await?;
    let point = back_up(&lab, &server.url()).await?;
    let drilled = Ground::new().await?.drill(&point, &lab.worker).await?;
    assert_eq!(drilled.outcome, Outcome::Proven, "{drilled:#?}");
    let comparison = drilled.comparison.context("nothing was compared")?;
    assert!(comparison.records > 10, "{comparison:#?}");
    Ok(())
}

#[rstest]
#[case::a_value("SET drill:one 2", Fact::Hash)]
#[case::a_key("DEL drill:one", Fact::Count)]
#[tokio::test]
async fn what_a_dump_lost_is_told(#[case] change: &str, #[case] fact: Fact) -> Result<()> {
    let Some(server) = Server::start(Valkey9, &[]).await? else {
        return Ok(());
    };
    fill(&server).await?;
    server.run(0, "SET drill:one 1").await?;
    let lab = Lab::new().await?;
    let whole = back_up(&lab, &server.url()).await?;
    server.run(0, change).await?;
    let less = back_up(&lab, &server.url()).await?;
    let forged = forge(lab.store.path(), &less, &whole)?;
    let drilled = Ground::new().await?.drill(&forged, &lab.worker).await?;
    differs_in(&drilled, "keys", "0", fact);
    Ok(())
}

#[tokio::test]
async fn a_consumer_without_the_server_proves_and_condemns_nothing() -> Result<()> {
    let Some(server) = Server::start(Valkey9, &[]).await? else {
        return Ok(());
    };
    fill(&server).await?;
    let lab = Lab::new().await?;
    let point = back_up(&lab, &server.url()).await?;
    let ground = Ground::without_servers().await?;
    let drilled = ground.drill(&point, &lab.worker).await?;
    is_not_possible(&drilled, Unproven::NoServer);
    Ok(())
}

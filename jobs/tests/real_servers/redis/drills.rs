//! A drill proves a restore point of Redis and Valkey, and tells which part of the keys is not as it was.

use anyhow::{Context as _, Result};
use lastgood_jobs::{
    contents::Fact,
    drill::{Outcome, Unproven},
    scratch::ServerPrograms,
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
use crate::drills::{Ground, forge};

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
    assert!(
        matches!(drilled.outcome, Outcome::Differs { .. }),
        "{drilled:#?}"
    );
    let comparison = drilled.comparison.context("nothing was compared")?;
    let found: Vec<_> = comparison
        .differences
        .iter()
        .map(|it| (&*it.kind, it.fact))
        .collect();
    assert_eq!(found, [("keys", fact)], "{comparison:#?}");
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
    let mut ground = Ground::new().await?;
    ground.drills.programs = ServerPrograms::default();
    let drilled = ground.drill(&point, &lab.worker).await?;
    assert!(
        matches!(
            drilled.outcome,
            Outcome::NotPossible {
                reason: Unproven::NoServer,
                ..
            }
        ),
        "{drilled:?}"
    );
    Ok(())
}

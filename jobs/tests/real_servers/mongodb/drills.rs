//! A drill proves a restore point of MongoDB, and tells what is missing by its name.

use anyhow::{Context as _, Result};
use bson::doc;
use lastgood_jobs::{
    contents::Fact,
    drill::{Outcome, Unproven},
};
use rstest::rstest;

use super::{contents::back_up, lab::Lab, restores::furnish};
use crate::drills::{Ground, differs_in, forge, is_not_possible};

async fn furnished() -> Result<Lab> {
    let lab = Lab::new().await?;
    furnish(&lab).await?;
    lab.insert(
        "paid",
        &[doc! {"_id": 1, "amount": 5}, doc! {"_id": 2, "amount": 7}],
    )
    .await?;
    let at = bson::DateTime::from_millis(1_000);
    lab.insert("seen", &[doc! {"_id": 1, "at": at}]).await?;
    lab.run(doc! {"createIndexes": "seen", "indexes": [
        {"key": {"at": 1}, "name": "gone_some_day", "expireAfterSeconds": 2_000_000_000},
    ]})
    .await?;
    Ok(lab)
}

#[tokio::test]
async fn a_point_is_proven_item_by_item() -> Result<()> {
    let lab = furnished().await?;
    let point = back_up(&lab).await?;
    let drilled = Ground::new().await?.drill(&point, &lab.worker).await?;
    assert_eq!(drilled.outcome, Outcome::Proven, "{drilled:#?}");
    let comparison = drilled.comparison.context("nothing was compared")?;
    assert_eq!(comparison.left_out, [], "{comparison:#?}");
    assert!(comparison.records > 3000, "{comparison:#?}");
    lab.clean().await
}

#[rstest]
#[case::a_document(doc! {"update": "paid", "updates": [{"q": {"_id": 2}, "u": {"$set": {"amount": 8}}}]}, "collection", "paid", Fact::Hash)]
#[case::documents(doc! {"delete": "paid", "deletes": [{"q": {"_id": 2}, "limit": 1}]}, "collection", "paid", Fact::Count)]
#[case::an_index(doc! {"dropIndexes": "seen", "index": "gone_some_day"}, "index", "seen.gone_some_day", Fact::Existence)]
#[case::a_ttl(doc! {"collMod": "seen", "index": {"name": "gone_some_day", "expireAfterSeconds": 2_000_000_001}}, "index", "seen.gone_some_day", Fact::Value)]
#[case::a_collection(doc! {"drop": "paid"}, "collection", "paid", Fact::Existence)]
#[tokio::test]
async fn what_a_dump_lost_is_told_by_its_name(
    #[case] change: bson::Document,
    #[case] kind: &str,
    #[case] name: &str,
    #[case] fact: Fact,
) -> Result<()> {
    let lab = furnished().await?;
    let whole = back_up(&lab).await?;
    lab.run(change).await?;
    let less = back_up(&lab).await?;
    let forged = forge(lab.store.path(), &less, &whole)?;
    let drilled = Ground::new().await?.drill(&forged, &lab.worker).await?;
    differs_in(&drilled, kind, &format!("{}.{name}", lab.name), fact);
    lab.clean().await
}

#[tokio::test]
async fn a_consumer_without_the_server_proves_and_condemns_nothing() -> Result<()> {
    let lab = furnished().await?;
    let point = back_up(&lab).await?;
    let ground = Ground::without_servers().await?;
    let drilled = ground.drill(&point, &lab.worker).await?;
    is_not_possible(&drilled, Unproven::NoServer);
    lab.clean().await
}

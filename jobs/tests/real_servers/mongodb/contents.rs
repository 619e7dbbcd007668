//! A dump of what was restored has the same contents as the dump that it was restored from, and whatever is changed in
//! between is told by its name.

use anyhow::{Result, ensure};
use bson::{Document, doc};
use lastgood_jobs::{
    backup::RestorePoint,
    contents::{Comparison, Contents, compare},
    engine::contents::of_dump,
    job::RestoreTarget,
    resource::Engine,
};
use rstest::rstest;

use super::{lab::Lab, restores::furnish, restoring::Point};
use crate::{lab::attempt, subject::backup};

pub(super) async fn back_up(lab: &Lab) -> Result<RestorePoint> {
    Ok(backup(attempt(), &lab.resource, None, &lab.worker).await?)
}

pub(super) fn contents(lab: &Lab, point: &RestorePoint) -> Result<Contents> {
    let objects = lab.store.path().join("objects");
    let archive = std::fs::File::open(objects.join(&point.manifest.archive.key))?;
    Ok(of_dump(Engine::Mongodb, zstd::Decoder::new(archive)?)?)
}

async fn compared(lab: &Lab, dumped: &Contents) -> Result<Comparison> {
    let back = contents(lab, &back_up(lab).await?)?;
    Ok(compare(dumped, &back, chrono::Utc::now()))
}

/// Drops everything, and restores it.
async fn restored(lab: &Lab, point: &RestorePoint) -> Result<()> {
    for name in lab.state().await?.keys() {
        lab.run(doc! {"drop": name}).await?;
    }
    lab.restore(&Point::from(point), RestoreTarget::Own {})
        .await?;
    Ok(())
}

#[rstest]
#[tokio::test]
async fn everything_that_comes_back_is_the_same(
    #[values(
        "LASTGOOD_TEST_MONGODB_URL",
        "LASTGOOD_TEST_MONGODB_4_4_URL",
        "LASTGOOD_TEST_MONGODB_5_0_URL",
        "LASTGOOD_TEST_MONGODB_6_0_27_URL"
    )]
    server: &str,
) -> Result<()> {
    let Some(lab) = Lab::of_version(server).await? else {
        return Ok(());
    };
    furnish(&lab).await?;
    if lab.has_time_series() {
        lab.run(doc! {"create": "load", "timeseries": {"timeField": "t", "metaField": "host"}})
            .await?;
        let at = |n: i32| bson::DateTime::from_millis(1_700_000_000_000 + i64::from(n) * 60_000);
        let points: Vec<_> = (0..300)
            .map(|n| doc! {"t": at(n), "host": n % 3, "load": n})
            .collect();
        lab.insert("load", &points).await?;
    }
    let point = back_up(&lab).await?;
    let dumped = contents(&lab, &point)?;
    restored(&lab, &point).await?;
    let comparison = compared(&lab, &dumped).await?;
    assert_eq!(comparison.differences, []);
    assert_eq!(comparison.left_out, []);
    ensure!(comparison.records > 3000, "{comparison:?}");
    ensure!(
        comparison.compared.get("index") >= Some(&9),
        "{comparison:?}"
    );
    assert_eq!(comparison.compared.get("view"), Some(&2));
    lab.clean().await
}

#[tokio::test]
async fn a_standalones_documents_are_compared_too() -> Result<()> {
    let lab = Lab::standalone().await?;
    let some: Vec<_> = (0..500).map(|n| doc! {"_id": n, "n": n}).collect();
    lab.insert("orders", &some).await?;
    let point = back_up(&lab).await?;
    let dumped = contents(&lab, &point)?;
    restored(&lab, &point).await?;
    let comparison = compared(&lab, &dumped).await?;
    assert_eq!((comparison.differing, comparison.records), (0, 500));
    lab.clean().await
}

#[rstest]
#[case::a_document(
    doc! {"update": "people", "updates": [{"q": {"z": 7}, "u": {"$set": {"name": "y"}}}], "bypassDocumentValidation": true},
    "collection", "people"
)]
#[case::a_lost_document(doc! {"delete": "noms", "deletes": [{"q": {"_id": "a"}, "limit": 1}]}, "collection", "noms")]
#[case::an_index(doc! {"dropIndexes": "people", "index": "compound"}, "index", "people.compound")]
#[case::a_ttl(
    doc! {"collMod": "people", "index": {"name": "expires", "expireAfterSeconds": 1_000_000_001}},
    "index", "people.expires"
)]
#[case::a_rule(doc! {"collMod": "people", "validator": {}}, "collection", "people")]
#[case::a_view(doc! {"drop": "a_view_of_adults"}, "view", "a_view_of_adults")]
#[case::a_pipeline(doc! {"collMod": "adults", "viewOn": "people", "pipeline": []}, "view", "adults")]
#[case::an_empty_collection(doc! {"drop": "nothing"}, "collection", "nothing")]
#[tokio::test]
async fn a_change_is_told_by_its_name(
    #[case] change: Document,
    #[case] kind: &str,
    #[case] name: &str,
) -> Result<()> {
    let lab = Lab::new().await?;
    furnish(&lab).await?;
    let dumped = contents(&lab, &back_up(&lab).await?)?;
    lab.run(change).await?;
    let told = compared(&lab, &dumped).await?.differences;
    let told: Vec<_> = told
        .iter()
        .map(|it| (it.kind.as_str(), it.name.as_str()))
        .collect();
    assert_eq!(told, [(kind, format!("{}.{name}", lab.name).as_str())]);
    lab.clean().await
}

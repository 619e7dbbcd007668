//! A suspect point is recorded as suspect on every path, and counts towards nothing until an operator confirms it.

use anyhow::{Context as _, Result, ensure};
use chrono::{TimeDelta, Utc};
use lastgood::{
    catalog::{CatalogError, FoundPoint, Order},
    queue::Outcome,
};
use lastgood_jobs::{
    attempt::RunId,
    manifest::{Manifest, Suspect, Suspicion},
};
use uuid::Uuid;

use super::{
    proofs::proven,
    workers::{Settings, Workers, becomes, enqueue, restore_point, with_a_shop},
};
use crate::database::TestCatalog;

fn doubts(reason: Suspect) -> Vec<Suspicion> {
    vec![Suspicion::new(reason, "it looks wrong")]
}

/// Runs a backup of `shop` whose manifest carries these suspicions, and returns its point.
async fn back_up(db: &TestCatalog, suspicions: Vec<Suspicion>) -> Result<Uuid> {
    let id = enqueue(db, "shop").await?;
    let workers = Workers::start(&db.catalog, &Settings::default(), move |run| {
        let suspicions = suspicions.clone();
        async move {
            let mut made = restore_point(&run)?;
            if let Outcome::RestorePoint(point) = &mut made {
                point.manifest.suspicions = suspicions;
            }
            Ok(made)
        }
    });
    becomes(db, id, "succeeded").await?;
    workers.stop().await?;
    Ok(id.0)
}

async fn newest(db: &TestCatalog) -> Result<Option<Uuid>> {
    Ok(db.catalog.newest_point("shop", None).await?.map(|it| it.id))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspect_point_is_nobodys_default_and_ends_no_exposure_until_it_is_confirmed()
-> Result<()> {
    let db = with_a_shop().await?;
    let good = back_up(&db, Vec::new()).await?;
    let exposed = db.catalog.resource("shop").await?.newest_consistent_at;
    let suspect = back_up(&db, doubts(Suspect::UnfinishedRestore)).await?;

    let point = db.catalog.point(suspect).await?;
    ensure!(
        point.suspected_at.is_some()
            && point.suspected_of == Some(vec!["unfinished_restore".to_owned()])
            && point.suspected_because.as_deref() == Some("it looks wrong"),
        "{point:?}"
    );
    assert_eq!(newest(&db).await?, Some(good));
    let resource = db.catalog.resource("shop").await?;
    assert_eq!(resource.newest_consistent_at, exposed);
    assert_eq!(
        db.catalog.newest_that_opens("shop", None).await?,
        exposed,
        "nor is it the newest that opens"
    );
    let counts = db.catalog.suspect_counts().await?;
    let count = counts.first().context("nothing is counted")?;
    assert_eq!((count.points, count.resources), (1, 1));
    ensure!(db.catalog.suspects(10).await?.iter().all(|it| it.is_newest));

    let order = Order::new("olga", None);
    db.catalog.confirm(suspect, "acme says so", &order).await?;
    assert_eq!(newest(&db).await?, Some(suspect));
    let resource = db.catalog.resource("shop").await?;
    assert_eq!(resource.newest_consistent_at, Some(point.consistent_at));
    let audited = "select count(*) from lastgood.audit where action = 'confirm' and actor = 'olga'
        and detail ->> 'reason' = 'acme says so' and detail ->> 'was_suspected_because' = 'it looks wrong'";
    assert_eq!(db.count(audited).await?, 1);
    ensure!(db.catalog.suspects(10).await?.is_empty());
    let again = db.catalog.confirm(suspect, "twice", &order).await;
    ensure!(
        matches!(again, Err(CatalogError::NotSuspect(_))),
        "{again:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acquitted_condemned_or_shredded_beside_it_leaves_it_suspect() -> Result<()> {
    let db = with_a_shop().await?;
    let good = back_up(&db, Vec::new()).await?;
    let suspect = back_up(&db, doubts(Suspect::Shrunk)).await?;
    let exposed = db.catalog.resource("shop").await?.newest_consistent_at;
    let condemn = "update lastgood.restore_points set quarantined_at = now(), quarantined_because = 'a bad byte' where id = $1";
    sqlx::query(condemn)
        .bind(suspect)
        .execute(db.pool())
        .await?;
    verified(&db, suspect).await?;
    let point = db.catalog.point(suspect).await?;
    ensure!(
        point.verified_at.is_some()
            && point.quarantined_at.is_none()
            && point.suspected_at.is_some(),
        "its bytes are proven, and that is all: {point:?}"
    );
    let resource = db.catalog.resource("shop").await?;
    assert_eq!(resource.newest_consistent_at, exposed);

    // Once the good point is damaged, no suspect one takes its place.
    damaged(&db, good).await?;
    let resource = db.catalog.resource("shop").await?;
    assert_eq!(resource.newest_consistent_at, None, "{resource:?}");
    assert_eq!(newest(&db).await?, None);
    Ok(())
}

/// Runs a verification that proves the point.
async fn verified(db: &TestCatalog, point: Uuid) -> Result<()> {
    ends(db, point, move |_| {
        Ok(Outcome::Proof {
            point,
            stores: vec!["primary".to_owned()],
            report: serde_json::json!({ "verified": "whole" }),
            proof: proven(point),
        })
    })
    .await
}

async fn damaged(db: &TestCatalog, point: Uuid) -> Result<()> {
    ends(db, point, move |_| {
        let mut failure = lastgood::queue::Failure::permanent(
            lastgood_jobs::error::ErrorKind::Corrupt,
            "it is damaged",
        );
        failure.condemned = Some(lastgood::queue::Condemned::Damaged(point));
        Err(failure)
    })
    .await
}

async fn ends(
    db: &TestCatalog,
    point: Uuid,
    outcome: impl Fn(Uuid) -> Result<Outcome, lastgood::queue::Failure> + Send + Sync + Copy + 'static,
) -> Result<()> {
    let selection = lastgood::catalog::Selection {
        point: Some(point),
        ..Default::default()
    };
    let asked = db.catalog.ask_for_verifications(&selection).await?;
    let run = asked.first().context("nothing was asked for")?.run;
    let workers = Workers::start(&db.catalog, &Settings::default(), move |run| async move {
        Ok(outcome(run.id.0)?)
    });
    crate::eventually::eventually(
        std::time::Duration::from_mins(1),
        "the verification ends",
        async || Ok(db.catalog.run(run).await?.state.has_ended()),
    )
    .await?;
    workers.stop().await?;
    Ok(())
}

/// Returns a manifest as a store has it.
async fn manifest(db: &TestCatalog) -> Result<Manifest> {
    let point = back_up(db, Vec::new()).await?;
    Ok(db.catalog.point(point).await?.recorded()?)
}

fn found(manifest: &Manifest, change: impl FnOnce(&mut Manifest)) -> FoundPoint {
    let mut manifest = manifest.clone();
    manifest.run_id = RunId(Uuid::new_v4());
    change(&mut manifest);
    FoundPoint {
        manifest_key: format!("v1/acme/shop/{}.manifest.json", manifest.run_id),
        manifest,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_records_what_manifests_say_and_believes_no_date_that_is_yet_to_come()
-> Result<()> {
    let db = with_a_shop().await?;
    let good = manifest(&db).await?;
    let fresh = TestCatalog::create().await?;
    let now = Utc::now();
    let forged = found(&good, |it| {
        it.consistent_at = now + TimeDelta::days(365 * 70);
        it.finished_at = it.consistent_at;
    });
    let doubtful = found(&good, |it| {
        it.consistent_at = now;
        it.suspicions = doubts(Suspect::Shrunk);
    });
    let honest = found(&good, |it| it.consistent_at = now - TimeDelta::hours(3));
    let (forged_id, doubtful_id, honest_id) = (
        forged.manifest.run_id.0,
        doubtful.manifest.run_id.0,
        honest.manifest.run_id.0,
    );
    let both_reasons = found(&good, |it| {
        it.consistent_at = now + TimeDelta::days(1);
        it.suspicions = doubts(Suspect::UnfinishedRestore);
    });
    let both_id = both_reasons.manifest.run_id.0;
    fresh
        .catalog
        .rebuild("primary", &[forged, doubtful, honest, both_reasons])
        .await?;
    let resource = fresh.catalog.resource("shop").await?;
    let newest = resource.newest_consistent_at.context("no newest")?;
    ensure!(
        newest <= now - TimeDelta::hours(3) + TimeDelta::seconds(1),
        "status is not blinded: {newest}"
    );
    let reasons = async |id| Ok::<_, CatalogError>(fresh.catalog.point(id).await?.suspected_of);
    assert_eq!(
        reasons(forged_id).await?,
        Some(vec!["from_the_future".to_owned()])
    );
    assert_eq!(reasons(doubtful_id).await?, Some(vec!["shrunk".to_owned()]));
    assert_eq!(reasons(honest_id).await?, None);
    assert_eq!(
        reasons(both_id).await?,
        Some(vec![
            "from_the_future".to_owned(),
            "unfinished_restore".to_owned()
        ])
    );
    let default = fresh.catalog.newest_point("shop", None).await?;
    assert_eq!(default.map(|it| it.id), Some(honest_id));
    Ok(())
}

//! A point that is pinned or held is kept, and who did it is on record.

use anyhow::{Context as _, Result, ensure};
use chrono::TimeDelta;
use lastgood::catalog::{AuditFilter, CatalogError, Custody};
use rstest::rstest;

use super::House;

#[rstest]
#[case::pin(Custody::Pin, "pin", "unpin")]
#[case::hold(Custody::Hold, "hold", "release")]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_by_hand_stays_until_it_is_not_and_both_are_recorded(
    #[case] custody: Custody,
    #[case] kept: &str,
    #[case] no_more: &str,
) -> Result<()> {
    let house = House::build().await?;
    let [_, old] = house.points([1, 90]).await?;
    house
        .db
        .catalog
        .keep(old, custody, "the auditors come")
        .await?;
    assert_eq!(house.retain().await?, 0);
    house.db.catalog.keep_no_more(old, custody).await?;
    assert_eq!(house.retain().await?, 1);

    let acts = house.db.catalog.audited(&AuditFilter::newest(10)).await?;
    let told: Vec<_> = acts.iter().rev().map(|act| act.action.as_str()).collect();
    assert_eq!(told, [kept, no_more]);
    let first = acts.last().context("nothing is recorded")?;
    assert_eq!(first.point, Some(old));
    assert_eq!(first.resource.as_deref(), Some("shop"));
    assert_eq!(first.detail["reason"], "the auditors come");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_and_a_hold_are_two_things() -> Result<()> {
    let house = House::build().await?;
    let [_, old] = house.points([1, 90]).await?;
    house.db.catalog.keep(old, Custody::Pin, "mine").await?;
    house
        .db
        .catalog
        .keep(old, Custody::Hold, "the court's")
        .await?;
    house.db.catalog.keep_no_more(old, Custody::Pin).await?;
    assert_eq!(house.retain().await?, 0, "it is held");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_takes_back_what_was_let_go_until_its_removal_has_begun() -> Result<()> {
    let house = House::build().await?;
    let [_, saved, lost] = house.points([1, 80, 90]).await?;
    assert_eq!(house.retain().await?, 2);
    house
        .db
        .catalog
        .keep(saved, Custody::Pin, "just in time")
        .await?;
    ensure!(house.db.catalog.begin_removal(saved).await?.is_none());
    assert_eq!(house.gone_ids().await?, [lost]);

    ensure!(house.db.catalog.begin_removal(lost).await?.is_some());
    let refused = house.db.catalog.keep(lost, Custody::Pin, "too late").await;
    ensure!(
        matches!(refused, Err(CatalogError::TooLateToKeep(id)) if id == lost),
        "{refused:?}"
    );
    let acts = house.db.catalog.audited(&AuditFilter::newest(10)).await?;
    assert_eq!(acts.len(), 1, "what did not happen is not on record");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said() -> Result<()> {
    let house = House::build().await?;
    let nobody = uuid::Uuid::new_v4();
    let said = house.db.catalog.keep(nobody, Custody::Pin, "x").await;
    ensure!(
        matches!(said, Err(CatalogError::NotFound { .. })),
        "{said:?}"
    );
    let said = house.db.catalog.keep_no_more(nobody, Custody::Pin).await;
    ensure!(
        matches!(said, Err(CatalogError::NotFound { .. })),
        "{said:?}"
    );
    let some = house.point(TimeDelta::days(1)).await?;
    house.db.catalog.keep_no_more(some, Custody::Pin).await?;
    ensure!(
        house
            .db
            .catalog
            .audited(&AuditFilter::newest(10))
            .await?
            .is_empty()
    );
    Ok(())
}

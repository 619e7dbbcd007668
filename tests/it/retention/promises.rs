//! A changed promise shortens nothing before the grace period is over, wherever it was changed.

use anyhow::Result;
use chrono::TimeDelta;
use lastgood::{
    catalog::{Order, ResourceChange},
    nouns::ResourceStatus,
};

use super::{House, sorted};
use crate::database::plans;

impl House {
    async fn move_to(&self, tier: &str) -> Result<()> {
        let change = ResourceChange {
            tier: Some(tier.parse()?),
            ..ResourceChange::default()
        };
        Ok(self
            .db
            .catalog
            .alter_resource("shop", &change, None, &Order::new("test", None))
            .await?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downgrade_shortens_retention_after_the_grace_period() -> Result<()> {
    let mut house = House::build().await?;
    let [_, ten, twenty] = house.points([0, 10, 20]).await?;
    assert_eq!(house.retain().await?, 0);
    house.move_to("hobby").await?;
    assert_eq!(house.retain().await?, 0);
    house
        .advance(TimeDelta::days(7) - TimeDelta::minutes(1))
        .await?;
    assert_eq!(house.retain().await?, 0);
    house.advance(TimeDelta::minutes(1)).await?;
    house.retain().await?;
    assert_eq!(house.gone_ids().await?, sorted([ten, twenty]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_downgrades_within_one_grace_period_do_not_end_it() -> Result<()> {
    let mut house = House::build().await?;
    house.points([0, 20]).await?;
    house.retain().await?;
    house.move_to("hobby").await?;
    house.retain().await?;
    house.advance(TimeDelta::days(1)).await?;
    house.move_to("free").await?;
    assert_eq!(house.retain().await?, 0);
    house.advance(TimeDelta::days(5)).await?;
    assert_eq!(house.retain().await?, 0);
    house.advance(TimeDelta::days(1)).await?;
    assert_eq!(
        house.retain().await?,
        1,
        "the seven days of hobby are over too"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_plans_has_a_grace_period_too() -> Result<()> {
    let mut house = House::build().await?;
    house.points([0, 20]).await?;
    house.retain().await?;
    house.plans = plans(&[("pro", 60, 7)])?;
    assert_eq!(house.retain().await?, 0);
    house.advance(TimeDelta::days(7)).await?;
    assert_eq!(house.retain().await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_veto_keeps_what_was_promised_until_it_is_over() -> Result<()> {
    let mut house = House::build().await?;
    house.points([0, 10]).await?;
    house.retain().await?;
    house.move_to("free").await?;
    house.retain().await?;
    house.advance(TimeDelta::days(19)).await?;
    assert_eq!(house.retain().await?, 0);
    house.advance(TimeDelta::days(1)).await?;
    assert_eq!(house.retain().await?, 1);
    house.advance(TimeDelta::days(1000)).await?;
    assert_eq!(house.retain().await?, 0, "the newest of a live resource");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_resource_keeps_its_points_as_long_as_was_promised_at_its_removal() -> Result<()>
{
    let mut house = House::build().await?;
    let [newest, old] = house.points([1, 20]).await?;
    house.retain().await?;
    house
        .db
        .catalog
        .alter_resource(
            "shop",
            &ResourceChange::default(),
            Some(ResourceStatus::Removed),
            &Order::new("test", None),
        )
        .await?;
    // By now the plans say something else, or nothing.
    house.plans = plans(&[("hobby", 60, 1)])?;
    assert_eq!(house.retain().await?, 0);
    house.advance(TimeDelta::days(10)).await?;
    house.retain().await?;
    assert_eq!(house.gone_ids().await?, [old]);
    house.advance(TimeDelta::days(19)).await?;
    house.retain().await?;
    assert_eq!(house.gone_ids().await?, sorted([old, newest]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_rebuilt_resource_goes_until_a_grace_period_after_it_has_a_connection()
-> Result<()> {
    let mut house = House::build().await?;
    house.points([0, 40, 50]).await?;
    // As a rebuild leaves it: the resource's own retention, perhaps a year, is in no manifest.
    house
        .db
        .execute("update lastgood.resources set connection_ref = null, status = 'paused'")
        .await?;
    house
        .db
        .execute("update lastgood.retention set record = null")
        .await?;
    for _ in 0..5 {
        assert_eq!(house.retain().await?, 0);
        house.advance(TimeDelta::days(30)).await?;
    }
    house
        .db
        .execute("update lastgood.resources set connection_ref = 'env:URL', status = 'active'")
        .await?;
    assert_eq!(house.retain().await?, 0);
    house
        .advance(TimeDelta::days(7) - TimeDelta::minutes(1))
        .await?;
    assert_eq!(house.retain().await?, 0);
    house.advance(TimeDelta::minutes(1)).await?;
    assert_eq!(house.retain().await?, 2);
    Ok(())
}

//! With a wrong clock, nothing expires that a right one would keep.

use anyhow::{Result, ensure};
use chrono::TimeDelta;
use lastgood::{catalog::CatalogError, producer::retain};

use super::{GRACE, House};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_while_the_catalogs_clock_and_the_producers_are_an_hour_apart() -> Result<()> {
    let house = House::build().await?;
    house.points([1, 40]).await?;
    house
        .db
        .execute("update lastgood.retention set look_at = now()")
        .await?;
    for apart in [TimeDelta::minutes(61), -TimeDelta::minutes(61)] {
        let wrong = retain(&house.db.catalog, &house.plans, GRACE, || house.now - apart).await;
        let Err(CatalogError::ClocksApart { minutes }) = wrong else {
            anyhow::bail!("{wrong:?}")
        };
        assert_eq!(minutes, apart.num_minutes());
    }
    ensure!(house.gone_ids().await?.is_empty());
    let right = || house.now - TimeDelta::minutes(59);
    assert_eq!(
        retain(&house.db.catalog, &house.plans, GRACE, right).await?,
        1
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_ahead_lets_nothing_go_for_a_grace_period() -> Result<()> {
    let mut house = House::build().await?;
    house.points([0, 1, 10, 20]).await?;
    assert_eq!(house.retain().await?, 0);
    let before = house.now;
    house.advance(TimeDelta::days(365)).await?;
    assert_eq!(house.look().await?, 0, "everything seems to be a year old");
    house.advance(TimeDelta::hours(2)).await?;
    assert_eq!(
        house.look().await?,
        0,
        "nor does anything go at the next look"
    );

    // Once the clock is right again, retention continues, and nothing is kept for a year because of the mistake.
    house.advance(before - house.now).await?;
    assert_eq!(house.look().await?, 0);
    for _ in 0..11 {
        house.advance(TimeDelta::hours(20)).await?;
        assert_eq!(house.look().await?, 0);
    }
    house.advance(TimeDelta::hours(20)).await?;
    assert_eq!(
        house.look().await?,
        1,
        "the one of twenty days is thirty by now"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_producer_was_away_nothing_goes_for_a_grace_period() -> Result<()> {
    let mut house = House::build().await?;
    house.points([0, 20]).await?;
    assert_eq!(house.retain().await?, 0);
    house.advance(TimeDelta::days(11)).await?;
    assert_eq!(house.look().await?, 0);
    for hours in [20, 20, 20, 20, 20, 20, 20, 20] {
        house.advance(TimeDelta::hours(hours)).await?;
        assert_eq!(house.look().await?, 0);
    }
    house.advance(TimeDelta::hours(8)).await?;
    assert_eq!(house.look().await?, 1, "seven days later");
    Ok(())
}

//! Each day of each resource is counted once for good, a batch at a time, by any number of producers.

use anyhow::Result;
use lastgood::producer::{count_promises, recount_promises};

use super::{DAY, Fleet};

#[tokio::test(flavor = "multi_thread")]
async fn a_day_is_counted_from_the_points_that_were_made() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    fleet.points_each_hour("shop", 0, 10).await?;
    // One outage of four hours.
    fleet.points_each_hour("shop", 840, 14).await?;
    fleet.clock(DAY + 10).await?;
    fleet.count().await?;
    // Each hour the exposure passes 60 minutes by the 5 that a backup takes: late, and within the tolerance of 6.
    let late = 9 * 5 + (845 - 600) + 9 * 5;
    let broken = 845 - (540 + 66);
    assert_eq!(
        fleet.minutes("shop", 0).await?,
        [DAY, late, broken, 0, 0, 305]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_lasts_is_counted_so_far_and_its_end_is_counted_for_good() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    fleet.clock(100).await?;
    fleet.count().await?;
    assert_eq!(fleet.minutes("shop", 0).await?, [100, 40, 34, 0, 0, 100]);
    fleet.clock(130).await?;
    fleet.count().await?;
    assert_eq!(
        fleet.minutes("shop", 0).await?[0],
        100,
        "each hour is enough"
    );
    fleet.point("shop", 130, 140).await?;
    fleet.clock(3 * DAY + 10).await?;
    fleet.count().await?;
    let broken = (140 - 66) + (DAY - 196);
    assert_eq!(
        fleet.minutes("shop", 0).await?[..3],
        [DAY, (140 - 60) + (DAY - 190), broken]
    );
    assert_eq!(fleet.minutes("shop", 1).await?[..3], [DAY, DAY, DAY]);
    assert_eq!(fleet.minutes("shop", 2).await?[5], 3 * DAY - 130);
    let passes =
        "select count(*) from lastgood.promise_passes where is_final and ended_at is not null";
    assert_eq!(fleet.db.count(passes).await?, 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn counting_again_changes_nothing() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    fleet.point("shop", 30, 40).await?;
    fleet.clock(DAY + 10).await?;
    fleet.count().await?;
    let versions = "select sum(xmin::text::bigint)::bigint from lastgood.promise_days where day = '2031-03-05'";
    let before = (
        fleet.minutes("shop", 0).await?,
        fleet.db.count(versions).await?,
    );
    fleet
        .db
        .execute("delete from lastgood.promise_passes")
        .await?;
    fleet.count().await?;
    let after = (
        fleet.minutes("shop", 0).await?,
        fleet.db.count(versions).await?,
    );
    assert_eq!(
        before, after,
        "a row that is right is not even written again"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_was_cut_off_goes_on_where_it_was() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    fleet.db.add("blog", "acme", "pro").await?;
    fleet.clock(DAY + 10).await?;
    // Somebody counted `blog` and died.
    fleet
        .db
        .execute(
            "insert into lastgood.promise_passes (day, until, after, is_final) values ('2031-03-05', '2031-03-06', 'blog', true)",
        )
        .await?;
    assert_eq!(count_promises(&fleet.db.catalog).await?, 1);
    assert!(fleet.minutes("blog", 0).await.is_err());
    assert_eq!(fleet.minutes("shop", 0).await?[0], DAY);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_producers_at_once_are_harmless() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    for id in ["a", "b", "c", "d"] {
        fleet.db.add(id, "acme", "pro").await?;
    }
    fleet.clock(2 * DAY + 10).await?;
    let (first, second) = (fleet.db.another().await?, fleet.db.another().await?);
    for _ in 0..4 {
        let (one, other) = tokio::join!(count_promises(&first), count_promises(&second));
        one?;
        other?;
    }
    fleet.count().await?;
    let rows = "select count(*) from lastgood.promise_days where day < '2031-03-07'";
    assert_eq!(fleet.db.count(rows).await?, 10);
    assert_eq!(fleet.minutes("shop", 1).await?[..3], [DAY, DAY, DAY]);
    let sum = "select broken_seconds from lastgood.promise_totals where day = '2031-03-06'";
    assert_eq!(fleet.db.count(sum).await?, 5 * DAY * 60);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_cannot_be_counted_keeps_no_other_from_it() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    for id in ["blog", "poison"] {
        fleet.db.add(id, "acme", "pro").await?;
    }
    fleet
        .db
        .execute("alter table lastgood.promise_days add constraint poison check (resource_id <> 'poison')")
        .await?;
    // Years that no clock reads.
    fleet
        .db
        .execute(
            "update lastgood.resources set created_at = '294276-12-31 23:59:59' where id = 'blog'",
        )
        .await?;
    fleet.clock(DAY + 10).await?;
    fleet.count().await?;
    assert_eq!(fleet.minutes("shop", 0).await?[0], DAY);
    assert_eq!(fleet.minutes("blog", 0).await?[0], DAY);
    assert!(fleet.minutes("poison", 0).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_whose_row_is_gone_before_the_day_was_counted_has_counted() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    fleet.point("shop", 0, 1).await?;
    fleet.point("shop", 600, 605).await?;
    fleet.point("shop", 1400, 1405).await?;
    let expected = {
        let other = Fleet::with_shop().await?;
        for (consistent, exists) in [(0, 1), (600, 605), (1400, 1405)] {
            other.point("shop", consistent, exists).await?;
        }
        other.clock(DAY + 10).await?;
        other.count().await?;
        other.minutes("shop", 0).await?
    };
    fleet.clock(DAY + 5).await?;
    fleet
        .db
        .execute(
            "update lastgood.restore_points set expired_at = now(), expired_because = 'age', removal_began_at = now()
             where consistent_at < '2031-03-05 23:00:00+00'",
        )
        .await?;
    fleet
        .db
        .execute("delete from lastgood.restore_points where removal_began_at is not null")
        .await?;
    fleet.clock(DAY + 10).await?;
    fleet.count().await?;
    assert_eq!(fleet.minutes("shop", 0).await?, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_no_open_day_needs_leaves_no_trace_when_it_goes() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    fleet.point("shop", 0, 1).await?;
    fleet.point("shop", 60, 61).await?;
    fleet.clock(20 * DAY).await?;
    fleet
        .db
        .execute(
            "update lastgood.restore_points set expired_at = now(), expired_because = 'age', removal_began_at = now()
             where consistent_at < '2031-03-05 00:30:00+00'",
        )
        .await?;
    // Days that are not counted yet are open.
    for _ in 0..30 {
        count_promises(&fleet.db.catalog).await?;
    }
    fleet
        .db
        .execute("delete from lastgood.restore_points where removal_began_at is not null")
        .await?;
    assert_eq!(
        fleet
            .db
            .count("select count(*) from lastgood.past_points")
            .await?,
        0
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_point_counts_until_it_was_last_proven_and_its_days_are_counted_anew()
-> Result<()> {
    let fleet = Fleet::with_shop().await?;
    let id = fleet.point("shop", 0, 1).await?;
    fleet.point("shop", 30, 31).await?;
    fleet.points_each_hour("shop", 60, 24).await?;
    fleet.clock(DAY + 30).await?;
    fleet.count().await?;
    let before = fleet.minutes("shop", 0).await?;
    // The one at 10:00 was read back at 10:20, and found damaged the day after.
    let quarantine = "update lastgood.restore_points
        set verified_at = $2, quarantined_at = now(), quarantined_because = 'damaged' where consistent_at = $1";
    sqlx::query(quarantine)
        .bind(fleet.at(600))
        .bind(fleet.at(620))
        .execute(fleet.db.pool())
        .await?;
    // The one at 15:00 was never read back.
    sqlx::query("update lastgood.restore_points set quarantined_at = now(), quarantined_because = 'damaged' where consistent_at = $1")
        .bind(fleet.at(900))
        .execute(fleet.db.pool())
        .await?;
    assert_eq!(recount_promises(&fleet.db.catalog).await?, 1);
    let [promised, late, broken, ..] = fleet.minutes("shop", 0).await?;
    assert_eq!(promised, before[0]);
    // From 10:20 until 11:05 the one at 9:00 counts again; from 15:05 until 16:05 the one at 14:00.
    // Five minutes of each were late before.
    assert_eq!(late - before[1], (45 - 5) + (65 - 10));
    assert_eq!(broken - before[2], (665 - 620) + (965 - 906));
    assert_eq!(recount_promises(&fleet.db.catalog).await?, 0);
    let sum = "select broken_seconds from lastgood.promise_totals where day = '2031-03-05'";
    assert_eq!(fleet.db.count(sum).await?, broken * 60);
    // Read back whole after all.
    sqlx::query("update lastgood.restore_points set verified_at = now(), quarantined_at = null, quarantined_because = null where id <> $1")
        .bind(id)
        .execute(fleet.db.pool())
        .await?;
    assert_eq!(recount_promises(&fleet.db.catalog).await?, 1);
    assert_eq!(fleet.minutes("shop", 0).await?, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_to_light_later_than_a_week_rewrites_nothing() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    fleet.point("shop", 0, 1).await?;
    fleet.clock(9 * DAY).await?;
    fleet.count().await?;
    let before = fleet.minutes("shop", 0).await?;
    fleet
        .db
        .execute("update lastgood.restore_points set quarantined_at = now(), quarantined_because = 'damaged'")
        .await?;
    assert_eq!(recount_promises(&fleet.db.catalog).await?, 1);
    assert_eq!(fleet.minutes("shop", 0).await?, before);
    assert_eq!(
        fleet.minutes("shop", 7).await?[5],
        8 * DAY,
        "since its registration"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_kept_for_400_days() -> Result<()> {
    let fleet = Fleet::with_shop().await?;
    fleet.clock(DAY + 10).await?;
    fleet.count().await?;
    fleet.clock(400 * DAY).await?;
    assert_eq!(fleet.db.catalog.prune_promises(100).await?, 0);
    fleet.clock(402 * DAY).await?;
    assert!(fleet.db.catalog.prune_promises(100).await? > 0);
    for table in ["promise_days", "promise_totals", "promise_passes"] {
        let statement = format!("select count(*) from lastgood.{table}");
        let left: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(statement))
            .fetch_one(fleet.db.pool())
            .await?;
        assert_eq!(left, 0, "{table}");
    }
    Ok(())
}

//! Verifications are requested in time, spread out, and never in a loop.

use std::time::Duration;

use anyhow::{Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use lastgood::producer::ask_for_verifications;

use rstest::rstest;

use crate::database::TestCatalog;

const DAY: Duration = Duration::from_hours(24);
const WITHIN: Duration = Duration::from_hours(24 * 30);

fn start() -> Result<DateTime<Utc>> {
    Ok("2031-03-05T09:00:00Z".parse()?)
}

/// Records a restore point of each resource as of now.
async fn record_points(db: &TestCatalog) -> Result<u64> {
    db.execute(
        "with fresh as (
             insert into lastgood.restore_points (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
             select id, resource, now(), 'v1/' || id, '{}', 1, 1
             from (select gen_random_uuid() as id, r.id as resource from lastgood.resources as r) as fresh
             returning id
         ),
         newest as (
             update lastgood.resources set newest_consistent_at = now()
         )
         insert into lastgood.copies (point_id, store) select id, 'here' from fresh",
    )
    .await
}

/// Finishes the queued verifications as a consumer that finds nothing wrong, and returns how many there were.
async fn verify_all(db: &TestCatalog) -> Result<u64> {
    db.execute(
        "with done as (
             update lastgood.runs set state = 'succeeded', finished_at = now()
             where kind = 'verify' and state = 'queued' returning args ->> 'point' as point, args ->> 'store' as store
         ),
         copy as (
             update lastgood.copies as c set verified_at = now() from done
             where c.point_id::text = done.point and c.store = done.store
         )
         update lastgood.restore_points set verified_at = now() from done where id::text = done.point",
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn for_sixty_days_every_point_is_proven_in_time_and_each_resource_has_a_young_proof()
-> Result<()> {
    let db = TestCatalog::with_clock(start()?).await?;
    for n in 0..12 {
        db.add(&format!("db-{n}"), "acme", "hobby").await?;
    }
    let mut busiest = 0;
    for hour in 0..24 * 60 {
        db.set_clock(start()? + TimeDelta::hours(hour)).await?;
        if hour % 24 == 0 {
            record_points(&db).await?;
        }
        ask_for_verifications(&db.catalog, WITHIN).await?;
        let done = verify_all(&db).await?;
        if hour >= 24 * 40 {
            busiest = busiest.max(done);
        }
        let overdue = db.catalog.proof_counts(Some(WITHIN)).await?;
        ensure!(overdue.is_empty(), "hour {hour}: {overdue:?}");
        let old = db
            .count(
                "select count(*) from lastgood.resources as r where not exists (
                    select from lastgood.restore_points as p
                    where p.resource_id = r.id and p.verified_at > now() - interval '7.5 days')",
            )
            .await?;
        ensure!(
            old == 0,
            "hour {hour}: {old} resources without a young proof"
        );
    }
    // 720 points: each is proven once in some 27 days, and the newest of twelve resources once a week.
    let runs = db
        .count("select count(*) from lastgood.runs where kind = 'verify'")
        .await?;
    ensure!((400..900).contains(&runs), "{runs}");
    ensure!(busiest <= 36, "{busiest} at once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_engines_backlog_is_bounded_and_keeps_no_other_waiting() -> Result<()> {
    let db = TestCatalog::with_clock(start()?).await?;
    db.add("busy", "acme", "pro").await?;
    for _ in 0..1500 {
        record_points(&db).await?;
    }
    db.add_on("redis", "calm", "acme", "pro").await?;
    record_points(&db).await?;
    db.set_clock(start()? + TimeDelta::days(29)).await?;
    let asked = ask_for_verifications(&db.catalog, WITHIN).await?;
    ensure!(asked == 101, "{asked}");
    let again = ask_for_verifications(&db.catalog, WITHIN).await?;
    ensure!(again == 0, "{again}");
    db.add_on("mongodb", "late", "acme", "pro").await?;
    record_points(&db).await?;
    let asked = ask_for_verifications(&db.catalog, WITHIN).await?;
    ensure!(asked == 1, "{asked}");
    Ok(())
}

#[rstest]
#[case::failed(
    "update lastgood.runs set state = 'failed', finished_at = now(), error_kind = 'storage', error = 'away'"
)]
#[case::cancelled("update lastgood.runs set state = 'cancelled', finished_at = now()")]
#[tokio::test(flavor = "multi_thread")]
async fn a_verification_that_failed_or_was_cancelled_is_asked_for_again_after_six_hours(
    #[case] end: &'static str,
) -> Result<()> {
    let db = TestCatalog::with_clock(start()?).await?;
    db.add("shop", "acme", "pro").await?;
    record_points(&db).await?;
    ensure!(ask_for_verifications(&db.catalog, WITHIN).await? == 1);
    db.execute(end).await?;
    db.set_clock(start()? + TimeDelta::hours(5)).await?;
    ensure!(ask_for_verifications(&db.catalog, WITHIN).await? == 0);
    db.set_clock(start()? + TimeDelta::hours(7)).await?;
    ensure!(ask_for_verifications(&db.catalog, WITHIN).await? == 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_usable_is_not_verified_and_counts_as_what_it_is() -> Result<()> {
    let db = TestCatalog::with_clock(start()?).await?;
    db.add("shop", "acme", "pro").await?;
    record_points(&db).await?;
    db.execute(
        "update lastgood.restore_points set quarantined_at = now(), quarantined_because = 'a bad byte'",
    )
    .await?;
    record_points(&db).await?;
    db.execute(
        "update lastgood.restore_points set expired_at = now(), expired_because = 'old' where quarantined_at is null",
    )
    .await?;
    db.set_clock(start()? + TimeDelta::days(60)).await?;
    ensure!(ask_for_verifications(&db.catalog, WITHIN).await? == 0);
    let counts = db.catalog.proof_counts(Some(DAY)).await?;
    ensure!(
        counts.len() == 1 && counts[0].quarantined == 1 && counts[0].overdue == 0,
        "{counts:?}"
    );
    ensure!(db.catalog.newest_point("shop", None).await?.is_none());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_store_that_holds_a_point_is_read_in_its_turn() -> Result<()> {
    let db = TestCatalog::with_clock(start()?).await?;
    db.add("shop", "acme", "pro").await?;
    record_points(&db).await?;
    db.execute(
        "insert into lastgood.copies (point_id, store) select id, 'far' from lastgood.restore_points",
    )
    .await?;
    let mut read = Vec::new();
    for day in 0..60 {
        db.set_clock(start()? + TimeDelta::days(day)).await?;
        ask_for_verifications(&db.catalog, WITHIN).await?;
        let stores: Vec<String> = sqlx::query_scalar(
            "select args ->> 'store' from lastgood.runs where kind = 'verify' and state = 'queued'",
        )
        .fetch_all(db.pool())
        .await?;
        read.extend(stores);
        verify_all(&db).await?;
        let overdue = db.catalog.proof_counts(Some(WITHIN)).await?;
        ensure!(overdue.is_empty(), "day {day}: {overdue:?}");
    }
    let times = |name: &str| read.iter().filter(|store| *store == name).count();
    ensure!(times("here") >= 2 && times("far") >= 2, "{read:?}");
    ensure!(read.len() < 14, "{read:?}");

    // The copy in `far` is no longer read. That the other copy is proven does not hide it.
    db.execute(
        "update lastgood.copies set verified_at = now() - interval '31 days' where store = 'far'",
    )
    .await?;
    let overdue = db.catalog.proof_counts(Some(WITHIN)).await?;
    ensure!(overdue.len() == 1 && overdue[0].overdue == 1, "{overdue:?}");
    Ok(())
}

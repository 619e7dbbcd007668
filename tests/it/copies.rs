//! lastgood knows which copies a store lacks without scanning for them, and requests each until the store has it.

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use lastgood::producer::ask_for_copies;

use crate::{
    database::TestCatalog,
    eventually::{SOON, eventually},
};

fn start() -> Result<DateTime<Utc>> {
    Ok("2031-03-05T09:00:00Z".parse()?)
}

fn stores<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Records this many points of `shop` in the store `here`.
async fn points(db: &TestCatalog, count: i32) -> Result<()> {
    sqlx::query(
        "with point as (
             insert into lastgood.restore_points
                 (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
             select id, 'shop', now(), 'v1/' || id, '{}', 1, 1
             from (select gen_random_uuid() as id from generate_series(1, $1)) as fresh
             returning id
         )
         insert into lastgood.copies (point_id, store) select id, 'here' from point",
    )
    .bind(count)
    .execute(db.pool())
    .await?;
    Ok(())
}

async fn missing(db: &TestCatalog, names: &[String]) -> Result<Vec<(String, i64, i64)>> {
    let missing = db.catalog.missing_copies(names).await?;
    Ok(missing
        .into_iter()
        .map(|it| (it.store, it.points, it.failed))
        .collect())
}

async fn with_a_shop() -> Result<TestCatalog> {
    let db = TestCatalog::with_clock(start()?).await?;
    db.add("shop", "acme", "pro").await?;
    Ok(db)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_store_gets_what_there_is_and_what_comes_and_each_copy_is_asked_for_once()
-> Result<()> {
    let db = with_a_shop().await?;
    points(&db, 3).await?;
    assert_eq!(ask_for_copies(&db.catalog, &stores(["here"])).await?, 0);
    let both = stores(["here", "far"]);
    let another = db.another().await?;
    let (one, two) = tokio::join!(
        ask_for_copies(&db.catalog, &both),
        ask_for_copies(&another, &both)
    );
    assert_eq!(one? + two?, 3);
    points(&db, 2).await?;
    assert_eq!(ask_for_copies(&db.catalog, &both).await?, 2);
    assert_eq!(
        missing(&db, &both).await?,
        [("far".into(), 5, 0), ("here".into(), 0, 0)]
    );

    let done = "with done as (update lastgood.runs set state = 'succeeded', finished_at = now() returning args)
         insert into lastgood.copies (point_id, store) select (args ->> 'point')::uuid, args ->> 'store' from done";
    assert_eq!(db.execute(done).await?, 5);
    assert_eq!(
        missing(&db, &both).await?,
        [("far".into(), 0, 0), ("here".into(), 0, 0)]
    );
    assert_eq!(ask_for_copies(&db.catalog, &both).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_has_lost_is_asked_for_again_also_in_the_first_store() -> Result<()> {
    let db = with_a_shop().await?;
    let both = stores(["here", "far"]);
    assert_eq!(ask_for_copies(&db.catalog, &both).await?, 0);
    points(&db, 2).await?;
    db.execute("insert into lastgood.copies (point_id, store) select id, 'far' from lastgood.restore_points")
        .await?;
    assert_eq!(ask_for_copies(&db.catalog, &both).await?, 0);
    db.execute("delete from lastgood.copies where store = 'here'")
        .await?;
    assert_eq!(ask_for_copies(&db.catalog, &both).await?, 2);
    assert_eq!(
        missing(&db, &both).await?,
        [("far".into(), 0, 0), ("here".into(), 2, 0)]
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_failed_or_was_cancelled_is_asked_for_again_after_a_quarter_of_an_hour()
-> Result<()> {
    let db = with_a_shop().await?;
    points(&db, 1).await?;
    let both = stores(["here", "far"]);
    let failed = "update lastgood.runs set state = 'failed', finished_at = now(), error_kind = 'storage', error = 'x' where state = 'queued'";
    let cancelled =
        "update lastgood.runs set state = 'cancelled', finished_at = now() where state = 'queued'";
    for (turn, end) in (0..).zip([failed, cancelled, failed]) {
        db.set_clock(start()? + TimeDelta::minutes(turn * 16))
            .await?;
        assert_eq!(ask_for_copies(&db.catalog, &both).await?, 1, "{turn}");
        db.execute(end).await?;
        db.set_clock(start()? + TimeDelta::minutes(turn * 16 + 14))
            .await?;
        assert_eq!(ask_for_copies(&db.catalog, &both).await?, 0, "{turn}");
        assert_eq!(
            missing(&db, &both).await?,
            [("far".into(), 1, 1), ("here".into(), 0, 0)]
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_usable_is_not_copied_until_it_is() -> Result<()> {
    let db = with_a_shop().await?;
    points(&db, 2).await?;
    db.execute(
        "with one as (select id from lastgood.restore_points limit 1)
         update lastgood.restore_points as p set quarantined_at = now(), quarantined_because = 'x' from one where p.id = one.id",
    )
    .await?;
    db.execute("update lastgood.restore_points set expired_at = now(), expired_because = 'x' where quarantined_at is null")
        .await?;
    let both = stores(["here", "far"]);
    assert_eq!(ask_for_copies(&db.catalog, &both).await?, 0);
    assert_eq!(
        missing(&db, &both).await?,
        [("far".into(), 0, 0), ("here".into(), 0, 0)]
    );
    db.execute(
        "update lastgood.restore_points set quarantined_at = null, quarantined_because = null",
    )
    .await?;
    assert_eq!(ask_for_copies(&db.catalog, &both).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_in_no_file_any_more_is_missed_nowhere() -> Result<()> {
    let db = with_a_shop().await?;
    points(&db, 1).await?;
    assert_eq!(
        ask_for_copies(&db.catalog, &stores(["here", "far"])).await?,
        1
    );
    db.execute(
        "update lastgood.runs set state = 'cancelled', finished_at = now() - interval '1 h'",
    )
    .await?;
    assert_eq!(ask_for_copies(&db.catalog, &stores(["here"])).await?, 0);
    points(&db, 1).await?;
    assert_eq!(
        db.count("select count(*) from lastgood.missing_copies")
            .await?,
        0
    );
    assert_eq!(
        ask_for_copies(&db.catalog, &stores(["here", "far"])).await?,
        2
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_is_being_recorded_while_a_store_is_new_is_not_forgotten() -> Result<()> {
    let db = with_a_shop().await?;
    // By a process that does not see the new store yet.
    let mut recording = db.pool().begin().await?;
    sqlx::query(
        "insert into lastgood.restore_points (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
         values (gen_random_uuid(), 'shop', now(), 'v1/x', '{}', 1, 1)",
    )
    .execute(&mut *recording)
    .await?;
    let another = db.another().await?;
    let asking = tokio::spawn(async move { ask_for_copies(&another, &stores(["far"])).await });
    eventually(SOON, "the new store waits", async || {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        Ok(db.count(waiting).await? > 0)
    })
    .await?;
    recording.commit().await?;
    assert_eq!(asking.await??, 1);
    Ok(())
}

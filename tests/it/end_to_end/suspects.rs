//! A backup of a half-restored or emptied database is recorded as suspect, and counts towards nothing.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mongodb::bson::{Document, doc};
use uuid::Uuid;

use super::{
    cache::Cache,
    customer::{Customer, Rights},
    lab::{Lab, PATIENCE, run_id},
    native::add,
    orders::Orders,
};
use crate::eventually::eventually;

/// Makes the only restore point of a resource three hours old, so that its promise shows whether a newer point counts.
async fn age(lab: &Lab, id: &str) -> Result<()> {
    for statement in [
        "update lastgood.restore_points
         set consistent_at = consistent_at - interval '3 hours', created_at = created_at - interval '3 hours'
         where resource_id = $1",
        "update lastgood.resources
         set newest_consistent_at = newest_consistent_at - interval '3 hours', created_at = created_at - interval '3 hours' where id = $1",
    ] {
        sqlx::query(statement)
            .bind(id)
            .execute(lab.catalog.pool())
            .await?;
    }
    Ok(())
}

/// Returns the suspect point that the schedule makes, and checks that it does not count.
async fn the_schedule_makes_a_suspect(
    lab: &Lab,
    id: &str,
    good: Uuid,
    reason: &str,
) -> Result<Uuid> {
    let producer = lab.producer()?;
    eventually(PATIENCE, "the schedule makes a point", async || {
        Ok(lab.points().await?.len() == 2)
    })
    .await?;
    let points = lab.points().await?;
    let suspect = points.iter().find(|it| it.id != good).context("no other")?;
    ensure!(
        suspect.suspected_of == Some(vec![reason.to_owned()]),
        "{suspect:?}"
    );
    let status = lab.run(&["--json", "status"]).await?.succeeded()?.json()?;
    let resource = status.pointer("/resources/0").context("no resource")?;
    ensure!(
        resource.get("promise").is_some_and(|it| it == "broken")
            && resource
                .pointer("/suspected_of/0")
                .is_some_and(|it| it == reason),
        "the promise is not kept: {resource}"
    );
    let checked = lab.run(&["status", "--check"]).await?;
    ensure!(
        checked.code == Some(1) && checked.out.contains("SUSPECT: restore point"),
        "{checked:?}"
    );
    let engine = lab.catalog.catalog.resource(id).await?.engine;
    let newest = format!("lastgood_suspect_newest_resources{{engine=\"{engine}\"}}");
    producer.shows(&newest, 1.0).await?;

    let named = suspect.id.to_string();
    let refused = lab
        .run(&["restore", id, "--point", &named])
        .await?
        .refused()?;
    ensure!(
        refused.contains("is suspect") && refused.contains("--even-suspect"),
        "{refused}"
    );
    Ok(suspect.id)
}

/// Leaves the server as a restore that fails half way does.
async fn half_restore(lab: &Lab, cache: &Cache) -> Result<()> {
    for _ in 0..20 {
        let args = [
            "--json",
            "restore",
            "cache",
            "--in-place",
            "--overwrite",
            "cache",
        ];
        let run = run_id(&lab.run(&args).await?.succeeded()?.json()?)?;
        lab.catalog
            .execute("update lastgood.runs set max_attempts = 1 where kind = 'restore'")
            .await?;
        let consumer = lab.consumer("restorer", &[]).await?;
        // No sooner: data that cannot fit is refused before the first write.
        eventually(PATIENCE, "the restore writes, or has ended", async || {
            Ok(
                cache.ask::<i64>(&["EXISTS", "lastgood:restore"]).await? == 1
                    || lab.row(run).await?.state.has_ended(),
            )
        })
        .await?;
        cache
            .ask::<()>(&["CONFIG", "SET", "maxmemory", "1"])
            .await?;
        lab.ends(run).await?;
        drop(consumer);
        cache
            .ask::<()>(&["CONFIG", "SET", "maxmemory", "0"])
            .await?;
        if cache.ask::<i64>(&["EXISTS", "lastgood:restore"]).await? == 1 {
            return Ok(());
        }
    }
    anyhow::bail!("the restore was always faster")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_restored_redis_is_backed_up_and_never_taken_for_the_customers_data() -> Result<()> {
    let (lab, cache) = (Lab::create().await?, Cache::start().await?);
    cache.fill().await?;
    // A few at a time, because the client waits only half a second.
    let more = "for n = ARGV[1], ARGV[1] + 999 do redis.call('set', 'more:' .. n, string.rep('x', 100)) end";
    for begin in (0..60_000).step_by(1000) {
        cache
            .ask::<()>(&["EVAL", more, "0", &begin.to_string()])
            .await?;
    }
    let before = cache.state().await?;
    add(&lab, "cache", "redis", "pro", &cache.url()).await?;
    {
        let _consumer = lab.consumer("first", &[]).await?;
        lab.succeeds(lab.enqueue_backup("cache").await?).await?;
    }
    let good = lab.points().await?.first().context("no point")?.id;
    age(&lab, "cache").await?;
    half_restore(&lab, &cache).await?;

    let consumer = lab.consumer("consumer", &[]).await?;
    let suspect = the_schedule_makes_a_suspect(&lab, "cache", good, "unfinished_restore").await?;
    // The default is the older point, which restores everything.
    let args = [
        "restore",
        "cache",
        "--in-place",
        "--overwrite",
        "cache",
        "--wait",
    ];
    lab.run(&args).await?.succeeded()?;
    ensure!(cache.state().await? == before, "all keys are back");
    // With `--even-suspect`, the other point is restored too, and reported as suspect.
    let named = suspect.to_string();
    let insisting = [&args[..5], &["--point", &named, "--even-suspect", "--wait"]].concat();
    let restored = lab.run(&insisting).await?.succeeded()?;
    ensure!(restored.out.contains("SUSPECT: "), "{restored:?}");
    ensure!(consumer.log()?.contains("suspect restore point"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mongodb_database_with_a_restores_mark_makes_a_suspect_point() -> Result<()> {
    let (lab, orders) = (Lab::create().await?, Orders::create().await?);
    orders.fill().await?;
    let before = orders.state().await?;
    add(&lab, "orders", "mongodb", "pro", &orders.url()).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    lab.succeeds(lab.enqueue_backup("orders").await?).await?;
    let good = lab.points().await?.first().context("no point")?.id;
    age(&lab, "orders").await?;
    // As a killed worker leaves it.
    let database = orders.database();
    database
        .collection::<Document>("orders")
        .delete_many(doc! { "_id": { "$gt": 450 } })
        .await?;
    database
        .collection::<Document>("lastgood_restore.mark")
        .insert_one(doc! { "_id": Uuid::new_v4().to_string() })
        .await?;
    the_schedule_makes_a_suspect(&lab, "orders", good, "unfinished_restore").await?;
    orders.lose().await?;
    lab.run(&["restore", "orders", "--wait"])
        .await?
        .succeeded()?;
    ensure!(
        orders.state().await? == before,
        "the default is the older one"
    );
    orders.drop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_shrank_is_suspect_until_somebody_says_that_it_may() -> Result<()> {
    let (lab, customer) = (Lab::create().await?, Customer::create(Rights::Owner).await?);
    customer
        .run("create table t as select n, md5(n::text) as word from generate_series(1, 20000) as n")
        .await?;
    lab.add_url("shop", "pro", &customer.url()).await?;
    let _consumer = lab.consumer("consumer", &[]).await?;
    lab.succeeds(lab.enqueue_backup("shop").await?).await?;
    let good = lab.points().await?.first().context("no point")?.id;
    age(&lab, "shop").await?;
    customer.run("delete from t where n > 100").await?;
    let suspect = the_schedule_makes_a_suspect(&lab, "shop", good, "shrunk").await?;
    // The next backup is compared with the last trusted one, so the shrunken one does not become the measure.
    let second = lab.enqueue_backup("shop").await?;
    lab.succeeds(second).await?;
    let second = lab.catalog.catalog.point(second).await?;
    ensure!(
        second.suspected_of == Some(vec!["shrunk".to_owned()]),
        "{second:?}"
    );
    let default = lab.catalog.catalog.newest_point("shop", None).await?;
    ensure!(default.is_some_and(|it| it.id == good));

    let confirm = [
        "point",
        "confirm",
        &suspect.to_string(),
        "--reason",
        "they purged it",
    ];
    lab.run(&confirm).await?.succeeded()?;
    let refused = lab.run(&confirm).await?.refused()?;
    ensure!(refused.contains("not suspect"), "{refused}");
    let third = lab.enqueue_backup("shop").await?;
    lab.succeeds(third).await?;
    ensure!(
        lab.catalog
            .catalog
            .point(third)
            .await?
            .suspected_of
            .is_none()
    );
    let kept = async || {
        let status = lab.run(&["--json", "status"]).await?.succeeded()?.json()?;
        Ok(status["resources"][0]["promise"] == "kept")
    };
    eventually(Duration::from_secs(30), "the promise is kept again", kept).await
}

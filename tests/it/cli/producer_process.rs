//! The producer as operators run it: it starts whatever the plans file says, shows what it does, and ends when asked to.

use anyhow::{Context as _, Result};
use lastgood::{catalog::Registration, nouns::ConsumerState};

use super::process::{Producer, run_on};
use crate::{
    database::TestCatalog,
    eventually::{SOON, eventually},
};

const PLANS: &str = "plans.yaml";

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_ticks_serves_primed_metrics_and_ends_well_on_sigterm() -> Result<()> {
    let db = TestCatalog::create().await?;
    let producer = Producer::start(&db, PLANS).await?;
    let (status, body) = producer.get("/metrics").await?;
    assert_eq!(status, "HTTP/1.1 200 OK");
    // What has not happened yet is visible as zero.
    for series in [
        "lastgood_ticks_total{result=\"failed\"} 0",
        "lastgood_tick_enqueued_total 0",
        "lastgood_tick_coalesced_total 0",
        "lastgood_plans_fallback 0",
        "lastgood_unknown_tier_resources 0",
        "lastgood_reaped_leases_total{engine=\"postgres\",state=\"queued\"} 0",
        "lastgood_reaped_leases_total{engine=\"vector\",state=\"failed\"} 0",
        "lastgood_queue_runs{engine=\"postgres\",state=\"queued\"} 0",
        "lastgood_queue_runs{engine=\"vector\",state=\"running\"} 0",
        "lastgood_live_consumers{engine=\"postgres\"} 0",
    ] {
        assert!(
            body.lines().any(|line| line == series),
            "{series} is not in\n{body}"
        );
    }
    for line in body
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (_, value) = line.rsplit_once(' ').context(line.to_owned())?;
        value.parse::<f64>().with_context(|| line.to_owned())?;
    }
    producer
        .shows_where("lastgood_ticks_total{result=\"succeeded\"}", |ticks| {
            ticks >= 2.0
        })
        .await?;
    assert_eq!(producer.get("/healthz").await?.0, "HTTP/1.1 200 OK");
    assert_eq!(producer.get("/readyz").await?.0, "HTTP/1.1 200 OK");

    db.add("shop", "acme", "pro").await?;
    db.add("odd", "acme", "enterprize").await?;
    producer.shows("lastgood_tick_enqueued_total", 1.0).await?;
    producer
        .shows(
            "lastgood_queue_runs{engine=\"postgres\",state=\"queued\"}",
            1.0,
        )
        .await?;
    producer
        .shows("lastgood_unknown_tier_resources", 1.0)
        .await?;
    producer
        .shows("lastgood_never_backed_up_resources{tier=\"pro\"}", 1.0)
        .await?;
    for age in [
        "lastgood_exposure_seconds{tier=\"pro\",quantile=\"1\"}",
        "lastgood_never_backed_up_oldest_age_seconds{tier=\"pro\"}",
    ] {
        producer.shows_where(age, |age| age > 0.0).await?;
    }
    for (limit, seconds) in [("late", 3600.0), ("broken", 3960.0)] {
        let series =
            format!("lastgood_promised_exposure_seconds{{tier=\"pro\",limit=\"{limit}\"}}");
        producer.shows(&series, seconds).await?;
    }
    producer
        .shows_where("lastgood_last_tick_timestamp_seconds", |at| at > 1e9)
        .await?;
    assert_eq!(producer.terminate().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_waits_for_its_catalog_ends_when_asked_to() -> Result<()> {
    let db = TestCatalog::create().await?;
    let producer = Producer::start(&db, PLANS).await?;
    let mut holding = db.pool().begin().await?;
    sqlx::query("lock table lastgood.runs, lastgood.resources in access exclusive mode")
        .execute(&mut *holding)
        .await?;
    // The tick, the reaper and the measurement of exposure.
    eventually(SOON, "the catalog keeps them waiting", async || {
        let waiting = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        Ok(db.count(waiting).await? >= 3)
    })
    .await?;
    assert_eq!(producer.terminate().await?, 0);
    holding.rollback().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_a_lost_worker_is_taken_back_and_counted() -> Result<()> {
    let db = TestCatalog::create().await?;
    let producer = Producer::start(&db, PLANS).await?;
    db.add("shop", "acme", "free").await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args, state, attempt, epoch, lease_by, lease_until)
           values ('postgres', 'backup', 'adhoc', 'shop', '{"kind": "backup"}', 'running', 1, 1, 'lost', now())"#,
    )
    .await?;
    producer
        .shows(
            "lastgood_reaped_leases_total{engine=\"postgres\",state=\"queued\"}",
            1.0,
        )
        .await?;
    assert_eq!(
        db.count("select count(*) from lastgood.runs where state = 'queued'")
            .await?,
        1
    );
    assert_eq!(producer.terminate().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_whose_worker_died_in_its_last_attempt_is_counted_as_failed() -> Result<()> {
    let db = TestCatalog::create().await?;
    let producer = Producer::start(&db, PLANS).await?;
    let failed =
        "lastgood_reaped_runs_total{engine=\"postgres\",kind=\"restore\",state=\"failed\"}";
    producer.shows(failed, 0.0).await?;
    let unknown = "lastgood_reaped_runs_total{engine=\"unknown\",kind=\"backup\",state=\"failed\"}";
    producer.shows(unknown, 0.0).await?;
    db.add("shop", "acme", "free").await?;
    db.execute(
        r#"insert into lastgood.runs
               (queue, kind, trigger, resource_id, args, state, attempt, max_attempts, epoch, lease_by, lease_until)
           values ('postgres', 'restore', 'adhoc', 'shop', '{"kind": "restore"}', 'running', 3, 3, 3, 'lost', now())"#,
    )
    .await?;
    producer.shows(failed, 1.0).await?;
    // The producer also ends runs of an unknown engine. The engine's name must not become a label.
    db.add_on("mysql", "bank", "acme", "free").await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args)
           values ('mysql', 'backup', 'adhoc', 'bank', '{"kind": "backup"}')"#,
    )
    .await?;
    producer.shows(unknown, 1.0).await?;
    assert_eq!(producer.terminate().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn gauges_that_cannot_be_measured_say_how_old_they_are_while_ticks_go_on() -> Result<()> {
    let db = TestCatalog::create().await?;
    let mut producer = Producer::start(&db, PLANS).await?;
    let (observed, ticks) = (
        "lastgood_last_observed_timestamp_seconds",
        "lastgood_ticks_total{result=\"succeeded\"}",
    );
    producer.shows_where(observed, |at| at > 1e9).await?;
    db.execute("alter table lastgood.pauses rename to hidden")
        .await?;
    producer.logs("cannot measure exposure").await?;
    let stopped = producer.metric(observed).await?.context("no series")?;
    let ticked = producer.metric(ticks).await?.context("no series")?;
    producer
        .shows_where(ticks, |now| now >= ticked + 3.0)
        .await?;
    assert_eq!(producer.metric(observed).await?, Some(stopped));
    db.execute("alter table lastgood.hidden rename to pauses")
        .await?;
    producer.shows_where(observed, |at| at > stopped).await?;
    assert_eq!(producer.terminate().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_drains_is_not_one_that_executes_what_comes() -> Result<()> {
    let db = TestCatalog::create().await?;
    let consumer = Registration {
        id: "one".to_owned(),
        host: "h".to_owned(),
        pid: 1,
        version: "0.1.0".to_owned(),
        queues: vec!["redis".to_owned()],
        slots: 1,
        capabilities: serde_json::json!([]),
        master_keys: Vec::new(),
    };
    db.catalog.register_consumer(&consumer).await?;
    let producer = Producer::start(&db, PLANS).await?;
    let alive = "lastgood_live_consumers{engine=\"redis\"}";
    producer.shows(alive, 1.0).await?;
    let status = run_on(&db, &["status"]).await?;
    assert!(status.out.contains("live consumers: 1\n"), "{status:?}");

    db.catalog.beat("one", ConsumerState::Draining).await?;
    producer.shows(alive, 0.0).await?;
    let status = run_on(&db, &["status", "--check"]).await?;
    assert_eq!(status.code, 1, "{status:?}");
    let said = "NO LIVE CONSUMER: nothing new is executed, 1 are draining";
    assert!(status.out.contains(said), "{status:?}");
    assert_eq!(producer.terminate().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_suspended_and_what_waits_too_long_is_measured() -> Result<()> {
    let db = TestCatalog::create().await?;
    let producer = Producer::start(&db, PLANS).await?;
    let suspended = "lastgood_suspended_resources{tier=\"pro\"}";
    producer.shows(suspended, 0.0).await?;
    for id in ["kept", "paused", "vetoed", "gone"] {
        db.add(id, "acme", "pro").await?;
    }
    db.add("freebie", "acme", "free").await?;
    db.execute("update lastgood.resources set status = 'paused' where id in ('paused', 'freebie')")
        .await?;
    db.execute("update lastgood.resources set retention_days = 0 where id = 'vetoed'")
        .await?;
    db.execute(
        "update lastgood.resources set status = 'removed', retention_days = 0 where id = 'gone'",
    )
    .await?;
    producer.shows(suspended, 2.0).await?;
    producer
        .shows("lastgood_suspended_resources{tier=\"hobby\"}", 0.0)
        .await?;

    let oldest = "lastgood_queue_oldest_runnable_age_seconds{engine=\"redis\"}";
    producer.shows(oldest, 0.0).await?;
    db.add_on("redis", "cache", "acme", "free").await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args, run_at)
           values ('redis', 'backup', 'adhoc', 'cache', '{"kind": "backup"}', now() - interval '1 hour')"#,
    )
    .await?;
    producer.shows_where(oldest, |age| age >= 3600.0).await?;
    db.execute(
        "update lastgood.resources set status = 'active', retention_days = null where tier = 'pro'",
    )
    .await?;
    producer.shows(suspended, 0.0).await?;
    assert_eq!(producer.terminate().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_plans_file_never_stops_paid_backups_and_is_read_again_once_mended() -> Result<()>
{
    let db = TestCatalog::create().await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("plans.yaml");
    std::fs::write(&path, "version: 1\ntiers: [what\n")?;
    db.add("shop", "acme", "pro").await?;
    db.add("gem", "acme", "platinum").await?;
    let mut producer = Producer::start(&db, path.to_str().context("not UTF-8")?).await?;
    producer.shows("lastgood_plans_fallback", 1.0).await?;
    producer.logs("the built-in plans are in force").await?;
    let reload_failed = producer.metric("lastgood_plans_reload_failed").await?;
    assert_eq!(reload_failed, Some(0.0), "another alert tells of that");
    producer.shows("lastgood_tick_enqueued_total", 1.0).await?;
    assert_eq!(
        db.count("select count(*) from lastgood.runs where resource_id = 'shop'")
            .await?,
        1
    );

    let mended = "version: 1\ntiers:\n  pro: {rpo_minutes: 60, backup_retention_days: 30}\n  platinum: {rpo_minutes: 15, backup_retention_days: 30}\n";
    std::fs::write(&path, mended)?;
    producer.shows("lastgood_plans_fallback", 0.0).await?;
    producer.shows("lastgood_tick_enqueued_total", 2.0).await?;
    assert_eq!(
        db.count("select count(*) from lastgood.runs where resource_id = 'gem'")
            .await?,
        1
    );

    // Broken again: the last good plans stay in force, and that is not a fallback.
    std::fs::write(&path, "tiers: nonsense\n")?;
    producer.logs("the last good plans stay in force").await?;
    db.add("gem-2", "acme", "platinum").await?;
    producer.shows("lastgood_tick_enqueued_total", 3.0).await?;
    assert_eq!(producer.metric("lastgood_plans_fallback").await?, Some(0.0));
    // The file's content is not in force, and a restart would fall back. The metric shows it for as long as that is so.
    let failed = "lastgood_plans_reload_failed";
    producer.shows(failed, 1.0).await?;
    std::fs::write(&path, mended)?;
    producer.shows(failed, 0.0).await?;
    std::fs::remove_file(&path)?;
    producer.shows(failed, 1.0).await?;
    std::fs::write(&path, mended.replace("15", "30"))?;
    producer.shows(failed, 0.0).await?;
    assert_eq!(producer.terminate().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_producers_are_harmless() -> Result<()> {
    let db = TestCatalog::create().await?;
    sqlx::query(
        "insert into lastgood.resources (id, team, tier, engine, connection_ref)
         select 'r' || n, 'acme', 'pro', 'postgres', 'env:URL' from generate_series(1, 500) as n",
    )
    .execute(db.pool())
    .await?;
    let (one, two) = tokio::try_join!(Producer::start(&db, PLANS), Producer::start(&db, PLANS))?;
    eventually(
        SOON,
        "both have ticked and everything is enqueued",
        async || {
            let mut enqueued = 0.0;
            for producer in [&one, &two] {
                let ticks = producer
                    .metric("lastgood_ticks_total{result=\"succeeded\"}")
                    .await?;
                if ticks.is_none_or(|ticks| ticks < 3.0) {
                    return Ok(false);
                }
                enqueued += producer
                    .metric("lastgood_tick_enqueued_total")
                    .await?
                    .unwrap_or_default();
            }
            Ok((enqueued - 500.0).abs() < 1e-9)
        },
    )
    .await?;
    assert_eq!(db.count("select count(*) from lastgood.runs").await?, 500);
    assert_eq!(
        db.count("select count(distinct resource_id) from lastgood.runs")
            .await?,
        500
    );
    for producer in [one, two] {
        assert_eq!(
            producer
                .metric("lastgood_ticks_total{result=\"failed\"}")
                .await?,
            Some(0.0)
        );
        assert_eq!(producer.terminate().await?, 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_outlives_its_catalog() -> Result<()> {
    let db = TestCatalog::create().await?;
    let producer = Producer::start(&db, PLANS).await?;
    producer
        .shows_where("lastgood_ticks_total{result=\"succeeded\"}", |ticks| {
            ticks >= 1.0
        })
        .await?;
    db.set_reachable(false).await?;
    producer
        .shows_where("lastgood_ticks_total{result=\"failed\"}", |ticks| {
            ticks >= 1.0
        })
        .await?;
    assert_eq!(
        producer.get("/readyz").await?.0,
        "HTTP/1.1 503 Service Unavailable"
    );
    db.set_reachable(true).await?;
    db.add("shop", "acme", "pro").await?;
    producer.shows("lastgood_tick_enqueued_total", 1.0).await?;
    assert_eq!(producer.get("/readyz").await?.0, "HTTP/1.1 200 OK");
    assert_eq!(producer.terminate().await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_counts_how_promises_are_kept() -> Result<()> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "gold").await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("plans.yaml");
    let plans = "version: 1\ntiers:\n  gold: {rpo_minutes: 60, backup_retention_days: 7, objective: 99.9}\n";
    std::fs::write(&path, plans)?;
    let producer = Producer::start(&db, &path.to_string_lossy()).await?;
    producer
        .shows(
            "lastgood_promise_burn_rate{tier=\"gold\",window=\"1h\"}",
            0.0,
        )
        .await?;
    for (what, rows) in [
        (
            "it is on record what is promised",
            "select count(*) from lastgood.tier_promises where rpo_minutes = 60 and tolerance_minutes = 6",
        ),
        (
            "it is on record that a producer ticks",
            "select count(*) from lastgood.last_tick",
        ),
        (
            "the last minutes are counted",
            "select count(*) from lastgood.promise_slices where tier = 'gold'",
        ),
        (
            "one producer counts",
            "select count(*) from lastgood.leadership where work = 'promise'",
        ),
    ] {
        eventually(SOON, what, async || Ok(db.count(rows).await? > 0)).await?;
    }
    assert_eq!(producer.terminate().await?, 0);
    Ok(())
}

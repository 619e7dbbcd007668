//! An operator's order is carried out once, audited, and fenced against workers with outdated knowledge.

use anyhow::{Context as _, Result};
use chrono::TimeDelta;
use lastgood::{
    catalog::{AuditFilter, CatalogError, FailedFilter, Mode, Order, Paused, Refusal, Scope},
    producer::tick,
    queue::Failure,
    run::{RunKind, RunState},
};
use lastgood_jobs::{
    attempt::{Epoch, RunId},
    error::ErrorKind,
};
use uuid::Uuid;

use super::workers::{
    Gate, Settings, Witness, Workers, becomes, enqueue, enqueue_many, epoch, report, with_a_shop,
};
use crate::{
    database::{TestCatalog, plans},
    eventually::{SOON, eventually},
};

fn order() -> Order {
    Order::new("olga", Some("the disk was full"))
}

/// Fails a run for good, as its worker would.
async fn fail(db: &TestCatalog, id: RunId, kind: &str) -> Result<()> {
    sqlx::query(
        "update lastgood.runs set state = 'failed', attempt = max_attempts, epoch = epoch + max_attempts,
             finished_at = now(), error_kind = $2, error = 'it did not work' where id = $1",
    )
    .bind(id)
    .bind(kind)
    .execute(db.pool())
    .await?;
    Ok(())
}

async fn audited(db: &TestCatalog, action: &str) -> Result<Vec<serde_json::Value>> {
    let rows = db.catalog.audited(&AuditFilter::newest(100)).await?;
    Ok(rows
        .into_iter()
        .filter(|row| row.action == action && row.by == "olga")
        .map(|row| row.detail)
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_tried_again_with_all_its_attempts_and_every_attempt_is_on_record()
-> Result<()> {
    let db = with_a_shop().await?;
    let id = enqueue(&db, "shop").await?;
    db.execute("update lastgood.runs set max_attempts = 1")
        .await?;
    let workers = Workers::start(&db.catalog, &Settings::default(), |run| async move {
        if run.epoch == Epoch(1) {
            return Err(Failure {
                tool_words: Some("pg_dump: no space\0left".into()),
                ..Failure::retryable(ErrorKind::Dump, "pg_dump failed")
            }
            .into());
        }
        Ok(report())
    });
    becomes(&db, id, "failed").await?;
    let rehearsed = db.catalog.retry_run(id, &order(), Mode::Rehearsal).await?;
    assert_eq!(
        (rehearsed.state.as_str(), rehearsed.refused),
        ("queued", None)
    );
    assert_eq!(db.catalog.run(id).await?.state, RunState::Failed);
    assert!(audited(&db, "retry").await?.is_empty());

    let retried = db.catalog.retry_run(id, &order(), Mode::Real).await?;
    assert_eq!(
        (retried.was.as_str(), retried.state.as_str()),
        ("failed", "queued")
    );
    let run = becomes(&db, id, "succeeded").await?;
    assert_eq!((run.attempt, run.max_attempts), (1, 1));
    workers.stop().await?;
    let attempts = db.catalog.attempts(id).await?;
    let told: Vec<_> = attempts
        .iter()
        .map(|it| {
            (
                it.epoch.0,
                it.attempt,
                it.result.as_str(),
                it.consumer.as_str(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [(1, 1, "failed", "worker"), (3, 1, "succeeded", "worker")]
    );
    let failed = attempts.first().context("no attempt")?;
    assert_eq!(failed.error.as_deref(), Some("pg_dump failed"));
    assert_eq!(
        failed.tool_words.as_deref(),
        Some("pg_dump: no space\u{fffd}left")
    );
    let audit = audited(&db, "retry").await?;
    assert_eq!(audit.len(), 1);
    assert_eq!(audit[0]["reason"], "the disk was full");

    let again = db.catalog.retry_run(id, &order(), Mode::Real).await?;
    assert_eq!(
        again.refused,
        Some(Refusal::NotRetryable(RunState::Succeeded))
    );
    let error = db
        .catalog
        .retry_run(RunId(Uuid::new_v4()), &order(), Mode::Real)
        .await;
    assert!(
        matches!(error, Err(CatalogError::NotFound { .. })),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_retry_that_would_be_needless_or_a_second_of_its_kind_is_refused_with_the_reason()
-> Result<()> {
    let db = with_a_shop().await?;
    let promised = plans(&[("pro", 60, 7)])?;
    let now = db.catalog.now().await?;
    tick(&db.catalog, &promised, now).await?;
    let old: RunId = sqlx::query_scalar("select id from lastgood.runs")
        .fetch_one(db.pool())
        .await?;
    fail(&db, old, "dump").await?;
    db.execute("update lastgood.resources set next_due_at = now()")
        .await?;
    tick(&db.catalog, &promised, now + TimeDelta::hours(1)).await?;
    let answer = db.catalog.retry_run(old, &order(), Mode::Real).await?;
    assert!(
        matches!(answer.refused, Some(Refusal::Superseded { by, .. }) if by != old),
        "{answer:?}"
    );

    // Two verifications of one point: the schema allows one at a time.
    let verify = r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args)
        values ('postgres', 'verify', 'upkeep', 'shop', '{"kind": "verify", "point": "1"}') returning id"#;
    let first: RunId = sqlx::query_scalar(verify).fetch_one(db.pool()).await?;
    fail(&db, first, "storage").await?;
    sqlx::query_scalar::<_, RunId>(verify)
        .fetch_one(db.pool())
        .await?;
    let answer = db.catalog.retry_run(first, &order(), Mode::Real).await?;
    assert_eq!(answer.refused, Some(Refusal::UnderWay(RunKind::Verify)));
    assert_eq!(db.catalog.run(first).await?.state, RunState::Failed);
    assert!(audited(&db, "retry").await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_retry_in_bulk_is_of_what_its_filter_says_and_never_of_a_restore() -> Result<()> {
    let db = with_a_shop().await?;
    db.add("other", "umbrella", "hobby").await?;
    let (shop, other) = (enqueue(&db, "shop").await?, enqueue(&db, "other").await?);
    fail(&db, shop, "dump").await?;
    fail(&db, other, "connect").await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args, state, finished_at, error_kind, error)
           values ('postgres', 'restore', 'adhoc', 'shop', '{"kind": "restore"}', 'failed', now(), 'target', 'no')"#,
    )
    .await?;
    let of = |text: &str| Some(text.to_owned());
    let now = db.catalog.now().await?;
    for (filter, expected) in [
        (FailedFilter::default(), vec![shop, other]),
        (
            FailedFilter {
                tier: of("hobby"),
                ..FailedFilter::default()
            },
            vec![other],
        ),
        (
            FailedFilter {
                team: of("acme"),
                ..FailedFilter::default()
            },
            vec![shop],
        ),
        (
            FailedFilter {
                error_kind: of("connect"),
                ..FailedFilter::default()
            },
            vec![other],
        ),
        (
            FailedFilter {
                engine: of("redis"),
                ..FailedFilter::default()
            },
            vec![],
        ),
        (
            FailedFilter {
                since: Some(now + TimeDelta::hours(1)),
                ..FailedFilter::default()
            },
            vec![],
        ),
    ] {
        assert_eq!(
            db.catalog.failed_runs(&filter).await?,
            expected,
            "{filter:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_resources_failed_slots_a_retry_in_bulk_takes_the_newest() -> Result<()> {
    let db = with_a_shop().await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args, slot, state, finished_at, error_kind, error)
           select 'postgres', 'backup', 'scheduled', 'shop', '{"kind": "backup"}', date_trunc('hour', now()) - i * interval '1 h',
               'failed', now(), 'connect', 'away'
           from generate_series(0, 3) as i"#,
    )
    .await?;
    let newest: RunId =
        sqlx::query_scalar("select id from lastgood.runs order by slot desc limit 1")
            .fetch_one(db.pool())
            .await?;
    let taken = db.catalog.failed_runs(&FailedFilter::default()).await?;
    assert_eq!(taken, [newest]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_cancelled_stops_at_once_and_can_neither_publish_nor_finish() -> Result<()> {
    let db = with_a_shop().await?;
    let id = enqueue(&db, "shop").await?;
    let witness = Witness::default();
    let w = witness.clone();
    let settings = Settings {
        listens: true,
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, move |run| {
        let begun = w.begin(&run);
        async move {
            let _begun = begun;
            std::future::pending().await
        }
    });
    witness.are_running(1).await?;
    let answer = db.catalog.cancel_run(id, &order(), Mode::Real).await?;
    assert_eq!(
        (answer.was.as_str(), answer.state.as_str()),
        ("running", "cancelled")
    );
    witness.are_running(0).await?;
    workers.idle().await?;
    let run = db.catalog.run(id).await?;
    assert_eq!(
        (run.state.as_str(), epoch(&db, id).await?),
        ("cancelled", 2)
    );
    assert_eq!(
        run.error.as_deref(),
        Some("cancelled by olga: the disk was full")
    );
    let attempts = db.catalog.attempts(id).await?;
    assert_eq!(
        attempts.first().map(|it| (it.epoch.0, it.result.as_str())),
        Some((1, "cancelled"))
    );
    assert_eq!(audited(&db, "cancel").await?.len(), 1);
    let again = db.catalog.cancel_run(id, &order(), Mode::Real).await?;
    assert_eq!(again.refused, Some(Refusal::HasEnded(RunState::Cancelled)));
    workers.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_that_nobody_was_told_of_is_seen_all_the_same() -> Result<()> {
    let db = with_a_shop().await?;
    let id = enqueue(&db, "shop").await?;
    let witness = Witness::default();
    let w = witness.clone();
    let settings = Settings {
        lease: std::time::Duration::from_hours(1),
        listens: false,
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, move |run| {
        let begun = w.begin(&run);
        async move {
            let _begun = begun;
            std::future::pending().await
        }
    });
    witness.are_running(1).await?;
    db.catalog.cancel_run(id, &order(), Mode::Real).await?;
    witness.are_running(0).await?;
    workers.stop().await
}

#[tokio::test]
async fn a_scheduled_backup_that_is_cancelled_leaves_its_resource_due_at_the_next_slot()
-> Result<()> {
    let db = with_a_shop().await?;
    let promised = plans(&[("pro", 60, 7)])?;
    let now = db.catalog.now().await?;
    tick(&db.catalog, &promised, now).await?;
    let id: RunId = sqlx::query_scalar("select id from lastgood.runs")
        .fetch_one(db.pool())
        .await?;
    db.execute("update lastgood.resources set next_due_at = now()")
        .await?;
    db.catalog.cancel_run(id, &order(), Mode::Rehearsal).await?;
    assert_eq!(db.catalog.run(id).await?.state, RunState::Queued);
    db.catalog.cancel_run(id, &order(), Mode::Real).await?;
    let is_next_slot = "select count(*) from lastgood.resources
        where next_due_at = lastgood.next_due(60, spread, team_spread, now(), true)";
    assert_eq!(db.count(is_next_slot).await?, 1);
    // Later than the previous due time; otherwise a tick would find nothing, whatever the order did.
    let now = db.catalog.now().await?;
    assert_eq!(tick(&db.catalog, &promised, now).await?.looked_at, 0);
    let next = now + TimeDelta::hours(1);
    assert_eq!(tick(&db.catalog, &promised, next).await?.enqueued, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_is_not_claimed_until_it_is_resumed() -> Result<()> {
    let db = with_a_shop().await?;
    db.add("other", "umbrella", "hobby").await?;
    let acme = Scope {
        team: Some("acme".to_owned()),
        ..Scope::default()
    };
    let hobby = Scope {
        tier: Some("hobby".to_owned()),
        ..Scope::default()
    };
    assert!(matches!(
        db.catalog.pause(&acme, &order()).await?,
        Paused::New(_)
    ));
    let paused = enqueue(&db, "shop").await?;
    let free = enqueue(&db, "other").await?;
    let settings = Settings {
        poll: std::time::Duration::from_hours(1),
        listens: true,
        ..Settings::default()
    };
    let workers = Workers::start(&db.catalog, &settings, |_| async { Ok(report()) });
    becomes(&db, free, "succeeded").await?;
    assert_eq!(db.catalog.run(paused).await?.state, RunState::Queued);

    let second = db
        .catalog
        .pause(&acme, &Order::new("otto", Some("me too")))
        .await?;
    assert!(matches!(second, Paused::Already(pause) if pause.by == "olga"));
    assert_eq!(db.catalog.resume(&hobby, &order()).await?, None);
    // The poll is too rare to help: the resume itself wakes the consumers.
    assert!(db.catalog.resume(&acme, &order()).await?.is_some());
    becomes(&db, paused, "succeeded").await?;
    workers.stop().await?;
    assert!(db.catalog.pauses().await?.is_empty());
    assert_eq!(
        (
            audited(&db, "pause").await?.len(),
            audited(&db, "resume").await?.len()
        ),
        (1, 1)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_when_everything_is_paused_goes_on_and_then_nothing_runs() -> Result<()> {
    let db = with_a_shop().await?;
    let ids = enqueue_many(&db, "shop", 4).await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    let (w, g) = (witness.clone(), gate.clone());
    let workers = Workers::start(&db.catalog, &Settings::default(), move |run| {
        let (begun, gate) = (w.begin(&run), g.clone());
        async move {
            gate.pass().await;
            begun.complete();
            Ok(report())
        }
    });
    witness.are_running(2).await?;
    db.catalog.pause(&Scope::default(), &order()).await?;
    assert_eq!(db.catalog.running().await?.len(), 2);
    gate.open();
    eventually(SOON, "nothing runs", async || {
        Ok(db.catalog.running().await?.is_empty())
    })
    .await?;
    let waits = db.catalog.pauses().await?;
    assert_eq!(waits.len(), 1);
    let stats = db.catalog.queue_figures().await?;
    let queue = stats.first().context("no queue")?;
    assert_eq!((queue.runnable, queue.running, queue.failed), (2, 0, 0));
    workers.stop().await?;
    assert_eq!(witness.completed(), 2);
    assert_eq!(ids.len(), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_there_when_no_claim_is_under_way_that_did_not_see_it() -> Result<()> {
    let db = with_a_shop().await?;
    enqueue(&db, "shop").await?;
    let mut claim = db.pool().begin().await?;
    sqlx::query(
        "select from lastgood.claim('postgres', 1, 'w', interval '1 h', 1, 1, 0::smallint, 100::smallint)",
    )
    .execute(&mut *claim)
    .await?;
    let scope = Scope::default();
    let by = order();
    let pause = async { Ok(db.catalog.pause(&scope, &by).await?) };
    let finish = async {
        let waits = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        eventually(SOON, "the pause waits for the claim", async || {
            Ok(db.count(waits).await? == 1)
        })
        .await?;
        anyhow::ensure!(db.catalog.pauses().await?.is_empty());
        Ok(claim.commit().await?)
    };
    tokio::try_join!(pause, finish)?;
    assert_eq!(db.catalog.running().await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_a_pause_costs_is_what_breaks_under_it() -> Result<()> {
    let db = with_a_shop().await?;
    for (id, minutes) in [
        ("was-broken", 600),
        ("broke", 70),
        ("breaks-soon", 30),
        ("fine", -30),
    ] {
        db.add(id, "umbrella", "pro").await?;
        sqlx::query("update lastgood.resources set newest_consistent_at = now() - make_interval(mins => $2) where id = $1")
            .bind(id)
            .bind(minutes)
            .execute(db.pool())
            .await?;
    }
    let scope = Scope {
        team: Some("umbrella".to_owned()),
        ..Scope::default()
    };
    db.catalog.pause(&scope, &order()).await?;
    db.execute("update lastgood.pauses set created_at = now() - interval '1 hour'")
        .await?;
    let costs = db
        .catalog
        .pause_costs(&["pro".to_owned()], &[3960.0])
        .await?;
    let cost = costs.first().context("no pause")?;
    assert_eq!((cost.resources, cost.broken, cost.breaking), (4, 1, 1));
    assert!(cost.next_break_at.is_some());
    Ok(())
}

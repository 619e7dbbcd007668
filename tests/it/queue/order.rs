//! What is closest to breaking its promise goes first, and one team's backlog does not starve the rest.

use std::{collections::HashMap, sync::Arc};

use anyhow::Result;
use chrono::TimeDelta;
use futures::future::try_join_all;
use lastgood::{
    catalog::{Catalog, Order},
    producer::tick,
    queue::Limits,
};
use lastgood_jobs::{
    attempt::RunId,
    job::{Job, Restore, RestoreTarget},
};
use uuid::Uuid;

use super::workers::{
    Gate, Settings, Witness, Workers, becomes, enqueue, enqueue_many, report, with_a_shop,
};
use crate::{
    database::{TestCatalog, plans, reads_of_runs},
    eventually::{SOON, eventually},
};

/// Starts workers whose handlers wait at the gate.
fn gated(catalog: &Catalog, settings: &Settings) -> (Workers, Witness, Gate) {
    let (witness, gate) = (Witness::default(), Gate::closed());
    let (w, g) = (witness.clone(), gate.clone());
    let workers = Workers::start(catalog, settings, move |run| {
        let (begun, gate) = (w.begin(&run), g.clone());
        async move {
            gate.pass().await;
            begun.complete();
            Ok(report())
        }
    });
    (workers, witness, gate)
}

/// Registers this many resources of a team on a server, each with a backup waiting.
async fn backlog(db: &TestCatalog, team: &str, server: Option<&str>, count: i32) -> Result<()> {
    db.add(team, team, "pro").await?;
    enqueue_many(db, team, count).await?;
    sqlx::query("update lastgood.resources set server = $2 where team = $1")
        .bind(team)
        .bind(server)
        .execute(db.pool())
        .await?;
    Ok(())
}

async fn running_by(db: &TestCatalog, what: &str) -> Result<HashMap<String, i64>> {
    let statement = format!(
        "select coalesce(r.{what}, '-'), count(*) from lastgood.runs as run join lastgood.resources as r on r.id = run.resource_id
         where run.state = 'running' group by 1"
    );
    let rows: Vec<(String, i64)> = sqlx::query_as(sqlx::AssertSqlSafe(statement))
        .fetch_all(db.pool())
        .await?;
    Ok(rows.into_iter().collect())
}

async fn resources_in_order(db: &TestCatalog, ids: &[RunId]) -> Result<Vec<String>> {
    let mut resources = Vec::new();
    for id in ids {
        resources.push(db.catalog.run(*id).await?.resource);
    }
    Ok(resources)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_closest_to_breaking_its_promise_goes_first() -> Result<()> {
    let db = TestCatalog::create().await?;
    let promised = plans(&[("hourly", 60, 7), ("daily", 1440, 7)])?;
    // In the order in which their promises break: (id, tier, minutes since the newest restore point).
    let resources = [
        ("daily-broken", "daily", 1500),
        ("hourly-late", "hourly", 70),
        ("hourly-due", "hourly", 61),
        ("daily-due", "daily", 1430),
    ];
    for (id, tier, minutes) in resources.iter().rev() {
        db.add(id, "acme", tier).await?;
        sqlx::query("update lastgood.resources set newest_consistent_at = now() - make_interval(mins => $2) where id = $1")
            .bind(id)
            .bind(minutes)
            .execute(db.pool())
            .await?;
    }
    let now = db.catalog.now().await?;
    assert_eq!(tick(&db.catalog, &promised, now).await?.enqueued, 4);
    let settings = Settings {
        slots: 1,
        ..Settings::default()
    };
    let (workers, witness, gate) = gated(&db.catalog, &settings);
    gate.open();
    witness.have_begun(4).await?;
    workers.stop().await?;
    let order = resources_in_order(&db, &witness.began()).await?;
    assert_eq!(order, resources.map(|(id, ..)| id.to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_becomes_as_urgent_as_its_promise_is_now() -> Result<()> {
    let db = with_a_shop().await?;
    let promised = plans(&[("pro", 60, 7)])?;
    let now = db.catalog.now().await?;
    tick(&db.catalog, &promised, now).await?;
    let due = "select extract(epoch from due_by - coalesce(newest_consistent_at, r.created_at))::bigint / 60
        from lastgood.runs as run join lastgood.resources as r on r.id = run.resource_id";
    assert_eq!(db.count(due).await?, 60);
    // Ahead by far more than a minute, the precision of the comparison.
    db.execute(
        "update lastgood.resources set newest_consistent_at = created_at + interval '30 minutes', next_due_at = now()",
    )
    .await?;
    tick(&db.catalog, &promised, now + TimeDelta::hours(2)).await?;
    assert_eq!(db.count("select count(*) from lastgood.runs").await?, 1);
    assert_eq!(db.count(due).await?, 60);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_teams_backlog_takes_no_more_than_its_slots_and_starves_nobody() -> Result<()> {
    let db = TestCatalog::create().await?;
    backlog(&db, "loud", None, 300).await?;
    backlog(&db, "quiet", None, 2).await?;
    let settings = Settings {
        slots: 6,
        limits: Limits {
            team_slots: Some(3),
            ..Limits::default()
        },
        ..Settings::default()
    };
    let (workers, witness, gate) = gated(&db.catalog, &settings);
    // The quiet team's requests came after all three hundred of the loud one's.
    witness.are_running(5).await?;
    let expected = HashMap::from([("loud".to_owned(), 3), ("quiet".to_owned(), 2)]);
    assert_eq!(running_by(&db, "team").await?, expected);
    gate.admit(5);
    eventually(
        SOON,
        "the loud team has its three slots again, and no more",
        async || {
            Ok(witness.began().len() == 8
                && running_by(&db, "team").await? == HashMap::from([("loud".to_owned(), 3)]))
        },
    )
    .await?;
    gate.open();
    workers.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_the_live_slots_are_a_teams_share_unless_that_is_said() -> Result<()> {
    let db = TestCatalog::create().await?;
    backlog(&db, "loud", None, 20).await?;
    db.execute(
        "insert into lastgood.consumers (id, host, pid, version, queues, slots, capabilities, state, seen_at)
         select 'c' || i, 'h', 1, '0', array['postgres'], 3, '[]',
             case when i = 4 then 'stopped' else 'running' end,
             case when i = 3 then now() - interval '1 hour' else now() end
         from generate_series(1, 4) as i",
    )
    .await?;
    let settings = Settings {
        slots: 6,
        ..Settings::default()
    };
    let (workers, witness, gate) = gated(&db.catalog, &settings);
    witness.are_running(3).await?;
    // Each later claim has seen three running runs. Only then is it certain that no fourth will start.
    gate.admit(3);
    witness.have_begun(6).await?;
    assert_eq!(
        running_by(&db, "team").await?,
        HashMap::from([("loud".to_owned(), 3)])
    );
    gate.open();
    workers.stop().await?;
    assert_eq!(witness.most(), 3);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_while_many_claim_at_once() -> Result<()> {
    let db = TestCatalog::create().await?;
    for team in ["a", "b", "c", "d"] {
        let server = if matches!(team, "a" | "b") {
            "one:5432"
        } else {
            "two:5432"
        };
        backlog(&db, team, Some(server), 40).await?;
    }
    // Also two backups of each resource.
    db.execute(
        "insert into lastgood.runs (queue, kind, trigger, resource_id, args)
         select queue, kind, trigger, resource_id, args from lastgood.runs",
    )
    .await?;
    let others = try_join_all((0..4).map(|_| db.another())).await?;
    let most = Arc::new(std::sync::Mutex::new((0_i64, 0_i64, 0_i64)));
    let pool = db.pool().clone();
    let started: Vec<_> = others
        .iter()
        .zip(["w1", "w2", "w3", "w4"])
        .map(|(catalog, name)| {
            let settings = Settings {
                name,
                slots: 8,
                poll: std::time::Duration::from_millis(20),
                limits: Limits {
                    team_slots: Some(5),
                    server_slots: 7,
                },
                ..Settings::default()
            };
            let (pool, most) = (pool.clone(), Arc::clone(&most));
            Workers::start(catalog, &settings, move |_| {
                let (pool, most) = (pool.clone(), Arc::clone(&most));
                async move {
                    let now: (i64, i64, i64) = sqlx::query_as(
                        "with running as (
                             select r.team, r.server, r.id from lastgood.runs as run
                             join lastgood.resources as r on r.id = run.resource_id where run.state = 'running'
                         )
                         select
                             (select coalesce(max(n), 0) from (select count(*) as n from running group by team) as t),
                             (select coalesce(max(n), 0) from (select count(*) as n from running group by server) as s),
                             (select coalesce(max(n), 0) from (select count(*) as n from running group by id) as i)",
                    )
                    .fetch_one(&pool)
                    .await?;
                    if let Ok(mut most) = most.lock() {
                        *most = (most.0.max(now.0), most.1.max(now.1), most.2.max(now.2));
                    }
                    Ok(report())
                }
            })
        })
        .collect();
    eventually(SOON * 3, "all runs have succeeded", async || {
        let left = "select count(*) from lastgood.runs where state <> 'succeeded'";
        Ok(db.count(left).await? == 0)
    })
    .await?;
    for workers in started {
        workers.stop().await?;
    }
    let most = most.lock().map(|most| *most).unwrap_or_default();
    assert!(most.0 <= 5 && most.1 <= 7 && most.2 == 1, "{most:?}");
    // Otherwise it was not the limits that held anything back.
    assert!(most.1 > 5, "{most:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_waits_for_no_backup_of_its_team_or_its_server() -> Result<()> {
    let db = TestCatalog::create().await?;
    backlog(&db, "loud", Some("one:5432"), 5).await?;
    let settings = Settings {
        slots: 4,
        limits: Limits {
            team_slots: Some(2),
            server_slots: 2,
        },
        ..Settings::default()
    };
    let (workers, witness, gate) = gated(&db.catalog, &settings);
    witness.are_running(2).await?;
    let restore = Job::Restore(Restore {
        point: Uuid::new_v4(),
        target: RestoreTarget::Swap {},
        no_owner: false,
        no_acl: false,
        as_superuser: false,
        no_tablespaces: false,
        break_replication: false,
        of_owner: false,
    });
    let new = lastgood::catalog::NewRun {
        resource_id: "loud-5",
        queue: "postgres",
        job: &restore,
        idempotency_key: None,
        asked: None,
    };
    let id = db
        .catalog
        .enqueue(&new, &Order::new("test", None))
        .await?
        .id();
    becomes(&db, id, "running").await?;
    gate.open();
    workers.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_limit_held_back_is_claimed_when_a_slot_is_free_again() -> Result<()> {
    let db = with_a_shop().await?;
    let first = enqueue(&db, "shop").await?;
    let second = enqueue(&db, "shop").await?;
    // The poll is too rare to help.
    let settings = Settings {
        poll: std::time::Duration::from_hours(1),
        ..Settings::default()
    };
    let (workers, witness, gate) = gated(&db.catalog, &settings);
    witness.are_running(1).await?;
    assert_eq!(witness.began(), [first]);
    gate.open();
    becomes(&db, second, "succeeded").await?;
    assert_eq!(witness.most(), 1);
    workers.stop().await
}

#[tokio::test]
async fn a_claim_reads_neither_the_history_nor_all_that_waits() -> Result<()> {
    let db = with_a_shop().await?;
    db.execute(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args, state, finished_at)
           select 'postgres', 'backup', 'adhoc', 'shop', '{"kind": "backup"}', 'succeeded', now()
           from generate_series(1, 50000)"#,
    )
    .await?;
    enqueue_many(&db, "shop", 5000).await?;
    db.execute("analyze lastgood.runs").await?;
    let mut transaction = db.pool().begin().await?;
    let before = reads_of_runs(&mut transaction).await?;
    let claimed: i64 = sqlx::query_scalar(
        "select count(*) from lastgood.claim('postgres', 10, 'somebody', interval '30 s', null, 2, 0::smallint, 100::smallint)",
    )
    .fetch_one(&mut *transaction)
    .await?;
    assert_eq!(claimed, 10);
    let after = reads_of_runs(&mut transaction).await?;
    assert_eq!(after.whole, before.whole, "all runs were read");
    let rows = after.rows - before.rows;
    assert!(rows < 1000, "{rows} rows were read for ten runs");
    Ok(())
}

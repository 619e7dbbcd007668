//! Benchmarks the queue and the producer: no-op runs with leases and fencing, pickup latency, and ticks over many resources.
//!
//! `scripts/bench.py` starts a private PostgreSQL and passes its URL in `LASTGOOD_BENCH_CATALOG_URL`. Prints one JSON object per line.
//! `throughput PROCESSES SLOTS` runs only that benchmark; `work SLOTS` runs one of the worker processes that it measures.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a benchmark: it prints its figures, and any surprise should end it"
)]

use std::{
    env,
    process::{Child, Command},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use apalis::prelude::{Monitor, WorkerBuilder};
use lastgood::{
    catalog::{Catalog, CatalogError, RunFilter},
    plan::Plans,
    producer,
    queue::{Claims, Failure, InFlight, Lane, Ledger, Outcome, Queue, Run, Runs, Wakers, listen},
};
use lastgood_jobs::job::Job;
use secrecy::SecretString;
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<()> {
    let url = env::var("LASTGOOD_BENCH_CATALOG_URL").context("run this through `make bench`")?;
    let number = |place| {
        env::args()
            .nth(place)
            .context("a number")?
            .parse::<usize>()
            .context("a number")
    };
    if env::args().nth(1).as_deref() == Some("work") {
        return work(&url, number(2)?).await;
    }
    let catalog = Catalog::connect(&SecretString::from(url.clone()), 8).await?;
    catalog.migrate().await?;
    if env::args().nth(1).as_deref() == Some("throughput") {
        return throughput(catalog.pool(), &url, number(2)?, number(3)?).await;
    }
    throughput(catalog.pool(), &url, 1, 16).await?;
    throughput(catalog.pool(), &url, 1, 64).await?;
    throughput(catalog.pool(), &url, 2, 64).await?;
    throughput(catalog.pool(), &url, 4, 64).await?;
    claim_costs(catalog.pool()).await?;
    held_back(catalog.pool()).await?;
    pickup(catalog.pool(), &url).await?;
    ticks(&catalog).await?;
    fleet_wide(&catalog).await
}

/// Runs a worker process whose handler does nothing.
async fn work(url: &str, slots: usize) -> Result<()> {
    let catalog = Catalog::open(&SecretString::from(url.to_owned()), 16).await?;
    let ledger = Ledger::new(
        catalog.pool().clone(),
        format!("bench-{}", std::process::id()),
        Duration::from_secs(30),
    );
    let queue = Queue {
        ledger: ledger.clone(),
        claims: Claims::new(ledger),
        name: "bench".into(),
        lane: Lane::Whole,
        slots: Arc::new(Semaphore::new(slots)),
        poll: Duration::from_secs(2),
        timeout: Duration::from_mins(1),
        give_back: CancellationToken::new(),
        in_flight: InFlight::default(),
    };
    let wakers = Wakers::of(std::slice::from_ref(&queue));
    tokio::spawn(listen(catalog.pool().clone(), wakers));
    let worker = move |restart: usize| {
        WorkerBuilder::new(format!("bench-{restart}"))
            .backend(Runs::<Job>::new(queue.clone()))
            .build(do_nothing)
    };
    Monitor::new().register(worker).run().await?;
    Ok(())
}

async fn do_nothing(_: Run<Job>) -> Result<Outcome, Failure> {
    Ok(Outcome::Report(serde_json::Value::Null))
}

fn start_workers(url: &str, processes: usize, slots: usize) -> Result<Vec<Child>> {
    (0..processes)
        .map(|_| {
            let mut command = Command::new(env::current_exe()?);
            command
                .args(["work", &slots.to_string()])
                .env("LASTGOOD_BENCH_CATALOG_URL", url);
            Ok(command.spawn()?)
        })
        .collect()
}

fn stop(workers: Vec<Child>) -> Result<()> {
    for mut worker in workers {
        worker.kill()?;
        worker.wait()?;
    }
    Ok(())
}

/// Measures runs per second from the first claim to the last finish, by the catalog's clock.
async fn throughput(pool: &PgPool, url: &str, processes: usize, slots: usize) -> Result<()> {
    let runs = 20_000_i64;
    empty(pool).await?;
    resources(pool, 1000).await?;
    sqlx::query(
        "insert into lastgood.runs (queue, kind, trigger, resource_id, args)
         select 'bench', 'backup', 'adhoc', 'r' || (i % 1000 + 1), '{\"kind\":\"backup\"}' from generate_series(1, $1) as i",
    )
    .bind(runs)
    .execute(pool)
    .await?;
    sqlx::query("vacuum analyze lastgood.runs")
        .execute(pool)
        .await?;
    let workers = start_workers(url, processes, slots)?;
    until_done(pool, runs).await?;
    let seconds: f64 = sqlx::query_scalar(
        "select extract(epoch from max(finished_at) - min(started_at))::float8 from lastgood.runs",
    )
    .fetch_one(pool)
    .await?;
    stop(workers)?;
    println!(
        "{}",
        serde_json::json!({ "bench": "queue", "processes": processes, "slots": slots, "runs": runs,
            "runs_per_second": (runs as f64 / seconds).round() })
    );
    Ok(())
}

async fn until_done(pool: &PgPool, runs: i64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_mins(5);
    loop {
        let is_done: bool = sqlx::query_scalar(
            "select not exists (select from lastgood.runs where state = 'queued')
                 and not exists (select from lastgood.runs where state = 'running')",
        )
        .fetch_one(pool)
        .await?;
        if is_done {
            return Ok(());
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "some of {runs} runs are left after 5 minutes"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Measures the cost of claiming a run while a thousand wait, without history and with a million finished runs.
async fn claim_costs(pool: &PgPool) -> Result<()> {
    empty(pool).await?;
    resources(pool, 1000).await?;
    for finished in [0_i64, 1_000_000] {
        sqlx::query("truncate lastgood.runs cascade")
            .execute(pool)
            .await?;
        sqlx::query(
            "insert into lastgood.runs (queue, kind, trigger, resource_id, args, state, finished_at)
             select 'bench', 'backup', 'adhoc', 'r' || (i % 1000 + 1), '{\"kind\":\"backup\"}', 'succeeded', now()
             from generate_series(1, $1) as i",
        )
        .bind(finished)
        .execute(pool)
        .await?;
        sqlx::query(
            "insert into lastgood.runs (queue, kind, trigger, resource_id, args)
             select 'bench', 'backup', 'adhoc', 'r' || i, '{\"kind\":\"backup\"}' from generate_series(1, 1000) as i",
        )
        .execute(pool)
        .await?;
        sqlx::query("vacuum analyze lastgood.runs")
            .execute(pool)
            .await?;
        sqlx::query("checkpoint").execute(pool).await?;
        let mut millis = Vec::new();
        for _ in 0..200 {
            let began = Instant::now();
            let claimed: i64 = sqlx::query_scalar(
                "select count(*) from lastgood.claim('bench', 1, 'bench', interval '30 s', null, 1000, -100::smallint, 100::smallint)",
            )
            .fetch_one(pool)
            .await?;
            millis.push(began.elapsed().as_secs_f64() * 1000.0);
            anyhow::ensure!(claimed == 1, "a claim took {claimed} runs");
        }
        millis.sort_by(f64::total_cmp);
        println!(
            "{}",
            serde_json::json!({ "bench": "claim", "finished": finished, "p50_ms": round(millis[millis.len() / 2]),
                "p95_ms": round(millis[millis.len() * 95 / 100]) })
        );
    }
    Ok(())
}

/// Measures the cost of claiming a run while 100,000 more urgent ones are held back by a pause, a team's limit, a server's limit or a
/// back-off.
async fn held_back(pool: &PgPool) -> Result<()> {
    let gates = [
        (
            "pause",
            "insert into lastgood.pauses (tier, because, by) values ('loudest', 'a benchmark', 'a benchmark')",
        ),
        ("team", RUNS_ONE),
        ("server", RUNS_ONE),
        (
            "back-off",
            "update lastgood.runs set run_at = now() + interval '1 hour' where resource_id like 'loud%'",
        ),
    ];
    for (gate, holds) in gates {
        empty(pool).await?;
        for statement in [
            HELD_BACK_RESOURCES,
            HELD_BACK_RUNS,
            holds,
            "vacuum analyze lastgood.runs",
            "checkpoint",
        ] {
            sqlx::query(statement).execute(pool).await?;
        }
        let (team, server) = match gate {
            "team" => (1, 1_000_000),
            "server" => (1_000_000, 1),
            _ => (1_000_000, 1_000_000),
        };
        let claim = async || -> Result<(f64, i64)> {
            let began = Instant::now();
            let claimed: i64 = sqlx::query_scalar(
                "select count(*) from lastgood.claim('bench', 1, 'bench', interval '30 s', $1, $2, -100::smallint, 100::smallint)",
            )
            .bind(team)
            .bind(server)
            .fetch_one(pool)
            .await?;
            Ok((began.elapsed().as_secs_f64() * 1000.0, claimed))
        };
        // The first claims pass over each of them once.
        let began = Instant::now();
        while claim().await?.1 == 0 {
            anyhow::ensure!(
                began.elapsed() < Duration::from_mins(2),
                "nothing is claimed"
            );
        }
        let passing = began.elapsed();
        let mut millis = Vec::new();
        for _ in 0..200 {
            let (took, claimed) = claim().await?;
            anyhow::ensure!(claimed == 1, "a claim took {claimed} runs");
            millis.push(took);
        }
        millis.sort_by(f64::total_cmp);
        println!(
            "{}",
            serde_json::json!({ "bench": "held back", "by": gate, "runs": 100_000, "passed_in_seconds": round(passing.as_secs_f64()),
                "p50_ms": round(millis[millis.len() / 2]), "p95_ms": round(millis[millis.len() * 95 / 100]) })
        );
    }
    sqlx::query("delete from lastgood.pauses")
        .execute(pool)
        .await?;
    Ok(())
}

const HELD_BACK_RESOURCES: &str = "insert into lastgood.resources (id, team, tier, engine, connection_ref, server)
     select 'loud-' || i, 'loud', 'loudest', 'postgres', 'env:UNUSED', 'one:5432' from generate_series(1, 100000) as i
     union all
     select 'quiet-' || i, 'quiet-' || i, 'pro', 'postgres', 'env:UNUSED', 'other-' || i || ':5432' from generate_series(1, 1000) as i";
const HELD_BACK_RUNS: &str = "insert into lastgood.runs (queue, kind, trigger, resource_id, args, due_by)
     select 'bench', 'backup', 'adhoc', id, '{\"kind\":\"backup\"}', case when team = 'loud' then now() - interval '1 day' else now() end
     from lastgood.resources";
/// One run of the loud team on its only server, which puts both at their limit.
const RUNS_ONE: &str = "update lastgood.runs set state = 'running', attempt = 1, epoch = 1, lease_by = 'w', lease_until = now() + interval '1 h'
     where resource_id = 'loud-1'";

/// Measures the time from the insert of a run to its claim by an idle worker, by the catalog's clock.
async fn pickup(pool: &PgPool, url: &str) -> Result<()> {
    empty(pool).await?;
    resources(pool, 1).await?;
    let workers = start_workers(url, 1, 4)?;
    let samples = 300;
    for sample in 0..=samples {
        sqlx::query(
            "insert into lastgood.runs (queue, kind, trigger, resource_id, args, idempotency_key)
             values ('bench', 'backup', 'adhoc', 'r1', '{\"kind\":\"backup\"}', $1)",
        )
        .bind(format!("k{sample}"))
        .execute(pool)
        .await?;
        until_done(pool, 1).await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop(workers)?;
    // The first run waited for the worker process to start.
    let mut millis: Vec<f64> = sqlx::query_scalar(
        "select extract(epoch from started_at - created_at)::float8 * 1000 from lastgood.runs where idempotency_key <> 'k0'",
    )
    .fetch_all(pool)
    .await?;
    millis.sort_by(f64::total_cmp);
    println!(
        "{}",
        serde_json::json!({ "bench": "pickup", "samples": millis.len(),
            "p50_ms": round(millis[millis.len() / 2]), "p95_ms": round(millis[millis.len() * 95 / 100]),
            "worst_ms": round(*millis.last().unwrap()) })
    );
    Ok(())
}

/// Measures a tick that enqueues 100,000 of 1,000,000 resources, then ticks with nothing due.
async fn ticks(catalog: &Catalog) -> Result<()> {
    let pool = catalog.pool();
    empty(pool).await?;
    resources(pool, 1_000_000).await?;
    sqlx::query(
        "update lastgood.resources set cadence_minutes = 60, newest_consistent_at = now(), next_due_at = now() + interval '2 hours'
         where substr(id, 2)::integer > 100000",
    )
    .execute(pool)
    .await?;
    sqlx::query("vacuum analyze lastgood.resources")
        .execute(pool)
        .await?;
    sqlx::query("checkpoint").execute(pool).await?;
    let plans = Plans::built_in();
    let now = catalog.now().await?;
    let began = Instant::now();
    let ticked = producer::tick(catalog, &plans, now).await?;
    println!(
        "{}",
        serde_json::json!({ "bench": "tick", "resources": 1_000_000, "enqueued": ticked.enqueued,
            "seconds": round(began.elapsed().as_secs_f64()) })
    );
    let mut idle = Vec::new();
    for _ in 0..10 {
        let began = Instant::now();
        let ticked = producer::tick(catalog, &plans, now).await?;
        anyhow::ensure!(
            ticked.looked_at == 0,
            "an idle tick looked at {} resources",
            ticked.looked_at
        );
        idle.push(began.elapsed().as_secs_f64());
    }
    println!(
        "{}",
        serde_json::json!({ "bench": "idle tick", "resources": 1_000_000,
            "worst_seconds": round(idle.iter().copied().fold(0.0, f64::max)) })
    );
    Ok(())
}

/// Measures the queries of producers over the whole fleet, and of operators about its runs. Runs after [`ticks`], with a million more
/// resources, points, copies and runs.
async fn fleet_wide(catalog: &Catalog) -> Result<()> {
    for statement in [
        "update lastgood.resources
         set newest_consistent_at = now() - random() * interval '1 hour', cadence_minutes = 60, next_due_at = now() + interval '1 hour'",
        "insert into lastgood.restore_points
             (id, resource_id, consistent_at, manifest_key, manifest, dump_bytes, stored_bytes)
         select gen_random_uuid(), id, newest_consistent_at, id, '{\"consistency\": \"snapshot\"}', 1, 1 from lastgood.resources",
        "update lastgood.restore_points set verified_at = now() - random() * interval '5 days'",
        "insert into lastgood.copies (point_id, store, verified_at) select id, 'primary', verified_at from lastgood.restore_points",
        "insert into lastgood.runs
             (queue, kind, trigger, resource_id, slot, args, state, attempt, epoch, created_at, finished_at)
         select engine, 'backup', 'scheduled', id, timestamptz '2026-01-01', '{}', 'succeeded', 1, 1, now() - random() * interval '1 day', now()
         from lastgood.resources",
        "vacuum (analyze)",
    ] {
        sqlx::query(statement).execute(catalog.pool()).await?;
    }
    let tiers = ["pro".to_owned()];
    let plans = Plans::built_in();
    timed(
        "exposure by tier",
        catalog.tier_exposures(&tiers, &[4000.0], None),
    )
    .await?;
    timed(
        "the most exposed",
        catalog.exposures(&tiers, &[4000.0], None, 50),
    )
    .await?;
    timed("planning compared", producer::apply_plans(catalog, &plans)).await?;
    timed(
        "verifications asked for",
        producer::ask_for_verifications(catalog, Duration::from_hours(720)),
    )
    .await?;
    timed("suspect points counted", catalog.suspect_counts()).await?;
    for (name, filter) in [
        (
            "runs of a team",
            RunFilter {
                team: Some("t7".to_owned()),
                limit: 50,
                ..RunFilter::default()
            },
        ),
        (
            "runs of a kind without any",
            RunFilter {
                kind: Some(lastgood::run::RunKind::DropReplaced),
                limit: 50,
                ..RunFilter::default()
            },
        ),
    ] {
        timed(name, catalog.runs(&filter)).await?;
    }
    Ok(())
}

/// Prints how long a query took.
async fn timed<T>(name: &str, asking: impl Future<Output = Result<T, CatalogError>>) -> Result<()> {
    let began = Instant::now();
    asking.await?;
    println!(
        "{}",
        serde_json::json!({ "bench": "fleet", "what": name, "resources": 1_000_000, "seconds": round(began.elapsed().as_secs_f64()) })
    );
    Ok(())
}

async fn empty(pool: &PgPool) -> Result<()> {
    sqlx::query("truncate lastgood.runs, lastgood.resources cascade")
        .execute(pool)
        .await?;
    Ok(())
}

async fn resources(pool: &PgPool, count: i32) -> Result<()> {
    sqlx::query(
        "insert into lastgood.resources (id, team, tier, engine, connection_ref)
         select 'r' || i, 't' || i / 10, 'pro', 'postgres', 'env:UNUSED' from generate_series(1, $1) as i",
    )
    .bind(count)
    .execute(pool)
    .await?;
    Ok(())
}

fn round(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

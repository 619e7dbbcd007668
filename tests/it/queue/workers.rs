//! The real backend under a real monitor, wired as in a consumer, with a handler of the test's choice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use apalis::prelude::{BoxDynError, Data, Monitor, WorkerBuilder, WorkerContext};
use chrono::{DateTime, Utc};
use futures::{FutureExt as _, future::BoxFuture};
use lastgood::{
    catalog::{Catalog, NewRun, Order},
    nouns,
    queue::{
        Claims, InFlight, Lane, Ledger, Limits, Outcome, Queue, Run, Runs, Wakers, listen, watch,
    },
    run::RunState,
};
use lastgood_jobs::{
    attempt::{Attempt, RunId},
    backup::RestorePoint,
    job::Job,
    manifest::{Compression, Consistency, Details, Dump, FORMAT, Manifest, Stored, VERSION},
    resource::Engine,
};
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    database::TestCatalog,
    eventually::{SOON, eventually, soon, within},
};

type Handled = Result<Outcome, BoxDynError>;
type Handler = Arc<dyn Fn(Run<Job>, WorkerContext) -> BoxFuture<'static, Handled> + Send + Sync>;

/// How the workers run.
pub(super) struct Settings {
    pub(super) name: &'static str,
    pub(super) queues: &'static [&'static str],
    pub(super) lane: Lane,
    pub(super) slots: usize,
    pub(super) lease: Duration,
    pub(super) poll: Duration,
    pub(super) timeout: Duration,
    pub(super) listens: bool,
    pub(super) limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: "worker",
            queues: &["postgres"],
            lane: Lane::Whole,
            slots: 2,
            lease: Duration::from_secs(30),
            poll: Duration::from_millis(100),
            timeout: Duration::from_mins(10),
            listens: false,
            limits: Limits::default(),
        }
    }
}

pub(super) struct Workers {
    slots: Vec<Arc<Semaphore>>,
    slots_each: usize,
    stop: CancellationToken,
    give_back: CancellationToken,
    monitor: JoinHandle<Result<()>>,
    side: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts a worker for each queue.
    pub(super) fn start<F, H>(catalog: &Catalog, settings: &Settings, handler: H) -> Self
    where
        H: Fn(Run<Job>) -> F + Send + Sync + 'static,
        F: Future<Output = Handled> + Send + 'static,
    {
        Self::start_with_context(catalog, settings, move |run, _| handler(run))
    }

    /// Starts a worker for each queue, with a handler that also gets its worker's context.
    pub(super) fn start_with_context<F, H>(
        catalog: &Catalog,
        settings: &Settings,
        handler: H,
    ) -> Self
    where
        H: Fn(Run<Job>, WorkerContext) -> F + Send + Sync + 'static,
        F: Future<Output = Handled> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |run, worker| handler(run, worker).boxed());
        let ledger = Ledger::new(catalog.pool().clone(), settings.name, settings.lease)
            .within(settings.limits);
        let in_flight = InFlight::default();
        let claims = Claims::new(ledger.clone());
        let give_back = CancellationToken::new();
        let queues: Vec<_> = settings
            .queues
            .iter()
            .map(|name| Queue {
                ledger: ledger.clone(),
                name: (*name).into(),
                lane: settings.lane,
                slots: Arc::new(Semaphore::new(settings.slots)),
                claims: claims.clone(),
                poll: settings.poll,
                timeout: settings.timeout,
                give_back: give_back.clone(),
                in_flight: in_flight.clone(),
            })
            .collect();
        let wakers = Wakers::of(&queues);
        let cancelled = Arc::clone(&wakers.cancelled);
        let mut side = vec![tokio::spawn(watch(ledger, in_flight, cancelled))];
        if settings.listens {
            side.push(tokio::spawn(listen(catalog.pool().clone(), wakers)));
        }
        let stop = CancellationToken::new();
        let slots = queues
            .iter()
            .map(|queue| Arc::clone(&queue.slots))
            .collect();
        let monitor = tokio::spawn(monitor(queues, settings.name, handler, stop.clone()));
        Self {
            slots,
            slots_each: settings.slots,
            stop,
            give_back,
            monitor,
            side,
        }
    }

    pub(super) fn begin_drain(&self) {
        self.stop.cancel();
    }

    /// Ends the drain's grace period: leases are given back.
    pub(super) fn end_patience(&self) {
        self.give_back.cancel();
    }

    /// Waits until nothing is in flight: a permit comes back only after the fenced finish.
    pub(super) async fn idle(&self) -> Result<()> {
        soon("every slot is free", || {
            self.slots
                .iter()
                .all(|slots| slots.available_permits() == self.slots_each)
        })
        .await
    }

    /// Waits until this many runs hold a slot.
    pub(super) async fn executes(&self, count: usize) -> Result<()> {
        soon(&format!("{count} runs hold a slot"), || {
            let free: usize = self.slots.iter().map(|it| it.available_permits()).sum();
            self.slots.len() * self.slots_each - free == count
        })
        .await
    }

    /// Drains and waits for the end. Every slot is free then.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        within(SOON, "the monitor ends", &mut self.monitor).await???;
        self.idle().await
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.monitor.abort();
        self.side.iter().for_each(JoinHandle::abort);
    }
}

async fn monitor(
    queues: Vec<Queue>,
    name: &'static str,
    handler: Handler,
    stop: CancellationToken,
) -> Result<()> {
    let mut monitor = Monitor::new().should_restart(|_, _| true);
    for queue in queues {
        let handler = Arc::clone(&handler);
        monitor = monitor.register(move |restart| {
            WorkerBuilder::new(format!("{name}-{}-{restart}", queue.name))
                .backend(Runs::<Job>::new(queue.clone()))
                .data(Arc::clone(&handler))
                .build(handle)
        });
    }
    let signal = async move {
        stop.cancelled().await;
        Ok(())
    };
    Ok(monitor.run_with_signal(signal).await?)
}

async fn handle(run: Run<Job>, handler: Data<Handler>, worker: WorkerContext) -> Handled {
    handler(run, worker).await
}

/// Counts the handlers that began and ended.
#[derive(Clone, Default)]
pub(super) struct Witness {
    began: Arc<Mutex<Vec<RunId>>>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    completed: Arc<AtomicUsize>,
}

impl Witness {
    /// Records that a handler began. It ends when the returned value is dropped.
    pub(super) fn begin<A>(&self, run: &Run<A>) -> Begun {
        self.began
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(run.id);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        Begun(self.clone())
    }

    /// Returns the run of every handler that began, in order, with repetitions.
    pub(super) fn began(&self) -> Vec<RunId> {
        self.began
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns how many handlers are running.
    pub(super) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Returns the highest number of handlers that ran at once.
    pub(super) fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    /// Returns how many handlers ran to completion.
    pub(super) fn completed(&self) -> usize {
        self.completed.load(Ordering::SeqCst)
    }

    /// Waits until this many handlers are running.
    pub(super) async fn are_running(&self, count: usize) -> Result<()> {
        soon(&format!("{count} handlers run"), || self.running() == count).await
    }

    /// Waits until this many handlers have begun.
    pub(super) async fn have_begun(&self, count: usize) -> Result<()> {
        soon(&format!("{count} handlers have begun"), || {
            self.began().len() >= count
        })
        .await
    }
}

/// A handler that has begun. Dropped when it ends or is stopped.
pub(super) struct Begun(Witness);

impl Begun {
    /// Records that the handler ran to completion.
    pub(super) fn complete(self) {
        self.0.completed.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Holds handlers until the test lets them go.
#[derive(Clone)]
pub(super) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(super) fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub(super) async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }

    /// Lets this many handlers pass.
    pub(super) fn admit(&self, count: usize) {
        self.0.add_permits(count);
    }

    pub(super) fn open(&self) {
        self.0.add_permits(1_000_000);
    }
}

/// Returns an outcome without a restore point.
pub(super) fn report() -> Outcome {
    Outcome::Report(serde_json::json!({ "done": true }))
}

/// Returns an outcome with a restore point.
pub(super) fn restore_point(run: &Run<Job>) -> Result<Outcome> {
    run.progress.add_dump(1000);
    run.progress.add_stored(100);
    restore_point_of(run.as_attempt(), &run.resource_id, chrono::Utc::now())
}

/// Returns an outcome with a restore point that is consistent to this instant.
pub(crate) fn restore_point_of(
    attempt: Attempt,
    resource_id: &str,
    consistent_at: DateTime<Utc>,
) -> Result<Outcome> {
    let Attempt { run, epoch, id, .. } = attempt;
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        version: VERSION,
        run_id: run,
        epoch,
        attempt_id: Some(id),
        installation: None,
        resource_id: resource_id.parse()?,
        team: "acme".parse()?,
        tier: "pro".parse()?,
        engine: Engine::Postgres,
        consistent_at,
        consistency: Consistency::Snapshot,
        started_at: consistent_at,
        finished_at: consistent_at,
        made_by: "a test".to_owned(),
        archive: Stored {
            key: format!("{run}.zst").parse()?,
            size_bytes: 100,
            blake3: "0".repeat(64),
            compression: Compression::Zstd,
            encryption: None,
        },
        dump: Dump {
            format: "pg_dump custom".to_owned(),
            size_bytes: 1000,
            blake3: "0".repeat(64),
        },
        server_version: "PostgreSQL 18".to_owned(),
        tool_version: "pg_dump 18".to_owned(),
        contents: None,
        details: Details::Postgres {
            database: "shop".to_owned(),
            server_major: 18,
            tables: 1,
            extensions: BTreeMap::new(),
            properties: BTreeMap::new(),
            superuser: false,
        },
        warnings: Vec::new(),
        suspicions: Vec::new(),
    };
    Ok(Outcome::RestorePoint(Box::new(RestorePoint {
        manifest_key: format!("{run}-{}.json", id.0),
        manifest,
    })))
}

/// Enqueues an ad-hoc backup and returns its id.
pub(super) async fn enqueue(db: &TestCatalog, resource_id: &str) -> Result<RunId> {
    enqueue_on(db, "postgres", resource_id).await
}

/// Enqueues a backup on any queue and returns its id.
pub(super) async fn enqueue_on(db: &TestCatalog, queue: &str, resource_id: &str) -> Result<RunId> {
    let new = NewRun {
        resource_id,
        queue,
        job: &Job::Backup {},
        idempotency_key: None,
        asked: None,
    };
    Ok(db
        .catalog
        .enqueue(&new, &Order::new("test", None))
        .await?
        .id())
}

/// Enqueues this many backups at once and returns their ids.
///
/// Each is of its own resource of one team, `shop-1` and so on, because a resource has only one dump at a time.
pub(super) async fn enqueue_many(
    db: &TestCatalog,
    resource_id: &str,
    count: i32,
) -> Result<Vec<RunId>> {
    sqlx::query(
        "insert into lastgood.resources (id, team, tier, engine, connection_ref)
         select r.id || '-' || i, r.team, r.tier, r.engine, r.connection_ref
         from lastgood.resources as r, generate_series(1, $2) as i where r.id = $1
         on conflict do nothing",
    )
    .bind(resource_id)
    .bind(count)
    .execute(db.pool())
    .await?;
    let ids = sqlx::query_scalar(
        r#"insert into lastgood.runs (queue, kind, trigger, resource_id, args)
           select 'postgres', 'backup', 'adhoc', $1 || '-' || i, '{"kind": "backup"}' from generate_series(1, $2) as i
           returning id"#,
    )
    .bind(resource_id)
    .bind(count)
    .fetch_all(db.pool())
    .await?;
    Ok(ids)
}

/// Waits until a run is in `state`, and returns it.
pub(super) async fn becomes(db: &TestCatalog, id: RunId, state: &str) -> Result<nouns::Run> {
    let what = format!("run {id} is {state}");
    eventually(SOON, &what, async || {
        Ok(db.catalog.run(id).await?.state.as_str() == state)
    })
    .await
    .with_context(|| format!("run {id}"))?;
    Ok(db.catalog.run(id).await?)
}

/// Waits until a run is queued after this many attempts, and returns it.
pub(super) async fn is_queued_after(
    db: &TestCatalog,
    id: RunId,
    attempts: i32,
) -> Result<nouns::Run> {
    let what = format!("run {id} is queued after {attempts} attempts");
    eventually(SOON, &what, async || {
        let run = db.catalog.run(id).await?;
        Ok(run.state == RunState::Queued && run.attempt == attempts)
    })
    .await?;
    Ok(db.catalog.run(id).await?)
}

/// Ends a run's back-off.
pub(super) async fn make_runnable(db: &TestCatalog, id: RunId) -> Result<()> {
    sqlx::query("update lastgood.runs set run_at = now() where id = $1 and state = 'queued'")
        .bind(id)
        .execute(db.pool())
        .await?;
    Ok(())
}

/// Takes a run from its worker, as the reaper does, and keeps it from being claimed again.
pub(super) async fn take_away(db: &TestCatalog, id: RunId) -> Result<()> {
    let taken = sqlx::query(
        "update lastgood.runs
         set state = 'queued', epoch = epoch + 1, lease_by = null, lease_until = null, run_at = now() + interval '1 day'
         where id = $1 and state = 'running'",
    )
    .bind(id)
    .execute(db.pool())
    .await?;
    anyhow::ensure!(taken.rows_affected() == 1, "the run is not running");
    Ok(())
}

/// Returns a run's fencing token.
pub(super) async fn epoch(db: &TestCatalog, id: RunId) -> Result<i64> {
    let epoch = sqlx::query_scalar("select epoch from lastgood.runs where id = $1")
        .bind(id)
        .fetch_one(db.pool())
        .await?;
    Ok(epoch)
}

/// Returns a catalog with one resource, `shop`, on a paid tier.
pub(super) async fn with_a_shop() -> Result<TestCatalog> {
    let db = TestCatalog::create().await?;
    db.add("shop", "acme", "pro").await?;
    Ok(db)
}

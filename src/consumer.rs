//! The consumer: claims runs of its engines, executes them, and reports while it is alive what it can do.

mod copy;
mod drill;
mod escrows;
mod expire;
mod handle;
mod heart;
mod holders;
mod janitor;
mod judge;
mod record;
mod reopen;
mod verify;
mod work_dir;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use apalis::prelude::{Monitor, WorkerBuilder};
use lastgood_jobs::{
    clients::Toolbox, detached, drill::Drills, engine, job::Job, resource::Engine,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    catalog::Catalog,
    http, master, metrics,
    nouns::ConsumerState,
    queue::{Claims, InFlight, Lane, Ledger, Limits, Queue, Runs, Wakers, listen, watch},
    secret::MasterKeys,
    stores::Stores,
};

use self::{
    heart::{Heart, registration},
    janitor::{clean_for_ever, look_for_ever, remove_dead_for_ever},
};

pub use handle::handle;
pub(crate) use work_dir::WorkDir;

/// How long stopped attempts may still clean up after a drain.
const SETTLED_WITHIN: Duration = Duration::from_secs(4);

/// Settings of a consumer.
pub struct Settings {
    /// The engines it serves.
    pub engines: Vec<Engine>,
    /// How many backups and restores of each engine it executes at once. Upkeep has [`upkeep_slots`] besides.
    pub slots: u32,
    /// How many drills of each engine it executes at once, in slots of their own; 0: none.
    pub drill_slots: u32,
    /// Limits on runs that could crowd out the rest.
    pub limits: Limits,
    /// How long a claim lasts without renewal.
    pub lease: Duration,
    /// How often it looks for runs when nothing wakes it.
    pub poll: Duration,
    /// The longest that an attempt may take.
    pub job_timeout: Duration,
    /// How long a drain waits before leases are given back.
    pub drain_timeout: Duration,
    /// How old leftovers of dead attempts must be before the janitor removes them.
    pub janitor_age: Duration,
    /// How often the janitor looks.
    pub janitor_every: Duration,
    /// Where it serves metrics.
    pub listen: SocketAddr,
    /// Where its private files are.
    pub work_dir: PathBuf,
}

/// What every handler of this process shares.
#[derive(Clone)]
pub struct Shared {
    /// The catalog.
    pub catalog: Catalog,
    /// The stores.
    pub stores: Stores,
    /// The client tools.
    pub tools: Arc<Toolbox>,
    /// The keys that open sealed connections, if there are any.
    pub master_keys: Option<MasterKeys>,
    /// This process's private directory.
    pub work_dir: PathBuf,
    /// What drills restore into; `None` if this process runs none.
    pub drills: Option<Arc<Drills>>,
    /// Whether to refuse a server that does not have to prove its identity.
    pub require_verified_tls: bool,
}

/// How a consumer is told to stop.
#[derive(Clone, Default)]
pub struct Stop {
    /// Nothing new is claimed, and running attempts may finish.
    pub drain: CancellationToken,
    /// Running attempts are stopped, and their leases given back.
    pub at_once: CancellationToken,
}

/// Runs until it is told to stop, then drains: running jobs finish, or give their lease back at the deadline.
pub async fn consume(
    mut shared: Shared,
    settings: &Settings,
    recorder: metrics_exporter_prometheus::PrometheusHandle,
    stop: Stop,
) -> anyhow::Result<()> {
    metrics::prime_consumer();
    let master_keys = master_keys(&shared).await?;
    let private = work_dir::WorkDir::create(&settings.work_dir)?;
    shared.work_dir = private.path().to_owned();

    let mut capabilities = engine::capabilities(&shared.tools);
    for capability in &mut capabilities {
        if drill::drills_engine(shared.drills.as_deref(), capability.engine) {
            capability.operations.push("drill".to_owned());
        }
    }
    let registration = registration(settings, capabilities, master_keys)?;
    let id = registration.id.clone();
    shared.catalog.register_consumer(&registration).await?;

    let (ready, is_ready) = tokio::sync::watch::channel(true);
    let ended = CancellationToken::new();
    let (address, server) = http::serve(settings.listen, recorder, is_ready, ended.clone()).await?;
    tracing::info!(consumer.id = id, http.address = %address, "consumer started, metrics at http://{address}/metrics");

    let ledger = Ledger::new(shared.catalog.pool().clone(), &*id, settings.lease)
        .storing_in(&shared.stores.primary().name)
        .within(settings.limits);
    let in_flight = InFlight::default();
    let give_back = CancellationToken::new();
    let drills = shared.drills.clone();
    let queues = queues(&ledger, settings, drills.as_deref(), &in_flight, &give_back);
    let drain_asked = Arc::new(Notify::new());
    let wakers = Wakers {
        drain: (id.as_str().into(), Arc::clone(&drain_asked)),
        ..Wakers::of(&queues)
    };
    let tasks = TaskTracker::new();
    tasks.spawn(server);
    let side = [
        tokio::spawn(watch(ledger, in_flight, Arc::clone(&wakers.cancelled))),
        tokio::spawn(listen(shared.catalog.pool().clone(), wakers)),
        tokio::spawn(look_for_ever(
            shared.stores.clone(),
            shared.catalog.clone(),
            id.clone(),
        )),
        tokio::spawn(clean_for_ever(
            shared.catalog.clone(),
            shared.stores.clone(),
            settings.janitor_age,
            settings.janitor_every,
        )),
        tokio::spawn(remove_dead_for_ever(
            settings.work_dir.clone(),
            shared.drills.clone(),
        )),
        tokio::spawn(reopen::reopen_for_ever(
            shared.clone(),
            settings.engines.clone(),
        )),
    ];
    let heart = Heart {
        catalog: shared.catalog.clone(),
        registration,
        ready,
        drain_asked,
        drain: stop.drain.clone(),
        keeps_sessions: shared.catalog.keeps_sessions().await,
    };
    tasks.spawn(heart.beat_until(ended.clone()));
    tasks.close();

    let drain_timeout = settings.drain_timeout;
    let drained = run_workers(queues, &shared, stop, give_back, drain_timeout, &id).await;
    if timeout(SETTLED_WITHIN, detached::settled()).await.is_err() {
        tracing::warn!(
            "stopped attempts have not finished clearing up: the next attempt and the janitor do the rest"
        );
    }

    ended.cancel();
    side.iter().for_each(tokio::task::JoinHandle::abort);
    tasks.wait().await;
    shared.catalog.beat(&id, ConsumerState::Stopped).await?;
    tracing::info!(consumer.id = id, "consumer stopped");
    drained
}

/// Refuses to start with a master key other than the one that seals the catalog. Returns the numbers of the keys at hand, and logs once,
/// rather than run by run, that URLs are sealed under keys that are not at hand.
async fn master_keys(shared: &Shared) -> anyhow::Result<Vec<i32>> {
    let Some(keys) = &shared.master_keys else {
        return Ok(Vec::new());
    };
    let numbers = master::hold(&shared.catalog, keys).await?.numbers();
    let known = shared.catalog.master_keys().await?;
    let others: Vec<_> = known
        .iter()
        .map(|row| row.number)
        .filter(|number| !numbers.contains(number))
        .collect();
    let (first, all) = shared.catalog.urls_sealed_under(&others, 1).await?;
    if let Some(first) = first.first() {
        tracing::error!(
            resource.id = first.resource,
            resources = all,
            "URLs were sealed under master keys that this consumer does not have, and their resources are not backed up here: see \
             `lastgood status`"
        );
    }
    Ok(numbers)
}

/// Runs an apalis worker for each queue, under one monitor.
async fn run_workers(
    queues: Vec<Queue>,
    shared: &Shared,
    stop: Stop,
    give_back: CancellationToken,
    drain_timeout: Duration,
    id: &str,
) -> anyhow::Result<()> {
    let slots: Vec<_> = queues
        .iter()
        .map(|queue| (Arc::clone(&queue.slots), queue.slots.available_permits()))
        .collect();
    let mut monitor = Monitor::new().should_restart(|_, _| true);
    for queue in queues {
        let shared = shared.clone();
        let name = format!("{id}-{}-{:?}", queue.name, queue.lane);
        monitor = monitor.register(move |restart| {
            WorkerBuilder::new(format!("{name}-{restart}"))
                .backend(Runs::<Job>::new(queue.clone()))
                .data(shared.clone())
                .build(handle)
        });
    }
    let signal = async move {
        stop.drain.cancelled().await;
        tracing::info!(
            drain.seconds = drain_timeout.as_secs(),
            "draining: no new runs are claimed, running ones may finish"
        );
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(drain_timeout) => {}
                () = stop.at_once.cancelled() => {}
            }
            give_back.cancel();
        });
        Ok(())
    };
    monitor.run_with_signal(signal).await?;
    // A slot is freed only after its fenced finish, so once every permit is back, nothing is left in flight.
    for (slots, all) in slots {
        let _all = slots
            .acquire_many(u32::try_from(all).unwrap_or(u32::MAX))
            .await?;
    }
    Ok(())
}

fn queues(
    ledger: &Ledger,
    settings: &Settings,
    drills: Option<&Drills>,
    in_flight: &InFlight,
    give_back: &CancellationToken,
) -> Vec<Queue> {
    let claims = Claims::new(ledger.clone());
    let lanes = [
        (Lane::Promised, settings.slots),
        (Lane::Upkeep, upkeep_slots(settings.slots)),
        (Lane::Drills, settings.drill_slots),
    ];
    // Each engine has its own slots, and so have its upkeep and its drills: one engine's long jobs must not take every slot, and copies,
    // verifications and drills must keep no backup waiting.
    let each = settings
        .engines
        .iter()
        .flat_map(|engine| lanes.map(|lane| (engine, lane)))
        // Another consumer may have the server that this one lacks.
        .filter(|(engine, (lane, _))| {
            *lane != Lane::Drills || drill::drills_engine(drills, **engine)
        })
        .filter(|(_, (_, slots))| *slots > 0);
    each.map(|(engine, (lane, slots))| Queue {
        ledger: ledger.clone(),
        name: engine.as_str().into(),
        lane,
        slots: Arc::new(Semaphore::new(slots as usize)),
        claims: claims.clone(),
        poll: settings.poll,
        timeout: settings.job_timeout,
        give_back: give_back.clone(),
        in_flight: in_flight.clone(),
    })
    .collect()
}

/// Returns how many copies, verifications and removals run at once beside `slots` backups and restores: half as many, but at least one.
#[must_use]
pub fn upkeep_slots(slots: u32) -> u32 {
    (slots / 2).max(1)
}

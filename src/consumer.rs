//! The consumer: claims runs of its engines, executes them, and says while it lives what it can truly do.

mod copy;
mod escrows;
mod expire;
mod handle;
mod holders;
mod judge;
mod record;
mod reopen;
mod verify;
mod work_dir;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use apalis::prelude::{Monitor, WorkerBuilder};
use chrono::Utc;
use lastgood_jobs::{
    detached,
    engine::{Capability, Toolbox},
    error::chain,
    job::Job,
    resource::Engine,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    catalog::{Beat, Catalog, CatalogError, Registration, answered},
    http, master, metrics,
    queue::{Claims, InFlight, Lane, Limits, Queue, Runs, Store, Wakers, listen, watch},
    secret::MasterKeys,
    stores::{self, Compared, NamedStore, Stores},
    version::VERSION,
};

pub use handle::handle;
pub(crate) use work_dir::WorkDir;

/// How often a consumer says that it is alive; three missed beats and it counts as dead.
const BEAT_EVERY: Duration = Duration::from_secs(10);
/// How often a consumer looks whether its stores are there, and still what they were.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long, after a drain, attempts that were stopped may still clear up behind them.
const SETTLED_WITHIN: Duration = Duration::from_secs(4);

/// How a consumer is to run.
pub struct Settings {
    /// The engines it serves.
    pub engines: Vec<Engine>,
    /// How many backups and restores of each engine it executes at once; upkeep has [`upkeep_slots`] beside them.
    pub slots: u32,
    /// How much may run at once of what could crowd out the rest.
    pub limits: Limits,
    /// How long a claim lasts without renewal.
    pub lease: Duration,
    /// How often it looks for runs when nothing wakes it.
    pub poll: Duration,
    /// The longest an attempt may take.
    pub job_timeout: Duration,
    /// How long a drain waits before leases are given back.
    pub drain_timeout: Duration,
    /// What dead attempts left is removed when it is older.
    pub janitor_age: Duration,
    /// How often the janitor looks.
    pub janitor_every: Duration,
    /// Where it serves metrics.
    pub listen: SocketAddr,
    /// Where its private files live.
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
    /// The keys that sealed connections open with, if there are any.
    pub master_keys: Option<MasterKeys>,
    /// This process's private directory.
    pub work_dir: PathBuf,
    /// Whether a server that need not prove who it is is refused.
    pub require_verified_tls: bool,
}

/// How a consumer is told to end.
#[derive(Clone, Default)]
pub struct Stop {
    /// Nothing new is claimed, what runs may finish.
    pub drain: CancellationToken,
    /// What still runs is stopped, and its lease given back.
    pub at_once: CancellationToken,
}

/// Runs until it is to stop, then drains: running jobs finish, or give their lease back at the deadline.
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

    let registration = registration(settings, shared.tools.capabilities(), master_keys)?;
    let id = registration.id.clone();
    shared.catalog.register_consumer(&registration).await?;

    let (ready, is_ready) = tokio::sync::watch::channel(true);
    let ended = CancellationToken::new();
    let (address, server) = http::serve(settings.listen, recorder, is_ready, ended.clone()).await?;
    tracing::info!(consumer.id = id, http.address = %address, "consumer started, metrics at http://{address}/metrics");

    let store = Store::new(shared.catalog.pool().clone(), &*id, settings.lease)
        .storing_in(&shared.stores.primary().name)
        .within(settings.limits);
    let in_flight = InFlight::default();
    let give_back = CancellationToken::new();
    let queues = queues(&store, settings, &in_flight, &give_back);
    let drain_asked = Arc::new(Notify::new());
    let wakers = Wakers {
        drain: (id.as_str().into(), Arc::clone(&drain_asked)),
        ..Wakers::of(&queues)
    };
    let tasks = TaskTracker::new();
    tasks.spawn(server);
    let side = [
        tokio::spawn(watch(store, in_flight, Arc::clone(&wakers.cancelled))),
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
        tokio::spawn(remove_dead_for_ever(settings.work_dir.clone())),
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
            "what stopped attempts had still to clear up is left to the next attempt and the janitor"
        );
    }

    ended.cancel();
    side.iter().for_each(tokio::task::JoinHandle::abort);
    tasks.wait().await;
    shared.catalog.beat(&id, "stopped").await?;
    tracing::info!(consumer.id = id, "consumer stopped");
    drained
}

/// Refuses to start with another master key than the one that seals the catalog, and returns the numbers of those at hand. URLs that
/// were sealed under a key that is not are told, once and not run by run.
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

/// One apalis worker for each queue, under one monitor.
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
            "draining: nothing new is claimed, what runs may finish"
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
    // A slot is free only after its fenced finish: with every permit back, nothing is left in flight.
    for (slots, all) in slots {
        let _all = slots
            .acquire_many(u32::try_from(all).unwrap_or(u32::MAX))
            .await?;
    }
    Ok(())
}

fn queues(
    store: &Store,
    settings: &Settings,
    in_flight: &InFlight,
    give_back: &CancellationToken,
) -> Vec<Queue> {
    let claims = Claims::new(store.clone());
    let lanes = [
        (Lane::Promised, settings.slots),
        (Lane::Upkeep, upkeep_slots(settings.slots)),
    ];
    // Slots of its own for each engine, and for its upkeep: one engine's long jobs must not take every slot, and what is read
    // back or copied must keep no backup waiting.
    let each = settings
        .engines
        .iter()
        .flat_map(|engine| lanes.map(|lane| (engine, lane)));
    each.map(|(engine, (lane, slots))| Queue {
        store: store.clone(),
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

/// Returns how many copies, verifications and removals run at once beside so many backups and restores: half as many, and one
/// at least.
#[must_use]
pub fn upkeep_slots(slots: u32) -> u32 {
    (slots / 2).max(1)
}

fn registration(
    settings: &Settings,
    capabilities: Vec<Capability>,
    master_keys: Vec<i32>,
) -> anyhow::Result<Registration> {
    let mine: Vec<_> = capabilities
        .into_iter()
        .filter(|capability| settings.engines.contains(&capability.engine))
        .collect();
    for engine in &settings.engines {
        if !mine.iter().any(|capability| capability.engine == *engine) {
            tracing::error!(engine = %engine, "no client tools were found for this engine: its runs will fail; see `lastgood doctor`");
        }
    }
    let host = hostname();
    Ok(Registration {
        id: format!(
            "{host}-{}-{}",
            std::process::id(),
            &uuid::Uuid::new_v4().simple().to_string()[..8]
        ),
        host,
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        version: VERSION.to_owned(),
        queues: settings.engines.iter().map(ToString::to_string).collect(),
        slots: i32::try_from(settings.slots)?,
        capabilities: serde_json::to_value(mine)?,
        master_keys,
    })
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown-host".to_owned())
}

/// Keeps this consumer's row fresh, its readiness true, and its clock compared with the catalog's; learns of an order to drain.
struct Heart {
    catalog: Catalog,
    registration: Registration,
    ready: tokio::sync::watch::Sender<bool>,
    drain_asked: Arc<Notify>,
    drain: CancellationToken,
    /// A pooler that keeps none breaks what this consumer does.
    keeps_sessions: bool,
}

impl Heart {
    async fn beat_until(self, ended: CancellationToken) {
        let mut timer = tokio::time::interval(BEAT_EVERY);
        loop {
            tokio::select! {
                () = ended.cancelled() => return,
                () = self.drain.cancelled(), if *self.ready.borrow() => {}
                () = self.drain_asked.notified() => {}
                _ = timer.tick() => {}
            }
            self.beat(self.drain.is_cancelled()).await;
        }
    }

    /// A row that was forgotten while this consumer could not renew it is made again: who claims must be seen.
    async fn renew(&self, state: &str) -> Result<Beat, CatalogError> {
        let beat = self.catalog.beat(&self.registration.id, state).await?;
        if beat.is_known {
            return Ok(beat);
        }
        tracing::warn!("this consumer's registration was gone, and is made again");
        self.catalog.register_consumer(&self.registration).await?;
        self.catalog.beat(&self.registration.id, state).await
    }

    async fn beat(&self, is_draining: bool) {
        if is_draining {
            self.ready.send_replace(false);
        }
        let state = if is_draining { "draining" } else { "running" };
        match answered(BEAT_EVERY, self.renew(state)).await {
            Ok(beat) => {
                self.ready.send_replace(!is_draining && self.keeps_sessions);
                compare_clock(beat.now);
                if beat.is_to_drain && !is_draining {
                    tracing::info!("an operator asked this consumer to drain and end");
                    self.drain.cancel();
                }
            }
            Err(error) => {
                self.ready.send_replace(false);
                tracing::warn!(
                    error = chain(&error),
                    "cannot renew this consumer's registration"
                );
            }
        }
    }
}

/// `consistent_at` comes from this machine's clock, exposure is told by the catalog's: they must agree.
fn compare_clock(catalog_now: chrono::DateTime<Utc>) {
    let skew = (Utc::now() - catalog_now).as_seconds_f64();
    metrics::clock_skew(skew);
    if skew.abs() > 5.0 {
        tracing::error!(
            clock.skew_seconds = skew,
            "this machine's clock disagrees with the catalog's: exposure will be wrong by as much; fix NTP"
        );
    }
}

/// Removes the private directories of processes that were killed, with the password files in them, once a minute.
async fn remove_dead_for_ever(parent: PathBuf) {
    let mut timer = tokio::time::interval(Duration::from_mins(1));
    loop {
        timer.tick().await;
        if let Err(error) = work_dir::remove_dead(&parent) {
            tracing::warn!(%error, path = %parent.display(), "cannot remove what killed consumers left");
        }
    }
}

/// Looks at the stores: one that was mounted late is used from then on, and one that is gone, or exchanged for another, is told.
async fn look_for_ever(stores: Stores, catalog: Catalog, consumer: String) {
    let mut timer = tokio::time::interval(LOOK_EVERY);
    let mut told = Vec::new();
    loop {
        timer.tick().await;
        let faults = stores.look(&catalog).await;
        for (store, why) in faults.iter().filter(|fault| !told.contains(*fault)) {
            tracing::error!(
                store,
                error = why,
                "a store cannot be used: what needs it is tried again"
            );
        }
        let noted = catalog.note_store_faults(&consumer, &faults);
        if let Err(error) = answered(LOOK_EVERY, noted).await {
            tracing::warn!(
                error = chain(&error),
                "cannot record what is wrong with the stores"
            );
        }
        told = faults;
    }
}

/// The janitor, at start and once an hour: removes what a SIGKILL left in the stores, finds what is gone from them, and writes the
/// keys' escrows again that one has and another lacks.
async fn clean_for_ever(catalog: Catalog, stores: Stores, age: Duration, every: Duration) {
    let mut timer = tokio::time::interval(every);
    loop {
        timer.tick().await;
        for store in stores.iter() {
            sweep(store, age).await;
            // Another consumer's look is as good as ours.
            look_for_losses(&catalog, store, every / 2).await;
        }
        escrows::tidy(&catalog, &stores).await;
    }
}

async fn look_for_losses(catalog: &Catalog, store: &NamedStore, not_within: Duration) {
    match stores::compare(catalog, store, not_within).await {
        Ok(Compared::NotDue | Compared::Listed { missing: 0, .. }) => {}
        Ok(Compared::NotListed { because }) => tracing::error!(
            store = store.name,
            error = because,
            "the store cannot be listed: nobody knows whether its restore points are still there"
        ),
        Ok(Compared::Listed {
            points,
            missing,
            is_mass: true,
            ..
        }) => tracing::error!(
            store = store.name,
            store.points = points,
            store.missing = missing,
            "restore points have disappeared from the store en masse: nothing expires until that is settled, see docs/emptied-store.md"
        ),
        Ok(Compared::Listed {
            missing,
            quarantined,
            forgotten,
            ..
        }) => tracing::error!(
            store = store.name,
            store.missing = missing,
            points.quarantined = quarantined,
            copies.forgotten = forgotten,
            "restore points are missing from the store"
        ),
        Err(error) => tracing::warn!(
            store = store.name,
            error = chain(&error),
            "what is in the store could not be compared with the catalog"
        ),
    }
}

async fn sweep(store: &NamedStore, age: Duration) {
    match store.storage.sweep(Utc::now() - age).await {
        Ok(swept) => {
            metrics::swept(swept.partial, swept.orphans);
            if swept.partial + swept.orphans > 0 {
                tracing::info!(
                    store = store.name,
                    swept.partial = swept.partial,
                    swept.orphans = swept.orphans,
                    "the janitor removed what dead attempts left"
                );
            }
        }
        Err(error) => tracing::warn!(
            store = store.name,
            error = error.report(),
            "the janitor could not sweep the store"
        ),
    }
}

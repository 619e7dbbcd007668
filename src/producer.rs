//! The producer: turns plans into due backups, takes back what lost workers held, and measures exposure.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    catalog::{Catalog, CatalogError, ConsumerRow},
    http, metrics,
    plan::{Plan, Plans, PlansFile, Reload, Source},
    queue::Store,
};

/// How the producer is to run.
pub struct Settings {
    /// How often it ticks.
    pub tick: Duration,
    /// How often it looks for expired leases.
    pub reap: Duration,
    /// How long after its own outage, and the catalog's, it takes no lease back: the lease that consumers use.
    pub lease: Duration,
    /// How often it measures exposure.
    pub observe: Duration,
    /// Where it serves metrics.
    pub listen: SocketAddr,
}

/// What one tick did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticked {
    /// Resources whose time to be looked at had come.
    pub looked_at: i64,
    /// New runs.
    pub enqueued: i64,
    /// Waiting runs that were moved to the current slot.
    pub coalesced: i64,
}

/// Runs until `stop`. Any number of replicas may run: the database lets each slot be enqueued once.
pub async fn produce(
    catalog: Catalog,
    mut plans: PlansFile,
    settings: &Settings,
    recorder: metrics_exporter_prometheus::PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    metrics::prime_producer();
    let (ready, is_ready) = watch::channel(false);
    let (address, server) = http::serve(
        settings.listen,
        recorder,
        is_ready,
        stop.clone().cancelled_owned(),
    )
    .await?;
    tracing::info!(http.address = %address, "producer started, metrics at http://{address}/metrics");

    let (publish, in_force) = watch::channel(plans.plans().clone());
    let tasks = TaskTracker::new();
    tasks.spawn(server);
    tasks.spawn(reap_until(
        catalog.clone(),
        settings.reap,
        settings.lease,
        stop.clone(),
    ));
    tasks.spawn(observe_until(
        catalog.clone(),
        in_force,
        settings.observe,
        stop.clone(),
    ));
    tasks.close();

    report_source(&plans);
    let mut timer = tokio::time::interval(settings.tick);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut applied = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = timer.tick() => {}
        }
        if reload(&mut plans) {
            applied = false;
            publish.send_replace(plans.plans().clone());
        }
        let ticked = tick_once(&catalog, plans.plans(), &mut applied).await;
        ready.send_replace(ticked);
    }
    ready.send_replace(false);
    tasks.wait().await;
    tracing::info!("producer stopped");
    Ok(())
}

/// Enqueues what is due at `now`: one statement, one transaction, whatever the number of resources.
pub async fn tick(
    catalog: &Catalog,
    plans: &Plans,
    now: DateTime<Utc>,
) -> Result<Ticked, CatalogError> {
    let (tiers, cadences) = paid(plans);
    let mut transaction = catalog.pool().begin().await?;
    // A plan made for any `now` would read the whole table, however little is due.
    sqlx::query("set local plan_cache_mode = force_custom_plan")
        .execute(&mut *transaction)
        .await?;
    let ticked = sqlx::query_file_as!(Ticked, "src/producer/tick.sql", now, &tiers, &cadences)
        .fetch_one(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(ticked)
}

/// Makes the resources whose cadence changed be looked at in the next tick; returns how many.
pub async fn apply_plans(catalog: &Catalog, plans: &Plans) -> Result<u64, CatalogError> {
    let (tiers, cadences) = paid(plans);
    let applied = sqlx::query_file!("src/producer/apply_plans.sql", &tiers, &cadences)
        .execute(catalog.pool())
        .await?;
    Ok(applied.rows_affected())
}

fn paid(plans: &Plans) -> (Vec<String>, Vec<i32>) {
    plans
        .paid()
        .map(|(plan, cadence)| (plan.tier.to_string(), cadence.minutes()))
        .unzip()
}

async fn tick_once(catalog: &Catalog, plans: &Plans, applied: &mut bool) -> bool {
    let began = Instant::now();
    let ticking = async {
        if !*applied {
            let changed = apply_plans(catalog, plans).await?;
            tracing::info!(resources.changed = changed, "plans applied");
            *applied = true;
        }
        let now = catalog.now().await?;
        Ok::<_, CatalogError>((tick(catalog, plans, now).await?, now))
    };
    match ticking.await {
        Ok((ticked, now)) => {
            metrics::ticked(
                began.elapsed(),
                ticked.enqueued.unsigned_abs(),
                ticked.coalesced.unsigned_abs(),
                now,
            );
            if ticked.enqueued + ticked.coalesced > 0 {
                tracing::info!(
                    tick.looked_at = ticked.looked_at,
                    tick.enqueued = ticked.enqueued,
                    tick.coalesced = ticked.coalesced,
                    "backups enqueued"
                );
            }
            true
        }
        Err(error) => {
            metrics::tick_failed();
            tracing::error!(
                error = report(&error),
                "a tick failed, nothing was enqueued by it"
            );
            false
        }
    }
}

fn report_source(plans: &PlansFile) {
    metrics::plans_fallback(plans.source() == Source::BuiltIn);
    if let Some(fault) = plans.fault() {
        tracing::error!(error = %fault, "the built-in plans are in force: the plans file cannot be used");
    }
}

/// Reads plans.yaml again; returns whether other plans are in force now.
fn reload(plans: &mut PlansFile) -> bool {
    match plans.reload() {
        Reload::Unchanged => false,
        Reload::Mended => {
            tracing::info!("the plans file is good again, and says what was in force all along");
            false
        }
        Reload::Changed => {
            tracing::info!("the plans file changed, new plans are in force");
            report_source(plans);
            true
        }
        Reload::Kept(fault) => {
            tracing::error!(error = %fault, "the plans file cannot be used, the last good plans stay in force");
            false
        }
    }
}

async fn reap_until(catalog: Catalog, every: Duration, lease: Duration, stop: CancellationToken) {
    let store = Store::new(catalog.pool().clone(), "reaper", lease);
    let mut timer = tokio::time::interval(every);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut contact = Contact::begin();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timer.tick() => {}
        }
        if !contact.has_lasted(lease, every) {
            // Workers may have been cut off with us: give them one lease to renew.
            match catalog.now().await {
                Ok(_) => contact.seen(),
                Err(_) => contact.lost(),
            }
            continue;
        }
        match store.reap().await {
            Ok(reaped) => {
                contact.seen();
                for run in reaped {
                    metrics::reaped(&run.queue, &run.state);
                    tracing::warn!(run.id = %run.id, run.kind = run.kind, run.state = run.state, queue.name = run.queue, "lease of a lost worker taken back");
                }
            }
            Err(error) => {
                contact.lost();
                tracing::error!(%error, "cannot look for expired leases");
            }
        }
    }
}

/// How long this process has been in touch with the catalog, without a gap.
struct Contact {
    since: Option<Instant>,
    last: Instant,
}

impl Contact {
    fn begin() -> Self {
        let now = Instant::now();
        Self {
            since: Some(now),
            last: now,
        }
    }

    /// A gap much longer than the interval means that this process itself stood still (stopped, suspended).
    fn has_lasted(&mut self, lease: Duration, every: Duration) -> bool {
        if self.last.elapsed() > every * 3 + Duration::from_secs(1) {
            self.since = None;
        }
        self.since.is_some_and(|since| since.elapsed() >= lease)
    }

    fn seen(&mut self) {
        self.last = Instant::now();
        self.since.get_or_insert(self.last);
    }

    fn lost(&mut self) {
        self.last = Instant::now();
        self.since = None;
    }
}

async fn observe_until(
    catalog: Catalog,
    plans: watch::Receiver<Plans>,
    every: Duration,
    stop: CancellationToken,
) {
    let mut timer = tokio::time::interval(every);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timer.tick() => {}
        }
        let in_force = plans.borrow().clone();
        if let Err(error) = observe(&catalog, &in_force).await {
            tracing::warn!(error = report(&error), "cannot measure exposure");
        }
    }
}

/// Reads what the gauges show.
async fn observe(catalog: &Catalog, plans: &Plans) -> Result<(), CatalogError> {
    let (paid, allowed): (Vec<_>, Vec<_>) = plans
        .paid()
        .map(|(plan, _)| (plan.tier.to_string(), allowed(plan).as_seconds_f64()))
        .unzip();
    metrics::exposures(&paid, &catalog.tier_exposures(&paid, &allowed).await?);
    let known: Vec<_> = plans.iter().map(|plan| plan.tier.to_string()).collect();
    let unknown = catalog.unknown_tiers(&known).await?;
    for tier in &unknown {
        tracing::warn!(
            tier = tier.tier,
            resources = tier.resources,
            "a tier that plans.yaml does not know: its resources are not backed up"
        );
    }
    metrics::unknown_tiers(&unknown);
    metrics::queue_depths(&catalog.queue_depths().await?);
    let alive: Vec<_> = catalog
        .live_consumers()
        .await?
        .into_iter()
        .map(|ConsumerRow { queues, .. }| queues)
        .collect();
    metrics::live_consumers(&alive);
    Ok(())
}

/// Returns the exposure at which a plan's promise counts as broken.
fn allowed(plan: &Plan) -> TimeDelta {
    plan.rpo.as_delta() + plan.tolerance
}

/// Returns an error and its causes on one line.
pub(crate) fn report(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}

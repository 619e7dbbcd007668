//! The producer: turns plans into due backups, takes runs back from lost workers, and measures exposure.

mod dump_limits;
mod future;
mod history;
mod observe;
mod paid;
mod promise;
mod reap;
mod upkeep;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures::{FutureExt as _, future::BoxFuture};
use lastgood_jobs::error::chain;
use sqlx::PgTransaction;
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    dump_limits::limit_dumps,
    future::{Mended, mend_future},
    paid::Paid,
    promise::{count_promises, recount_promises},
    upkeep::{
        Holding, Upkeep, ask_for_copies, ask_for_drills, ask_for_removals, ask_for_verifications,
        hold_strictly, retain,
    },
};
use self::{
    future::Clock,
    history::prune_for_ever,
    observe::{Observer, observe_for_ever},
    promise::count_for_ever,
    reap::reap_for_ever,
    upkeep::upkeep_for_ever,
};
use crate::{
    catalog::{Catalog, CatalogError, GoesBy, answered, ended, leave_out},
    http, metrics,
    plan::{Cadence, Plans, PlansFile, Reload, Source},
};

/// How often the planning of all resources is compared with the plans. Mistakes left by a producer with other plans, or by a clock
/// that jumped, are corrected within this time.
const APPLY_EVERY: Duration = Duration::from_mins(10);
/// The time limit of each part of that comparison: it delays a tick no longer.
const COMPARED_WITHIN: Duration = Duration::from_mins(1);
/// The time limit of a tick: a connection can hang without an error.
const TICK_WITHIN: Duration = Duration::from_mins(5);
/// The time limit for reading the plans file: a file system may not answer.
const PLANS_READ_WITHIN: Duration = Duration::from_secs(10);
/// The time limit for recording a tick.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// Settings of the producer.
pub struct Settings {
    /// How often it ticks.
    pub tick: Duration,
    /// How often it looks for expired leases.
    pub reap: Duration,
    /// The consumers' lease. After an outage of its own or of the catalog, the producer takes no run back for this long.
    pub lease: Duration,
    /// How often it measures exposure.
    pub observe: Duration,
    /// What it enqueues besides backups.
    pub upkeep: Upkeep,
    /// How long ended runs stay on record; `None`: for ever.
    pub history: Option<Duration>,
    /// Where it serves metrics.
    pub listen: SocketAddr,
}

/// The result of one tick.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Resources that were due to be looked at.
    pub looked_at: i64,
    /// Runs that were enqueued.
    pub enqueued: i64,
    /// Queued runs that were moved to the current slot.
    pub coalesced: i64,
    /// The resources that were left out, either because their queued run could not move to a slot that has been backed up, or because
    /// the catalog refuses their rows.
    pub left_out: Vec<String>,
}

/// Runs until `stop`. Any number of replicas may run, because the database lets each slot be enqueued only once.
pub async fn produce(
    catalog: Catalog,
    mut plans: PlansFile,
    settings: &Settings,
    recorder: metrics_exporter_prometheus::PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    metrics::prime_producer();
    let (primary, mirrors) = &settings.upkeep.stores;
    metrics::prime_copies(std::iter::once(primary).chain(mirrors));
    let (ready, is_ready) = watch::channel(false);
    let (address, server) = http::serve(settings.listen, recorder, is_ready, stop.clone()).await?;
    tracing::info!(http.address = %address, "producer started, metrics at http://{address}/metrics");

    let (publish, in_force) = watch::channel(plans.plans().clone());
    let (publish_own, own) = watch::channel(own(&plans));
    let id = uuid::Uuid::new_v4().to_string();
    let tasks = TaskTracker::new();
    tasks.spawn(server);
    // Stopping waits for no statement that the catalog does not answer: its transaction is rolled back.
    tasks.spawn(stop.clone().run_until_cancelled_owned(reap_for_ever(
        catalog.clone(),
        settings.reap,
        settings.lease,
    )));
    tasks.spawn(stop.clone().run_until_cancelled_owned(observe_for_ever(
        catalog.clone(),
        in_force,
        Observer {
            id: id.clone(),
            every: settings.observe,
            verify_within: settings.upkeep.verify_within,
            own: own.clone(),
            stores: std::iter::once(primary).chain(mirrors).cloned().collect(),
        },
    )));
    tasks.spawn(
        stop.clone()
            .run_until_cancelled_owned(prune_for_ever(catalog.clone(), settings.history)),
    );
    tasks.spawn(stop.clone().run_until_cancelled_owned(upkeep_for_ever(
        catalog.clone(),
        settings.upkeep.clone(),
        settings.tick,
        id.clone(),
        own.clone(),
    )));
    tasks.spawn(stop.clone().run_until_cancelled_owned(count_for_ever(
        catalog.clone(),
        id.clone(),
        own,
    )));
    tasks.close();

    report_source(&plans);
    let keeps_sessions = catalog.keeps_sessions().await;
    let mut timer = tokio::time::interval(settings.tick);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut applied, mut clock) = (Applied::default(), Clock::default());
    let mut told = dump_limits::Told::default();
    let mut promised = promise::Recorded::default();
    let ticking = async {
        loop {
            timer.tick().await;
            if reload(&mut plans).await {
                applied = Applied::default();
                publish.send_replace(plans.plans().clone());
                publish_own.send_replace(self::own(&plans));
            }
            metrics::plans_reload_failed(plans.is_outdated());
            let lease = settings.lease;
            let ticked = tick_once(&catalog, &plans, lease, &mut applied, &mut clock).await;
            ready.send_replace(ticked && keeps_sessions);
            if ticked {
                let goes_by = GoesBy::of(plans.plans(), settings.upkeep.verify_within);
                tell_of_tick(&catalog, &id, settings.tick, &goes_by).await;
                told.tell(&catalog, self::own(&plans)).await;
                let own = self::own(&plans);
                promised.tell(&catalog, settings.tick, own).await;
            }
        }
    };
    let _cancelled: Option<()> = stop.run_until_cancelled(Box::pin(ticking)).await;
    ready.send_replace(false);
    tasks.wait().await;
    let telling = async {
        catalog.producer_stopped(&id).await?;
        catalog.leads_no_more(&id).await
    };
    if let Err(error) = answered(TOLD_WITHIN, telling).await {
        tracing::warn!(
            error = chain(&error),
            "cannot record that this producer stopped: another one takes over a little later"
        );
    }
    tracing::info!("producer stopped");
    Ok(())
}

/// Enqueues the backups that are due at `now`, in one statement and one transaction, whatever the number of resources.
///
/// If the catalog refuses some resource, the others are enqueued all the same.
pub async fn tick(
    catalog: &Catalog,
    plans: &Plans,
    now: DateTime<Utc>,
) -> Result<Ticked, CatalogError> {
    tick_paid(catalog, &Paid::of(plans), now).await
}

/// Enqueues like [`tick`], for the tiers in `paid`.
pub async fn tick_paid(
    catalog: &Catalog,
    paid: &Paid,
    now: DateTime<Utc>,
) -> Result<Ticked, CatalogError> {
    match tick_those(catalog, paid, now, None).await {
        Err(error) if error.is_of_a_row() => tick_one_by_one(catalog, paid, now).await,
        ticked => ticked,
    }
}

async fn tick_one_by_one(
    catalog: &Catalog,
    paid: &Paid,
    now: DateTime<Utc>,
) -> Result<Ticked, CatalogError> {
    let due = sqlx::query_scalar!(
        "select id from lastgood.resources where status = 'active' and next_due_at <= $1 order by next_due_at, id",
        now
    )
    .fetch_all(catalog.pool())
    .await?;
    let statement = |ids| tick_those(catalog, paid, now, Some(ids)).boxed();
    let (ticked, refused) = leave_out(due, statement).await?;
    let mut all = Ticked::default();
    for part in ticked {
        all.looked_at += part.looked_at;
        all.enqueued += part.enqueued;
        all.coalesced += part.coalesced;
        all.left_out.extend(part.left_out);
    }
    for (resource, error) in refused {
        tracing::error!(resource.id = %resource, error = chain(&error), "the catalog refuses to schedule this resource: it is not backed up");
        all.left_out.push(resource);
    }
    Ok(all)
}

async fn tick_those(
    catalog: &Catalog,
    paid: &Paid,
    now: DateTime<Utc>,
    resources: Option<Vec<String>>,
) -> Result<Ticked, CatalogError> {
    let mut transaction = begin(catalog).await?;
    let ticked = sqlx::query_file_as!(
        Ticked,
        "src/producer/tick.sql",
        now,
        &paid.tiers,
        &paid.cadences,
        &paid.rpos,
        resources.as_deref(),
        &paid.strict
    )
    .fetch_one(&mut *transaction)
    .await;
    Ok(ended(transaction, ticked).await?)
}

/// Makes the next tick look at the resources whose planning does not match the plans. Returns how many there are.
pub async fn apply_plans(catalog: &Catalog, plans: &Plans) -> Result<u64, CatalogError> {
    apply_paid(catalog, &Paid::of(plans)).await
}

/// Does the same as [`apply_plans`], for the tiers in `paid`.
///
/// If the catalog refuses some resource, the next tick looks at the others all the same.
pub async fn apply_paid(catalog: &Catalog, paid: &Paid) -> Result<u64, CatalogError> {
    match apply_to(catalog, paid, None).await {
        Err(error) if error.is_of_a_row() => {
            let apply = |ids| apply_to(catalog, paid, Some(ids)).boxed();
            let applied = resource_by_resource(catalog, "apply_plans", apply).await?;
            Ok(applied.iter().sum())
        }
        applied => applied,
    }
}

async fn apply_to(
    catalog: &Catalog,
    paid: &Paid,
    resources: Option<Vec<String>>,
) -> Result<u64, CatalogError> {
    let mut transaction = begin(catalog).await?;
    let applied = sqlx::query_file!(
        "src/producer/apply_plans.sql",
        &paid.tiers,
        &paid.cadences,
        resources.as_deref(),
        &paid.strict,
        &Cadence::HELD.map(Cadence::minutes),
        &paid.rpos
    )
    .execute(&mut *transaction)
    .await;
    Ok(ended(transaction, applied).await?.rows_affected())
}

/// Begins a transaction whose statements are planned for their actual arguments. A generic plan, for any `now` or any list of resources,
/// would read the whole table however little is due, and search the list for each row.
async fn begin(catalog: &Catalog) -> Result<PgTransaction<'static>, CatalogError> {
    let mut transaction = catalog.pool().begin().await?;
    sqlx::query("set local plan_cache_mode = force_custom_plan")
        .execute(&mut *transaction)
        .await?;
    Ok(transaction)
}

/// Runs a statement that the catalog refuses over all resources, leaving out and logging those that it refuses alone.
async fn resource_by_resource<'a, T: Send>(
    catalog: &Catalog,
    statement: &'static str,
    done: impl Fn(Vec<String>) -> BoxFuture<'a, Result<T, CatalogError>> + Send,
) -> Result<Vec<T>, CatalogError> {
    let all = sqlx::query_scalar!("select id from lastgood.resources order by id")
        .fetch_all(catalog.pool())
        .await?;
    let (done, refused) = leave_out(all, done).await?;
    metrics::rows_left_out(statement, refused.len() as u64);
    for (resource, error) in refused {
        tracing::error!(resource.id = %resource, statement, error = chain(&error), "the catalog refuses to change this resource's rows: it is left out");
    }
    Ok(done)
}

/// When the plans were last compared with every resource's planning.
#[derive(Default)]
struct Applied(Option<Instant>);

impl Applied {
    fn is_recent(&self) -> bool {
        self.0.is_some_and(|at| at.elapsed() < APPLY_EVERY)
    }
}

async fn tick_once(
    catalog: &Catalog,
    file: &PlansFile,
    lease: Duration,
    applied: &mut Applied,
    clock: &mut Clock,
) -> bool {
    let began = Instant::now();
    let ticking = async {
        let paid = Paid::of_file(catalog, file).await?;
        let went_back = clock.has_gone_back(catalog.now().await?);
        if went_back || !applied.is_recent() {
            Box::pin(compare(catalog, &paid, lease)).await;
            applied.0 = Some(Instant::now());
        }
        let now = catalog.now().await?;
        Ok::<_, CatalogError>((tick_paid(catalog, &paid, now).await?, now))
    };
    match answered(TICK_WITHIN, ticking).await {
        Ok((ticked, now)) => {
            metrics::ticked(
                began.elapsed(),
                ticked.enqueued.unsigned_abs(),
                ticked.coalesced.unsigned_abs(),
                now,
            );
            metrics::rows_left_out("tick", ticked.left_out.len() as u64);
            for resource in &ticked.left_out {
                tracing::warn!(resource.id = %resource, "a waiting backup stays in its slot: the current slot has been backed up, or the catalog refuses the resource");
            }
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
            tracing::error!(error = chain(&error), "a tick failed and enqueued nothing");
            false
        }
    }
}

/// Corrects rows from the future, and compares the planning of all resources
/// with the plans. A failure here does not keep due backups from being enqueued.
async fn compare(catalog: &Catalog, paid: &Paid, lease: Duration) {
    match answered(COMPARED_WITHIN, mend_future(catalog, lease)).await {
        Ok(_) => {}
        Err(error) => {
            tracing::error!(
                error = chain(&error),
                "cannot correct rows dated in the future"
            );
        }
    }
    match answered(COMPARED_WITHIN, apply_paid(catalog, paid)).await {
        Ok(0) => {}
        Ok(changed) => tracing::info!(resources.changed = changed, "plans applied"),
        Err(error) => tracing::error!(error = chain(&error), "cannot apply the plans"),
    }
}

/// Records that this producer ticks: what lastgood promises depends on a live producer.
async fn tell_of_tick(catalog: &Catalog, id: &str, every: Duration, goes_by: &GoesBy) {
    if let Err(error) = answered(TOLD_WITHIN, catalog.producer_ticked(id, every, goes_by)).await {
        tracing::warn!(
            error = chain(&error),
            "cannot record that this producer ticks"
        );
    }
}

/// Returns the operator's own plans. `None`: the built-in plans stand in for them, under which nothing may expire.
fn own(plans: &PlansFile) -> Option<Plans> {
    match plans.source() {
        Source::File => Some(plans.plans().clone()),
        Source::BuiltIn => None,
    }
}

fn report_source(plans: &PlansFile) {
    metrics::plans_fallback(plans.source() == Source::BuiltIn);
    if let Some(fault) = plans.fault() {
        tracing::error!(error = %fault, "the built-in plans are in force: the plans file cannot be used");
    }
}

/// Reads plans.yaml again. Returns whether other plans are in force now.
async fn reload(plans: &mut PlansFile) -> bool {
    match plans.reload_within(PLANS_READ_WITHIN).await {
        Reload::Unchanged => false,
        Reload::Mended => {
            tracing::info!("the plans file can be used again, and matches the plans in force");
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

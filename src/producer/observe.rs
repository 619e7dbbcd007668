//! Measures what the gauges show: exposure per tier, unknown tiers, the queue, live consumers and more.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use lastgood_jobs::error::chain;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    attained::{self, Burn},
    catalog::{
        Catalog, CatalogError, ProofCount, Removals, StoreListing, SuspectCount, TierExposure,
        UnprovenCount, Work, answered,
    },
    metrics,
    nouns::{Consumer, QueueDepth, StoreFault, UnknownTier},
    plan::Plans,
    status::paid,
};

/// The time limit of one measurement: a connection can hang without an error.
const OBSERVE_WITHIN: Duration = Duration::from_mins(1);

/// After each measurement, the pause is at least this many times as long as the measurement took.
const SHARE: u32 = 20;

/// The producer that measures, and its settings.
pub(super) struct Observer {
    pub(super) id: String,
    /// How often it measures.
    pub(super) every: Duration,
    /// How old a proof may be.
    pub(super) verify_within: Option<Duration>,
    /// The operator's own plans. While the file is missing they are `None`, and another producer should measure.
    pub(super) own: watch::Receiver<Option<Plans>>,
    /// The names of all stores.
    pub(super) stores: Vec<String>,
}

/// Keeps the gauges up to date; never returns. One producer measures, and the others show its figures.
pub(super) async fn observe_for_ever(
    catalog: Catalog,
    plans: watch::Receiver<Plans>,
    observer: Observer,
) {
    let mut shown = Shown::default();
    let mut wait = Duration::ZERO;
    loop {
        tokio::time::sleep(wait).await;
        let in_force = plans.borrow().clone();
        let began = Instant::now();
        let observing = observe(&catalog, &in_force, &observer, &mut shown);
        if let Err(error) = answered(OBSERVE_WITHIN, observing).await {
            tracing::error!(
                error = chain(&error),
                "cannot measure exposure: the gauges keep their last values"
            );
        }
        let took = began.elapsed();
        wait = observer.every.saturating_sub(took).max(took * SHARE);
    }
}

/// What was shown last, to detect additions and removals.
#[derive(Default)]
struct Shown {
    tiers: Vec<String>,
    unknown: Vec<String>,
    /// Tiers with an objective.
    objectives: Vec<String>,
    /// Stores that consumers report and this producer does not know.
    foreign: BTreeSet<String>,
}

/// The figures for the gauges, stored for the other producers of the same version. A producer that cannot read them measures itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figures {
    paid: Vec<String>,
    exposures: Vec<TierExposure>,
    suspended: Vec<(String, i64)>,
    infeasible: Vec<(String, i64)>,
    unknown: Vec<UnknownTier>,
    removals: Removals,
    listings: Vec<StoreListing>,
    store_faults: Vec<StoreFault>,
    proofs: Vec<ProofCount>,
    #[serde(default)]
    unproven: Vec<UnprovenCount>,
    burns: Vec<Burn>,
    closed: usize,
    suspects: Vec<SuspectCount>,
    pauses: usize,
    depths: Vec<QueueDepth>,
    alive: Vec<Vec<String>>,
}

async fn observe(
    catalog: &Catalog,
    plans: &Plans,
    observer: &Observer,
    shown: &mut Shown,
) -> Result<(), CatalogError> {
    // Longer than the leader takes between two measurements, unless they are slow.
    let lease = observer.every * 4;
    let has_file = observer.own.borrow().is_some();
    let figures = if has_file && catalog.leads(Work::Measure, &observer.id, lease).await? {
        let figures = measure(catalog, plans, observer).await?;
        catalog.record_measured(&figures).await?;
        figures
    } else {
        match catalog.measured::<Figures>(lease).await? {
            Some(figures) => figures,
            None => measure(catalog, plans, observer).await?,
        }
    };
    // A tier that left the plans must not keep its last values.
    let before = std::mem::replace(&mut shown.tiers, figures.paid);
    let is_gone = |tier: &String| !shown.tiers.contains(tier);
    let gone: Vec<_> = before.into_iter().filter(is_gone).collect();
    metrics::exposures(&gone, &[]);
    metrics::promises(&gone, plans);
    metrics::exposures(&shown.tiers, &figures.exposures);
    metrics::suspended(&gone, &[]);
    metrics::infeasible(&gone, &[]);
    metrics::infeasible(&shown.tiers, &figures.infeasible);
    metrics::suspended(&shown.tiers, &figures.suspended);
    metrics::unknown_tiers(&figures.unknown);
    shown.tell_new(&figures.unknown);
    metrics::removals(&figures.removals);
    metrics::listings(&figures.listings);
    shown.store_faults(&observer.stores, &figures.store_faults);
    metrics::proofs(&figures.proofs);
    metrics::unproven(&figures.unproven);
    shown.burns(&figures.burns);
    metrics::closed_databases(figures.closed);
    metrics::suspects(&figures.suspects);
    metrics::pauses(figures.pauses);
    metrics::queue_depths(&figures.depths);
    metrics::live_consumers(&figures.alive);
    // Last, so that a producer that failed earlier does not seem to have measured.
    metrics::observed(catalog.now().await?);
    Ok(())
}

async fn measure(
    catalog: &Catalog,
    plans: &Plans,
    observer: &Observer,
) -> Result<Figures, CatalogError> {
    let (paid, allowed) = paid(plans);
    let known: Vec<_> = plans.iter().map(|plan| plan.tier.to_string()).collect();
    let alive = catalog.live_consumers().await?;
    let (drilled, days) = plans.drilled();
    Ok(Figures {
        exposures: catalog.tier_exposures(&paid, &allowed, None).await?,
        suspended: catalog.suspended_by_tier(&paid).await?,
        infeasible: catalog.infeasible_by_tier(plans, None).await?,
        unknown: catalog.unknown_tiers(&known).await?,
        removals: catalog.removals().await?,
        listings: catalog.store_listings(&observer.stores).await?,
        store_faults: catalog.store_faults().await?,
        proofs: catalog.proof_counts(observer.verify_within).await?,
        unproven: catalog.unproven_counts(&drilled, &days).await?,
        burns: attained::burns(catalog, plans).await?,
        closed: catalog.closed_databases(None).await?.len(),
        suspects: catalog.suspect_counts().await?,
        pauses: catalog.pauses().await?.len(),
        depths: catalog.queue_depths().await?,
        alive: alive
            .into_iter()
            .filter(Consumer::takes_new)
            .map(|Consumer { engines, .. }| engines)
            .collect(),
        paid,
    })
}

impl Shown {
    /// Shows how each tier's error budget does, and no more of a tier that has no objective any longer.
    fn burns(&mut self, burns: &[Burn]) {
        let held = burns.iter().filter(|burn| burn.rate_1h.is_some());
        let held: Vec<_> = held.map(|burn| burn.tier.clone()).collect();
        let mut gone = std::mem::replace(&mut self.objectives, held);
        gone.retain(|tier| !self.objectives.contains(tier));
        metrics::burns(&gone, burns);
    }

    /// Shows each store's faults, including stores that only consumers know, until they are fixed.
    fn store_faults(&mut self, stores: &[String], faults: &[StoreFault]) {
        let named = faults.iter().map(|fault| fault.store.clone());
        self.foreign
            .extend(named.filter(|store| !stores.contains(store)));
        metrics::store_faults(stores.iter().chain(&self.foreign), faults);
    }

    /// Logs each unknown tier once, when it first appears.
    fn tell_new(&mut self, unknown: &[UnknownTier]) {
        let names = unknown.iter().map(|tier| tier.id.clone()).collect();
        let before = std::mem::replace(&mut self.unknown, names);
        for tier in unknown.iter().filter(|tier| !before.contains(&tier.id)) {
            tracing::warn!(
                tier = tier.id,
                resources = tier.resources,
                "a tier is not in the plans: its resources are not backed up"
            );
        }
    }
}

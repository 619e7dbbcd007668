//! What the gauges show: exposure per tier, unknown tiers, the queue, who is alive.

use std::time::Duration;

use lastgood_jobs::error::chain;
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    catalog::{Catalog, CatalogError, ConsumerRow, UnknownTier, answered},
    metrics,
    plan::Plans,
};

/// What takes longer is given up until the next time: a connection may hang without an error.
const OBSERVE_WITHIN: Duration = Duration::from_mins(1);

/// Measures until `stop`.
pub(super) async fn observe_until(
    catalog: Catalog,
    plans: watch::Receiver<Plans>,
    every: Duration,
    verify_within: Option<Duration>,
    stores: Vec<String>,
    stop: CancellationToken,
) {
    let mut timer = tokio::time::interval(every);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = Shown::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = timer.tick() => {}
        }
        let in_force = plans.borrow().clone();
        let observing = observe(&catalog, &in_force, verify_within, &stores, &mut shown);
        if let Err(error) = answered(OBSERVE_WITHIN, observing).await {
            tracing::error!(
                error = chain(&error),
                "cannot measure exposure: the gauges show what they last showed"
            );
        }
    }
}

/// What was shown last, to notice what is new and what is gone.
#[derive(Default)]
struct Shown {
    tiers: Vec<String>,
    unknown: Vec<String>,
}

async fn observe(
    catalog: &Catalog,
    plans: &Plans,
    verify_within: Option<Duration>,
    stores: &[String],
    shown: &mut Shown,
) -> Result<(), CatalogError> {
    let (paid, allowed): (Vec<_>, Vec<_>) = plans
        .paid()
        .map(|(plan, _)| (plan.tier.to_string(), plan.allowed().as_seconds_f64()))
        .unzip();
    let exposures = catalog.tier_exposures(&paid, &allowed, None).await?;
    // A tier that left the plans must not go on showing what it last was.
    let before = std::mem::replace(&mut shown.tiers, paid);
    let is_gone = |tier: &String| !shown.tiers.contains(tier);
    let gone: Vec<_> = before.into_iter().filter(is_gone).collect();
    metrics::exposures(&gone, &[]);
    metrics::promises(&gone, plans);
    metrics::exposures(&shown.tiers, &exposures);
    let suspended = catalog.suspended_by_tier(&shown.tiers).await?;
    metrics::suspended(&gone, &[]);
    metrics::suspended(&shown.tiers, &suspended);

    let known: Vec<_> = plans.iter().map(|plan| plan.tier.to_string()).collect();
    let unknown = catalog.unknown_tiers(&known).await?;
    metrics::unknown_tiers(&unknown);
    shown.tell_new(&unknown);

    metrics::removals(&catalog.removals().await?);
    metrics::listings(&catalog.store_listings(stores).await?);
    metrics::proofs(&catalog.proof_counts(verify_within).await?);
    metrics::suspects(&catalog.suspect_counts().await?);
    metrics::pauses(catalog.pauses().await?.len());
    metrics::queue_depths(&catalog.queue_depths().await?);
    let alive: Vec<_> = catalog
        .live_consumers()
        .await?
        .into_iter()
        .filter(ConsumerRow::takes_new)
        .map(|ConsumerRow { queues, .. }| queues)
        .collect();
    metrics::live_consumers(&alive);
    // The last line: who fails before it does not seem to have measured.
    metrics::observed(catalog.now().await?);
    Ok(())
}

impl Shown {
    /// Logs each unknown tier once, when it turns up.
    fn tell_new(&mut self, unknown: &[UnknownTier]) {
        let names = unknown.iter().map(|tier| tier.tier.clone()).collect();
        let before = std::mem::replace(&mut self.unknown, names);
        for tier in unknown.iter().filter(|tier| !before.contains(&tier.tier)) {
            tracing::warn!(
                tier = tier.tier,
                resources = tier.resources,
                "a tier that the plans do not know: its resources are not backed up"
            );
        }
    }
}

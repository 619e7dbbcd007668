//! Upkeep: enqueues what restore points need after they are made. Any number of producers may do it.

mod ask;
mod copies;
mod drills;
mod hold;
mod retain;

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use lastgood_jobs::{error::chain, resource::Engine};
use tokio::{sync::watch, time::MissedTickBehavior};

use self::ask::{Asked, enqueue};
pub use self::{
    copies::ask_for_copies,
    drills::ask_for_drills,
    hold::{Holding, hold_strictly},
    retain::{ask_for_removals, retain},
};
use crate::{
    catalog::{Catalog, CatalogError, Work, answered, interval},
    metrics,
    plan::Plans,
    run::RunKind,
};

/// The time limit of each step: a connection can hang without an error.
const UPKEEP_WITHIN: Duration = Duration::from_mins(5);
/// The length of a leader's lease, in looks: after this many, another producer takes over from one that died.
const LEASE_LOOKS: u32 = 4;
/// How many verifications of one engine may wait: more would only be out of date by the time they run.
const VERIFICATIONS_WAITING: i32 = 100;
/// Each resource always has a proof younger than `verify_within` divided by this.
const NEWEST_PART: u32 = 4;

/// Settings of the upkeep.
#[derive(Debug, Clone)]
pub struct Upkeep {
    /// How often it looks.
    pub every: Duration,
    /// Each usable restore point is read back within this time; `None`: never.
    pub verify_within: Option<Duration>,
    /// How long a former promise still holds after a change.
    pub grace: TimeDelta,
    /// The names of the stores: the primary, and those that get copies.
    pub stores: (String, Vec<String>),
}

/// Enqueues upkeep; never returns. `plans` holds the operator's own plans, or `None` while the built-in ones stand in for them.
pub(super) async fn upkeep_for_ever(
    catalog: Catalog,
    upkeep: Upkeep,
    tick: Duration,
    id: String,
    plans: watch::Receiver<Option<Plans>>,
) {
    let mut timer = tokio::time::interval(upkeep.every);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let leads_upkeep = leads(&catalog, Work::Upkeep, &upkeep, &id).await;
        if leads_upkeep {
            ask_for_what_is_due(&catalog, &upkeep).await;
        }
        let in_force = plans.borrow().clone();
        if let (true, Some(plans)) = (leads_upkeep, &in_force) {
            let asking = ask_for_drills(&catalog, plans);
            report("drills", answered(UPKEEP_WITHIN, asking).await);
        }
        if let Some(plans) = &in_force
            && leads(&catalog, Work::Hold, &upkeep, &id).await
        {
            let tick = TimeDelta::from_std(tick).unwrap_or(TimeDelta::MAX);
            let holding = hold_strictly(&catalog, plans, tick);
            held(answered(UPKEEP_WITHIN, holding).await);
        }
        if let Some(plans) = in_force
            && leads(&catalog, Work::Retention, &upkeep, &id).await
        {
            let retaining = retain(&catalog, &plans, upkeep.grace, Utc::now);
            let_gone(answered(UPKEEP_WITHIN, retaining).await);
        }
        if leads_upkeep {
            let asking = ask_for_removals(&catalog);
            report("removals", answered(UPKEEP_WITHIN, asking).await);
        }
    }
}

/// Returns whether this producer leads. If the catalog does not say, it goes
/// on as if it did: that is harmless, and the next step reports the failure.
async fn leads(catalog: &Catalog, work: Work, upkeep: &Upkeep, id: &str) -> bool {
    let leading = catalog.leads(work, id, upkeep.every * LEASE_LOOKS);
    match answered(UPKEEP_WITHIN, leading).await {
        Ok(leads) => leads,
        Err(error) => {
            tracing::warn!(
                error = chain(&error),
                "cannot tell which producer does the upkeep"
            );
            true
        }
    }
}

async fn ask_for_what_is_due(catalog: &Catalog, upkeep: &Upkeep) {
    let (primary, mirrors) = &upkeep.stores;
    let all: Vec<String> = std::iter::once(primary).chain(mirrors).cloned().collect();
    let asking = ask_for_copies(catalog, &all);
    report("copies", answered(UPKEEP_WITHIN, asking).await);
    if let Some(within) = upkeep.verify_within {
        let asking = ask_for_verifications(catalog, within);
        report("verifications", answered(UPKEEP_WITHIN, asking).await);
    }
}

fn report(what: &str, asked: Result<u64, CatalogError>) {
    match asked {
        Ok(0) => {}
        Ok(asked) => tracing::info!(upkeep.asked = asked, "{what} enqueued"),
        Err(error) => tracing::warn!(error = chain(&error), "cannot enqueue {what}"),
    }
}

fn held(holding: Result<Holding, CatalogError>) {
    match holding {
        Ok(Holding { changed: 0, .. }) => {}
        Ok(Holding { decided, changed }) => tracing::info!(
            hold.decided = decided,
            hold.changed = changed,
            "cadences were found for RPOs that are held to the minute"
        ),
        Err(error) => tracing::error!(
            error = chain(&error),
            "cannot find the cadences of RPOs that are held to the minute"
        ),
    }
}

fn let_gone(gone: Result<u64, CatalogError>) {
    match gone {
        Ok(0) => {}
        Ok(gone) => {
            metrics::expired(gone);
            tracing::info!(retention.expired = gone, "restore points were let go");
        }
        Err(error) => tracing::error!(error = chain(&error), "cannot let restore points go"),
    }
}

/// Enqueues the verifications that are due, and returns how many.
///
/// Each usable restore point is verified within `within`, in each store that holds it. Each resource's newest point is verified often
/// enough that the resource always has a point proven within a quarter of that time.
pub async fn ask_for_verifications(
    catalog: &Catalog,
    within: Duration,
) -> Result<u64, CatalogError> {
    let engines = Engine::ALL.map(|engine| engine.to_string());
    let due = sqlx::query_file_as!(
        Asked,
        "src/producer/upkeep/verify.sql",
        interval(within),
        interval(within / NEWEST_PART),
        VERIFICATIONS_WAITING,
        &engines
    )
    .fetch_all(catalog.pool())
    .await?;
    enqueue(catalog, RunKind::Verify, due).await
}

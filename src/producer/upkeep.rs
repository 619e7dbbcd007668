//! Upkeep: asks for what restore points need after they were made. Any number of producers may ask.

mod ask;
mod copies;
mod retain;

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use lastgood_jobs::{error::chain, resource::Engine};
use tokio::{sync::watch, time::MissedTickBehavior};

use self::ask::{Asked, enqueue};
pub use self::{
    copies::{adopt, ask_for_copies},
    retain::{ask_for_removals, retain},
};
use crate::{
    catalog::{Catalog, CatalogError, Work, answered, interval},
    metrics,
    plan::Plans,
};

/// What takes longer is given up until the next time: a connection may hang without an error.
const UPKEEP_WITHIN: Duration = Duration::from_mins(5);
/// One that dies is followed after so many looks.
const LEASE_LOOKS: u32 = 4;
/// How many verifications of one engine may wait: more would only be stale by the time they run.
const VERIFICATIONS_WAITING: i32 = 100;
/// Each resource has one proof at least that is younger than this part of the whole.
const NEWEST_PART: u32 = 4;

/// What upkeep is to ask for.
#[derive(Debug, Clone)]
pub struct Upkeep {
    /// How often it looks.
    pub every: Duration,
    /// Each usable restore point is read back this often; `None`: never.
    pub verify_within: Option<Duration>,
    /// How long a former promise holds after a change.
    pub grace: TimeDelta,
    /// The names of all stores: the primary's, and those that get copies.
    pub stores: (String, Vec<String>),
}

/// Asks for ever. `plans` are those of the file, `None` while the built-in ones stand in for it.
pub(super) async fn upkeep_for_ever(
    catalog: Catalog,
    upkeep: Upkeep,
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

/// Whether it is this producer's turn. Who cannot be told goes on: it is harmless, and what fails next tells of it.
async fn leads(catalog: &Catalog, work: Work, upkeep: &Upkeep, id: &str) -> bool {
    let leading = catalog.leads(work, id, upkeep.every * LEASE_LOOKS);
    match answered(UPKEEP_WITHIN, leading).await {
        Ok(leads) => leads,
        Err(error) => {
            tracing::warn!(error = chain(&error), "cannot tell who does the upkeep");
            true
        }
    }
}

async fn ask_for_what_is_due(catalog: &Catalog, upkeep: &Upkeep) {
    let (primary, mirrors) = &upkeep.stores;
    let adopting = answered(UPKEEP_WITHIN, adopt(catalog, primary)).await;
    report("stores", adopting.map(|()| 0));
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
        Err(error) => tracing::warn!(error = chain(&error), "cannot ask for {what}"),
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

/// Enqueues the verifications that are due: of each usable restore point, in each store that holds it, within `within`, and of each resource's newest so that
/// it always has one that was proven within a quarter of that. Returns how many.
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
    enqueue(catalog, "verify", -20, due).await
}

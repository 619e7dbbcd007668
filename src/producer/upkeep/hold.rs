//! Finds the cadence of each resource whose RPO is held to the minute, once a day, from what its backups took.

use chrono::TimeDelta;
use futures::FutureExt as _;
use lastgood_jobs::error::chain;

use crate::{
    catalog::{Catalog, CatalogError, leave_out},
    metrics,
    nouns::ResourceStatus,
    plan::{Cadence, Plan, Plans, Rpo},
    schedule::{Before, Held, Taken, Terms},
};

/// How many resources are decided about in one transaction.
const AT_ONCE: i64 = 500;
/// How many such batches one look has: a fleet of a million is gone through in less than two hours.
const BATCHES: usize = 20;
/// How long a decision holds.
const A_DAY: TimeDelta = TimeDelta::days(1);
/// When a resource is looked at again of whose backups nothing is known.
const SOON: TimeDelta = TimeDelta::hours(1);

/// What a look did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holding {
    /// Resources that were decided about.
    pub decided: u64,
    /// Those whose cadence changed.
    pub changed: u64,
}

/// Finds the cadences that are due to be found again: each resource's once a day.
///
/// Any number of producers may do so at once, and any of them may stop in between: what is due stands in the catalog. `tick` is how often
/// the producers look for due backups. `plans` must come from a file: the built-in plans, which stand in for one that is missing, would
/// drop what was found.
pub async fn hold_strictly(
    catalog: &Catalog,
    plans: &Plans,
    tick: TimeDelta,
) -> Result<Holding, CatalogError> {
    let mut all = Holding::default();
    for _ in 0..BATCHES {
        let due = due(catalog).await?;
        let looked_at = due.len();
        let mut batch = Batch::default();
        for resource in due {
            batch.add(resource, plans, tick);
        }
        all.decided += batch.decided.len() as u64;
        all.changed += batch.record(catalog).await?;
        if i64::try_from(looked_at).unwrap_or(i64::MAX) < AT_ONCE {
            break;
        }
    }
    Ok(all)
}

/// A resource whose cadence is to be found.
#[derive(Debug)]
struct Due {
    id: String,
    tier: String,
    status: ResourceStatus,
    strict_cadence_minutes: Option<i32>,
    /// For which RPO it was found; `None`: without any backup to go by.
    rpo_minutes: Option<i32>,
    is_infeasible: bool,
    backups: i64,
    p99_seconds: Option<i64>,
    last_seconds: Option<i64>,
}

async fn due(catalog: &Catalog) -> Result<Vec<Due>, CatalogError> {
    let due = sqlx::query_file_as!(Due, "src/producer/upkeep/due_holds.sql", AT_ONCE)
        .fetch_all(catalog.pool())
        .await?;
    Ok(due)
}

impl Due {
    fn taken(&self) -> Taken {
        let seconds = |it: Option<i64>| TimeDelta::seconds(it.unwrap_or_default());
        Taken {
            backups: u32::try_from(self.backups).unwrap_or(u32::MAX),
            p99: seconds(self.p99_seconds),
            last: seconds(self.last_seconds),
        }
    }

    fn before(&self, rpo: Rpo) -> Before {
        match self.strict_cadence_minutes.and_then(Cadence::held) {
            Some(_) | None if self.rpo_minutes != Some(rpo.minutes()) => Before::Nothing,
            _ if self.is_infeasible => Before::Infeasible,
            Some(cadence) => Before::Every(cadence),
            None => Before::Nothing,
        }
    }
}

/// What was decided about some resources.
#[derive(Default)]
struct Batch {
    decided: Vec<Decided>,
    /// Resources that are not backed up for now.
    put_off: Vec<String>,
    /// Resources that no plan holds strictly any more.
    over: Vec<String>,
}

#[derive(Debug, Clone)]
struct Decided {
    id: String,
    rpo: Rpo,
    held: Held,
    taken: Taken,
    tick: TimeDelta,
}

impl Batch {
    fn add(&mut self, resource: Due, plans: &Plans, tick: TimeDelta) {
        let plan = plans.iter().find(|it| it.tier.as_str() == resource.tier);
        match (resource.status, plan.and_then(|plan| strict(plan, tick))) {
            (ResourceStatus::Removed, _) | (_, None) => self.over.push(resource.id),
            (ResourceStatus::Paused, Some(_)) => self.put_off.push(resource.id),
            (ResourceStatus::Active, Some((rpo, terms))) => {
                let taken = resource.taken();
                self.decided.push(Decided {
                    held: terms.hold(taken, resource.before(rpo)),
                    id: resource.id,
                    rpo,
                    taken,
                    tick,
                });
            }
        }
    }

    async fn record(self, catalog: &Catalog) -> Result<u64, CatalogError> {
        drop_holds(catalog, &self.over).await?;
        put_off(catalog, &self.put_off).await?;
        for it in &self.decided {
            if let Held::Infeasible(_, why) = it.held {
                tracing::warn!(resource.id = %it.id, "no cadence holds the RPO of this resource to the minute: {why}");
            }
        }
        let statement = |decided| record(catalog, decided).boxed();
        let (changed, refused) = leave_out(self.decided, statement).await?;
        metrics::rows_left_out("hold", refused.len() as u64);
        let mut left_out = Vec::new();
        for (it, error) in refused {
            tracing::error!(resource.id = %it.id, error = chain(&error), "the catalog refuses this resource's cadence: its RPO may not be held to the minute");
            left_out.push(it.id);
        }
        put_off(catalog, &left_out).await?;
        Ok(changed.iter().sum::<i64>().unsigned_abs())
    }
}

fn strict(plan: &Plan, tick: TimeDelta) -> Option<(Rpo, Terms)> {
    Some((plan.rpo, Terms::of(plan, tick)?))
}

async fn record(catalog: &Catalog, decided: Vec<Decided>) -> Result<i64, CatalogError> {
    let ids: Vec<String> = decided.iter().map(|it| it.id.clone()).collect();
    let rpos: Vec<i32> = decided.iter().map(|it| it.rpo.minutes()).collect();
    let cadences: Vec<i32> = decided
        .iter()
        .map(|it| it.held.cadence().minutes())
        .collect();
    let backups: Vec<i32> = decided.iter().map(Decided::backups).collect();
    let takes: Vec<Option<i32>> = decided.iter().map(Decided::takes_seconds).collect();
    let infeasible: Vec<bool> = decided.iter().map(Decided::is_infeasible).collect();
    let again: Vec<_> = decided.iter().map(Decided::again_in).collect();
    let changed = sqlx::query_file_scalar!(
        "src/producer/upkeep/record_holds.sql",
        &ids,
        &rpos,
        &cadences,
        &backups,
        &takes as &[Option<i32>],
        &infeasible,
        &again
    )
    .fetch_one(catalog.pool())
    .await?;
    Ok(changed)
}

impl Decided {
    fn backups(&self) -> i32 {
        i32::try_from(self.taken.backups).unwrap_or(i32::MAX)
    }

    fn takes_seconds(&self) -> Option<i32> {
        let takes = self.taken.allowed_for()? + self.tick;
        Some(i32::try_from(takes.num_seconds()).unwrap_or(i32::MAX))
    }

    fn is_infeasible(&self) -> bool {
        matches!(self.held, Held::Infeasible(..))
    }

    fn again_in(&self) -> f64 {
        match self.held {
            Held::Unknown(_) => SOON.as_seconds_f64(),
            Held::Every(_) | Held::Infeasible(..) => A_DAY.as_seconds_f64(),
        }
    }
}

async fn put_off(catalog: &Catalog, resources: &[String]) -> Result<(), CatalogError> {
    if resources.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update lastgood.strict_holds set look_at = now() + interval '1 day' where resource_id = any($1)",
        resources
    )
    .execute(catalog.pool())
    .await?;
    Ok(())
}

/// Forgets the cadences of resources that are not held strictly. Resources are locked before their holds, as a tick does.
async fn drop_holds(catalog: &Catalog, resources: &[String]) -> Result<(), CatalogError> {
    if resources.is_empty() {
        return Ok(());
    }
    let mut transaction = catalog.pool().begin().await?;
    sqlx::query!(
        "with owner as materialized (
             select id from lastgood.resources where id = any($1) order by id for no key update
         )
         update lastgood.resources as r set strict_cadence_minutes = null, strict_rpo_minutes = null
         from owner where r.id = owner.id and r.strict_cadence_minutes is not null",
        resources
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "delete from lastgood.strict_holds where resource_id = any($1)",
        resources
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

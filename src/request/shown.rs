//! What is a resource shown with? With what the plans promise, and whether its URL can be opened.

use lastgood_jobs::resource::Tier;

use super::promise;
use crate::{
    catalog::{Catalog, ResourceRow},
    master::{self, MasterKeyError},
    nouns::Resource,
    plan::Plans,
    rto::rto,
    secret::MasterKeys,
};

/// What a resource is shown with, besides its row.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// Where the keys of live consumers are on record.
    pub catalog: &'a Catalog,
    /// The plans of this process.
    pub plans: &'a Plans,
    /// The master keys of this process.
    pub master_keys: Option<&'a MasterKeys>,
}

impl Shown<'_> {
    /// Returns the resources, in the rows' order.
    pub async fn all(&self, rows: Vec<ResourceRow>) -> Result<Vec<Resource>, MasterKeyError> {
        let nobody_has = if rows.iter().any(|row| row.sealed_under.is_some()) {
            master::nobody_has(self.catalog, self.master_keys).await?
        } else {
            Vec::new()
        };
        let resources = rows
            .into_iter()
            .map(|row| shown(row, self.plans, &nobody_has));
        Ok(resources.collect())
    }

    /// Returns one resource as it is now.
    pub async fn one(&self, id: &str) -> Result<Resource, MasterKeyError> {
        self.of(self.catalog.resource(id).await?).await
    }

    /// Returns the resource of a row.
    pub async fn of(&self, row: ResourceRow) -> Result<Resource, MasterKeyError> {
        let nobody_has = match row.sealed_under {
            Some(_) => master::nobody_has(self.catalog, self.master_keys).await?,
            None => Vec::new(),
        };
        Ok(shown(row, self.plans, &nobody_has))
    }
}

fn shown(row: ResourceRow, plans: &Plans, nobody_has: &[i32]) -> Resource {
    let promise = row.tier.parse::<Tier>().map_or_else(
        |error| error.to_string(),
        |tier| promise(plans, &tier, row.retention_days).to_string(),
    );
    let plan = plans.iter().find(|plan| plan.tier.as_str() == row.tier);
    let rto_minutes = plan.and_then(|plan| plan.rto_minutes);
    Resource {
        promise,
        connection: row
            .connection_ref
            .or_else(|| row.is_sealed.then(|| "sealed".to_owned())),
        is_openable: row.sealed_under.map(|number| !nobody_has.contains(&number)),
        sealed_under: row.sealed_under,
        id: row.id,
        team: row.team,
        tier: row.tier,
        engine: row.engine,
        status: row.status,
        retention_days: row.retention_days,
        options: row.options,
        cadence_minutes: row.cadence_minutes,
        created_at: row.created_at,
        newest_consistent_at: row.newest_consistent_at,
        next_due_at: row.next_due_at,
        failures_in_a_row: row.failures_in_a_row,
        drilled_at: row.drill_tried_at,
        drill_outcome: row.drill_outcome,
        drill_because: row.drill_because,
        proven_at: row.drill_proven_at,
        rto: rto(rto_minutes, row.restore_seconds),
        restore_seconds: row.restore_seconds,
        restore_measured_at: row.restore_measured_at,
    }
}

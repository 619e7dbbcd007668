//! A resource: one protected database.

use chrono::{DateTime, Utc};
use lastgood_jobs::resource::Tier;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    catalog::{Catalog, ResourceRow, ResourceStatus},
    master::{self, MasterKeyError},
    plan::Plans,
    request::promise,
    secret::MasterKeys,
};

/// One protected database.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Resource {
    /// Its id, which is never reused.
    pub id: String,
    /// Its owner.
    pub team: String,
    /// Its tier.
    pub tier: String,
    /// Its engine.
    pub engine: String,
    /// Whether it is backed up.
    pub status: ResourceStatus,
    /// Overrides the tier's retention; 0 or less vetoes backups.
    pub retention_days: Option<i32>,
    /// `env:NAME` or `file:/path`, or `sealed` if a URL is stored, which is never shown; null if there is none.
    pub connection: Option<String>,
    /// The number of the master key that the URL is sealed under; null if none is stored.
    pub sealed_under: Option<i32>,
    /// Whether that key is here, or with a live consumer, so that the URL can be opened; null if none is stored.
    pub is_openable: Option<bool>,
    /// MongoDB's options.
    pub options: serde_json::Value,
    /// What the plans here promise for it, in words.
    pub promise: String,
    /// How often it is backed up, as the producer last applied it; null if it is not.
    pub cadence_minutes: Option<i32>,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// The newest instant that it can be restored to.
    pub newest_consistent_at: Option<DateTime<Utc>>,
    /// When its next backup is due; null if it is not backed up.
    pub next_due_at: Option<DateTime<Utc>>,
    /// How many scheduled backups have failed in a row.
    pub failures_in_a_row: i32,
}

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
            .map(|row| Resource::of(row, self.plans, &nobody_has));
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
        Ok(Resource::of(row, self.plans, &nobody_has))
    }
}

impl Resource {
    fn of(row: ResourceRow, plans: &Plans, nobody_has: &[i32]) -> Self {
        let promise = row.tier.parse::<Tier>().map_or_else(
            |error| error.to_string(),
            |tier| promise(plans, &tier, row.retention_days).to_string(),
        );
        Self {
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
        }
    }

    /// Returns what is wrong with its URL and what to do about it, if it cannot be opened.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        let (number, is_openable) = self.sealed_under.zip(self.is_openable)?;
        (!is_openable).then(|| {
            format!(
                "sealed under master key {number}, which nobody has: set it again with `lastgood resource set {} --url-stdin`",
                self.id
            )
        })
    }
}

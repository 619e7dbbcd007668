//! Resources: which databases are protected, and how to connect to them.

use std::num::NonZeroU64;

use chrono::{DateTime, Utc};
use lastgood_jobs::resource::{ResourceId, ResourceOptions, TeamId, Tier};
use sqlx::PgConnection;

use super::{Catalog, CatalogError, error::violated};
use crate::{nouns::ResourceStatus, proof::ProofOutcome};

/// A connection as the catalog stores it: a reference to the secret, or the sealed secret. Never a URL in clear.
#[derive(Clone)]
pub enum StoredConnection {
    /// `env:NAME` or `file:/path`.
    Reference(String),
    /// Sealed under a master key.
    Sealed {
        /// The URL, sealed for this resource.
        url: Vec<u8>,
        /// The number of the master key that sealed it.
        under: i32,
    },
}

/// A resource to be registered.
pub struct NewResource {
    /// Its id.
    pub id: ResourceId,
    /// Its owner.
    pub team: TeamId,
    /// Its tier.
    pub tier: Tier,
    /// Its engine's stored name.
    pub engine: String,
    /// Overrides the tier's retention.
    pub retention_days: Option<i32>,
    /// How to connect to it.
    pub connection: StoredConnection,
    /// Further options for its backups.
    pub options: ResourceOptions,
}

/// Changes to a resource.
#[derive(Default)]
pub struct ResourceChange {
    /// Its tier.
    pub tier: Option<Tier>,
    /// Its own retention.
    pub retention: OwnRetention,
    /// How to connect to it.
    pub connection: Option<StoredConnection>,
    /// Further options for its backups; replaces all of them.
    pub options: Option<ResourceOptions>,
}

impl ResourceChange {
    /// Returns whether nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.is_of_backups() && self.retention == OwnRetention::Same
    }

    /// Returns whether the change may cure what made backups fail.
    fn is_of_backups(&self) -> bool {
        self.tier.is_some() || self.connection.is_some() || self.options.is_some()
    }
}

/// Which resources to list, in the order of their ids.
#[derive(Debug, Clone, Default)]
pub struct ResourceFilter {
    /// Only those of this team.
    pub team: Option<String>,
    /// Removed ones too.
    pub with_removed: bool,
    /// Only those whose id comes after this one.
    pub after: Option<String>,
    /// At most this many.
    pub limit: i64,
}

/// What happens to a resource's own retention.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OwnRetention {
    /// It stays as it is.
    #[default]
    Same,
    /// It is dropped: the tier's retention applies.
    OfTier,
    /// It becomes this many days; 0 or less vetoes backups.
    Days(i32),
}

/// A resource as recorded, without its secret.
#[derive(Debug, Clone)]
pub struct ResourceRow {
    /// Its id.
    pub id: String,
    /// Its owner.
    pub team: String,
    /// Its tier.
    pub tier: String,
    /// Its engine.
    pub engine: String,
    /// Whether it is backed up.
    pub status: ResourceStatus,
    /// Overrides the tier's retention.
    pub retention_days: Option<i32>,
    /// `env:NAME`, `file:/path`; `None` if the URL is sealed in the catalog, or there is no connection.
    pub connection_ref: Option<String>,
    /// Whether the URL is sealed in the catalog.
    pub is_sealed: bool,
    /// The number of the master key that it is sealed under.
    pub sealed_under: Option<i32>,
    /// Further options for its backups, as stored.
    pub options: serde_json::Value,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// The cadence that the producer last applied; `None`: it is not backed up.
    pub cadence_minutes: Option<i32>,
    /// When the producer looks at it next.
    pub next_due_at: Option<DateTime<Utc>>,
    /// The newest restorable instant.
    pub newest_consistent_at: Option<DateTime<Utc>>,
    /// How many scheduled backups in a row have failed since the last success.
    pub failures_in_a_row: i32,
    /// When the last drill of one of its points ended.
    pub drill_tried_at: Option<DateTime<Utc>>,
    /// What that drill found.
    pub drill_outcome: Option<ProofOutcome>,
    /// Why it proved nothing.
    pub drill_because: Option<String>,
    /// When a drill last proved one.
    pub drill_proven_at: Option<DateTime<Utc>>,
    /// How long the last restore that was measured took.
    pub restore_seconds: Option<f64>,
    /// When that was.
    pub restore_measured_at: Option<DateTime<Utc>>,
}

impl Catalog {
    /// Returns one resource.
    pub async fn resource(&self, id: &str) -> Result<ResourceRow, CatalogError> {
        sqlx::query_as!(
            ResourceRow,
            r#"select id, team, tier, engine, status, retention_days, connection_ref,
                 connection_sealed is not null as "is_sealed!",
                 case when connection_sealed is not null then sealed_under end as sealed_under, options, created_at, cadence_minutes,
                 next_due_at, newest_consistent_at, failures_in_a_row, drill_tried_at, drill_outcome as "drill_outcome: ProofOutcome", drill_because, drill_proven_at, restore_seconds,
                 restore_measured_at
               from lastgood.resources where id = $1"#,
            id
        )
        .fetch_optional(self.pool())
        .await?
        .ok_or_else(|| resource_not_found(id))
    }

    /// Returns resources by id; removed ones only if the filter asks for them.
    pub async fn resources(
        &self,
        filter: &ResourceFilter,
    ) -> Result<Vec<ResourceRow>, CatalogError> {
        let rows = sqlx::query_as!(
            ResourceRow,
            r#"select id, team, tier, engine, status, retention_days, connection_ref,
                 connection_sealed is not null as "is_sealed!",
                 case when connection_sealed is not null then sealed_under end as sealed_under, options, created_at, cadence_minutes,
                 next_due_at, newest_consistent_at, failures_in_a_row, drill_tried_at, drill_outcome as "drill_outcome: ProofOutcome", drill_because, drill_proven_at, restore_seconds,
                 restore_measured_at
               from lastgood.resources
             where ($1::text is null or team = $1) and ($2 or status <> 'removed') and ($4::text is null or id > $4)
             order by id limit $3"#,
            filter.team,
            filter.with_removed,
            filter.limit,
            filter.after
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns the size limit for a dump of a resource on this tier, in bytes; `None`: no limit.
    pub async fn maximum_dump_bytes(
        &self,
        tier: &Tier,
    ) -> Result<Option<NonZeroU64>, CatalogError> {
        let limit = sqlx::query_scalar!(
            "select maximum_dump_bytes from lastgood.dump_limits where tier = $1",
            tier.as_str()
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(limit.and_then(|bytes| NonZeroU64::new(bytes.unsigned_abs())))
    }

    /// Returns how to connect to a resource.
    pub async fn connection(&self, id: &str) -> Result<StoredConnection, CatalogError> {
        let row = sqlx::query!(
            "select connection_ref, connection_sealed, sealed_under from lastgood.resources where id = $1",
            id
        )
        .fetch_optional(self.pool())
        .await?
        .ok_or_else(|| resource_not_found(id))?;
        match (row.connection_ref, row.connection_sealed) {
            (Some(reference), None) => Ok(StoredConnection::Reference(reference)),
            (None, Some(url)) => Ok(StoredConnection::Sealed {
                url,
                under: row.sealed_under,
            }),
            (None, None) => Err(CatalogError::NoConnection(id.to_owned())),
            (Some(_), Some(_)) => Err(CatalogError::BadRow {
                what: format!("a connection of resource {id:?}"),
                why: "it is both a reference and sealed".to_owned(),
            }),
        }
    }
}

/// Registers a resource in the connection's current transaction.
pub(super) async fn add(
    connection: &mut PgConnection,
    new: &NewResource,
) -> Result<(), CatalogError> {
    let (reference, sealed, under) = columns(Some(&new.connection));
    let added = sqlx::query!(
        "insert into lastgood.resources
             (id, team, tier, engine, retention_days, connection_ref, connection_sealed, options, sealed_under)
         values ($1, $2, $3, $4, $5, $6, $7, $8, coalesce($9, 1)) on conflict (id) do nothing",
        new.id.as_str(),
        new.team.as_str(),
        new.tier.as_str(),
        new.engine,
        new.retention_days,
        reference,
        sealed,
        stored(new.options)?,
        under,
    )
    .execute(connection)
    .await?;
    match added.rows_affected() {
        0 => Err(CatalogError::Exists(new.id.to_string())),
        _ => Ok(()),
    }
}

/// Changes a resource in the connection's current transaction.
pub(super) async fn change(
    connection: &mut PgConnection,
    id: &str,
    change: &ResourceChange,
) -> Result<(), CatalogError> {
    let (reference, sealed, under) = columns(change.connection.as_ref());
    let (has_retention, retention_days) = match change.retention {
        OwnRetention::Same => (false, None),
        OwnRetention::OfTier => (true, None),
        OwnRetention::Days(days) => (true, Some(days)),
    };
    let changed = sqlx::query!(
        "update lastgood.resources
         set tier = coalesce($2, tier), retention_days = case when $3 then $7 else retention_days end,
             connection_ref = case when num_nonnulls($4::text, $5::bytea) = 1 then $4 else connection_ref end,
             connection_sealed = case when num_nonnulls($4::text, $5::bytea) = 1 then $5 else connection_sealed end,
             sealed_under = coalesce($9, sealed_under),
             options = coalesce($6, options),
             failures_in_a_row = case when $8 then 0 else failures_in_a_row end,
             next_due_at = case when $8 and failures_in_a_row > 0 and status = 'active' then now() else next_due_at end
         where id = $1 and status <> 'removed'",
        id,
        change.tier.as_ref().map(Tier::as_str),
        has_retention,
        reference,
        sealed,
        change.options.map(stored).transpose()?,
        retention_days,
        change.is_of_backups(),
        under,
    )
    .execute(connection)
    .await?;
    match changed.rows_affected() {
        0 => Err(resource_not_found(id)),
        _ => Ok(()),
    }
}

/// Changes a resource's status in the connection's current transaction.
pub(super) async fn set_status(
    connection: &mut PgConnection,
    id: &str,
    status: ResourceStatus,
) -> Result<(), CatalogError> {
    let changed = sqlx::query!(
        "update lastgood.resources set status = $2 where id = $1 and (status <> 'removed' or $2 = 'removed')",
        id,
        status.as_str()
    )
    .execute(&mut *connection)
    .await
    .map_err(|error| match violated(&error) {
        // A resource without a connection can only be paused or removed.
        Some("resources_one_connection") => CatalogError::NoConnection(id.to_owned()),
        Some(_) | None => error.into(),
    })?;
    if changed.rows_affected() == 0 {
        return Err(resource_not_found(id));
    }
    if status != ResourceStatus::Active {
        sqlx::query!(
            "update lastgood.runs set state = 'cancelled', finished_at = now()
             where resource_id = $1 and kind = 'backup' and trigger = 'scheduled' and state = 'queued'",
            id
        )
        .execute(connection)
        .await?;
    }
    Ok(())
}

/// Returns the values of a connection's three columns: the reference, the sealed URL, and the number of the key that sealed it.
fn columns(connection: Option<&StoredConnection>) -> (Option<&str>, Option<&[u8]>, Option<i32>) {
    match connection {
        Some(StoredConnection::Reference(reference)) => (Some(reference), None, None),
        Some(StoredConnection::Sealed { url, under }) => (None, Some(url), Some(*under)),
        None => (None, None, None),
    }
}

fn stored(options: ResourceOptions) -> Result<serde_json::Value, CatalogError> {
    serde_json::to_value(options).map_err(|error| sqlx::Error::Encode(error.into()).into())
}

pub(super) fn resource_not_found(id: &str) -> CatalogError {
    CatalogError::not_found("resource", id, "resource list")
}

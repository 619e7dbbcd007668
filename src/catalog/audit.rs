//! The audit log: who did something that cannot be undone, or that let data out.

use chrono::{DateTime, Utc};
use lastgood_jobs::printable::steers;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Catalog, CatalogError};
use crate::nouns::AuditEntry;

/// An action to be recorded. `detail` must hold no secret.
#[derive(Debug, Clone)]
pub struct Audit<'a> {
    /// One word for the action, such as `quarantine`.
    pub action: &'a str,
    /// The resource it was done to.
    pub resource_id: Option<&'a str>,
    /// The restore point it was done to.
    pub point_id: Option<Uuid>,
    /// Further details, as a JSON object.
    pub detail: serde_json::Value,
}

impl<'a> Audit<'a> {
    /// Returns an action that was done to no single resource.
    #[must_use]
    pub fn new(action: &'a str, detail: serde_json::Value) -> Self {
        Self {
            action,
            resource_id: None,
            point_id: None,
            detail,
        }
    }
}

/// Which recorded actions to return.
#[derive(Debug, Clone, Copy)]
pub struct AuditFilter<'a> {
    /// Only those about this resource; `None`: about any.
    pub resource_id: Option<&'a str>,
    /// Only those at or after this instant.
    pub since: Option<DateTime<Utc>>,
    /// At most this many.
    pub limit: i64,
}

impl AuditFilter<'_> {
    /// Returns a filter for the newest actions on any resource.
    #[must_use]
    pub fn newest(limit: i64) -> Self {
        Self {
            resource_id: None,
            since: None,
            limit,
        }
    }
}

impl Catalog {
    /// Records an action. An action that cannot be recorded must not happen: call
    /// this before the action, or record it in the action's own transaction.
    pub async fn audit(&self, entry: &Audit<'_>) -> Result<(), CatalogError> {
        let mut connection = self.pool().acquire().await?;
        record(&mut connection, entry).await?;
        Ok(())
    }

    /// Returns recorded actions, newest first.
    pub async fn audited(&self, filter: &AuditFilter<'_>) -> Result<Vec<AuditEntry>, CatalogError> {
        let rows = sqlx::query_as!(
            AuditEntry,
            "select at as recorded_at, actor as by, action, resource_id as resource, point_id as point, detail from lastgood.audit
             where ($1::text is null or resource_id = $1) and at >= coalesce($2, '-infinity'::timestamptz)
             order by at desc, id desc limit $3",
            filter.resource_id,
            filter.since,
            filter.limit
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }
}

/// Records an action in the connection's current transaction.
pub(crate) async fn record(connection: &mut PgConnection, entry: &Audit<'_>) -> sqlx::Result<()> {
    record_by(connection, &actor(), entry).await
}

/// Records an action of another actor, such as the bearer of a token.
pub(super) async fn record_by(
    connection: &mut PgConnection,
    actor: &str,
    entry: &Audit<'_>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into lastgood.audit (actor, action, resource_id, point_id, detail) values ($1, $2, $3, $4, $5)",
        actor,
        entry.action,
        entry.resource_id,
        entry.point_id,
        entry.detail,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Returns the acting user: `SUDO_USER` if set, else `USER`, else the numeric user id.
pub(super) fn actor() -> String {
    let named = ["SUDO_USER", "USER"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        // Neither PostgreSQL's text nor an environment variable can hold a NUL. The other characters are left out because they could steer
        // the reader's terminal.
        .map(|name| {
            name.chars()
                .filter(|c| !steers(*c))
                .take(128)
                .collect::<String>()
        })
        .find(|name| !name.is_empty());
    named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

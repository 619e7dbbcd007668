//! Who did what that cannot be taken back, or that let data out.

use chrono::{DateTime, Utc};
use lastgood_jobs::printable::steers;
use serde::Serialize;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Catalog, CatalogError};

/// One act, as it is to be recorded. Its detail holds no secret.
#[derive(Debug, Clone)]
pub struct Audit<'a> {
    /// What was done: one word, `quarantine`.
    pub action: &'a str,
    /// To which resource.
    pub resource_id: Option<&'a str>,
    /// To which restore point.
    pub point_id: Option<Uuid>,
    /// What else is to be known: a JSON object.
    pub detail: serde_json::Value,
}

/// An act as recorded.
#[derive(Debug, Clone, Serialize)]
pub struct AuditRow {
    /// When, by the catalog's clock.
    pub at: DateTime<Utc>,
    /// Who.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To which resource.
    pub resource_id: Option<String>,
    /// To which restore point.
    pub point_id: Option<Uuid>,
    /// What else is to be known.
    pub detail: serde_json::Value,
}

/// Which acts to return.
#[derive(Debug, Clone, Copy)]
pub struct AuditFilter<'a> {
    /// Those about one resource; `None`: all.
    pub resource_id: Option<&'a str>,
    /// None before this instant.
    pub since: Option<DateTime<Utc>>,
    /// At most so many.
    pub limit: i64,
}

impl AuditFilter<'_> {
    /// Returns the filter of the newest acts, whatever they are about.
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
    /// Records an act. Who cannot be recorded must not act: call it before the act, or in its transaction.
    pub async fn audit(&self, entry: &Audit<'_>) -> Result<(), CatalogError> {
        let mut connection = self.pool().acquire().await?;
        record(&mut connection, entry).await?;
        Ok(())
    }

    /// Returns recorded acts, newest first.
    pub async fn audited(&self, filter: &AuditFilter<'_>) -> Result<Vec<AuditRow>, CatalogError> {
        let rows = sqlx::query_as!(
            AuditRow,
            "select at, actor, action, resource_id, point_id, detail from lastgood.audit
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

/// Records an act in the transaction that the connection is in.
pub(crate) async fn record(connection: &mut PgConnection, entry: &Audit<'_>) -> sqlx::Result<()> {
    record_by(connection, &actor(), entry).await
}

/// Records what somebody else ordered: the bearer of a token, say.
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

/// Returns who acts: the user who became another one with sudo, else the user, else the user's number.
pub(super) fn actor() -> String {
    let named = ["SUDO_USER", "USER"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        // PostgreSQL's text cannot hold a NUL, nor can a variable; the rest is for whoever reads the log.
        .map(|name| {
            name.chars()
                .filter(|c| !steers(*c))
                .take(128)
                .collect::<String>()
        })
        .find(|name| !name.is_empty());
    named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

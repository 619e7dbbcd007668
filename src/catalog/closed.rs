//! Which customers' databases has a restore closed, and not opened again?

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Catalog, CatalogError};

/// How much of an error is kept.
const ERROR_CHARS_MAX: usize = 2000;

/// A database that takes no connections because of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ClosedDatabase {
    /// The resource whose database it is.
    pub resource_id: String,
    /// Its name.
    pub database: String,
    /// The restore that closed it.
    pub run_id: Uuid,
    /// When.
    pub closed_at: DateTime<Utc>,
    /// Why it could not be opened; absent where nobody has tried yet.
    pub error: Option<String>,
}

impl Catalog {
    /// Returns the databases that are closed and should not be: no worker is at the exchange any more, or it takes too long.
    pub async fn closed_databases(
        &self,
        team: Option<&str>,
    ) -> Result<Vec<ClosedDatabase>, CatalogError> {
        let rows = sqlx::query_as!(
            ClosedDatabase,
            "select closed.resource_id, closed.database, closed.run_id, closed.closed_at, closed.error
             from lastgood.closed_databases as closed
             join lastgood.resources as resource on resource.id = closed.resource_id
             where ($1::text is null or resource.team = $1)
               and (closed.closed_at < now() - interval '1 minute' or not exists (
                   select from lastgood.runs as run
                   where run.id = closed.run_id and run.state = 'running' and run.lease_until > now()))
             order by closed.closed_at limit 100",
            team
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns the databases of these engines that no worker has any more, and takes them for a while: of several consumers one tries.
    pub async fn take_closed_databases(
        &self,
        engines: &[String],
    ) -> Result<Vec<ClosedDatabase>, CatalogError> {
        let rows = sqlx::query_as!(
            ClosedDatabase,
            "update lastgood.closed_databases as closed set tried_at = now()
             from lastgood.resources as resource
             where resource.id = closed.resource_id and resource.engine = any($1)
               and (closed.tried_at is null or closed.tried_at < now() - interval '20 seconds')
               and not exists (
                   select from lastgood.runs as run
                   where run.id = closed.run_id and run.state = 'running' and run.lease_until > now())
             returning closed.resource_id, closed.database, closed.run_id, closed.closed_at, closed.error",
            engines
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Strikes out a database that is open again. One that was closed once more meanwhile stays on record.
    pub async fn strike_out_closed(&self, closed: &ClosedDatabase) -> Result<(), CatalogError> {
        sqlx::query!(
            "delete from lastgood.closed_databases where run_id = $1 and closed_at = $2",
            closed.run_id,
            closed.closed_at
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Records why a database could not be opened.
    pub async fn note_still_closed(
        &self,
        closed: &ClosedDatabase,
        error: &str,
    ) -> Result<(), CatalogError> {
        let error: String = error
            .replace('\0', "\u{fffd}")
            .chars()
            .take(ERROR_CHARS_MAX)
            .collect();
        sqlx::query!(
            "update lastgood.closed_databases set error = $2 where run_id = $1",
            closed.run_id,
            error
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }
}

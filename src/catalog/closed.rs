//! Which customers' databases has a restore closed and not reopened?

use super::{Catalog, CatalogError};
use crate::nouns::ClosedDatabase;

/// How many characters of an error are kept.
const ERROR_CHARS_MAX: usize = 2000;

impl Catalog {
    /// Returns the databases that should be open again: no worker is exchanging
    /// them any more, or the exchange has taken over a minute. At most 100.
    pub async fn closed_databases(
        &self,
        team: Option<&str>,
    ) -> Result<Vec<ClosedDatabase>, CatalogError> {
        let rows = sqlx::query_as!(
            ClosedDatabase,
            "select closed.resource_id as resource, closed.database, closed.run_id as run, closed.closed_at, closed.error
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

    /// Returns the closed databases of these engines that no worker holds, and takes them for 20 seconds, so that only one consumer tries
    /// to reopen them.
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
             returning closed.resource_id as resource, closed.database, closed.run_id as run, closed.closed_at, closed.error",
            engines
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Removes a reopened database from the record, unless it has been closed again meanwhile.
    pub async fn strike_out_closed(&self, closed: &ClosedDatabase) -> Result<(), CatalogError> {
        sqlx::query!(
            "delete from lastgood.closed_databases where run_id = $1 and closed_at = $2",
            closed.run.0,
            closed.closed_at
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Records why a database could not be reopened.
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
            closed.run.0,
            error
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }
}

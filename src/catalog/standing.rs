//! Can the catalog do its work over this address: does it accept writes, and is each connection a session?

use lastgood_jobs::error::chain;
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};

use super::{Catalog, CatalogError};

/// Sent by the simple protocol: a pooler in transaction mode refuses the extended one sooner or later.
const READ_ONLY: &str =
    "select pg_is_in_recovery(), current_setting('transaction_read_only')::boolean";
const BACKEND: &str = "select pg_backend_pid()";

impl Catalog {
    /// Returns what keeps the catalog at this address from doing its work, in words for its operator. Empty: nothing does.
    ///
    /// Such a catalog still answers: a standby serves reads, and a pooler in transaction mode most statements.
    pub async fn faults(&self) -> Result<Vec<&'static str>, CatalogError> {
        let faults = [self.write_fault().await?, self.session_fault().await?];
        Ok(faults.into_iter().flatten().collect())
    }

    /// Returns why the catalog cannot be written to, or `None` if it can.
    pub async fn write_fault(&self) -> Result<Option<&'static str>, CatalogError> {
        let row = self.pool().fetch_one(sqlx::raw_sql(READ_ONLY)).await?;
        let (is_standby, is_read_only): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
        Ok(match (is_standby, is_read_only) {
            (true, _) => Some(
                "the catalog is a standby and takes no writes: set DATABASE_URL to its primary",
            ),
            (false, true) => Some(
                "the catalog takes no writes: check default_transaction_read_only of its server, database and role",
            ),
            (false, false) => None,
        })
    }

    /// Returns why connections are no sessions, or `None` if they are. Opens two connections to find out.
    pub async fn session_fault(&self) -> Result<Option<&'static str>, CatalogError> {
        Ok(self.is_pooled().await?.then_some(
            "the catalog is behind a pooler in transaction mode, which breaks prepared statements, LISTEN and settings: set \
             DATABASE_URL to the server itself, or to a pool in session mode",
        ))
    }

    /// Returns whether connections are sessions, and logs an error if they are not. If that cannot be found out, assumes that they are.
    pub async fn keeps_sessions(&self) -> bool {
        match self.session_fault().await {
            Ok(None) => true,
            Ok(Some(fault)) => {
                tracing::error!("{fault}");
                false
            }
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "cannot tell whether the catalog's connections are sessions"
                );
                true
            }
        }
    }

    /// Returns whether one connection reached several server processes, or two reached the same one.
    async fn is_pooled(&self) -> Result<bool, CatalogError> {
        let options = self.pool().connect_options();
        let mut first = PgConnection::connect_with(&options).await?;
        let mut second = PgConnection::connect_with(&options).await?;
        let mut seen = [(0, 0); 2];
        for met in &mut seen {
            // In reverse order the second time: a pool of two server processes that takes turns would look like two sessions.
            *met = (backend(&mut first).await?, backend(&mut second).await?);
            std::mem::swap(&mut first, &mut second);
        }
        let [(first_met, second_met), (second_again, first_again)] = seen;
        let _closed_or_gone = (first.close().await, second.close().await);
        Ok(first_met == second_met || first_met != first_again || second_met != second_again)
    }
}

async fn backend(connection: &mut PgConnection) -> Result<i32, CatalogError> {
    let row = connection.fetch_one(sqlx::raw_sql(BACKEND)).await?;
    Ok(row.try_get(0)?)
}

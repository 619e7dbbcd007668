//! Which resources are reached over a connection that nobody should rely on?

use serde::Serialize;

use super::{Catalog, CatalogError};

/// A resource whose server is reached without proof that it is the right one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnverifiedTransport {
    /// The resource.
    pub resource: String,
    /// Its owner.
    pub team: String,
    /// What is wrong with the connection, and what to ask for instead.
    pub because: String,
}

impl Catalog {
    /// Records where a resource's server is and how the connection to it is protected, if either has changed.
    pub async fn note_server(
        &self,
        id: &str,
        server: Option<&str>,
        transport: &str,
    ) -> Result<(), CatalogError> {
        sqlx::query!(
            "update lastgood.resources set server = coalesce($2, server), transport = $3
             where id = $1 and (coalesce($2, server) is distinct from server or $3 is distinct from transport)",
            id,
            server,
            transport
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Returns the resources last reached over an unverified connection, by team and id, and how many there are in all.
    pub async fn unverified_transports(
        &self,
        limit: i64,
    ) -> Result<(Vec<UnverifiedTransport>, i64), CatalogError> {
        let found = sqlx::query_as!(
            UnverifiedTransport,
            r#"select id as resource, team, transport as "because!" from lastgood.resources
               where transport not in ('verified', 'local') and status <> 'removed'
               order by team, id limit $1"#,
            limit
        )
        .fetch_all(self.pool())
        .await?;
        let all = sqlx::query_scalar!(
            r#"select count(*) as "all!" from lastgood.resources
               where transport not in ('verified', 'local') and status <> 'removed'"#
        )
        .fetch_one(self.pool())
        .await?;
        Ok((found, all))
    }
}

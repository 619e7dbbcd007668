//! Which resources are reached as a superuser?

use super::{Catalog, CatalogError};

impl Catalog {
    /// Returns the resources whose newest restore point was made as a superuser, by id, and how many there are in all.
    pub async fn backed_up_as_superuser(
        &self,
        limit: i64,
    ) -> Result<(Vec<String>, i64), CatalogError> {
        let found = sqlx::query_file!("src/catalog/superusers.sql", limit)
            .fetch_all(self.pool())
            .await?;
        let all = found.first().map_or(0, |it| it.of);
        Ok((found.into_iter().map(|it| it.id).collect(), all))
    }
}

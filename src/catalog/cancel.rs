//! Cancelling, by an operator's order, what waits or runs.

use uuid::Uuid;

use super::{Catalog, CatalogError, Mode, Order, Ordered, Refusal, runs::run_not_found};

impl Catalog {
    /// Cancels a run that waits or runs. From this on its worker can neither publish nor finish; it is told to stop, and stops
    /// within seconds.
    pub async fn cancel_run(
        &self,
        id: Uuid,
        order: &Order,
        mode: Mode,
    ) -> Result<Ordered, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let error = format!("cancelled {order}");
        let row = sqlx::query_file!("src/catalog/cancel.sql", id, error)
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or_else(|| run_not_found(id))?;
        let answer = Ordered {
            id,
            kind: row.kind,
            state: if row.is_done { "cancelled" } else { &row.was }.to_owned(),
            refused: (!row.is_done).then(|| Refusal::HasEnded(row.was.clone())),
            was: row.was,
            resource_id: row.resource_id,
        };
        Ok(answer.conclude(transaction, "cancel", order, mode).await?)
    }
}

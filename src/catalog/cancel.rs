//! Cancels queued and running runs on an operator's order.

use lastgood_jobs::attempt::RunId;

use super::{Catalog, CatalogError, Mode, Order, Ordered, Refusal, runs::run_not_found};
use crate::run::RunState;

impl Catalog {
    /// Cancels a queued or running run. From then on its worker can neither
    /// publish nor finish; the worker is notified, and stops within seconds.
    pub async fn cancel_run(
        &self,
        id: RunId,
        order: &Order,
        mode: Mode,
    ) -> Result<Ordered, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let error = format!("cancelled {order}");
        let row = sqlx::query_file!("src/catalog/cancel.sql", id.0, error)
            .fetch_optional(&mut *transaction)
            .await?
            .ok_or_else(|| run_not_found(id))?;
        let answer = Ordered {
            id,
            kind: row.kind,
            state: if row.is_done {
                RunState::Cancelled
            } else {
                row.was
            },
            refused: (!row.is_done).then_some(Refusal::HasEnded(row.was)),
            was: row.was,
            resource_id: row.resource_id,
        };
        Ok(answer.conclude(transaction, "cancel", order, mode).await?)
    }
}

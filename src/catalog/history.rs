//! Removes old history.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::FutureExt as _;
use lastgood_jobs::{attempt::RunId, error::chain};
use uuid::Uuid;

use super::{Catalog, CatalogError, ended, interval, leave_out};

/// Where one batch over the old runs ended, so that the next one continues after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bookmark {
    finished_at: DateTime<Utc>,
    id: RunId,
}

impl Bookmark {
    /// Before the oldest run.
    pub const START: Self = Self {
        finished_at: DateTime::<Utc>::UNIX_EPOCH,
        id: RunId(Uuid::nil()),
    };
}

/// The result of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// How many old runs the batch looked at.
    pub looked_at: i64,
    /// How many of these it removed.
    pub gone: i64,
    /// Where the next batch begins; `None`: no old runs are left.
    pub next: Option<Bookmark>,
}

impl Catalog {
    /// Looks at the next `most` runs that ended more than `history` ago, and removes those that nothing needs, with their attempts.
    pub async fn prune(
        &self,
        history: Duration,
        from: Bookmark,
        most: i64,
    ) -> Result<Pruned, CatalogError> {
        match self.prune_those(history, from, most, None).await {
            Err(error) if error.is_of_a_row() => {}
            pruned => return pruned,
        }
        // Some run cannot be removed, for example because a table of the
        // operator's own refers to it: leave that one out and remove the others.
        let old = sqlx::query!(
            r#"select id, finished_at as "finished_at!" from lastgood.runs
               where finished_at < now() - $1::interval and (finished_at, id) > ($2, $3)
               order by finished_at, id limit $4"#,
            interval(history),
            from.finished_at,
            from.id.0,
            most
        )
        .fetch_all(self.pool())
        .await?;
        let looked_at = i64::try_from(old.len()).unwrap_or(i64::MAX);
        let next = old.last().map(|last| Bookmark {
            finished_at: last.finished_at,
            id: last.id,
        });
        let ids = old.iter().map(|run| run.id).collect();
        let (pruned, left_out) = leave_out(ids, |ids| {
            self.prune_those(history, from, most, Some(ids)).boxed()
        })
        .await?;
        crate::metrics::rows_left_out("prune", left_out.len() as u64);
        for (run, error) in left_out {
            tracing::warn!(run.id = %run, error = chain(&error), "an old run cannot be removed: something refers to it");
        }
        Ok(Pruned {
            looked_at,
            gone: pruned.iter().map(|part| part.gone).sum(),
            next: next.filter(|_| looked_at == most),
        })
    }

    async fn prune_those(
        &self,
        history: Duration,
        from: Bookmark,
        most: i64,
        runs: Option<Vec<RunId>>,
    ) -> Result<Pruned, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let pruned = sqlx::query_file!(
            "src/catalog/prune.sql",
            interval(history),
            from.finished_at,
            from.id.0,
            most,
            runs.as_deref() as Option<&[RunId]>
        )
        .fetch_one(&mut *transaction)
        .await;
        let row = ended(transaction, pruned).await?;
        let last = row.last_finished_at.zip(row.last_id);
        Ok(Pruned {
            looked_at: row.looked_at,
            gone: row.gone,
            next: last
                .filter(|_| row.looked_at == most)
                .map(|(finished_at, id)| Bookmark {
                    finished_at,
                    id: RunId(id),
                }),
        })
    }

    /// Removes the rows of consumers not seen for `unseen_for` that hold no run, and returns how many.
    pub async fn forget_consumers(&self, unseen_for: Duration) -> Result<u64, CatalogError> {
        let gone = sqlx::query!(
            "delete from lastgood.consumers as consumer
             where seen_at < now() - $1::interval
                 and not exists (select from lastgood.runs where state = 'running' and lease_by = consumer.id)",
            interval(unseen_for)
        )
        .execute(self.pool())
        .await?;
        Ok(gone.rows_affected())
    }
}

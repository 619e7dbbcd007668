//! Claims without a worker: what the catalog hands out, and what it notifies of when something is enqueued.

use anyhow::Result;
use lastgood_jobs::attempt::RunId;

use crate::database::TestCatalog;

/// The arguments of one call of `lastgood.claim`.
pub(super) struct Claim {
    pub(super) queue: &'static str,
    pub(super) at_most: i64,
    pub(super) worker: &'static str,
    /// `None` means the share that follows from the live consumers.
    pub(super) team_slots: Option<i32>,
    pub(super) server_slots: i32,
    /// The lowest and the highest priority.
    pub(super) lane: (i16, i16),
}

impl Default for Claim {
    fn default() -> Self {
        Self {
            queue: "postgres",
            at_most: 1000,
            worker: "by hand",
            team_slots: Some(1000),
            server_slots: 1000,
            lane: (i16::MIN, i16::MAX),
        }
    }
}

impl Claim {
    /// Claims and returns the runs.
    pub(super) async fn runs(&self, db: &TestCatalog) -> Result<Vec<RunId>> {
        let ids = sqlx::query_scalar(
            "select id from lastgood.claim($1, $2, $3, interval '1 hour', $4, $5, $6, $7)",
        )
        .bind(self.queue)
        .bind(self.at_most)
        .bind(self.worker)
        .bind(self.team_slots)
        .bind(self.server_slots)
        .bind(self.lane.0)
        .bind(self.lane.1)
        .fetch_all(db.pool())
        .await?;
        Ok(ids)
    }

    /// Claims and returns the kinds and resources of the runs, sorted.
    pub(super) async fn take(&self, db: &TestCatalog) -> Result<Vec<(String, String)>> {
        let taken = sqlx::query_as(
            "select kind, resource_id from lastgood.runs where id = any ($1) order by kind, resource_id",
        )
        .bind(self.runs(db).await?)
        .fetch_all(db.pool())
        .await?;
        Ok(taken)
    }
}

/// Enqueues a run of any kind, as a service or a producer would, and returns its id.
pub(super) async fn ask(
    db: &TestCatalog,
    queue: &str,
    kind: &str,
    resource_id: &str,
) -> Result<RunId> {
    let priority: i16 = match kind {
        "restore" => 100,
        "copy" | "verify" | "expire" => -10,
        _ => 50,
    };
    let id = sqlx::query_scalar(
        "insert into lastgood.runs (queue, kind, trigger, resource_id, priority, args)
         values ($1, $2, case when $4 < 0 then 'upkeep' else 'adhoc' end, $3, $4,
             jsonb_strip_nulls(jsonb_build_object('kind', $2, 'point', case when $2 <> 'backup' then md5($3)::uuid end)))
         returning id",
    )
    .bind(queue)
    .bind(kind)
    .bind(resource_id)
    .bind(priority)
    .fetch_one(db.pool())
    .await?;
    Ok(id)
}

/// Finishes a run that was claimed by hand.
pub(super) async fn succeed(db: &TestCatalog, id: RunId) -> Result<()> {
    let ended = sqlx::query(
        "update lastgood.runs set state = 'succeeded', lease_by = null, lease_until = null, finished_at = now()
         where id = $1 and state = 'running'",
    )
    .bind(id)
    .execute(db.pool())
    .await?;
    anyhow::ensure!(ended.rows_affected() == 1, "the run is not running");
    Ok(())
}

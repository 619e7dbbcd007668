//! Retention against a real catalog: what expires, what never does, what may interfere, and what becomes of it.

mod clocks;
mod custody;
mod letting_go;
mod promises;
mod races;
mod removals;
mod suspects;

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use lastgood::{catalog::NewRun, plan::Plans, producer::retain};
use lastgood_jobs::job::{Job, Restore, RestoreTarget};
use uuid::Uuid;

use crate::database::{TestCatalog, plans};

const GRACE: TimeDelta = TimeDelta::days(7);

fn start() -> Result<DateTime<Utc>> {
    Ok("2031-03-05T12:30:00Z".parse()?)
}

/// A catalog whose clock the test moves, and its plans.
struct House {
    db: TestCatalog,
    plans: Plans,
    now: DateTime<Utc>,
}

impl House {
    /// Creates one with the tiers `pro` (30 days), `hobby` (7 days) and `free` (none), and a resource `shop` on pro.
    async fn build() -> Result<Self> {
        let now = start()?;
        let house = Self {
            db: TestCatalog::with_clock(now).await?,
            plans: plans(&[("pro", 60, 30), ("hobby", 1440, 7), ("free", 0, 0)])?,
            now,
        };
        house.db.add("shop", "acme", "pro").await?;
        house.seen().await?;
        Ok(house)
    }

    /// Makes retention know every resource for as long as the grace period.
    async fn seen(&self) -> Result<()> {
        self.db.set_clock(self.now - GRACE).await?;
        anyhow::ensure!(self.retain().await? == 0, "of what is new nothing expires");
        self.db.set_clock(self.now).await?;
        // A producer was running all the time.
        self.db
            .execute("update lastgood.retention set look_at = now()")
            .await?;
        Ok(())
    }

    async fn advance(&mut self, by: TimeDelta) -> Result<()> {
        self.now += by;
        self.db.set_clock(self.now).await
    }

    /// Records a point of `shop` of this age.
    async fn point(&self, age: TimeDelta) -> Result<Uuid> {
        self.point_of("shop", age).await
    }

    async fn point_of(&self, resource: &str, age: TimeDelta) -> Result<Uuid> {
        let id = Uuid::new_v4();
        sqlx::query(
            "insert into lastgood.restore_points
                 (id, resource_id, consistent_at, created_at, manifest_key, manifest, dump_bytes, stored_bytes)
             values ($1, $2, $3, $3, 'v1/' || $1::text, jsonb_build_object('archive', jsonb_build_object('key', 'v1/a')), 1, 1)",
        )
        .bind(id)
        .bind(resource)
        .bind(self.now - age)
        .execute(self.db.pool())
        .await?;
        Ok(id)
    }

    /// Records points of these ages in days, in this order.
    async fn points<const N: usize>(&self, days: [i64; N]) -> Result<[Uuid; N]> {
        let mut ids = [Uuid::nil(); N];
        for (id, days) in ids.iter_mut().zip(days) {
            *id = self.point(TimeDelta::days(days)).await?;
        }
        Ok(ids)
    }

    /// Makes every resource due for retention, and runs it.
    async fn retain(&self) -> Result<u64> {
        self.db
            .execute("update lastgood.retention set look_at = now()")
            .await?;
        self.look().await
    }

    /// Runs retention for the resources that are due.
    async fn look(&self) -> Result<u64> {
        let here = self.db.catalog.now().await?;
        Ok(retain(&self.db.catalog, &self.plans, GRACE, || here).await?)
    }

    /// Returns the expired points and why they expired, ordered by id.
    async fn gone(&self) -> Result<Vec<(Uuid, String)>> {
        let rows = sqlx::query_as(
            "select id, expired_because from lastgood.restore_points where expired_at is not null order by id",
        )
        .fetch_all(self.db.pool())
        .await?;
        Ok(rows)
    }

    async fn gone_ids(&self) -> Result<Vec<Uuid>> {
        Ok(self.gone().await?.into_iter().map(|(id, _)| id).collect())
    }

    /// Runs a statement about one point.
    async fn set(&self, statement: &'static str, point: Uuid) -> Result<()> {
        sqlx::query(statement)
            .bind(point)
            .execute(self.db.pool())
            .await?;
        Ok(())
    }
}

fn sorted<const N: usize>(mut ids: [Uuid; N]) -> Vec<Uuid> {
    ids.sort();
    ids.to_vec()
}

fn restore(point: Uuid) -> Job {
    Job::Restore(Restore {
        point,
        target: RestoreTarget::Swap {},
        no_owner: false,
        no_acl: false,
        as_superuser: false,
        no_tablespaces: false,
        break_replication: false,
        of_owner: false,
    })
}

fn asked<'a>(job: &'a Job, key: Option<&'a str>) -> NewRun<'a> {
    NewRun {
        resource_id: "shop",
        queue: "postgres",
        job,
        idempotency_key: key,
        asked: None,
    }
}

//! A producer in simulated time: the repository's own statements, and a clock that the test moves.

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use lastgood::{
    plan::Plans,
    producer::{Ticked, tick},
};
use serde_json::json;
use sqlx::{Row as _, postgres::types::PgInterval};
use uuid::Uuid;

use crate::database::TestCatalog;

/// A catalog, its plans, and a clock that the test moves.
pub(crate) struct Simulation {
    pub(crate) db: TestCatalog,
    pub(crate) plans: Plans,
    pub(crate) now: DateTime<Utc>,
}

impl Simulation {
    pub(crate) async fn begin(at: &str, plans: Plans) -> Result<Self> {
        let now = at.parse()?;
        let db = TestCatalog::with_clock(now).await?;
        Ok(Self { db, plans, now })
    }

    pub(crate) async fn advance(&mut self, by: TimeDelta) -> Result<()> {
        self.now += by;
        self.db.set_clock(self.now).await
    }

    pub(crate) async fn tick(&self) -> Result<Ticked> {
        Ok(tick(&self.db.catalog, &self.plans, self.now).await?)
    }

    /// Claims everything that can be claimed, with the queue's own statement.
    pub(crate) async fn claim(&self) -> Result<Vec<Claim>> {
        let rows = sqlx::query(include_str!("../../src/queue/claim.sql"))
            .bind(vec!["postgres"])
            .bind(vec![1000_i64])
            .bind(vec![i16::MIN])
            .bind(vec![i16::MAX])
            .bind("simulated-worker")
            .bind(PgInterval {
                months: 0,
                days: 0,
                microseconds: 30_000_000,
            })
            .bind(None::<i32>)
            .bind(2_i32)
            .bind(Vec::<Uuid>::new())
            .fetch_all(self.db.pool())
            .await?;
        rows.iter()
            .map(|row| {
                Ok(Claim {
                    id: row.try_get("id!")?,
                    epoch: row.try_get("epoch!")?,
                    attempt_id: row.try_get("attempt_id!")?,
                })
            })
            .collect()
    }

    /// Finishes a run successfully with a restore point consistent to `consistent_at`, using the queue's own statement.
    pub(crate) async fn succeed(&self, claim: &Claim, consistent_at: DateTime<Utc>) -> Result<()> {
        let finished: Vec<Uuid> =
            sqlx::query_scalar(include_str!("../../src/queue/finish_succeeded.sql"))
                .bind(vec![claim.id])
                .bind(vec![claim.epoch])
                .bind(vec![claim.attempt_id])
                .bind(vec![None::<serde_json::Value>])
                .bind(vec![consistent_at])
                .bind(vec![format!("manifests/{}.json", claim.id)])
                .bind(vec![json!({})])
                .bind(vec![1000_i64])
                .bind(vec![100_i64])
                .bind(vec![1000_i64])
                .bind(vec![100_i64])
                .bind(lastgood::stores::PRIMARY)
                .fetch_all(self.db.pool())
                .await?;
        anyhow::ensure!(finished == [claim.attempt_id], "the finish was refused");
        Ok(())
    }

    /// Fails a run for good, using the queue's own statement.
    pub(crate) async fn fail(&self, claim: &Claim) -> Result<()> {
        let state: String = sqlx::query_scalar(include_str!("../../src/queue/finish_failed.sql"))
            .bind(claim.id)
            .bind(claim.epoch)
            .bind("dump")
            .bind("the dump was cut short")
            .bind(true)
            .bind(None::<String>)
            .bind(0_i64)
            .bind(0_i64)
            .bind(claim.attempt_id)
            .fetch_one(self.db.pool())
            .await?;
        anyhow::ensure!(state == "failed", "the run is {state}");
        Ok(())
    }

    /// Claims everything that can be claimed and finishes it successfully.
    pub(crate) async fn succeed_all(&self) -> Result<usize> {
        let claims = self.claim().await?;
        for claim in &claims {
            self.succeed(claim, self.now).await?;
        }
        Ok(claims.len())
    }

    /// Ticks and backs up at once, every `step`, until `length` has passed.
    pub(crate) async fn live(&mut self, length: TimeDelta, step: TimeDelta) -> Result<()> {
        let end = self.now + length;
        while self.now < end {
            self.advance(step).await?;
            if self.tick().await?.enqueued > 0 {
                self.succeed_all().await?;
            }
        }
        Ok(())
    }

    /// Returns the present slot of a resource.
    pub(crate) async fn slot(&self, resource: &str) -> Result<DateTime<Utc>> {
        let slot = sqlx::query_scalar(
            "select lastgood.slot_start(cadence_minutes, spread, team_spread, $2) from lastgood.resources where id = $1",
        )
        .bind(resource)
        .bind(self.now)
        .fetch_one(self.db.pool())
        .await?;
        Ok(slot)
    }

    /// Moves the clock to the next turn of a resource that a tick has planned.
    pub(crate) async fn advance_to_turn(&mut self, resource: &str) -> Result<()> {
        let turn: DateTime<Utc> = sqlx::query_scalar(
            "select lastgood.next_due(cadence_minutes, spread, team_spread, $2, true) from lastgood.resources where id = $1",
        )
        .bind(resource)
        .bind(self.now)
        .fetch_one(self.db.pool())
        .await?;
        self.advance(turn - self.now).await
    }

    /// Returns the slots of a resource's scheduled runs in `state`, in order.
    pub(crate) async fn slots(&self, resource: &str, state: &str) -> Result<Vec<DateTime<Utc>>> {
        let slots = sqlx::query_scalar(
            "select slot from lastgood.runs where resource_id = $1 and state = $2 and trigger = 'scheduled' order by slot",
        )
        .bind(resource)
        .bind(state)
        .fetch_all(self.db.pool())
        .await?;
        Ok(slots)
    }

    /// Returns the instants to which a resource can be restored, in order.
    pub(crate) async fn points(&self, resource: &str) -> Result<Vec<DateTime<Utc>>> {
        let points = sqlx::query_scalar(
            "select consistent_at from lastgood.restore_points where resource_id = $1 order by 1",
        )
        .bind(resource)
        .fetch_all(self.db.pool())
        .await?;
        Ok(points)
    }
}

pub(crate) struct Claim {
    id: Uuid,
    epoch: i64,
    attempt_id: Uuid,
}

impl Claim {
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }
}

pub(crate) fn ticked(looked_at: i64, enqueued: i64, coalesced: i64) -> Ticked {
    Ticked {
        looked_at,
        enqueued,
        coalesced,
        left_out: Vec::new(),
    }
}

pub(crate) fn minutes(minutes: i64) -> TimeDelta {
    TimeDelta::minutes(minutes)
}

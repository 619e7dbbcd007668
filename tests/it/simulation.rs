//! A producer and a queue in simulated time: the product's own statements, and a clock that the test moves.

use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};
use lastgood::{
    plan::Plans,
    producer::{Ticked, tick},
    queue::{Claimed, Failure, Lane, Ledger, Outcome},
    run::RunState,
};
use lastgood_jobs::{attempt::AttemptId, error::ErrorKind};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{database::TestCatalog, queue::restore_point_of};

const AT_ONCE: usize = 1000;

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

    fn ledger(&self) -> Ledger {
        Ledger::new(
            self.db.pool().clone(),
            "simulated-worker",
            Duration::from_secs(30),
        )
    }

    /// Claims everything that can be claimed.
    pub(crate) async fn claim(&self) -> Result<Vec<Claimed>> {
        let ledger = self.ledger();
        let attempts: Vec<_> = (0..AT_ONCE).map(|_| AttemptId(Uuid::new_v4())).collect();
        let lanes = [("postgres", AT_ONCE, Lane::Whole)];
        let mut connection = ledger.connection().await?;
        Ok(ledger.claim(&mut connection, &lanes, &attempts).await?)
    }

    /// Finishes a run successfully with a restore point consistent to `consistent_at`.
    pub(crate) async fn succeed(
        &self,
        claim: &Claimed,
        consistent_at: DateTime<Utc>,
    ) -> Result<()> {
        let point = restore_point_of(claim.as_attempt(), &claim.resource_id, consistent_at)?;
        self.ends(claim, Ok(point), RunState::Succeeded).await
    }

    /// Fails a run for good.
    pub(crate) async fn fail(&self, claim: &Claimed) -> Result<()> {
        let failure = Failure::permanent(ErrorKind::Dump, "the dump was cut short");
        self.ends(claim, Err(failure), RunState::Failed).await
    }

    async fn ends(
        &self,
        claim: &Claimed,
        outcome: Result<Outcome, Failure>,
        expected: RunState,
    ) -> Result<()> {
        let (ledger, never) = (self.ledger(), CancellationToken::new());
        let state = ledger.finish(claim.as_attempt(), &outcome, (1000, 100), &never);
        let state = state.await.context("the end was refused")?;
        anyhow::ensure!(state == expected, "the run is {state}");
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

//! A fence must not repeat. A catalog that has lost commits issues an epoch again, but draws a new attempt id.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::{Context as _, Result};
use lastgood::catalog::{Mode, Order};
use lastgood_jobs::{
    attempt::{AttemptId, Epoch, RunId},
    worker::Lease as _,
};
use rstest::rstest;
use tokio::sync::mpsc;

use super::{
    claims_by_hand::ask,
    workers::{Gate, Settings, Workers, becomes, enqueue, epoch, restore_point, with_a_shop},
};
use crate::{
    database::TestCatalog,
    eventually::{SOON, within},
};

/// Puts the catalog back to before the claim, like a standby that was promoted too early.
async fn lose_the_claim(db: &TestCatalog, id: RunId) -> Result<()> {
    let lost = sqlx::query(
        "update lastgood.runs
         set state = 'queued', attempt = attempt - 1, epoch = epoch - 1, attempt_id = null, lease_by = null, lease_until = null,
             started_at = null
         where id = $1 and state = 'running'",
    )
    .bind(id)
    .execute(db.pool())
    .await?;
    anyhow::ensure!(lost.rows_affected() == 1, "the run is not running");
    Ok(())
}

/// Two attempts of one run, both with epoch 1. The catalog has forgotten the first, which continues when the test lets it.
struct Doubled {
    db: TestCatalog,
    id: RunId,
    workers: Workers,
    /// The attempts' ids, in the order of their claims.
    attempts: Vec<AttemptId>,
    /// One gate for each attempt.
    gates: [Gate; 2],
    /// Whether the lease was alive when each attempt continued.
    told: mpsc::UnboundedReceiver<(AttemptId, bool)>,
    ended: usize,
}

impl Doubled {
    async fn begin() -> Result<Self> {
        let db = with_a_shop().await?;
        let gates = [Gate::closed(), Gate::closed()];
        let (begun, mut begins) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::unbounded_channel();
        let (g, count) = (gates.clone(), Arc::new(AtomicUsize::new(0)));
        let workers = Workers::start(&db.catalog, &Settings::default(), move |run| {
            let (begun, tell) = (begun.clone(), tell.clone());
            let gate = g.get(count.fetch_add(1, Ordering::SeqCst)).cloned();
            async move {
                // The attempt must not be stopped early: the test is about what its end does.
                assert!(run.progress.may_commit());
                begun.send(run.attempt_id)?;
                gate.context("a third attempt")?.pass().await;
                tell.send((run.attempt_id, run.lease.is_alive().await))?;
                Ok(restore_point(&run)?)
            }
        });
        let id = enqueue(&db, "shop").await?;
        let first = within(SOON, "the first attempt begins", begins.recv()).await?;
        lose_the_claim(&db, id).await?;
        let second = within(SOON, "the second attempt begins", begins.recv()).await?;
        assert_eq!(epoch(&db, id).await?, 1, "the epoch has repeated");
        let attempts = [first, second].into_iter().flatten().collect();
        Ok(Self {
            db,
            id,
            workers,
            attempts,
            gates,
            told,
            ended: 0,
        })
    }

    /// Lets an attempt continue, and returns whether its lease was reported as alive.
    async fn goes_on(&mut self, attempt: usize) -> Result<bool> {
        self.gates.get(attempt).context("no such attempt")?.open();
        let told = within(SOON, "the attempt goes on", self.told.recv()).await?;
        let (by, alive) = told.context("nobody tells")?;
        assert_eq!(Some(&by), self.attempts.get(attempt));
        Ok(alive)
    }

    /// Returns which attempt made the run's point, according to the catalog.
    async fn made_by(&self) -> Result<Option<String>> {
        let by = sqlx::query_scalar(
            "select manifest ->> 'attempt_id' from lastgood.restore_points where id = $1",
        )
        .bind(self.id)
        .fetch_optional(self.db.pool())
        .await?;
        Ok(by)
    }
}

#[rstest]
#[case::the_lost_one_first([0, 1])]
#[case::the_lost_one_last([1, 0])]
#[tokio::test(flavor = "multi_thread")]
async fn of_two_attempts_of_one_epoch_the_one_that_the_catalog_knows_finishes(
    #[case] order: [usize; 2],
) -> Result<()> {
    let mut run = Doubled::begin().await?;
    for attempt in order {
        assert_eq!(run.goes_on(attempt).await?, attempt == 1, "{attempt}");
        run.workers.executes(order.len() - 1 - run.ended).await?;
        run.ended += 1;
    }
    becomes(&run.db, run.id, "succeeded").await?;
    assert_eq!(
        run.made_by().await?,
        run.attempts.get(1).map(|it| it.0.to_string())
    );
    // Both have the same epoch, and both are on record.
    let attempts = run.db.catalog.attempts(run.id).await?;
    let attempts: Vec<_> = attempts
        .iter()
        .map(|it| (it.epoch, it.result.as_str()))
        .collect();
    assert_eq!(
        attempts,
        [(Epoch(1), "given_back"), (Epoch(1), "succeeded")]
    );
    run.workers.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_order_ended_of_one_attempt_is_not_recorded_of_another_of_its_epoch() -> Result<()>
{
    let mut run = Doubled::begin().await?;
    let order = Order::new("olga", None);
    run.db
        .catalog
        .cancel_run(run.id, &order, Mode::Real)
        .await?;
    assert!(!run.goes_on(0).await?);
    run.workers.executes(1).await?;
    assert_eq!(
        run.made_by().await?,
        None,
        "the lost attempt was not cancelled"
    );
    assert!(!run.goes_on(1).await?);
    run.workers.idle().await?;
    assert_eq!(
        run.made_by().await?,
        run.attempts.get(1).map(|it| it.0.to_string())
    );
    run.workers.stop().await?;
    Ok(())
}

/// What a crash of the catalog's server forgets is claimed a second time. For some seconds, two workers then execute it.
#[rstest]
#[case::a_backup(&["backup"], "off")]
#[case::a_restore_among_them(&["backup", "restore"], "on")]
#[case::a_verification_that_a_removal_must_see(&["verify", "backup"], "on")]
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_waited_for_until_it_is_on_disk_unless_it_is_of_backups_alone(
    #[case] kinds: &[&str],
    #[case] waits: &str,
) -> Result<()> {
    let db = with_a_shop().await?;
    for kind in kinds {
        ask(&db, "postgres", kind, "shop").await?;
    }
    let mut transaction = db.pool().begin().await?;
    sqlx::query("set local synchronous_commit = on")
        .execute(&mut *transaction)
        .await?;
    let claimed: i64 = sqlx::query_scalar(
        "select count(*) from lastgood.claim_all(
             '{postgres,postgres}', '{5,5}', '{0,-100}', '{100,-1}', 'by hand', interval '1 hour', 1000, 1000, '{}'
         )",
    )
    .fetch_one(&mut *transaction)
    .await?;
    assert_eq!(usize::try_from(claimed)?, kinds.len());
    let commit: String = sqlx::query_scalar("show synchronous_commit")
        .fetch_one(&mut *transaction)
        .await?;
    assert_eq!(commit, waits);
    Ok(())
}

//! What a drill has found is noted in its fenced finish, and stays noted whatever comes after it.

use anyhow::{Context as _, Result, ensure};
use lastgood::{
    plan::Plans,
    producer::ask_for_drills,
    proof::{Because, NewProof, ProofKind, ProofOutcome, Verdict},
    queue::Outcome,
};
use lastgood_jobs::{attempt::RunId, job::Job};
use serde_json::json;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{
    proofs::point,
    workers::{Settings, Workers, becomes, report, with_a_shop},
};
use crate::database::TestCatalog;

const PLANS: &str = "version: 1\ntiers:\n  pro: {rpo_minutes: 60, backup_retention_days: 30, drill_within_days: 7}\n";

/// Starts workers of one consumer that end each drill with this verdict.
fn finding(db: &TestCatalog, worker: &'static str, verdict: &Verdict) -> Workers {
    let settings = Settings {
        name: worker,
        ..Settings::default()
    };
    let verdict = verdict.clone();
    Workers::start(&db.catalog, &settings, move |run| {
        let verdict = verdict.clone();
        async move {
            let Job::Drill(job) = &run.args else {
                return Ok(report());
            };
            Ok(Outcome::Unproven {
                report: json!({ "drill": verdict.outcome().as_str() }),
                proof: NewProof::new(ProofKind::Drill, job.point, verdict).into(),
            })
        }
    })
}

fn differs() -> Verdict {
    Verdict::Differs(Because::new("differs", "rows are missing"))
}

/// Lets one consumer drill the point.
async fn drilled_by(
    db: &TestCatalog,
    point: Uuid,
    worker: &'static str,
    verdict: &Verdict,
) -> Result<()> {
    let run = db.catalog.ask_for_drill(point).await?.run;
    let workers = finding(db, worker, verdict);
    becomes(db, run, "succeeded").await?;
    workers.stop().await
}

async fn outcome(db: &TestCatalog) -> Result<Option<ProofOutcome>> {
    Ok(db.catalog.resource("shop").await?.drill_outcome)
}

/// Removes the drills that wait.
async fn none_waits(db: &TestCatalog) -> Result<()> {
    db.execute("delete from lastgood.runs where kind = 'drill' and state = 'queued'")
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_consumer_could_not_drill_does_not_silence_what_another_found() -> Result<()> {
    let db = with_a_shop().await?;
    let point = point(&db, 5, None).await?;
    drilled_by(&db, point, "one", &differs()).await?;
    ensure!(outcome(&db).await? == Some(ProofOutcome::Differs));
    none_waits(&db).await?;
    let cannot = Verdict::NotPossible(Because::new("no_server", "there is no server"));
    drilled_by(&db, point, "two", &cannot).await?;
    let shop = db.catalog.resource("shop").await?;
    ensure!(
        shop.drill_outcome == Some(ProofOutcome::Differs),
        "{shop:?}"
    );
    ensure!(
        shop.drill_because.as_deref() == Some("rows are missing"),
        "{shop:?}"
    );
    // And a third that agrees with the first still condemns it.
    none_waits(&db).await?;
    drilled_by(&db, point, "three", &differs()).await?;
    let point = db.catalog.point(point).await?;
    ensure!(point.quarantined_at.is_some(), "{point:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_consumer_twice_condemns_nothing() -> Result<()> {
    let db = with_a_shop().await?;
    let id = point(&db, 5, None).await?;
    for _ in 0..2 {
        none_waits(&db).await?;
        drilled_by(&db, id, "one", &differs()).await?;
    }
    ensure!(db.catalog.point(id).await?.quarantined_at.is_none());
    Ok(())
}

/// A ledger that somebody broke must not hide a restore point that does not come back.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_is_noted_where_the_ledger_refuses_its_proof() -> Result<()> {
    let db = with_a_shop().await?;
    let point = point(&db, 5, None).await?;
    db.execute("alter table lastgood.proofs add constraint refused check (number < 0)")
        .await?;
    drilled_by(&db, point, "one", &differs()).await?;
    ensure!(outcome(&db).await? == Some(ProofOutcome::Differs));
    let waits = "select count(*) from lastgood.runs where kind = 'drill' and state = 'queued'";
    ensure!(db.count(waits).await? == 1, "no second drill was asked for");
    Ok(())
}

/// Returns the drill that the upkeep asks for now.
async fn asked(db: &TestCatalog) -> Result<Option<RunId>> {
    ask_for_drills(&db.catalog, &Plans::parse(PLANS)?).await?;
    let waits = "select id from lastgood.runs where kind = 'drill' and state = 'queued'";
    let run: Option<Uuid> = sqlx::query_scalar(waits).fetch_optional(db.pool()).await?;
    Ok(run.map(RunId))
}

/// Where one consumer alone runs drills, it skips the second one of a point. Others must get their turn meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_was_skipped_is_not_asked_for_again_at_once() -> Result<()> {
    let db = with_a_shop().await?;
    let point = point(&db, 5, None).await?;
    db.execute(
        "insert into lastgood.consumers (id, host, pid, version, queues, slots, capabilities)
         values ('one', 'h', 1, '0', '{postgres}', 1, '[{\"engine\": \"postgres\", \"operations\": [\"drill\"]}]')",
    )
    .await?;
    drilled_by(&db, point, "one", &differs()).await?;
    none_waits(&db).await?;
    ensure!(asked(&db).await?.is_none(), "asked for again at once");
    let hours_later = |column: &str, table: &str| {
        format!(
            "update lastgood.{table} set {column} = {column} - interval '7 hours' where {column} is not null"
        )
    };
    for (column, table) in [("drill_tried_at", "resources"), ("finished_at", "runs")] {
        sqlx::query(AssertSqlSafe(hours_later(column, table)))
            .execute(db.pool())
            .await?;
    }
    let run = asked(&db).await?.context("not asked for after hours")?;
    sqlx::query(
        "update lastgood.runs set state = 'succeeded', finished_at = now(), result = '{\"skipped\": \"no other\"}' where id = $1",
    )
    .bind(run.0)
    .execute(db.pool())
    .await?;
    ensure!(
        asked(&db).await?.is_none(),
        "the skipped one was asked for again"
    );
    Ok(())
}

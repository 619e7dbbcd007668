//! A finish that shows something about a restore point enters it into the ledger once, in its own transaction.

use anyhow::{Context as _, Result, ensure};
use lastgood::{
    catalog::ProofFilter,
    nouns::Proof,
    proof::{Because, NewProof, ProofKind, ProofOutcome, Verdict},
    queue::{Condemned, Failure, Outcome},
};
use lastgood_jobs::{error::ErrorKind, job::Job};
use rstest::rstest;
use serde_json::json;
use uuid::Uuid;

use super::{
    proofs::{key, point, readers, verify},
    workers::{Gate, Settings, Witness, Workers, becomes, report, with_a_shop},
};
use crate::{database::TestCatalog, proof_ledger::is_intact};

async fn ledger(db: &TestCatalog) -> Result<Vec<Proof>> {
    let filter = ProofFilter {
        limit: 1000,
        ..ProofFilter::default()
    };
    Ok(db.catalog.recorded_proofs(&filter).await?)
}

/// Starts workers that end each verification as `end` says of its point.
fn ending<F>(db: &TestCatalog, end: F) -> Workers
where
    F: Fn(Uuid) -> Result<Outcome, Failure> + Send + Sync + Clone + 'static,
{
    Workers::start(&db.catalog, &Settings::default(), move |run| {
        let end = end.clone();
        async move {
            let Job::Verify(job) = &run.args else {
                return Ok(report());
            };
            Ok(end(job.point)?)
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_that_finds_nothing_wrong_is_recorded_with_what_the_catalog_knows()
-> Result<()> {
    let db = with_a_shop().await?;
    let point = point(&db, 5, None).await?;
    sqlx::query(
        "update lastgood.restore_points set manifest = $1, stored_bytes = 77, dump_bytes = 99",
    )
    .bind(json!({ "archive": { "blake3": "ab".repeat(32) } }))
    .execute(db.pool())
    .await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    gate.open();
    let workers = readers(&db, &witness, &gate);
    let run = verify(&db, point).await?;
    becomes(&db, run, "succeeded").await?;
    workers.stop().await?;
    let proofs = ledger(&db).await?;
    let proof = proofs.first().context("nothing was recorded")?;
    let recorded = db.catalog.point(point).await?;
    assert_eq!(proofs.len(), 1);
    assert_eq!(
        (proof.kind, proof.outcome, proof.because.as_deref()),
        (ProofKind::Verification, ProofOutcome::Proven, None)
    );
    assert_eq!(
        (
            &*proof.resource,
            &*proof.team,
            &*proof.tier,
            &*proof.engine,
            &*proof.consumer
        ),
        ("shop", "acme", "pro", "postgres", "worker")
    );
    assert_eq!((proof.run, proof.point), (run.0, point));
    assert_eq!(proof.consistent_at, Some(recorded.consistent_at));
    assert_eq!(proof.archive_blake3, Some("ab".repeat(32)));
    assert_eq!(
        (proof.archive_bytes, proof.dump_bytes),
        (Some(77), Some(99))
    );
    assert_eq!(proof.seconds, json!({ "read": 1.5 }));
    assert_eq!(
        proof.compared,
        json!({ "read": "whole", "stores": ["here"] })
    );
    is_intact(&db, 1).await
}

#[rstest]
#[case::damaged("damaged", ProofOutcome::Failed)]
#[case::shredded("key_shredded", ProofOutcome::NotPossible)]
#[tokio::test(flavor = "multi_thread")]
async fn what_condemns_a_point_is_recorded_with_the_reason(
    #[case] word: &'static str,
    #[case] outcome: ProofOutcome,
) -> Result<()> {
    let db = with_a_shop().await?;
    let point = point(&db, 5, None).await?;
    let workers = ending(&db, move |point| {
        let because = Because::new(word, "a byte\0 changed");
        let (condemned, verdict) = if word == "damaged" {
            (Condemned::Damaged(point), Verdict::Failed(because))
        } else {
            (Condemned::Shredded(point), Verdict::NotPossible(because))
        };
        Err(Failure {
            condemned: Some(condemned),
            proof: Some(NewProof::new(ProofKind::Verification, point, verdict).into()),
            ..Failure::permanent(ErrorKind::Corrupt, "a byte changed")
        })
    });
    let run = verify(&db, point).await?;
    becomes(&db, run, "failed").await?;
    workers.stop().await?;
    let proofs = ledger(&db).await?;
    let proof = proofs.first().context("nothing was recorded")?;
    assert_eq!(proof.outcome, outcome);
    assert_eq!(proof.because_kind.as_deref(), Some(word));
    assert_eq!(proof.because.as_deref(), Some("a byte\u{fffd} changed"));
    is_intact(&db, 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_its_key_was_shredded_proves_nothing() -> Result<()> {
    let db = with_a_shop().await?;
    let (id, _) = key(&db).await?;
    let point = point(&db, 5, Some(id)).await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    let workers = readers(&db, &witness, &gate);
    let run = verify(&db, point).await?;
    witness.have_begun(1).await?;
    db.catalog.shred_keys("acme").await?;
    gate.open();
    becomes(&db, run, "succeeded").await?;
    workers.stop().await?;
    is_intact(&db, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn that_an_expired_point_cannot_be_read_is_no_finding() -> Result<()> {
    let db = with_a_shop().await?;
    let point = point(&db, 5, None).await?;
    sqlx::query(
        "update lastgood.restore_points set expired_at = now(), expired_because = 'it is old'",
    )
    .execute(db.pool())
    .await?;
    let workers = ending(&db, |point| {
        let verdict = Verdict::Failed(Because::new("damaged", "it is gone"));
        Err(Failure {
            proof: Some(NewProof::new(ProofKind::Verification, point, verdict).into()),
            ..Failure::permanent(ErrorKind::Corrupt, "it is gone")
        })
    });
    let run = verify(&db, point).await?;
    becomes(&db, run, "failed").await?;
    workers.stop().await?;
    is_intact(&db, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn finishes_of_many_consumers_at_once_make_one_chain_without_gaps() -> Result<()> {
    const POINTS: usize = 60;
    let db = with_a_shop().await?;
    let (witness, gate) = (Witness::default(), Gate::closed());
    let others = [
        db.another().await?,
        db.another().await?,
        db.another().await?,
    ];
    let workers: Vec<_> = others
        .iter()
        .map(|catalog| {
            let (gate, witness) = (gate.clone(), witness.clone());
            let settings = Settings {
                slots: 8,
                ..Settings::default()
            };
            Workers::start(catalog, &settings, move |run| {
                let (gate, begun) = (gate.clone(), witness.begin(&run));
                async move {
                    gate.pass().await;
                    begun.complete();
                    let Job::Verify(job) = &run.args else {
                        return Ok(report());
                    };
                    Ok(Outcome::Proof {
                        point: job.point,
                        stores: vec!["here".to_owned()],
                        report: json!({}),
                        proof: super::proofs::proven(job.point),
                    })
                }
            })
        })
        .collect();
    let mut runs = Vec::new();
    for minutes in 0..POINTS {
        let point = point(&db, i32::try_from(minutes)?, None).await?;
        runs.push(verify(&db, point).await?);
    }
    gate.open();
    for run in &runs {
        becomes(&db, *run, "succeeded").await?;
    }
    for workers in workers {
        workers.stop().await?;
    }
    is_intact(&db, i64::try_from(POINTS)?).await?;
    let each = "select count(distinct run_id) from lastgood.proofs";
    ensure!(db.count(each).await? == i64::try_from(POINTS)?);
    Ok(())
}

/// Whoever broke the ledger must not turn a database that was restored into a failure.
#[rstest]
#[case::refused("alter table lastgood.proofs add constraint nothing check (false) not valid")]
#[case::headless(
    "alter table lastgood.proof_chain disable trigger all; delete from lastgood.proof_chain"
)]
#[case::gone("drop function lastgood.record_proof")]
#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_takes_nothing_changes_no_runs_outcome(
    #[case] breakage: &'static str,
    #[values(true, false)] is_whole: bool,
) -> Result<()> {
    let db = with_a_shop().await?;
    let point = point(&db, 5, None).await?;
    sqlx::raw_sql(breakage).execute(db.pool()).await?;
    let workers = ending(&db, move |point| {
        let proof = super::proofs::proven(point);
        if is_whole {
            Ok(Outcome::Proof {
                point,
                stores: vec!["here".to_owned()],
                report: json!({}),
                proof,
            })
        } else {
            Err(Failure {
                condemned: Some(Condemned::Damaged(point)),
                proof: Some(proof),
                ..Failure::permanent(ErrorKind::Corrupt, "a byte changed")
            })
        }
    });
    let run = verify(&db, point).await?;
    let ended = becomes(&db, run, if is_whole { "succeeded" } else { "failed" }).await?;
    workers.stop().await?;
    let shown = db.catalog.point(point).await?;
    ensure!(shown.verified_at.is_some() == is_whole, "{ended:?}");
    ensure!(shown.quarantined_at.is_none() == is_whole, "{ended:?}");
    ensure!(ledger(&db).await?.is_empty());
    Ok(())
}

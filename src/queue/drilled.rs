//! Records what a drill has found, in the transaction of its fenced finish.

use lastgood_jobs::attempt::Attempt;
use sqlx::PgConnection;

use super::{Condemned, proof::condemn};
use crate::proof::{NewProof, ProofKind, ProofOutcome};

/// Notes a drill's outcome beside its point and its resource. A point that is found wanting is drilled once more, and quarantined when
/// another consumer agrees. Of a real restore, notes how long it took. Does nothing for verifications.
pub(super) async fn note(
    connection: &mut PgConnection,
    attempt: Attempt,
    worker: &str,
    proof: &NewProof,
) -> sqlx::Result<()> {
    match proof.kind {
        ProofKind::Drill => {}
        ProofKind::Restore => return measure(connection, proof).await,
        ProofKind::Verification => return Ok(()),
    }
    let outcome = proof.verdict.outcome();
    let because = proof.verdict.because().map(|it| it.sentence.as_str());
    let seconds = proof
        .took
        .get("restore")
        .map(std::time::Duration::as_secs_f64);
    let noted = sqlx::query_file!(
        "src/queue/note_drill.sql",
        proof.point,
        outcome.as_str(),
        because,
        seconds,
        worker
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(noted) = noted else {
        return Ok(());
    };
    match outcome {
        ProofOutcome::Proven | ProofOutcome::NotPossible => Ok(()),
        ProofOutcome::Differs | ProofOutcome::Failed if noted.another_agrees => {
            let because = format!(
                "drills on two consumers found it wanting: {}",
                because.unwrap_or_default()
            );
            let condemned = Condemned::Damaged(proof.point);
            condemn(connection, condemned, attempt.run, &because).await
        }
        ProofOutcome::Differs | ProofOutcome::Failed => {
            sqlx::query_file!("src/queue/ask_for_second_drill.sql", proof.point)
                .execute(connection)
                .await?;
            Ok(())
        }
    }
}

/// Notes how long a real restore took.
async fn measure(connection: &mut PgConnection, proof: &NewProof) -> sqlx::Result<()> {
    let seconds = proof
        .took
        .get("restore")
        .map(std::time::Duration::as_secs_f64);
    sqlx::query!(
        "update lastgood.resources as r set restore_seconds = $2, restore_measured_at = clock_timestamp()
         from lastgood.restore_points as point where point.id = $1 and r.id = point.resource_id",
        proof.point,
        seconds
    )
    .execute(connection)
    .await?;
    Ok(())
}

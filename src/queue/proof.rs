//! Records what a run learned about a restore point, in the transaction of its fenced finish.

use lastgood_jobs::attempt::{Attempt, RunId};
use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Condemned, Lacking};
use crate::{
    catalog::{Audit, record},
    proof::{NewProof, ProofKind},
};

/// Records that a restore point was read to its last byte in these stores and is intact. A quarantined one becomes usable again: its bytes
/// match its manifest, whatever was wrong before. One that a drill found wanting stays quarantined until a drill proves it.
///
/// Returns `false` if that proves nothing any more: the point is gone, or its key was shredded meanwhile.
pub(super) async fn acquit(
    connection: &mut PgConnection,
    point: Uuid,
    stores: &[String],
    by: ProofKind,
) -> sqlx::Result<bool> {
    let is_drill = match by {
        ProofKind::Drill => true,
        ProofKind::Verification | ProofKind::Restore => false,
    };
    let acquitted = sqlx::query_file!("src/queue/acquit.sql", point, stores, is_drill)
        .fetch_optional(&mut *connection)
        .await?;
    let is_proven = acquitted.is_some();
    let Some(was) = acquitted.filter(|was| was.quarantined_because.is_some()) else {
        return Ok(is_proven);
    };
    let entry = Audit {
        action: "acquit",
        resource_id: Some(&was.resource_id),
        point_id: Some(point),
        detail: json!({ "was": was.quarantined_because }),
    };
    record(connection, &entry).await?;
    Ok(true)
}

/// Quarantines a restore point that can never be read again, and asks for a backup if damage has taken the resource's newest trusted one.
/// Idempotent: a second finding changes nothing.
pub(super) async fn condemn(
    connection: &mut PgConnection,
    condemned: Condemned,
    by: RunId,
    because: &str,
) -> sqlx::Result<()> {
    let because = because.replace('\0', "\u{fffd}");
    let point = condemned.point();
    let is_replaced = match condemned {
        Condemned::Damaged(_) => true,
        Condemned::Shredded(_) => false,
    };
    let quarantined = sqlx::query_file!("src/queue/condemn.sql", point, because, is_replaced)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(it) = quarantined else {
        return Ok(());
    };
    let entry = Audit {
        action: "quarantine",
        resource_id: Some(&it.resource_id),
        point_id: Some(point),
        detail: json!({ "because": because, "found_by": by, "backup": it.backup }),
    };
    record(connection, &entry).await
}

/// Records that stores lack a restore point that another one holds, so that it is copied to them again.
pub(super) async fn forget(connection: &mut PgConnection, lacking: &Lacking) -> sqlx::Result<()> {
    let gone = sqlx::query!(
        "with gone as (
             delete from lastgood.copies where point_id = $1 and store = any($2) returning point_id, store
         )
         select gone.store, point.resource_id
         from gone join lastgood.restore_points as point on point.id = gone.point_id",
        lacking.point,
        &lacking.stores
    )
    .fetch_all(&mut *connection)
    .await?;
    for it in gone {
        let entry = Audit {
            action: "copy_lost",
            resource_id: Some(&it.resource_id),
            point_id: Some(lacking.point),
            detail: json!({ "store": it.store }),
        };
        record(connection, &entry).await?;
    }
    Ok(())
}

/// Appends a proof to the ledger. The last statement of its transaction: its turn in the chain, a lock, lasts until that ends, and whoever
/// has it waits for no other lock.
pub(super) async fn enter(
    connection: &mut PgConnection,
    attempt: Attempt,
    worker: &str,
    proof: &NewProof,
) -> sqlx::Result<()> {
    let because = proof.verdict.because();
    sqlx::query_scalar!(
        "select lastgood.record_proof($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        attempt.run.0,
        attempt.id.0,
        worker,
        proof.kind.as_str(),
        proof.verdict.outcome().as_str(),
        because.map(|it| it.sentence.as_str()),
        because.map(|it| it.kind),
        proof.point,
        proof.seconds(),
        proof.compared(),
    )
    .fetch_one(connection)
    .await?;
    Ok(())
}

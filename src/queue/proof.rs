//! What a run has learned about a restore point's bytes, recorded in the transaction of its fenced finish.

use serde_json::json;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::catalog::{Audit, record};

/// Records that a restore point was read to its last byte and is whole. One that was quarantined is usable again: its bytes
/// are those of its manifest, wherever they were meanwhile.
pub(super) async fn acquit(connection: &mut PgConnection, point: Uuid) -> sqlx::Result<()> {
    let acquitted = sqlx::query_file!("src/queue/acquit.sql", point)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(was) = acquitted.filter(|was| was.quarantined_because.is_some()) else {
        return Ok(());
    };
    let entry = Audit {
        action: "acquit",
        resource_id: Some(&was.resource_id),
        point_id: Some(point),
        detail: json!({ "was": was.quarantined_because }),
    };
    record(connection, &entry).await
}

/// Quarantines a restore point that is damaged, and asks for a backup in its place. Once: a second finding changes nothing.
pub(super) async fn condemn(
    connection: &mut PgConnection,
    point: Uuid,
    by: Uuid,
    because: &str,
) -> sqlx::Result<()> {
    let because = because.replace('\0', "\u{fffd}");
    let condemned = sqlx::query_file!("src/queue/condemn.sql", point, because)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(it) = condemned else {
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

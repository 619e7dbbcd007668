//! Restore points as they are shown: each with the stores that hold it.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Catalog, CatalogError, PointRow};
use crate::{
    nouns::{Point, PointAndManifest},
    standing::Standing,
};

impl Catalog {
    /// Returns the points with the stores that hold them, in the rows' order.
    pub async fn with_stores(&self, rows: Vec<PointRow>) -> Result<Vec<Point>, CatalogError> {
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let mut stores = self.stores_of(&ids).await?;
        let points = rows.into_iter().map(|row| shown(row, &mut stores));
        Ok(points.collect())
    }

    /// Returns one point as it is now, with its manifest.
    pub async fn shown_point(&self, id: Uuid) -> Result<PointAndManifest, CatalogError> {
        let row = self.point(id).await?;
        let manifest = row.manifest.clone();
        let mut stores = self.stores_of(&[id]).await?;
        let point = shown(row, &mut stores);
        Ok(PointAndManifest { point, manifest })
    }
}

fn shown(row: PointRow, stores: &mut HashMap<Uuid, Vec<String>>) -> Point {
    let consistency = row
        .manifest
        .get("consistency")
        .and_then(serde_json::Value::as_str);
    Point {
        consistency: consistency.map(str::to_owned),
        is_trusted: row.standing() == Standing::Trusted,
        stores: stores.remove(&row.id).unwrap_or_default(),
        id: row.id,
        resource: row.resource_id,
        consistent_at: row.consistent_at,
        manifest_key: row.manifest_key,
        dump_bytes: row.dump_bytes,
        stored_bytes: row.stored_bytes,
        created_at: row.created_at,
        verified_at: row.verified_at,
        quarantined_at: row.quarantined_at,
        quarantined_because: row.quarantined_because,
        suspected_at: row.suspected_at,
        suspected_of: row.suspected_of,
        suspected_because: row.suspected_because,
        confirmed_at: row.confirmed_at,
        confirmed_reason: row.confirmed_because,
        expired_at: row.expired_at,
        pinned_at: row.pinned_at,
        held_at: row.held_at,
    }
}

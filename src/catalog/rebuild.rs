//! Rebuilds the catalog's resources and restore points from a store's manifests, however many there are.

use std::collections::BTreeSet;

use futures::FutureExt as _;
use lastgood_jobs::{error::chain, manifest::Manifest};
use sqlx::PgPool;

use super::{Catalog, CatalogError, leave_out};

/// A manifest, and where it was found.
#[derive(Debug)]
pub struct FoundPoint {
    /// Its key.
    pub manifest_key: String,
    /// What it says.
    pub manifest: Manifest,
}

/// What a batch of manifests added, or would add.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Restore points that were not on record.
    pub points: i64,
    /// Resources that were not on record.
    pub resources: i64,
}

impl Catalog {
    /// Records the restore points of `store` that are not on record, the store's copies of them, and the resources that are not on record.
    ///
    /// A new resource is paused and without a connection, with the team, tier and engine of its newest manifest. A resource that an earlier
    /// batch added follows a newer manifest; every other resource stays as it is, except that its newest restorable instant may advance.
    /// Points on record stay as they are. A manifest that the catalog refuses is skipped and logged. Idempotent.
    pub async fn rebuild(
        &self,
        store: &str,
        batch: &[FoundPoint],
    ) -> Result<Rebuilt, CatalogError> {
        let all: Vec<&FoundPoint> = batch.iter().collect();
        match self.rebuild_those(store, all.clone()).await {
            Err(error) if error.is_of_a_row() => {}
            rebuilt => return rebuilt,
        }
        let (parts, left_out) =
            leave_out(all, |part| self.rebuild_those(store, part).boxed()).await?;
        crate::metrics::rows_left_out("rebuild", left_out.len() as u64);
        for (found, error) in left_out {
            tracing::error!(object.key = %found.manifest_key, error = chain(&error), "the catalog refuses a manifest: it is skipped");
        }
        Ok(Rebuilt {
            points: parts.iter().map(|part| part.points).sum(),
            resources: parts.iter().map(|part| part.resources).sum(),
        })
    }

    async fn rebuild_those(
        &self,
        store: &str,
        batch: Vec<&FoundPoint>,
    ) -> Result<Rebuilt, CatalogError> {
        let keys: Vec<_> = batch.iter().map(|it| it.manifest_key.clone()).collect();
        let dates: Vec<_> = batch.iter().map(|it| it.manifest.consistent_at).collect();
        let ends: Vec<_> = batch.iter().map(|it| it.manifest.finished_at).collect();
        let manifests: Vec<_> = batch
            .iter()
            .map(|it| serde_json::to_value(&it.manifest))
            .collect::<Result<_, _>>()
            .map_err(|error| sqlx::Error::Encode(error.into()))?;
        let rebuilt = sqlx::query_file_as!(
            Rebuilt,
            "src/catalog/rebuild.sql",
            &keys,
            &manifests,
            &dates,
            &ends,
            store,
        )
        .fetch_one(self.pool())
        .await?;
        Ok(rebuilt)
    }

    /// Returns what [`Self::rebuild`] would add. `seen` holds the new resources of earlier batches; this batch's are added to it.
    pub async fn would_rebuild(
        &self,
        batch: &[FoundPoint],
        seen: &mut BTreeSet<String>,
    ) -> Result<Rebuilt, CatalogError> {
        let ids: Vec<_> = batch.iter().map(|it| it.manifest.run_id.0).collect();
        let resources: Vec<_> = batch
            .iter()
            .map(|it| it.manifest.resource_id.to_string())
            .collect();
        let points = unknown_points(self.pool(), &ids).await?;
        let unknown = sqlx::query_scalar!(
            r#"select distinct id as "id!" from unnest($1::text[]) as found (id)
               where not exists (select from lastgood.resources as r where r.id = found.id)"#,
            &resources
        )
        .fetch_all(self.pool())
        .await?;
        let before = seen.len();
        seen.extend(unknown);
        Ok(Rebuilt {
            points,
            resources: i64::try_from(seen.len() - before).unwrap_or(i64::MAX),
        })
    }
}

async fn unknown_points(pool: &PgPool, ids: &[uuid::Uuid]) -> Result<i64, CatalogError> {
    let unknown = sqlx::query_scalar!(
        r#"select count(*) as "unknown!" from unnest($1::uuid[]) as found (id)
           where not exists (select from lastgood.restore_points as point where point.id = found.id)"#,
        ids
    )
    .fetch_one(pool)
    .await?;
    Ok(unknown)
}

//! Does a store hold what the catalog says it holds?

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use lastgood_jobs::error::JobError;
use serde::Serialize;
use uuid::Uuid;

use super::NamedStore;
use crate::catalog::{Catalog, CatalogError, Disappearance, ExpectedPoint, Lost};

/// How many points are read from the catalog at once.
const PAGE: i64 = 5000;
/// How many of the points missing from a listing are looked up and recorded together.
const BATCH: usize = 200;
/// How many of these lookups run at once.
const AT_ONCE: usize = 16;
/// The number and the percentage of missing points that, together, are no accident.
const MASS_POINTS: i64 = 3;
const MASS_PERCENT: i64 = 5;

/// The result of a comparison.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Compared {
    /// Another process began one recently.
    NotDue,
    /// The store could not be listed: nothing is known about its points.
    NotListed {
        /// Why not.
        because: String,
    },
    /// The store was listed.
    Listed {
        /// Points that should be in it.
        points: i64,
        /// How many of these are missing.
        missing: i64,
        /// Whether too many are missing for an accident.
        is_mass: bool,
        /// Points quarantined now, because no other store holds them.
        quarantined: u64,
        /// Points that will be copied again, because another store holds them.
        forgotten: u64,
    },
}

/// Lists a store, and records which of its points on record it lacks, unless such a listing began within `not_within`.
///
/// A store that cannot be listed, or is not the one meant, has lost nothing: only the failure is recorded.
pub async fn compare(
    catalog: &Catalog,
    store: &NamedStore,
    not_within: Duration,
) -> Result<Compared, CatalogError> {
    let Some(before) = catalog.begin_listing(&store.name, not_within).await? else {
        return Ok(Compared::NotDue);
    };
    match list_and_lose(catalog, store, before).await {
        Ok(compared) => Ok(compared),
        Err(Fault::Catalog(error)) => Err(error),
        Err(Fault::Store(error)) => {
            let because = error.report();
            catalog.not_listed(&store.name, &because).await?;
            Ok(Compared::NotListed { because })
        }
    }
}

/// Returns whether too many points are missing for an accident.
fn is_mass(points: i64, missing: i64) -> bool {
    missing >= MASS_POINTS && missing.saturating_mul(100) >= points.saturating_mul(MASS_PERCENT)
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Store(#[from] JobError),
}

async fn list_and_lose(
    catalog: &Catalog,
    store: &NamedStore,
    before: chrono::DateTime<chrono::Utc>,
) -> Result<Compared, Fault> {
    let listing = store.storage.listing().await?;
    let (mut points, mut unlisted, mut after) = (0, Vec::new(), None);
    loop {
        let page = catalog
            .expected_in(&store.name, before, after, PAGE)
            .await?;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        points += i64::try_from(page.len()).unwrap_or(i64::MAX);
        let lacks = page
            .iter()
            .filter(|point| keys(point).any(|key| !listing.has(key)));
        unlisted.extend(lacks.map(|point| point.id));
    }
    drop(listing);

    let mut gone = Vec::new();
    for batch in unlisted.chunks(BATCH) {
        gone.extend(absent(catalog, store, batch).await?);
    }
    let missing = i64::try_from(gone.len()).unwrap_or(i64::MAX);
    // Before any point is quarantined, so that retention stops first.
    let disappearance = catalog
        .listed(&store.name, points, missing, is_mass)
        .await?;
    let mut all = Lost::default();
    for batch in gone.chunks(BATCH) {
        let lost = catalog.lose_from(&store.name, batch, disappearance).await?;
        all.quarantined += lost.quarantined;
        all.forgotten += lost.forgotten;
    }
    Ok(Compared::Listed {
        points,
        missing,
        is_mass: disappearance == Disappearance::EnMasse,
        quarantined: all.quarantined,
        forgotten: all.forgotten,
    })
}

/// Returns those of the points that are really absent, each with a reason. Looks up each one, because it may have been removed, or come
/// back, since the listing.
async fn absent(
    catalog: &Catalog,
    store: &NamedStore,
    points: &[Uuid],
) -> Result<Vec<(Uuid, String)>, Fault> {
    let expected = catalog.still_expected_in(&store.name, points).await?;
    let looked = futures::stream::iter(expected)
        .map(|point| async move {
            let wanted: Vec<String> = keys(&point).map(str::to_owned).collect();
            let absent = store.storage.absent(&wanted).await?;
            Ok::<_, JobError>((point, absent))
        })
        .buffer_unordered(AT_ONCE);
    let found: Vec<(ExpectedPoint, Vec<String>)> = looked.try_collect().await?;
    let gone = found.into_iter().filter(|(_, absent)| !absent.is_empty());
    Ok(gone
        .map(|(point, absent)| {
            let because = format!("missing from store {}: {}", store.name, absent.join(", "));
            (point.id, because)
        })
        .collect())
}

/// Returns the keys of the objects that make up a point.
fn keys(point: &ExpectedPoint) -> impl Iterator<Item = &str> {
    std::iter::once(point.manifest_key.as_str()).chain(point.archive_key.as_deref())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::is_mass;

    #[rstest]
    #[case::nothing(0, 0, false)]
    #[case::the_only_one(1, 1, false)]
    #[case::two_of_two(2, 2, false)]
    #[case::three_of_three(3, 3, true)]
    #[case::one_in_twenty(100, 5, true)]
    #[case::fewer(100, 4, false)]
    #[case::a_directory_of_a_large_store(1_000_000, 3000, false)]
    fn a_disappearance_en_masse_is_of_several_points_and_of_a_part_of_all(
        #[case] points: i64,
        #[case] missing: i64,
        #[case] mass: bool,
    ) {
        assert_eq!(is_mass(points, missing), mass);
    }
}

//! Which of its recorded points did a store hold when it was last listed?

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{Audit, Catalog, CatalogError, interval, record};

/// The result of a store's last listing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoreListing {
    /// The store's name.
    pub store: String,
    /// When it was last listed to the end; `None`: never.
    pub listed_at: Option<DateTime<Utc>>,
    /// How many points the catalog recorded in it at that time.
    pub points: i64,
    /// How many of these lacked their manifest or archive.
    pub missing: i64,
    /// How many of the missing ones an operator has accepted as lost.
    pub accepted: i64,
    /// Since when too many have been missing for an accident; `None`: they are not.
    pub vanished_at: Option<DateTime<Utc>>,
    /// Since when the store cannot be listed; `None`: it can.
    pub failed_at: Option<DateTime<Utc>>,
    /// Why it cannot be listed.
    pub failed_because: Option<String>,
}

/// A restore point that a store should hold.
#[derive(Debug, Clone)]
pub struct ExpectedPoint {
    /// The point.
    pub id: Uuid,
    /// Where its manifest should be.
    pub manifest_key: String,
    /// Where its archive should be, according to its manifest.
    pub archive_key: Option<String>,
}

/// How much is missing from a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disappearance {
    /// Few enough points for an accident: those that another store holds are copied again.
    OfSome,
    /// Too many points for an accident: nothing is copied there unasked, and nothing expires.
    EnMasse,
}

/// What was done about points that a store lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many were quarantined, because no other store holds them.
    pub quarantined: u64,
    /// How many will be copied again, because another store holds them.
    pub forgotten: u64,
}

impl StoreListing {
    /// Returns whether an operator has to look at the store.
    #[must_use]
    pub fn is_alarming(&self) -> bool {
        self.vanished_at.is_some() || self.failed_at.is_some()
    }
}

impl Catalog {
    /// Records that a store is about to be listed, and returns the catalog's time. `None`: a listing began within `not_within`.
    pub async fn begin_listing(
        &self,
        store: &str,
        not_within: Duration,
    ) -> Result<Option<DateTime<Utc>>, CatalogError> {
        // A time in the future comes from a clock that was wrong.
        let began = sqlx::query_scalar!(
            "insert into lastgood.store_listings as it (store, began_at) values ($1, clock_timestamp())
             on conflict (store) do update set began_at = clock_timestamp()
             where it.began_at <= clock_timestamp() - $2::interval or it.began_at > clock_timestamp()
             returning began_at",
            store,
            interval(not_within)
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(began)
    }

    /// Returns a page of the points that were recorded in a store before `before` and should still be there, by id.
    pub async fn expected_in(
        &self,
        store: &str,
        before: DateTime<Utc>,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<ExpectedPoint>, CatalogError> {
        let page = sqlx::query_file_as!(
            ExpectedPoint,
            "src/catalog/listings/expected.sql",
            store,
            before,
            after,
            limit
        )
        .fetch_all(self.pool())
        .await?;
        Ok(page)
    }

    /// Returns those of `points` that a store should still hold.
    pub async fn still_expected_in(
        &self,
        store: &str,
        points: &[Uuid],
    ) -> Result<Vec<ExpectedPoint>, CatalogError> {
        let page = sqlx::query_file_as!(
            ExpectedPoint,
            "src/catalog/listings/still_expected.sql",
            store,
            points
        )
        .fetch_all(self.pool())
        .await?;
        Ok(page)
    }

    /// Records how many points a store should hold and how many it lacks, and returns whether they disappeared en masse.
    ///
    /// If so, nothing expires until a later listing finds them or an operator accepts the loss.
    pub async fn listed(
        &self,
        store: &str,
        points: i64,
        missing: i64,
        is_mass: impl Fn(i64, i64) -> bool + Send,
    ) -> Result<Disappearance, CatalogError> {
        let accepted = sqlx::query_scalar!(
            "update lastgood.store_listings
             set listed_at = clock_timestamp(), points = $2, missing = $3, accepted = least(accepted, $3),
                 failed_at = null, failed_because = null
             where store = $1 returning accepted",
            store,
            points,
            missing
        )
        .fetch_optional(self.pool())
        .await?;
        let is_mass = is_mass(points, missing - accepted.unwrap_or(0));
        let began = sqlx::query_scalar!(
            r#"with was as (select vanished_at from lastgood.store_listings where store = $1 for no key update)
               update lastgood.store_listings as it
               set vanished_at = case when $2 then coalesce(it.vanished_at, clock_timestamp()) end
               from was where it.store = $1
               returning was.vanished_at is null and $2 as "began!""#,
            store,
            is_mass
        )
        .fetch_optional(self.pool())
        .await?;
        if began == Some(true) {
            let entry = Audit::new(
                "store_vanished",
                json!({ "store": store, "points": points, "missing": missing }),
            );
            self.audit(&entry).await?;
        }
        Ok(if is_mass {
            Disappearance::EnMasse
        } else {
            Disappearance::OfSome
        })
    }

    /// Records that a store could not be listed.
    pub async fn not_listed(&self, store: &str, because: &str) -> Result<(), CatalogError> {
        sqlx::query!(
            "update lastgood.store_listings
             set failed_at = coalesce(failed_at, clock_timestamp()), failed_because = $2 where store = $1",
            store,
            because.replace('\0', "\u{fffd}")
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Records that points are gone from a store, each with its reason.
    ///
    /// Points that no other store holds are quarantined, and their resources are backed up again. The copies of the other points are
    /// forgotten, so that they are made again. After a disappearance en masse they are not: an operator has to look first.
    pub async fn lose_from(
        &self,
        store: &str,
        gone: &[(Uuid, String)],
        disappearance: Disappearance,
    ) -> Result<Lost, CatalogError> {
        let (ids, because): (Vec<_>, Vec<_>) = gone
            .iter()
            .map(|(id, because)| (*id, because.replace('\0', "\u{fffd}")))
            .unzip();
        let mut transaction = self.pool().begin().await?;
        // Resources before points, the lock order everywhere.
        sqlx::query!(
            "select id from lastgood.resources
             where id in (select resource_id from lastgood.restore_points where id = any($1))
             order by id for no key update",
            &ids
        )
        .fetch_all(&mut *transaction)
        .await?;
        let lost = sqlx::query_file!("src/catalog/listings/lose.sql", store, &ids, &because)
            .fetch_all(&mut *transaction)
            .await?;
        for it in &lost {
            let entry = Audit {
                action: "quarantine",
                resource_id: Some(&it.resource_id),
                point_id: Some(it.id),
                detail: json!({ "because": it.because, "store": store }),
            };
            record(&mut transaction, &entry).await?;
        }
        let forgotten = match disappearance {
            Disappearance::EnMasse => Vec::new(),
            Disappearance::OfSome => {
                sqlx::query!(
                    "with gone as (
                         delete from lastgood.copies as copy
                         where copy.point_id = any($1) and copy.store = $2 and exists (
                             select from lastgood.copies as other
                             where other.point_id = copy.point_id and other.store <> $2
                         )
                         returning copy.point_id
                     )
                     select point.id, point.resource_id
                     from gone join lastgood.restore_points as point on point.id = gone.point_id",
                    &ids,
                    store
                )
                .fetch_all(&mut *transaction)
                .await?
            }
        };
        for it in &forgotten {
            let entry = Audit {
                action: "copy_lost",
                resource_id: Some(&it.resource_id),
                point_id: Some(it.id),
                detail: json!({ "store": store }),
            };
            record(&mut transaction, &entry).await?;
        }
        transaction.commit().await?;
        Ok(Lost {
            quarantined: lost.len() as u64,
            forgotten: forgotten.len() as u64,
        })
    }

    /// Returns the last listing of each of these stores. A store that was never listed is left out.
    pub async fn store_listings(
        &self,
        stores: &[String],
    ) -> Result<Vec<StoreListing>, CatalogError> {
        let rows = sqlx::query_as!(
            StoreListing,
            "select store, listed_at, points, missing, accepted, vanished_at, failed_at, failed_because
             from lastgood.store_listings where store = any($1) order by store",
            stores
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Records that an operator accepts the points missing from a store as lost, and returns how many they are. The audit log records it.
    pub async fn accept_loss(&self, store: &str) -> Result<i64, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let accepted = sqlx::query_scalar!(
            "update lastgood.store_listings set accepted = missing, vanished_at = null where store = $1 returning accepted",
            store
        )
        .fetch_optional(&mut *transaction)
        .await?
        .ok_or_else(|| CatalogError::not_found("listing of a store", store, "store list"))?;
        let entry = Audit::new("accept_loss", json!({ "store": store, "points": accepted }));
        record(&mut transaction, &entry).await?;
        transaction.commit().await?;
        Ok(accepted)
    }

    /// Returns the name of a store from which points have disappeared en masse, so that nothing may expire.
    pub async fn vanished_store(&self) -> Result<Option<String>, CatalogError> {
        // A store that the producers' stores file no longer names holds nothing up.
        let store = sqlx::query_scalar!(
            "select it.store from lastgood.store_listings as it join lastgood.stores as known on known.name = it.store
             where it.vanished_at is not null order by it.store limit 1"
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(store)
    }
}

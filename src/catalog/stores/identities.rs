//! Which installation is this catalog, which store does each name mean, and what is wrong with a store?

use serde_json::json;
use uuid::Uuid;

use crate::{
    catalog::{Audit, Catalog, CatalogError, record},
    nouns::StoreFault,
};

/// How many characters of a fault's text are kept.
const WORDS_MAX: usize = 1000;

/// The installations whose restore points belong to this catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installations {
    /// This catalog's own installation.
    pub own: Uuid,
    /// The installations that it has replaced.
    pub adopted: Vec<Uuid>,
}

impl Installations {
    /// Returns whether the restore points of installation `id` belong to this catalog.
    #[must_use]
    pub fn have(&self, id: Uuid) -> bool {
        self.own == id || self.adopted.contains(&id)
    }
}

/// The store that a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreIdentity {
    /// Its name in the catalog.
    pub name: String,
    /// The id in its identity object.
    pub store_id: Uuid,
    /// Whether it was observed to refuse overwriting an object.
    pub writes_once: bool,
}

impl Catalog {
    /// Returns the installations whose restore points belong to this catalog.
    pub async fn installations(&self) -> Result<Installations, CatalogError> {
        let rows = sqlx::query!("select id, is_own from lastgood.installations order by added_at")
            .fetch_all(self.pool())
            .await?;
        let own = rows.iter().find(|row| row.is_own).map(|row| row.id);
        let own = own
            .ok_or_else(|| CatalogError::not_found("installation", "of this catalog", "migrate"))?;
        let adopted = rows.iter().filter(|row| !row.is_own).map(|row| row.id);
        Ok(Installations {
            own,
            adopted: adopted.collect(),
        })
    }

    /// Takes the place of another installation, and records that. Idempotent.
    pub async fn adopt_installation(&self, id: Uuid) -> Result<(), CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let audit = Audit::new("adopt_installation", json!({ "installation": id }));
        record(&mut transaction, &audit).await?;
        sqlx::query!(
            "insert into lastgood.installations (id) values ($1) on conflict (id) do nothing",
            id
        )
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Returns which store each name means.
    pub async fn store_identities(&self) -> Result<Vec<StoreIdentity>, CatalogError> {
        let rows = sqlx::query_as!(
            StoreIdentity,
            "select name, store_id, writes_once from lastgood.store_identities order by name"
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Records which store a name means. Returns whether this is now on record: a name that means another store, or a store that has
    /// another name, stays as it is.
    pub async fn record_store(&self, found: &StoreIdentity) -> Result<bool, CatalogError> {
        sqlx::query!(
            "insert into lastgood.store_identities as known (name, store_id, writes_once) values ($1, $2, $3)
             on conflict do nothing",
            found.name,
            found.store_id,
            found.writes_once
        )
        .execute(self.pool())
        .await?;
        let is_so = sqlx::query!(
            "update lastgood.store_identities set writes_once = $3 where name = $1 and store_id = $2",
            found.name,
            found.store_id,
            found.writes_once
        )
        .execute(self.pool())
        .await?;
        Ok(is_so.rows_affected() == 1)
    }

    /// Makes a name mean another store from now on, and records that an operator ordered it.
    pub async fn replace_store(&self, found: &StoreIdentity) -> Result<(), CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let audit = Audit::new(
            "adopt_store",
            json!({ "store": found.name, "id": found.store_id }),
        );
        record(&mut transaction, &audit).await?;
        // A store has only one name: this one replaces any other.
        sqlx::query!(
            "delete from lastgood.store_identities where store_id = $1 and name <> $2",
            found.store_id,
            found.name
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "insert into lastgood.store_identities (name, store_id, writes_once) values ($1, $2, $3)
             on conflict (name) do update set store_id = excluded.store_id, writes_once = excluded.writes_once,
                 recorded_at = now()",
            found.name,
            found.store_id,
            found.writes_once
        )
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Replaces the faults on record that a consumer sees in stores by these.
    pub async fn note_store_faults(
        &self,
        consumer: &str,
        faults: &[(String, String)],
    ) -> Result<(), CatalogError> {
        let cut = |why: &String| why.chars().take(WORDS_MAX).collect::<String>();
        let (stores, whys): (Vec<_>, Vec<_>) = faults
            .iter()
            .map(|(store, why)| (store.clone(), cut(why)))
            .unzip();
        sqlx::query!(
            "with mended as (
                 delete from lastgood.store_faults where consumer_id = $1 and store <> all ($2)
             )
             insert into lastgood.store_faults (store, consumer_id, why)
             select seen.store, $1, seen.why from unnest($2::text[], $3::text[]) as seen (store, why)
             where exists (select from lastgood.consumers where id = $1)
             on conflict (store, consumer_id) do update set why = excluded.why",
            consumer,
            &stores,
            &whys
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Returns the faults that live consumers see in stores.
    pub async fn store_faults(&self) -> Result<Vec<StoreFault>, CatalogError> {
        let rows = sqlx::query_as!(
            StoreFault,
            r#"select store, min(why) as "failed_because!", count(*) as "consumers!", min(since) as "failed_at!"
               from lastgood.store_faults as fault join lastgood.consumers as consumer on consumer.id = fault.consumer_id
               where consumer.state <> 'stopped' and consumer.seen_at > now() - interval '30 seconds'
               group by store order by store"#
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }
}

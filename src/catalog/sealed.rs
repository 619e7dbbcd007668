//! Which secrets are sealed under which master key, and how they are resealed under another.

use serde::Serialize;
use uuid::Uuid;

use super::{Catalog, CatalogError, leave_out};

/// A resource whose URL cannot be opened for want of its master key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnopenedUrl {
    /// The resource.
    pub resource: String,
    /// Its owner.
    pub team: String,
    /// The number of the master key.
    pub sealed_under: i32,
}

/// A sealed URL.
pub struct SealedUrl {
    /// Its resource.
    pub id: String,
    /// Whether the resource was removed, so that nothing needs its URL any more.
    pub is_removed: bool,
    /// The sealed bytes, as stored.
    pub sealed: Vec<u8>,
    /// The number of the master key that the catalog says sealed it.
    pub under: i32,
}

/// A resealed URL that is to replace the stored one.
#[derive(Clone)]
pub struct FreshUrl {
    /// Its resource.
    pub id: String,
    /// The sealed bytes to replace; if others are stored by now, nothing happens.
    pub was: Vec<u8>,
    /// The same URL, sealed anew.
    pub sealed: Vec<u8>,
}

/// How many secrets in use are sealed under one master key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SealedCount {
    /// The number of the master key.
    pub master_key: i32,
    /// URLs of resources that were not removed.
    pub urls: i64,
    /// Archive keys.
    pub keys: i64,
    /// Signing keys: one or none.
    pub signing_keys: i64,
}

impl Catalog {
    /// Returns the resources whose URL is sealed under one of these master keys, by team and id, and how many there are in all.
    pub async fn urls_sealed_under(
        &self,
        numbers: &[i32],
        limit: i64,
    ) -> Result<(Vec<UnopenedUrl>, i64), CatalogError> {
        let found = sqlx::query_as!(
            UnopenedUrl,
            "select id as resource, team, sealed_under from lastgood.resources
             where connection_sealed is not null and sealed_under = any ($1) and status <> 'removed'
             order by team, id limit $2",
            numbers,
            limit
        )
        .fetch_all(self.pool())
        .await?;
        let all = sqlx::query_scalar!(
            r#"select count(*) as "all!" from lastgood.resources
               where connection_sealed is not null and sealed_under = any ($1) and status <> 'removed'"#,
            numbers
        )
        .fetch_one(self.pool())
        .await?;
        Ok((found, all))
    }

    /// Returns the archive keys that are sealed under one of these master keys.
    pub async fn keys_sealed_under(&self, numbers: &[i32]) -> Result<Vec<Uuid>, CatalogError> {
        let ids = sqlx::query_scalar!(
            "select id from lastgood.archive_keys
             where identity_sealed is not null and sealed_under = any ($1) order by team nulls first, id",
            numbers
        )
        .fetch_all(self.pool())
        .await?;
        Ok(ids)
    }

    /// Counts the secrets sealed under each of these master keys. Keys that seal nothing are left out.
    pub async fn count_sealed_under(
        &self,
        numbers: &[i32],
    ) -> Result<Vec<SealedCount>, CatalogError> {
        let counts = sqlx::query_as!(
            SealedCount,
            r#"select sealed.sealed_under as "master_key!", sum(sealed.urls)::bigint as "urls!", sum(sealed.keys)::bigint as "keys!",
                 sum(sealed.signing_keys)::bigint as "signing_keys!"
               from (
                   select sealed_under, 1 as urls, 0 as keys, 0 as signing_keys from lastgood.resources
                   where connection_sealed is not null and sealed_under = any ($1) and status <> 'removed'
                   union all
                   select sealed_under, 0, 1, 0 from lastgood.archive_keys
                   where identity_sealed is not null and sealed_under = any ($1)
                   union all
                   select sealed_under, 0, 0, 1 from lastgood.signing_keys
                   where seed_sealed is not null and sealed_under = any ($1)
               ) as sealed
               group by 1 order by 1"#,
            numbers
        )
        .fetch_all(self.pool())
        .await?;
        Ok(counts)
    }

    /// Returns up to 20 URLs sealed under one of these master keys, to try a key on. One of them might have been tampered with, so one
    /// would not do.
    pub async fn some_sealed(
        &self,
        numbers: &[i32],
    ) -> Result<Vec<(String, Vec<u8>)>, CatalogError> {
        let rows = sqlx::query!(
            r#"select id, connection_sealed as "sealed!" from lastgood.resources
               where connection_sealed is not null and sealed_under = any ($1) and status <> 'removed' limit 20"#,
            numbers
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows.into_iter().map(|row| (row.id, row.sealed)).collect())
    }

    /// Returns the sealed URLs of the resources after `after`, by id; those of removed resources too.
    pub async fn sealed_urls(
        &self,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<SealedUrl>, CatalogError> {
        let rows = sqlx::query_as!(
            SealedUrl,
            r#"select id, status = 'removed' as "is_removed!", connection_sealed as "sealed!", sealed_under as under
               from lastgood.resources
               where connection_sealed is not null and ($1::text is null or id > $1) order by id limit $2"#,
            after,
            limit
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Replaces URLs by ones sealed anew under `number`, except where the stored URL has changed meanwhile. Returns how many were
    /// replaced, and those that the catalog refuses, each with its error.
    pub async fn reseal_urls(
        &self,
        number: i32,
        fresh: Vec<FreshUrl>,
    ) -> Result<(u64, Vec<(FreshUrl, CatalogError)>), CatalogError> {
        let write = |part: Vec<FreshUrl>| -> futures::future::BoxFuture<'_, _> {
            Box::pin(self.reseal_those(number, part))
        };
        let (written, refused) = leave_out(fresh, write).await?;
        Ok((written.iter().sum(), refused))
    }

    async fn reseal_those(&self, number: i32, fresh: Vec<FreshUrl>) -> Result<u64, CatalogError> {
        let (mut ids, mut was, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
        for url in fresh {
            ids.push(url.id);
            was.push(url.was);
            sealed.push(url.sealed);
        }
        // Locked by id, the order in which all resources are locked.
        let done = sqlx::query!(
            "with fresh as (
                 select id, was, sealed from unnest($2::text[], $3::bytea[], $4::bytea[]) as given (id, was, sealed)
             ),
             locked as materialized (
                 select r.id from lastgood.resources as r
                 where r.id = any ($2::text[]) order by r.id for no key update
             )
             update lastgood.resources as r set connection_sealed = fresh.sealed, sealed_under = $1
             from locked join fresh on fresh.id = locked.id
             where r.id = locked.id and r.connection_sealed = fresh.was",
            number,
            &ids,
            &was,
            &sealed
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected())
    }

    /// Replaces an archive key's secret by one sealed anew under `number`. Returns `false` if the stored secret has changed meanwhile.
    pub async fn reseal_key(
        &self,
        number: i32,
        id: Uuid,
        was: &[u8],
        sealed: &[u8],
    ) -> Result<bool, CatalogError> {
        let done = sqlx::query!(
            "update lastgood.archive_keys set identity_sealed = $4, sealed_under = $1 where id = $2 and identity_sealed = $3",
            number,
            id,
            was,
            sealed
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() > 0)
    }
}

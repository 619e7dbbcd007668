//! Master keys by number: which one seals, how a key is proven to be the right one, and which consumers hold it.

use chrono::{DateTime, Utc};

use super::{Audit, Catalog, CatalogError, record};

/// A master key on record.
#[derive(Debug, Clone)]
pub struct MasterKeyRow {
    /// Its number.
    pub number: i32,
    /// A known text sealed under it; `None`: no process has shown the key since proofs were introduced.
    pub proof: Option<Vec<u8>>,
    /// Whether new secrets are sealed under it.
    pub seals: bool,
    /// When it was put on record.
    pub added_at: DateTime<Utc>,
}

impl Catalog {
    /// Returns all master keys on record, by number.
    pub async fn master_keys(&self) -> Result<Vec<MasterKeyRow>, CatalogError> {
        let rows = sqlx::query_as!(
            MasterKeyRow,
            "select number, proof, seals, added_at from lastgood.master_keys order by number"
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Records a proof for the sealing key in place of `was`. Returns whether it was recorded.
    ///
    /// An existing proof is replaced only while nothing is sealed and no live consumer holds the key that it proves.
    pub async fn prove_master_key(
        &self,
        number: i32,
        was: Option<&[u8]>,
        proof: &[u8],
    ) -> Result<bool, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        // Waits for transactions that are about to store something sealed under this key.
        let found = sqlx::query_scalar!(
            "select number from lastgood.master_keys
             where number = $1 and seals and proof is not distinct from $2 for update",
            number,
            was
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if found.is_none() {
            return Ok(false);
        }
        let recorded = sqlx::query!(
            "update lastgood.master_keys set proof = $2
             where number = $1 and (
                 proof is null
                 or not exists (select from lastgood.resources where connection_sealed is not null)
                 and not exists (select from lastgood.archive_keys where identity_sealed is not null)
                 and not exists (select from lastgood.signing_keys where seed_sealed is not null)
                 and not exists (
                     select from lastgood.consumers
                     where state <> 'stopped' and seen_at > now() - interval '30 seconds' and $1 = any (master_keys)
                 )
             )",
            number,
            proof
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(recorded.rows_affected() > 0)
    }

    /// Records a master key that does not seal yet. Returns `false` if its number is taken.
    pub async fn add_master_key(&self, number: i32, proof: &[u8]) -> Result<bool, CatalogError> {
        let added = sqlx::query!(
            "insert into lastgood.master_keys (number, proof) values ($1, $2) on conflict do nothing",
            number,
            proof
        )
        .execute(self.pool())
        .await?;
        Ok(added.rows_affected() > 0)
    }

    /// Makes one master key seal in place of another, and records who did it. Once this is committed, the catalog stores nothing more that
    /// was sealed under the old one. Returns `false` if another key seals by now.
    pub async fn let_seal(
        &self,
        from: i32,
        to: i32,
        entry: &Audit<'_>,
    ) -> Result<bool, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        let ended = sqlx::query!(
            "update lastgood.master_keys set seals = false where number = $1 and seals",
            from
        )
        .execute(&mut *transaction)
        .await?;
        if ended.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query!(
            "update lastgood.master_keys set seals = true where number = $1",
            to
        )
        .execute(&mut *transaction)
        .await?;
        record(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Returns the live consumers that hold the master key `number`.
    pub async fn consumers_with_master_key(
        &self,
        number: i32,
    ) -> Result<Vec<String>, CatalogError> {
        let ids = sqlx::query_scalar!(
            "select id from lastgood.consumers
             where state <> 'stopped' and seen_at > now() - interval '30 seconds' and $1 = any (master_keys) order by id",
            number
        )
        .fetch_all(self.pool())
        .await?;
        Ok(ids)
    }

    /// Returns the live consumers that hold some master key, but not `number`.
    pub async fn consumers_without_master_key(
        &self,
        number: i32,
    ) -> Result<Vec<String>, CatalogError> {
        let ids = sqlx::query_scalar!(
            "select id from lastgood.consumers
             where state <> 'stopped' and seen_at > now() - interval '30 seconds'
                 and master_keys <> '{}' and not $1 = any (master_keys)
             order by id",
            number
        )
        .fetch_all(self.pool())
        .await?;
        Ok(ids)
    }

    /// Returns the numbers of the master keys that live consumers hold; `None`: no consumer is alive.
    pub async fn master_keys_of_consumers(&self) -> Result<Option<Vec<i32>>, CatalogError> {
        let all = sqlx::query_scalar!(
            r#"select master_keys as "numbers!" from lastgood.consumers
               where state <> 'stopped' and seen_at > now() - interval '30 seconds'"#
        )
        .fetch_all(self.pool())
        .await?;
        Ok((!all.is_empty()).then(|| all.concat()))
    }
}

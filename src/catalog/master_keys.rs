//! Master keys by number: which one seals, what proves that a key is the one, and who has it.

use chrono::{DateTime, Utc};

use super::{Audit, Catalog, CatalogError, record};

/// A master key as the catalog knows it.
#[derive(Debug, Clone)]
pub struct MasterKeyRow {
    /// Its number.
    pub number: i32,
    /// A known text sealed under it; `None`: nobody has shown the key since there are proofs.
    pub proof: Option<Vec<u8>>,
    /// Whether new secrets are sealed under it.
    pub seals: bool,
    /// When it was put on record.
    pub added_at: DateTime<Utc>,
}

impl Catalog {
    /// Returns all master keys that are on record, by number.
    pub async fn master_keys(&self) -> Result<Vec<MasterKeyRow>, CatalogError> {
        let rows = sqlx::query_as!(
            MasterKeyRow,
            "select number, proof, seals, added_at from lastgood.master_keys order by number"
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Records the proof of the key that seals, in place of `was`. A proof is replaced only while nothing is sealed and nobody alive
    /// has the key that it is of. Returns whether it was recorded.
    pub async fn prove_master_key(
        &self,
        number: i32,
        was: Option<&[u8]>,
        proof: &[u8],
    ) -> Result<bool, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        // Waits for whoever is about to store something under it.
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

    /// Puts a master key on record, which seals nothing yet. Returns `false` where its number is taken.
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

    /// Lets one master key seal in the place of another, and records who did it. From the commit on, nothing more is stored that
    /// was sealed under the other. Returns `false` where another key seals by now.
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

    /// Returns the live consumers that have the master key `number`, or are too old to say.
    pub async fn consumers_with_master_key(
        &self,
        number: i32,
    ) -> Result<Vec<String>, CatalogError> {
        let ids = sqlx::query_scalar!(
            "select id from lastgood.consumers
             where state <> 'stopped' and seen_at > now() - interval '30 seconds' and coalesce($1 = any (master_keys), true) order by id",
            number
        )
        .fetch_all(self.pool())
        .await?;
        Ok(ids)
    }

    /// Returns the live consumers that have some master key, or are too old to say, and do not have `number`.
    pub async fn consumers_without_master_key(
        &self,
        number: i32,
    ) -> Result<Vec<String>, CatalogError> {
        let ids = sqlx::query_scalar!(
            "select id from lastgood.consumers
             where state <> 'stopped' and seen_at > now() - interval '30 seconds'
                 and coalesce(master_keys <> '{}' and not $1 = any (master_keys), true)
             order by id",
            number
        )
        .fetch_all(self.pool())
        .await?;
        Ok(ids)
    }

    /// Returns the numbers of the master keys that live consumers have; `None`: no consumer that could say so is alive.
    pub async fn master_keys_of_consumers(&self) -> Result<Option<Vec<i32>>, CatalogError> {
        let all = sqlx::query_scalar!(
            r#"select master_keys as "numbers!" from lastgood.consumers
               where state <> 'stopped' and seen_at > now() - interval '30 seconds' and master_keys is not null"#
        )
        .fetch_all(self.pool())
        .await?;
        Ok((!all.is_empty()).then(|| all.concat()))
    }
}

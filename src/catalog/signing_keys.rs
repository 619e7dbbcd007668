//! The keys that sign exports of the ledger: one in use, and the public halves of those before it.

use serde_json::json;
use uuid::Uuid;

use super::{Audit, Catalog, CatalogError, Succession, error::violated, record};
use crate::{nouns::SigningKey, proof::envelope::PublicKey};

/// A signing key with its sealed private half.
pub struct SealedSigningKey {
    /// Its id.
    pub id: Uuid,
    /// Its public half.
    pub public: PublicKey,
    /// The private half, sealed under a master key.
    pub seed: Vec<u8>,
    /// The number of that master key.
    pub under: i32,
}

impl Catalog {
    /// Returns all signing keys, newest first.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKey>, CatalogError> {
        let rows = sqlx::query!(
            "select id, public_key, created_at, retired_at from lastgood.signing_keys order by retired_at desc nulls first, created_at desc"
        )
        .fetch_all(self.pool())
        .await?;
        let keys = rows.into_iter().map(|row| {
            let public = public(row.public_key)?;
            Ok(SigningKey {
                id: row.id,
                fingerprint: public.fingerprint(),
                public_key: public.to_pem(),
                created_at: row.created_at,
                retired_at: row.retired_at,
            })
        });
        keys.collect()
    }

    /// Returns the signing key in use, if there is one.
    pub async fn signing_key_in_use(&self) -> Result<Option<SealedSigningKey>, CatalogError> {
        let row = sqlx::query!(
            r#"select id, public_key, seed_sealed as "seed!", sealed_under from lastgood.signing_keys where retired_at is null"#
        )
        .fetch_optional(self.pool())
        .await?;
        row.map(|row| {
            Ok(SealedSigningKey {
                id: row.id,
                public: public(row.public_key)?,
                seed: row.seed,
                under: row.sealed_under,
            })
        })
        .transpose()
    }

    /// Records a signing key, which signs from now on. The one before it is retired, and its private half is destroyed: what it signed stays
    /// signed.
    pub async fn add_signing_key(
        &self,
        key: &SealedSigningKey,
        succession: Succession,
    ) -> Result<(), CatalogError> {
        let owner = || "the ledger of proofs".to_owned();
        let mut transaction = self.pool().begin().await?;
        if succession == Succession::Next {
            let retired = sqlx::query!(
                "update lastgood.signing_keys set retired_at = now(), seed_sealed = null where retired_at is null"
            )
            .execute(&mut *transaction)
            .await?;
            if retired.rows_affected() == 0 {
                return Err(CatalogError::NoKeyInUse(owner()));
            }
        }
        let added = sqlx::query!(
            "insert into lastgood.signing_keys (id, public_key, seed_sealed, sealed_under) values ($1, $2, $3, $4)",
            key.id,
            &key.public.0[..],
            key.seed,
            key.under
        )
        .execute(&mut *transaction)
        .await;
        added.map_err(|error| match violated(&error) {
            Some("signing_keys_one_in_use") => CatalogError::KeyInUse(owner()),
            Some(_) | None => error.into(),
        })?;
        let entry = Audit::new(
            match succession {
                Succession::First => "create_signing_key",
                Succession::Next => "rotate_signing_key",
            },
            json!({ "key": key.id, "fingerprint": key.public.fingerprint() }),
        );
        record(&mut transaction, &entry).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Replaces a signing key's private half by one sealed anew under `number`. Returns `false` if the key was retired, or sealed anew,
    /// meanwhile.
    pub async fn reseal_signing_key(
        &self,
        number: i32,
        was: &SealedSigningKey,
        sealed: &[u8],
    ) -> Result<bool, CatalogError> {
        let done = sqlx::query!(
            "update lastgood.signing_keys set seed_sealed = $4, sealed_under = $1 where id = $2 and seed_sealed = $3",
            number,
            was.id,
            was.seed,
            sealed
        )
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() > 0)
    }
}

fn public(bytes: Vec<u8>) -> Result<PublicKey, CatalogError> {
    let wrong = |_| sqlx::Error::Decode("a signing key's public half is not 32 bytes long".into());
    Ok(PublicKey(bytes.try_into().map_err(wrong)?))
}

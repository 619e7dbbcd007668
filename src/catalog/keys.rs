//! Archive keys: a succession of keys for each team that has its own, and one for the platform, which serves all other teams.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use super::{Audit, Catalog, CatalogError, error::violated, record};
use crate::nouns::Key;

/// An archive key with its sealed secret.
pub struct SealedKey {
    /// Its id.
    pub id: Uuid,
    /// Its public half.
    pub recipient: String,
    /// The identity, sealed under the master key; `None` once it was shredded.
    pub identity: Option<Vec<u8>>,
    /// The number of that master key.
    pub under: i32,
}

/// A key to be recorded.
pub struct NewKey<'a> {
    /// Its id.
    pub id: Uuid,
    /// The team it belongs to; `None`: the platform.
    pub team: Option<&'a str>,
    /// Its public half.
    pub recipient: &'a str,
    /// The identity, sealed under the master key.
    pub identity: &'a [u8],
    /// The number of that master key.
    pub under: i32,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// Whether a new key is its owner's first, or replaces the one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// The owner has no key in use.
    First,
    /// The key in use is retired: it still opens what it encrypted, but encrypts nothing more.
    Next,
}

/// The key to which a team's new archives are encrypted.
pub enum KeyInUse {
    /// No key: neither the team nor the platform ever had one.
    None,
    /// This key.
    Key(SealedKey),
    /// No key is in use, but there were keys.
    Gone {
        /// Whether they were the team's own, now shredded, or else the platform's.
        of_team: bool,
    },
}

/// The effect of shredding a team's keys.
#[derive(Debug, Clone, Serialize)]
pub struct Shredded {
    /// The ids of all keys that the team ever had.
    pub keys: Vec<Uuid>,
    /// Restore points that can never be read again.
    pub points_lost: i64,
    /// The team's usable restore points that can still be read: they were not encrypted, or encrypted to the platform's key.
    pub points_left: i64,
}

/// A restore point on which doctor tries a key.
#[derive(Debug, Clone)]
pub struct KeySample {
    /// The team that owns the key; `None`: the platform.
    pub team: Option<String>,
    /// The resource.
    pub resource_id: String,
    /// Where the manifest of its newest restore point is.
    pub manifest_key: String,
}

impl Catalog {
    /// Returns all keys: the platform's first, and each owner's newest first.
    pub async fn keys(&self) -> Result<Vec<Key>, CatalogError> {
        let rows = sqlx::query_as!(
            Key,
            "select id, team, recipient, created_at, retired_at, shredded_at from lastgood.archive_keys
             order by team nulls first, created_at desc"
        )
        .fetch_all(self.pool())
        .await?;
        Ok(rows)
    }

    /// Returns a key with its sealed secret, or `None` if no key has this id.
    pub async fn sealed_key(&self, id: Uuid) -> Result<Option<SealedKey>, CatalogError> {
        let row = sqlx::query_as!(
            SealedKey,
            "select id, recipient, identity_sealed as identity, sealed_under as under from lastgood.archive_keys where id = $1",
            id
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(row)
    }

    /// Returns the key to which the next archive of `team` is encrypted.
    ///
    /// A team that ever had its own key never falls back to the platform's, and once keys exist nobody falls back to no encryption.
    pub async fn key_in_use(&self, team: &str) -> Result<KeyInUse, CatalogError> {
        let row = sqlx::query!(
            r#"select id, recipient, identity_sealed, sealed_under, retired_at is null as "is_in_use!", team is not null as "of_team!"
               from lastgood.archive_keys
               where team = $1 or team is null
               order by team nulls last, retired_at is not null limit 1"#,
            team
        )
        .fetch_optional(self.pool())
        .await?;
        Ok(match row {
            None => KeyInUse::None,
            Some(row) if !row.is_in_use => KeyInUse::Gone {
                of_team: row.of_team,
            },
            Some(row) => KeyInUse::Key(SealedKey {
                id: row.id,
                recipient: row.recipient,
                identity: row.identity_sealed,
                under: row.sealed_under,
            }),
        })
    }

    /// Records a key, to which its owner's archives are encrypted from now on.
    pub async fn add_key(
        &self,
        key: &NewKey<'_>,
        succession: Succession,
    ) -> Result<(), CatalogError> {
        let owner = owner(key.team);
        let mut transaction = self.pool().begin().await?;
        if succession == Succession::Next {
            let retired = sqlx::query!(
                "update lastgood.archive_keys set retired_at = now()
                 where coalesce(team, '') = coalesce($1, '') and retired_at is null",
                key.team
            )
            .execute(&mut *transaction)
            .await?;
            if retired.rows_affected() == 0 {
                return Err(CatalogError::NoKeyInUse(owner));
            }
        }
        let added = sqlx::query!(
            "insert into lastgood.archive_keys (id, team, recipient, identity_sealed, created_at, sealed_under)
             values ($1, $2, $3, $4, $5, $6)",
            key.id,
            key.team,
            key.recipient,
            key.identity,
            key.created_at,
            key.under
        )
        .execute(&mut *transaction)
        .await;
        added.map_err(|error| match violated(&error) {
            Some("archive_keys_one_in_use") => CatalogError::KeyInUse(owner),
            Some(_) | None => error.into(),
        })?;
        let entry = Audit::new(
            match succession {
                Succession::First => "create_key",
                Succession::Next => "rotate_key",
            },
            json!({ "key": key.id, "team": key.team, "recipient": key.recipient }),
        );
        record(&mut transaction, &entry).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Records a key of an earlier catalog. Returns whether it was new.
    ///
    /// The key is recorded as retired: it opens what it encrypted, but encrypts nothing more, because nobody knows who wrote its escrow.
    pub async fn recover_key(&self, key: &NewKey<'_>) -> Result<bool, CatalogError> {
        let added = sqlx::query!(
            "insert into lastgood.archive_keys (id, team, recipient, identity_sealed, created_at, sealed_under, retired_at)
             values ($1, $2, $3, $4, $5, $6, now()) on conflict do nothing",
            key.id,
            key.team,
            key.recipient,
            key.identity,
            key.created_at,
            key.under
        )
        .execute(self.pool())
        .await?;
        Ok(added.rows_affected() > 0)
    }

    /// Destroys the secrets of all of a team's keys, quarantines the points that they encrypted, and records who did it. Idempotent.
    pub async fn shred_keys(&self, team: &str) -> Result<Shredded, CatalogError> {
        let mut transaction = self.pool().begin().await?;
        // In the same order as a finishing backup or verification, which locks its resource before its key.
        sqlx::query!(
            "select id from lastgood.resources where team = $1 order by id for no key update",
            team
        )
        .fetch_all(&mut *transaction)
        .await?;
        let keys = sqlx::query_scalar!(
            "update lastgood.archive_keys
             set identity_sealed = null, shredded_at = coalesce(shredded_at, now()), retired_at = coalesce(retired_at, now())
             where team = $1 returning id",
            team
        )
        .fetch_all(&mut *transaction)
        .await?;
        if keys.is_empty() {
            return Err(CatalogError::NoKeyInUse(owner(Some(team))));
        }
        let names: Vec<String> = keys.iter().map(Uuid::to_string).collect();
        let held = sqlx::query_scalar!(
            r#"select count(*) as "held!" from lastgood.restore_points as p join lastgood.resources as r on r.id = p.resource_id
               where r.team = $1 and p.held_at is not null and p.manifest #>> '{archive,encryption,key}' = any($2::text[])"#,
            team,
            &names
        )
        .fetch_one(&mut *transaction)
        .await?;
        if held > 0 {
            return Err(CatalogError::PointsHeld {
                team: team.to_owned(),
                points: held,
            });
        }
        let points = sqlx::query_file!("src/catalog/shred_points.sql", team, &names)
            .fetch_one(&mut *transaction)
            .await?;
        sqlx::query!(
            "update lastgood.resources as r
             set newest_consistent_at = (
                 select max(p.consistent_at) from lastgood.trusted_points as p where p.resource_id = r.id
             )
             where r.team = $1 and r.newest_consistent_at is not null",
            team
        )
        .execute(&mut *transaction)
        .await?;
        let shredded = Shredded {
            keys,
            points_lost: points.lost,
            points_left: points.left,
        };
        let entry = Audit::new("shred", json!({ "team": team, "shredded": shredded }));
        record(&mut transaction, &entry).await?;
        transaction.commit().await?;
        Ok(shredded)
    }

    /// Returns where to try the keys in use: the platform's, and those of up to `teams` teams, chosen at random.
    pub async fn key_samples(&self, teams: i64) -> Result<Vec<KeySample>, CatalogError> {
        let rows = sqlx::query_file_as!(KeySample, "src/catalog/key_samples.sql", teams)
            .fetch_all(self.pool())
            .await?;
        Ok(rows)
    }
}

impl Catalog {
    /// Returns the instant of the newest trusted restore point at or before `at` that can be read: it is not encrypted, or its key is on
    /// record and was not shredded.
    pub async fn newest_that_opens(
        &self,
        resource_id: &str,
        at: Option<DateTime<Utc>>,
    ) -> Result<Option<DateTime<Utc>>, CatalogError> {
        let found = sqlx::query_file_scalar!("src/catalog/newest_that_opens.sql", resource_id, at)
            .fetch_optional(self.pool())
            .await?;
        Ok(found)
    }
}

fn owner(team: Option<&str>) -> String {
    team.map_or_else(
        || "the platform".to_owned(),
        |team| format!("team {team:?}"),
    )
}

//! The catalog's schema: which version is there, and how it becomes this build's.
//!
//! Tables come by migrations, which are never edited once they are released. Functions and triggers come by `sql/functions`, a file each,
//! which are applied anew whenever [`FUNCTIONS_VERSION`] has been raised: a reader finds what a claim does in one place.

use std::borrow::Cow;

use sqlx::migrate::Migrator;

use super::{Catalog, CatalogError};

/// The oldest PostgreSQL that can be the catalog, as `server_version_num`: the first with `date_bin`.
const OLDEST_SERVER: i32 = 140_000;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Raised with every change of a released file in `sql/functions`. Older builds work with newer functions, so these only ever add.
const FUNCTIONS_VERSION: i32 = 4;

/// Every file of `sql/functions`, in the order of their names. None needs another to be there when it is made.
const FUNCTIONS: [&str; 39] = [
    include_str!("../../sql/functions/ask_for_backup.sql"),
    include_str!("../../sql/functions/backups_fail.sql"),
    include_str!("../../sql/functions/canonical_json.sql"),
    include_str!("../../sql/functions/claim.sql"),
    include_str!("../../sql/functions/claim_all.sql"),
    include_str!("../../sql/functions/copies_arrive.sql"),
    include_str!("../../sql/functions/copies_go.sql"),
    include_str!("../../sql/functions/counted_until.sql"),
    include_str!("../../sql/functions/enqueue_backup.sql"),
    include_str!("../../sql/functions/exposed_since.sql"),
    include_str!("../../sql/functions/first_open_day.sql"),
    include_str!("../../sql/functions/is_sealed_under_the_key_in_force.sql"),
    include_str!("../../sql/functions/is_shredded.sql"),
    include_str!("../../sql/functions/job.sql"),
    include_str!("../../sql/functions/key_of.sql"),
    include_str!("../../sql/functions/next_due.sql"),
    include_str!("../../sql/functions/pause_line.sql"),
    include_str!("../../sql/functions/pauses_are_recorded.sql"),
    include_str!("../../sql/functions/points_are_judged_anew.sql"),
    include_str!("../../sql/functions/points_are_missed.sql"),
    include_str!("../../sql/functions/points_are_past.sql"),
    include_str!("../../sql/functions/points_are_proven.sql"),
    include_str!("../../sql/functions/priority.sql"),
    include_str!("../../sql/functions/proof_as_hashed.sql"),
    include_str!("../../sql/functions/proofs_stay.sql"),
    include_str!("../../sql/functions/record_proof.sql"),
    include_str!("../../sql/functions/resources_are_let_go.sql"),
    include_str!("../../sql/functions/resources_are_looked_at.sql"),
    include_str!("../../sql/functions/resources_are_recorded.sql"),
    include_str!("../../sql/functions/resources_touch.sql"),
    include_str!("../../sql/functions/restore_points_are_lost.sql"),
    include_str!("../../sql/functions/restore_points_are_suspected.sql"),
    include_str!("../../sql/functions/retry_delay.sql"),
    include_str!("../../sql/functions/runs_notify.sql"),
    include_str!("../../sql/functions/runs_record_attempts.sql"),
    include_str!("../../sql/functions/says_suspect.sql"),
    include_str!("../../sql/functions/slot_offset.sql"),
    include_str!("../../sql/functions/slot_start.sql"),
    include_str!("../../sql/functions/team_share.sql"),
];

impl Catalog {
    /// Applies the migrations and functions that are missing. Safe to run at any time, by several at once.
    pub async fn migrate(&self) -> Result<(), CatalogError> {
        let version = self.server_version_num().await?;
        if version < OLDEST_SERVER {
            return Err(CatalogError::TooOld(version / 10_000));
        }
        if self.was_made_before().await? {
            return Err(CatalogError::MadeBefore);
        }
        migrations()
            .run(self.pool())
            .await
            .map_err(CatalogError::Migrate)?;
        self.apply_functions().await
    }

    /// Replaces the functions where they are of an older build. A trigger locks its table: nobody is kept waiting for that for long.
    async fn apply_functions(&self) -> Result<(), CatalogError> {
        let mut transaction = self.pool().begin().await?;
        super::wait_briefly(&mut transaction).await?;
        let in_force =
            sqlx::query_scalar!("select version from lastgood.functions_in_force for update")
                .fetch_one(&mut *transaction)
                .await?;
        if in_force >= FUNCTIONS_VERSION {
            return Ok(());
        }
        sqlx::raw_sql("set local check_function_bodies = off")
            .execute(&mut *transaction)
            .await?;
        for function in FUNCTIONS {
            sqlx::raw_sql(function).execute(&mut *transaction).await?;
        }
        sqlx::query!(
            "update lastgood.functions_in_force set version = $1",
            FUNCTIONS_VERSION
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Returns whether the schema was made by a build whose migrations were other ones: they had numbers up to 41, and no functions apart.
    async fn was_made_before(&self) -> Result<bool, CatalogError> {
        let has_no_functions = sqlx::query_scalar!(
            r#"select to_regclass('lastgood.migrations') is not null
                   and to_regclass('lastgood.functions_in_force') is null as "has!""#
        )
        .fetch_one(self.pool())
        .await?;
        if !has_no_functions {
            return Ok(false);
        }
        let last: Option<i64> = sqlx::query_scalar("select max(version) from lastgood.migrations")
            .fetch_one(self.pool())
            .await?;
        let of_this_build = MIGRATIONS.iter().map(|migration| migration.version).max();
        Ok(last > of_this_build)
    }

    /// Refuses a schema that lacks a migration or a function of this build. A newer schema is welcome: migrations only add.
    pub async fn check_schema(&self) -> Result<(), CatalogError> {
        let exists = sqlx::query_scalar!(
            r#"select to_regclass('lastgood.migrations') is not null as "exists!""#
        )
        .fetch_one(self.pool())
        .await?;
        if !exists {
            return Err(CatalogError::NotMigrated("it is empty".to_owned()));
        }
        if self.was_made_before().await? {
            return Err(CatalogError::MadeBefore);
        }
        let applied: Vec<i64> =
            sqlx::query_scalar("select version from lastgood.migrations where success")
                .fetch_all(self.pool())
                .await?;
        let missing = MIGRATIONS
            .iter()
            .find(|migration| !applied.contains(&migration.version));
        if let Some(migration) = missing {
            return Err(CatalogError::NotMigrated(format!(
                "migration {} is missing",
                migration.version
            )));
        }
        let in_force = sqlx::query_scalar!("select version from lastgood.functions_in_force")
            .fetch_one(self.pool())
            .await?;
        if in_force < FUNCTIONS_VERSION {
            return Err(CatalogError::NotMigrated(format!(
                "its functions are version {in_force}, not {FUNCTIONS_VERSION}"
            )));
        }
        Ok(())
    }
}

/// Our own schema and table: the database may be shared with services that have migrations of their own.
fn migrations() -> Migrator {
    Migrator {
        migrations: Cow::Borrowed(&MIGRATIONS.migrations),
        table_name: Cow::Borrowed("lastgood.migrations"),
        create_schemas: Cow::Owned(vec![Cow::Borrowed("lastgood")]),
        ..Migrator::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use anyhow::Result;

    use super::FUNCTIONS;

    /// The kind: a function that is changed and that no catalog gets, because nobody raised the version.
    #[test]
    fn every_function_is_applied_and_a_change_raises_the_version() -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/functions");
        let files: BTreeMap<_, _> = fs::read_dir(folder)?
            .map(|entry| {
                let path = entry?.path();
                Ok((path.clone(), fs::read_to_string(path)?))
            })
            .collect::<Result<_>>()?;
        let texts: Vec<_> = files.values().map(String::as_str).collect();
        assert_eq!(
            texts, FUNCTIONS,
            "a file is missing in FUNCTIONS, or in another order"
        );
        let hash = blake3::hash(FUNCTIONS.concat().as_bytes()).to_hex();
        assert_eq!(
            &hash[..16],
            "6b9ce3fab4265a38",
            "sql/functions has changed: raise FUNCTIONS_VERSION if the last one was released, and write the new hash here"
        );
        Ok(())
    }
}

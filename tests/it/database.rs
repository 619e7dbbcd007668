//! A private catalog for each test: created, migrated, and dropped however the test ends.

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use lastgood::{catalog::Catalog, plan::Plans};
use secrecy::SecretString;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool,
    postgres::PgConnectOptions,
};

const VARIABLE: &str = "LASTGOOD_TEST_CATALOG_URL";

/// A database of the test's own.
pub(crate) struct TestCatalog {
    pub(crate) catalog: Catalog,
    database: Database,
}

impl TestCatalog {
    /// Returns a migrated catalog.
    pub(crate) async fn create() -> Result<Self> {
        let fresh = Self::without_schema().await?;
        fresh.catalog.migrate().await?;
        Ok(fresh)
    }

    /// Returns a catalog without a schema.
    pub(crate) async fn without_schema() -> Result<Self> {
        let database = Database::create().await?;
        let catalog = Catalog::connect(&database.url(), 8).await?;
        Ok(Self { catalog, database })
    }

    /// Returns a migrated catalog whose clock stands at `at` until [`Self::set_clock`] moves it.
    ///
    /// The test's functions come before PostgreSQL's in the search path, so the unaltered statements of the queue and the producer run in
    /// the test's time.
    pub(crate) async fn with_clock(at: DateTime<Utc>) -> Result<Self> {
        let database = Database::create().await?;
        let mut connection = PgConnection::connect_with(&database.options).await?;
        sqlx::raw_sql(
            "create schema sim;
             create table sim.clock (at timestamptz not null, started timestamptz not null);
             insert into sim.clock values ('2000-01-01', '2000-01-01');
             create function sim.now() returns timestamptz language sql stable as 'select at from sim.clock';
             create function sim.clock_timestamp() returns timestamptz language sql volatile as 'select at from sim.clock';
             create function sim.pg_postmaster_start_time() returns timestamptz language sql stable as 'select started from sim.clock';",
        )
        .execute(&mut connection)
        .await?;
        let name = &database.name;
        let statement = format!("alter database {name} set search_path = sim, pg_catalog, public");
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await?;
        connection.close().await?;
        let catalog = Catalog::connect(&database.url(), 8).await?;
        let simulated = Self { catalog, database };
        simulated.set_clock(at).await?;
        simulated.catalog.migrate().await?;
        Ok(simulated)
    }

    /// Sets the clock of [`Self::with_clock`].
    pub(crate) async fn set_clock(&self, at: DateTime<Utc>) -> Result<()> {
        sqlx::query("update sim.clock set at = $1")
            .bind(at)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Sets when the server of [`Self::with_clock`] claims to have started.
    pub(crate) async fn set_server_start(&self, at: DateTime<Utc>) -> Result<()> {
        sqlx::query("update sim.clock set started = $1")
            .bind(at)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Returns the same catalog through a pool of its own, as another process would have it.
    pub(crate) async fn another(&self) -> Result<Catalog> {
        Ok(Catalog::open(&self.url(), 8).await?)
    }

    pub(crate) fn pool(&self) -> &PgPool {
        self.catalog.pool()
    }

    pub(crate) fn name(&self) -> &str {
        &self.database.name
    }

    pub(crate) fn url(&self) -> SecretString {
        self.database.url()
    }

    /// Refuses all connections and ends the open ones except `spared`, or accepts connections again.
    pub(crate) async fn set_reachable(&self, reachable: bool) -> Result<()> {
        let name = &self.database.name;
        let mut admin = admin().await?;
        let statement = format!("alter database {name} allow_connections {reachable}");
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut admin)
            .await?;
        if !reachable {
            sqlx::query(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1",
            )
            .bind(name)
            .execute(&mut admin)
            .await?;
        }
        Ok(())
    }

    /// Returns the server's time, even while this database refuses connections.
    pub(crate) async fn server_time() -> Result<DateTime<Utc>> {
        let now = sqlx::query_scalar("select clock_timestamp()")
            .fetch_one(&mut admin().await?)
            .await?;
        Ok(now)
    }

    /// Registers a resource of engine `postgres`.
    pub(crate) async fn add(&self, id: &str, team: &str, tier: &str) -> Result<()> {
        self.add_on("postgres", id, team, tier).await
    }

    pub(crate) async fn add_on(
        &self,
        engine: &str,
        id: &str,
        team: &str,
        tier: &str,
    ) -> Result<()> {
        // Without the audit record that a registration leaves: tests count those of what they do themselves.
        sqlx::query(
            "insert into lastgood.resources (id, team, tier, engine, connection_ref)
             values ($1, $2, $3, $4, 'env:SOME_URL')",
        )
        .bind(id)
        .bind(team)
        .bind(tier)
        .bind(engine)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Returns the number that a statement selects.
    pub(crate) async fn count(&self, statement: &'static str) -> Result<i64> {
        sqlx::query_scalar(statement)
            .fetch_one(self.pool())
            .await
            .context(statement)
    }

    pub(crate) async fn execute(&self, statement: &'static str) -> Result<u64> {
        let done = sqlx::query(statement)
            .execute(self.pool())
            .await
            .context(statement)?;
        Ok(done.rows_affected())
    }
}

/// Returns plans as a file would state them, from `(name, rpo, retention)` triples.
pub(crate) fn plans(tiers: &[(&str, i32, i32)]) -> Result<Plans> {
    let mut text = "version: 1\ntiers:\n".to_owned();
    for (tier, rpo, retention) in tiers {
        let promise = format!("{{rpo_minutes: {rpo}, backup_retention_days: {retention}}}");
        text.extend(["  ", *tier, ": ", &promise, "\n"]);
    }
    Ok(Plans::parse(&text)?)
}

/// A database that is dropped together with this value.
struct Database {
    name: String,
    options: PgConnectOptions,
}

impl Database {
    async fn create() -> Result<Self> {
        let name = format!("lastgood_test_{}", uuid::Uuid::new_v4().simple());
        let statement = format!("create database {name} template template0");
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut admin().await?)
            .await?;
        let options = admin_options()?.database(&name);
        Ok(Self { name, options })
    }

    fn url(&self) -> SecretString {
        SecretString::from(self.options.to_url_lossy().to_string())
    }
}

impl Drop for Database {
    /// Uses a runtime of its own, to work after a panic or an early return too.
    fn drop(&mut self) {
        let statement = format!("drop database if exists {} with (force)", self.name);
        let dropping = std::thread::spawn(move || -> Result<()> {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(async {
                    sqlx::raw_sql(AssertSqlSafe(statement))
                        .execute(&mut admin().await?)
                        .await?;
                    Ok(())
                })
        });
        // A database that is left behind is no reason to fail a test.
        drop(dropping.join());
    }
}

async fn admin() -> Result<PgConnection> {
    PgConnection::connect_with(&admin_options()?)
        .await
        .with_context(|| format!("nobody answers at {VARIABLE}"))
}

fn admin_options() -> Result<PgConnectOptions> {
    crate::variable(VARIABLE)?
        .parse()
        .with_context(|| format!("{VARIABLE} is not a PostgreSQL URL"))
}

/// What a session has read from the table of runs.
#[derive(sqlx::FromRow)]
pub(crate) struct ReadsOfRuns {
    /// The number of scans of the whole table.
    pub(crate) whole: i64,
    /// The number of rows.
    pub(crate) rows: i64,
}

/// Returns what this session has read from the runs so far.
///
/// A session may not have reported yet what its earlier transactions read, so a single reading says nothing about a statement.
pub(crate) async fn reads_of_runs(session: &mut sqlx::PgConnection) -> Result<ReadsOfRuns> {
    let reads = sqlx::query_as(
        "select seq_scan as whole, seq_tup_read + idx_tup_fetch as rows from pg_stat_xact_user_tables
         where schemaname = 'lastgood' and relname = 'runs'",
    )
    .fetch_one(session)
    .await?;
    Ok(reads)
}

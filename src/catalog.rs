//! The catalog: the Postgres database that records which databases are protected, which runs are wanted, which points are
//! restorable and which processes are alive.

mod adhoc;
mod attempts;
mod audit;
mod batch;
mod cancel;
mod closed;
mod consumers;
mod copies;
mod drills;
mod error;
mod exposure;
mod fleet;
mod history;
mod holds;
mod keys;
mod leadership;
mod listings;
mod master_keys;
mod order;
mod pauses;
mod points;
mod producers;
mod promise;
mod proof_ledger;
mod proofs;
mod queue_stats;
mod rebuild;
mod registry;
mod resources;
mod retention;
mod retry;
mod runs;
mod schema;
mod sealed;
mod shown_points;
mod signing_keys;
mod standing;
mod stores;
mod superusers;
mod tokens;
mod transports;

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    Connection as _, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

pub use adhoc::{AdhocBackup, AdhocLimits, LimitOf};
pub(crate) use audit::record;
pub use audit::{Audit, AuditFilter};
pub(crate) use batch::{ended, leave_out};
pub use consumers::{Beat, Registration};
pub use copies::MissingCopies;
pub use drills::{AskedDrill, Doubt, UnprovenCount};
pub use error::CatalogError;
pub(crate) use error::is_refused;
pub use exposure::{ResourceExposure, TierExposure};
pub use fleet::KnownFleet;
pub use history::{Bookmark, Pruned};
pub use keys::{KeyInUse, KeySample, NewKey, SealedKey, Shredded, Succession};
pub use leadership::Work;
pub use listings::{Disappearance, ExpectedPoint, Lost, StoreListing};
pub use master_keys::MasterKeyRow;
pub use order::{FailedFilter, Mode, Order, Ordered, Refusal};
pub use pauses::{Paused, Scope};
pub use points::{PointFilter, PointRow, SuspectCount};
pub use producers::{GoesBy, PlansOnRecord, Scheduling};
pub use promise::{DayPass, DayRow, Kept, KeptFilter, KeptOfResource, Rate, Recount};
pub use proof_ledger::{Extract, LedgerEnd, ProofFilter};
pub(crate) use proofs::interval;
pub use proofs::{ASKED_AT_ONCE, Asked, ProofCount, ProofVerdict, Selection};
pub use queue_stats::QueueFigures;
pub use rebuild::{FoundPoint, Rebuilt};
use resources::resource_not_found;
pub use resources::{
    NewResource, OwnRetention, ResourceChange, ResourceFilter, ResourceRow, StoredConnection,
};
pub use retention::{Custody, Doomed, Fate, JUDGED_AT_ONCE, JudgedPoint, Removals, Retained};
pub(crate) use retention::{let_go, points_to_judge};
pub use runs::{Enqueued, FirstRun, NewRun, RunFilter};
pub use sealed::{FreshUrl, SealedCount, SealedUrl, UnopenedUrl};
pub use signing_keys::SealedSigningKey;
pub use stores::{Forgotten, Installations, OnlyCopy, StoreIdentity, StoreOnRecord};
pub use tokens::{Holder, NewToken};
pub use transports::UnverifiedTransport;

/// The longest that a statement of a service or a command may take. A statement that nobody waits for any more ends here, and gives its
/// connection back. `migrate` and `doctor` have no such limit.
const LONGEST_STATEMENT: Duration = Duration::from_mins(5);
/// How long an unused connection stays open.
const IDLE: Duration = Duration::from_mins(10);
/// The same for processes that should hold few connections. An idle consumer sends less than one statement a second and its connections
/// take turns, so a third connection is closed before its turn comes.
const SPARING: Duration = Duration::from_secs(3);

/// Parses the catalog's URL. Poolers refuse the other start-up parameter that the driver would set, `extra_float_digits`; every
/// supported server prints all digits without it.
fn options(url: &SecretString) -> Result<PgConnectOptions, CatalogError> {
    let options: PgConnectOptions = url
        .expose_secret()
        .parse()
        .map_err(|_| CatalogError::BadUrl)?;
    Ok(options
        .application_name("lastgood")
        .extra_float_digits(None))
}

/// Returns the catalog's answer, or [`CatalogError::Unreachable`] if it takes longer than `within`: a connection can hang for hours
/// without an error.
pub async fn answered<T>(
    within: Duration,
    asking: impl Future<Output = Result<T, CatalogError>>,
) -> Result<T, CatalogError> {
    tokio::time::timeout(within, asking)
        .await
        .unwrap_or(Err(CatalogError::Unreachable(sqlx::Error::PoolTimedOut)))
}

/// A pool of connections to the catalog.
#[derive(Debug, Clone)]
pub struct Catalog {
    pool: PgPool,
}

impl Catalog {
    /// Connects without checking the schema, for `migrate` and `doctor`.
    pub async fn connect(url: &SecretString, connections: u32) -> Result<Self, CatalogError> {
        Self::connect_within(url, connections, None, None).await
    }

    /// Connects like [`Catalog::connect`], but does not wait for a server that may be about to start: it reports a failure at once, with
    /// the server's own error.
    pub async fn connect_at_once(
        url: &SecretString,
        connections: u32,
    ) -> Result<Self, CatalogError> {
        let first = PgConnection::connect_with(&options(url)?).await;
        let first = first.map_err(CatalogError::Unreachable)?;
        // Only the connecting matters; an error while closing does not.
        drop(first.close().await);
        Self::connect(url, connections).await
    }

    async fn connect_within(
        url: &SecretString,
        connections: u32,
        longest_statement: Option<Duration>,
        idle: Option<Duration>,
    ) -> Result<Self, CatalogError> {
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(10))
            .idle_timeout(idle.unwrap_or(IDLE))
            // A slow wait that ends well is not worth a warning, least of all on a command's standard error.
            .acquire_slow_threshold(Duration::from_secs(10))
            // A forgotten transaction would slow every claim; lastgood never leaves one idle that long. Set here and not at
            // start-up, because a pooler would refuse it there.
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if let Some(longest) = longest_statement {
                        sqlx::query("select set_config('statement_timeout', $1, false)")
                            .bind(longest.as_millis().to_string())
                            .execute(&mut *connection)
                            .await?;
                    }
                    // JIT compilation of a large tick takes longer than running it.
                    for setting in [
                        "set idle_in_transaction_session_timeout = '60s'",
                        "set jit = off",
                    ] {
                        sqlx::query(setting).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .connect_with(options(url)?)
            .await
            .map_err(CatalogError::Unreachable)?;
        Ok(Self { pool })
    }

    /// Connects and checks that the schema is the one this build needs. Every statement is limited to 5 minutes.
    pub async fn open(url: &SecretString, connections: u32) -> Result<Self, CatalogError> {
        let catalog = Self::connect_within(url, connections, Some(LONGEST_STATEMENT), None).await?;
        catalog.check_schema().await?;
        Ok(catalog)
    }

    /// Opens the catalog like [`Catalog::open`], but soon closes unused connections: for the many processes that mostly wait.
    pub async fn open_sparing(url: &SecretString, connections: u32) -> Result<Self, CatalogError> {
        let catalog =
            Self::connect_within(url, connections, Some(LONGEST_STATEMENT), Some(SPARING)).await?;
        catalog.check_schema().await?;
        Ok(catalog)
    }

    /// Opens the catalog like [`Catalog::open`], but limits every statement to `longest_statement`.
    ///
    /// The client that asked may be gone, and a statement that nobody waits for keeps its connection until it ends.
    pub async fn open_bounded(
        url: &SecretString,
        connections: u32,
        longest_statement: Duration,
    ) -> Result<Self, CatalogError> {
        let catalog = Self::connect_within(url, connections, Some(longest_statement), None).await?;
        catalog.check_schema().await?;
        Ok(catalog)
    }

    /// Returns the catalog's time. Slots and leases go by this clock alone.
    pub async fn now(&self) -> Result<DateTime<Utc>, CatalogError> {
        let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
            .fetch_one(&self.pool)
            .await?;
        Ok(now)
    }

    /// Returns the server's `server_version_num`, 140000 for PostgreSQL 14.
    pub async fn server_version_num(&self) -> Result<i32, CatalogError> {
        let number = sqlx::query_scalar!(
            r#"select current_setting('server_version_num')::integer as "number!""#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(number)
    }

    /// Returns the pool, for the queue, the producer and tests.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}

/// Limits the transaction's lock waits to 5 seconds, as long as a caller and a pool of few connections can bear.
async fn wait_briefly(connection: &mut PgConnection) -> Result<(), CatalogError> {
    sqlx::query("set local lock_timeout = '5s'")
        .execute(connection)
        .await?;
    Ok(())
}

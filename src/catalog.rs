//! The catalog: the Postgres database that records what is protected, asked for, restorable and alive.

mod adhoc;
mod attempts;
mod audit;
mod batch;
mod cancel;
mod closed;
mod consumers;
mod copies;
mod exposure;
mod history;
mod keys;
mod leadership;
mod listings;
mod master_keys;
mod order;
mod pauses;
mod points;
mod producers;
mod proofs;
mod queue_stats;
mod rebuild;
mod registry;
mod resources;
mod retention;
mod retry;
mod runs;
mod sealed;
mod standing;
mod stores;
mod tokens;
mod transports;

use std::{borrow::Cow, time::Duration};

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    Connection as _, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

pub use adhoc::{AdhocBackup, AdhocLimits, LimitOf};
pub use attempts::{AttemptRow, RunningRun};
pub(crate) use audit::record;
pub use audit::{Audit, AuditFilter, AuditRow};
pub(crate) use batch::{ended, leave_out};
pub use closed::ClosedDatabase;
pub use consumers::{Beat, ConsumerRow, Registration};
pub use copies::MissingCopies;
pub use exposure::{QueueDepth, ResourceExposure, StuckRun, Suspended, TierExposure, UnknownTier};
pub use history::{Bookmark, Pruned};
pub use keys::{KeyInUse, KeyRow, KeySample, NewKey, SealedKey, Shredded, Succession};
pub use leadership::Work;
pub use listings::{Disappearance, ExpectedPoint, Lost, StoreListing};
pub use master_keys::MasterKeyRow;
pub use order::{FailedFilter, Mode, Order, Ordered, Refusal};
pub use pauses::{Pause, PauseCost, Paused, Scope};
pub use points::{PointRow, SuspectCount, SuspectPoint};
pub use producers::{GoesBy, PlansOnRecord, Scheduling};
pub(crate) use proofs::interval;
pub use proofs::{ASKED_AT_ONCE, Asked, ProofCount, ProofVerdict, QuarantinedPoint, Selection};
pub use queue_stats::{QueueFigures, QueueStats};
pub use rebuild::{FoundPoint, Rebuilt};
use resources::resource_not_found;
pub use resources::{
    NewResource, OwnRetention, ResourceChange, ResourceFilter, ResourceRow, ResourceStatus,
    StoredConnection,
};
pub use retention::{Custody, Doomed, Fate, JUDGED_AT_ONCE, JudgedPoint, Removals, Retained};
pub(crate) use retention::{let_go, points_to_judge};
pub use runs::{Enqueued, FirstRun, NewRun, RunFilter, RunRow};
pub use sealed::{FreshUrl, SealedCount, SealedUrl, UnopenedUrl};
pub use stores::{Forgotten, Installations, OnlyCopy, StoreFault, StoreIdentity, StoreOnRecord};
pub use tokens::{Holder, NewToken, TokenRow};
pub use transports::UnverifiedTransport;

/// The oldest PostgreSQL that can be the catalog, as `server_version_num`: the first with `date_bin`.
const OLDEST_SERVER: i32 = 140_000;

/// No statement of a service or of a command takes longer: what nobody waits for any more ends, and gives its connection back. Only a
/// migration may.
const LONGEST_STATEMENT: Duration = Duration::from_mins(5);
/// How long a connection stays open that nobody uses.
const IDLE: Duration = Duration::from_mins(10);
/// The same where connections are to be spared. An idle consumer sends a statement in more than a second, and its connections take turns:
/// with this, a third one is not used again in time.
const SPARING: Duration = Duration::from_secs(3);

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Why the catalog could not answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The URL does not parse. It is not shown: it holds a password.
    #[error(
        "the catalog's URL is not a PostgreSQL URL: set DATABASE_URL to postgresql://user:password@host:5432/database"
    )]
    BadUrl,
    /// Nobody answers.
    #[error("cannot reach the catalog: check DATABASE_URL and that the server is up")]
    Unreachable(#[source] sqlx::Error),
    /// What is needed is locked by somebody whose transaction does not end.
    #[error(
        "another transaction is in the way and does not end, one that used the same idempotency key, say: nothing was done, try \
         again when it has ended"
    )]
    Busy(#[source] sqlx::Error),
    /// The schema is missing or older than this build.
    #[error("the catalog's schema is not the one this build needs ({0}): run `lastgood migrate`")]
    NotMigrated(String),
    /// A migration failed.
    #[error("cannot migrate the catalog")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The server is too old.
    #[error("the catalog's server is PostgreSQL {0}: 14 or later is needed")]
    TooOld(i32),
    /// There is no such thing.
    #[error("there is no {what} {id:?}: see `lastgood {list}`")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// Under which id.
        id: String,
        /// The command that lists them.
        list: &'static str,
    },
    /// It is there already.
    #[error(
        "resource {0:?} exists already: ids are never used twice, for its restore points carry them"
    )]
    Exists(String),
    /// A resource that was rebuilt from manifests, which hold no secret.
    #[error(
        "resource {0:?} has no connection, for it was rebuilt from manifests: give it one with `lastgood resource set {0} \
         --connection …`, then `lastgood resource resume {0}`"
    )]
    NoConnection(String),
    /// A restore of this resource is queued or running.
    #[error(
        "a restore of {0:?} is queued or running: wait for it, or see `lastgood run list --resource {0}`"
    )]
    RestoreUnderWay(String),
    /// Retention has let the point go.
    #[error(
        "restore point {0} has expired and is being removed: take another, see `lastgood backup list`; if its removal has not \
         begun, `lastgood backup pin {0} --because …` keeps it"
    )]
    PointExpired(Uuid),
    /// Its removal has begun.
    #[error("restore point {0} has expired and its removal has begun: it is too late to keep it")]
    TooLateToKeep(Uuid),
    /// A team that registers its resources itself has as many as it may have.
    #[error(
        "team {team:?} has {most} resources, as many as it may register itself: `lastgood limits set --resources-per-team` changes it"
    )]
    QuotaReached {
        /// Whose.
        team: String,
        /// How many it may have.
        most: i32,
    },
    /// There is nothing to confirm.
    #[error(
        "restore point {0} is not suspect: there is nothing to confirm, see `lastgood backup list`"
    )]
    NotSuspect(Uuid),
    /// One of two clocks is wrong.
    #[error(
        "the catalog's clock is {minutes} minutes ahead of this machine's (less than 0: behind): fix NTP; until then nothing \
         expires"
    )]
    ClocksApart {
        /// By how much.
        minutes: i64,
    },
    /// So much is gone from a store that no accident explains it.
    #[error(
        "restore points have disappeared from store {0:?} en masse: nothing expires and nothing is removed until they are back, or \
         `lastgood store accept-loss {0}` says that they are lost for good; see `lastgood status`"
    )]
    StoreVanished(String),
    /// It was removed for good.
    #[error("resource {0:?} was removed: it cannot be backed up")]
    Removed(String),
    /// A key that is none.
    #[error("an idempotency key has 1 to 255 characters")]
    BadKey,
    /// Another token has the name.
    #[error(
        "a token named {0:?} is in use: choose another name, or revoke that one: `lastgood token list`"
    )]
    TokenNameInUse(String),
    /// The key was used for another request.
    #[error("the idempotency key was used for another request on this resource: use a new one")]
    KeyReused,
    /// Points are on record in the store that is to be forgotten, and in no other.
    #[error(
        "{points} usable restore points are on record in store {store:?} alone: copy them first, or say that they are lost with \
         --overwrite {store}; nothing was forgotten"
    )]
    OnlyCopies {
        /// The store.
        store: String,
        /// How many.
        points: i64,
    },
    /// A key is in use already.
    #[error("{0} has a key in use already: `lastgood key rotate` makes the next one")]
    KeyInUse(String),
    /// The law wants kept what could not be read any more.
    #[error(
        "{points} restore points of team {team:?} are under a legal hold, and could not be read any more: release them first"
    )]
    PointsHeld {
        /// Whose.
        team: String,
        /// How many.
        points: i64,
    },
    /// No key is in use.
    #[error(
        "{0} has no key in use: `lastgood key create` makes one, `lastgood key list` shows all"
    )]
    NoKeyInUse(String),
    /// A rotation came between sealing something and storing it.
    #[error(
        "the master key was replaced meanwhile, and nothing more is stored that was sealed under the old one: nothing was done, try again \
         with the new one"
    )]
    MasterKeyReplaced,
    /// A row that this build does not understand.
    #[error("the catalog holds {what} that this build does not understand: {why}")]
    BadRow {
        /// Which row.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A statement failed.
    #[error("the catalog refused a statement")]
    Statement(#[source] sqlx::Error),
}

impl From<sqlx::Error> for CatalogError {
    fn from(error: sqlx::Error) -> Self {
        let is_busy =
            |said: &dyn sqlx::error::DatabaseError| said.code().as_deref() == Some("55P03");
        let is_of_old_key = |said: &dyn sqlx::error::DatabaseError| {
            said.constraint() == Some("sealed_under_the_key_in_force")
        };
        if is_of_connection(&error) {
            Self::Unreachable(error)
        } else if error.as_database_error().is_some_and(is_busy) {
            Self::Busy(error)
        } else if error.as_database_error().is_some_and(is_of_old_key) {
            Self::MasterKeyReplaced
        } else {
            Self::Statement(error)
        }
    }
}

impl CatalogError {
    /// Returns whether it is what a row says that the catalog refuses, now and for ever: the statement may do for other rows.
    #[must_use]
    pub fn is_of_a_row(&self) -> bool {
        matches!(self, Self::BadRow { .. })
            || matches!(self, Self::Statement(error) if is_refused(error))
    }

    /// Returns whether asking again may help.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Busy(_))
    }
}

/// Reads the address of the catalog. Poolers refuse what else the driver would set at start-up; every server that we know prints all
/// digits without it.
fn options(url: &SecretString) -> Result<PgConnectOptions, CatalogError> {
    let options: PgConnectOptions = url
        .expose_secret()
        .parse()
        .map_err(|_| CatalogError::BadUrl)?;
    Ok(options
        .application_name("lastgood")
        .extra_float_digits(None))
}

/// Whether nobody answered, or not for long: 08 is a broken connection, 57P a shutdown, 53 a lack of something, 57014 a statement
/// that took too long or was cancelled.
fn is_of_connection(error: &sqlx::Error) -> bool {
    if let Some(said) = error.as_database_error() {
        let of = |code: &str| {
            ["08", "57P", "53", "57014"]
                .iter()
                .any(|class| code.starts_with(class))
        };
        return said.code().is_some_and(|code| of(&code));
    }
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
    )
}

/// Whether it is the data that is refused, so that trying again cannot help: 22 is a value, 23 a constraint, 54 a limit, P0 what a
/// trigger raises. So is a value that this build cannot read.
pub(crate) fn is_refused(error: &sqlx::Error) -> bool {
    if let Some(said) = error.as_database_error() {
        let of = |code: &str| {
            ["22", "23", "54", "P0"]
                .iter()
                .any(|class| code.starts_with(class))
        };
        return said.code().is_some_and(|code| of(&code));
    }
    matches!(
        error,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_)
    )
}

/// Returns what the catalog answers, or that it is unreachable where it does not in time: a connection can hang for hours
/// without an error.
pub async fn answered<T>(
    within: Duration,
    asking: impl Future<Output = Result<T, CatalogError>>,
) -> Result<T, CatalogError> {
    tokio::time::timeout(within, asking)
        .await
        .unwrap_or(Err(CatalogError::Unreachable(sqlx::Error::PoolTimedOut)))
}

/// The catalog, open.
#[derive(Debug, Clone)]
pub struct Catalog {
    pool: PgPool,
}

impl Catalog {
    /// Connects, without looking at the schema: for `migrate` and `doctor`.
    pub async fn connect(url: &SecretString, connections: u32) -> Result<Self, CatalogError> {
        Self::connect_within(url, connections, None, None).await
    }

    /// The same, without waiting for a server that may be about to start: what is wrong is told at once, and in its own words.
    pub async fn connect_at_once(
        url: &SecretString,
        connections: u32,
    ) -> Result<Self, CatalogError> {
        let first = PgConnection::connect_with(&options(url)?).await;
        let first = first.map_err(CatalogError::Unreachable)?;
        // What matters is that it came about.
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
            // A wait that ends well is nobody's business, least of all on a command's standard error.
            .acquire_slow_threshold(Duration::from_secs(10))
            // A forgotten transaction would slow every claim; none of ours is ever idle that long. Set here and not at
            // start-up, for a pooler would refuse it there.
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if let Some(longest) = longest_statement {
                        sqlx::query("select set_config('statement_timeout', $1, false)")
                            .bind(longest.as_millis().to_string())
                            .execute(&mut *connection)
                            .await?;
                    }
                    // Compiling a large tick takes longer than running it.
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

    /// Connects and makes sure that the schema is the one this build needs. No statement may take longer than minutes.
    pub async fn open(url: &SecretString, connections: u32) -> Result<Self, CatalogError> {
        let catalog = Self::connect_within(url, connections, Some(LONGEST_STATEMENT), None).await?;
        catalog.check_schema().await?;
        Ok(catalog)
    }

    /// The same, which soon closes what it does not use: for the many processes that mostly wait.
    pub async fn open_sparing(url: &SecretString, connections: u32) -> Result<Self, CatalogError> {
        let catalog =
            Self::connect_within(url, connections, Some(LONGEST_STATEMENT), Some(SPARING)).await?;
        catalog.check_schema().await?;
        Ok(catalog)
    }

    /// The same, where no statement may take longer than `longest_statement`: who asked may be gone, and a statement that nobody waits
    /// for keeps its connection until it ends.
    pub async fn open_bounded(
        url: &SecretString,
        connections: u32,
        longest_statement: Duration,
    ) -> Result<Self, CatalogError> {
        let catalog = Self::connect_within(url, connections, Some(longest_statement), None).await?;
        catalog.check_schema().await?;
        Ok(catalog)
    }

    /// Applies the migrations that are missing. Safe to run at any time, by several at once.
    pub async fn migrate(&self) -> Result<(), CatalogError> {
        let version = self.server_version_num().await?;
        if version < OLDEST_SERVER {
            return Err(CatalogError::TooOld(version / 10_000));
        }
        migrations()
            .run(&self.pool)
            .await
            .map_err(CatalogError::Migrate)
    }

    /// Refuses a schema that lacks a migration of this build. A newer schema is welcome: migrations only add.
    pub async fn check_schema(&self) -> Result<(), CatalogError> {
        let exists = sqlx::query_scalar!(
            r#"select to_regclass('lastgood.migrations') is not null as "exists!""#
        )
        .fetch_one(&self.pool)
        .await?;
        if !exists {
            return Err(CatalogError::NotMigrated("it is empty".to_owned()));
        }
        let applied: Vec<i64> =
            sqlx::query_scalar("select version from lastgood.migrations where success")
                .fetch_all(&self.pool)
                .await?;
        let missing = MIGRATIONS
            .iter()
            .find(|migration| !applied.contains(&migration.version));
        match missing {
            Some(migration) => Err(CatalogError::NotMigrated(format!(
                "migration {} is missing",
                migration.version
            ))),
            None => Ok(()),
        }
    }

    /// Returns the catalog's own time: the one clock that slots and leases go by.
    pub async fn now(&self) -> Result<DateTime<Utc>, CatalogError> {
        let now = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
            .fetch_one(&self.pool)
            .await?;
        Ok(now)
    }

    /// Returns the server's `server_version_num`.
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

/// Lets this transaction wait for no lock longer than a caller and a pool of few connections can bear.
async fn wait_briefly(connection: &mut PgConnection) -> Result<(), CatalogError> {
    sqlx::query("set local lock_timeout = '5s'")
        .execute(connection)
        .await?;
    Ok(())
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

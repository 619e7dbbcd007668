//! Why the catalog could not answer, and what its server's SQLSTATEs mean.

use uuid::Uuid;

/// Why the catalog could not answer.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The URL does not parse. The message leaves it out because it holds a password.
    #[error(
        "the catalog's URL is not a PostgreSQL URL: set DATABASE_URL to postgresql://user:password@host:5432/database"
    )]
    BadUrl,
    /// The server does not answer.
    #[error("cannot reach the catalog: check DATABASE_URL and that the server is up")]
    Unreachable(#[source] sqlx::Error),
    /// Another transaction holds the lock that is needed, and does not end.
    #[error(
        "another transaction, perhaps of a request with the same idempotency key, holds a lock and does not end: nothing was done, \
         try again when it has ended"
    )]
    Busy(#[source] sqlx::Error),
    /// The schema is missing or older than this build.
    #[error("the catalog's schema is not the one this build needs ({0}): run `lastgood migrate`")]
    NotMigrated(String),
    /// The schema was made by a build whose migrations are not this build's.
    #[error(
        "the catalog was made by an earlier build, whose migrations have been rewritten since: create an empty database, run `lastgood \
         migrate`, and rebuild the catalog from the store; CHANGELOG.md says how"
    )]
    MadeBefore,
    /// A migration failed.
    #[error("cannot migrate the catalog")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The server is too old.
    #[error("the catalog's server is PostgreSQL {0}: 14 or later is needed")]
    TooOld(i32),
    /// There is nothing of this kind under this id.
    #[error("there is no {what} {id:?}: see `lastgood {list}`")]
    NotFound {
        /// The kind of thing, such as `resource`.
        what: &'static str,
        /// The id that was looked for.
        id: String,
        /// The command that lists them.
        list: &'static str,
    },
    /// A resource with this id exists or once existed.
    #[error(
        "resource {0:?} already exists: choose another id; ids are never reused, because restore points carry them"
    )]
    Exists(String),
    /// The resource was rebuilt from manifests, which hold no secret, and has no connection yet.
    #[error(
        "resource {0:?} has no connection because it was rebuilt from manifests: give it one with `lastgood resource set {0} \
         --connection …`, then `lastgood resource resume {0}`"
    )]
    NoConnection(String),
    /// A restore of this resource is queued or running.
    #[error(
        "a restore of {0:?} is queued or running: wait for it, or see `lastgood run list --resource {0}`"
    )]
    RestoreUnderWay(String),
    /// The point has expired.
    #[error(
        "restore point {0} has expired and is being removed: take another, see `lastgood point list`; if its removal has not \
         begun, `lastgood point pin {0} --reason …` keeps it"
    )]
    PointExpired(Uuid),
    /// The point's removal has begun.
    #[error("restore point {0} has expired and its removal has begun: it is too late to keep it")]
    TooLateToKeep(Uuid),
    /// A team that registers its own resources has reached its limit.
    #[error(
        "team {team:?} has {most} resources, the most that it may register itself: `lastgood limits set --resources-per-team` changes the limit"
    )]
    QuotaReached {
        /// The team.
        team: String,
        /// Its limit.
        most: i32,
    },
    /// The restore point is not suspect, so there is nothing to confirm.
    #[error(
        "restore point {0} is not suspect: there is nothing to confirm, see `lastgood point list`"
    )]
    NotSuspect(Uuid),
    /// The catalog's clock and this machine's are too far apart: one of them is wrong.
    #[error(
        "the catalog's clock is {minutes} minutes ahead of this machine's (negative: behind): fix NTP; nothing expires until \
         then"
    )]
    ClocksApart {
        /// How far the catalog's clock is ahead; negative: behind.
        minutes: i64,
    },
    /// Too much has disappeared from a store for an accident.
    #[error(
        "restore points have disappeared from store {0:?} en masse: nothing expires and nothing is removed until they are back, or \
         `lastgood store accept-loss {0} --confirm {0}` accepts that they are lost; see `lastgood status`"
    )]
    StoreVanished(String),
    /// The resource was removed for good.
    #[error("resource {0:?} was removed: it cannot be backed up")]
    Removed(String),
    /// The idempotency key is not valid.
    #[error("an idempotency key must have 1 to 255 characters")]
    BadKey,
    /// Another token has this name.
    #[error(
        "a token named {0:?} is in use: choose another name, or revoke that token; see `lastgood token list`"
    )]
    TokenNameInUse(String),
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request on this resource: use a new one")]
    KeyReused,
    /// The store that is to be forgotten holds the only recorded copy of some points.
    #[error(
        "store {store:?} holds the only recorded copies of {points} usable restore points: copy them first, or accept their loss with \
         --confirm {store}; nothing was forgotten"
    )]
    OnlyCopies {
        /// The store.
        store: String,
        /// How many points.
        points: i64,
    },
    /// The owner has a key in use already.
    #[error("{0} has a key in use already: `lastgood key rotate` makes the next one")]
    KeyInUse(String),
    /// Points under a legal hold would become unreadable.
    #[error(
        "{points} restore points of team {team:?} are under a legal hold and would become unreadable: release them first"
    )]
    PointsHeld {
        /// The team.
        team: String,
        /// How many points are held.
        points: i64,
    },
    /// The owner has no key in use.
    #[error(
        "{0} has no key in use: `lastgood key create` makes one, `lastgood key list` shows all"
    )]
    NoKeyInUse(String),
    /// The master key was rotated after something was sealed under it and before that was stored.
    #[error(
        "the master key was replaced meanwhile, and the catalog no longer accepts what was sealed under the old one: nothing was done, try \
         again with the new one"
    )]
    MasterKeyReplaced,
    /// This build does not understand a row.
    #[error("the catalog holds {what} that this build does not understand: {why}")]
    BadRow {
        /// The row.
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
        if is_of_connection(&error) {
            Self::Unreachable(error)
        } else if error.as_database_error().is_some_and(is_busy) {
            Self::Busy(error)
        } else if violated(&error) == Some("sealed_under_the_key_in_force") {
            Self::MasterKeyReplaced
        } else {
            Self::Statement(error)
        }
    }
}

impl CatalogError {
    /// Returns that there is no `what` with this id. The command `list` lists those that there are.
    pub(super) fn not_found(
        what: &'static str,
        id: &(impl ToString + ?Sized),
        list: &'static str,
    ) -> Self {
        let id = id.to_string();
        Self::NotFound { what, id, list }
    }

    /// Returns whether the catalog refuses the contents of a row, and always will. The statement may succeed for other rows.
    #[must_use]
    pub fn is_of_a_row(&self) -> bool {
        matches!(self, Self::BadRow { .. })
            || matches!(self, Self::Statement(error) if is_refused(error))
    }

    /// Returns whether trying again may help.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Busy(_))
    }
}

/// Returns the name of the constraint that a statement violated.
pub(super) fn violated(error: &sqlx::Error) -> Option<&str> {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::constraint)
}

/// Returns whether the server did not answer, or not in time. SQLSTATEs: 08 is a broken connection, 57P a shutdown, 53 insufficient
/// resources, 57014 a statement that took too long or was cancelled.
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

/// Returns whether the server refused the data itself, so that trying again cannot help. SQLSTATEs: 22 is a bad value, 23 a constraint,
/// 54 a limit, P0 an error raised by a trigger. A value that this build cannot decode or encode counts too.
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

//! Our own connection to a server: how it is made, and what its errors mean.

use std::{collections::BTreeMap, ffi::OsString, future::Future, time::Duration};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use super::{
    names::{identifier, literal},
    pooler,
    wire::{self, NoSession},
};
use crate::{
    engine::address::postgres::{Address, Members, Place},
    error::{JobError, PostgresError, ServerFault, postgres::verdict::Verdict},
    job::Restore,
};

/// How long the answer to a small question may take.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// Makes a backend check whether its client is still connected: PostgreSQL 14 and later, on systems that can tell.
const LOOK_FOR_CLIENT: &str = "-c client_connection_check_interval=2s";

/// Whether the server accepts the option that makes backends check for their clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looks {
    /// If its client is killed, a backend ends within seconds, whatever it waits for.
    ForItsClient,
    /// A backend ends when it next sends something. Until then, a statement that waits for a lock keeps the locks that
    /// it holds.
    No,
}

impl Looks {
    /// Returns the variable for a tool's environment.
    pub(crate) fn environment(self) -> Option<(&'static str, OsString)> {
        self.environment_with("")
    }

    /// Returns the variable with more options, if the server accepts any.
    pub(crate) fn environment_with(self, options: &str) -> Option<(&'static str, OsString)> {
        match self {
            Self::ForItsClient => Some((
                "PGOPTIONS",
                format!("{LOOK_FOR_CLIENT} {options}").trim_end().into(),
            )),
            Self::No => None,
        }
    }
}

/// Connects to the primary, and turns off the settings of the database or the role that would cut us short.
pub(crate) async fn connect(address: &Address) -> Result<PgConnection, JobError> {
    let found = find(address, Wanted::Writes, Tool::None).await?;
    Ok(found.session)
}

/// Connects as [`connect`] does, before a tool is started there.
pub(super) async fn connect_before_tool(address: &Address) -> Result<Found, JobError> {
    find(address, Wanted::Writes, Tool::Follows).await
}

/// Connects for statements that must not outlive this process or wait for long.
///
/// Each statement is given up after `lock_timeout`, and ends with its client where the server can check for that.
/// Others can find and end the session by its name.
pub(crate) async fn connect_named(
    address: &Address,
    name: &str,
    lock_timeout: Duration,
) -> Result<PgConnection, JobError> {
    let found = find(address, Wanted::Writes, Tool::Follows).await?;
    let mut session = found.session;
    let set = format!(
        "set application_name = {}; set lock_timeout = {}",
        literal(name),
        lock_timeout.as_millis()
    );
    run(&mut session, "set the lock timeout", set).await?;
    Ok(session)
}

/// Connects before a dump, to a place that may be read.
pub(super) async fn connect_to_read(address: &Address) -> Result<Found, JobError> {
    let wanted = match address.members() {
        Members::Any => Wanted::Any,
        Members::Primary => Wanted::Writes,
        Members::Standby => Wanted::Standby,
        Members::PreferStandby => match find(address, Wanted::Standby, Tool::Follows).await {
            Ok(found) => return Ok(found),
            Err(error) if error.is_permanent() => return Err(error),
            Err(_) => Wanted::Any,
        },
    };
    find(address, wanted, Tool::Follows).await
}

/// A session, and where it is.
pub(super) struct Found {
    pub(super) session: PgConnection,
    pub(super) looks: Looks,
    /// The one place that answered. A tool must go there too: the session's snapshot exists only there, and a standby
    /// may not have what was just created on the primary.
    pub(super) address: Address,
}

/// Which of several places will do. A single place always will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Any,
    Writes,
    Standby,
}

/// Whether a tool is to be started beside the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    None,
    Follows,
}

/// Tries one place after another, in the URL's order.
async fn find(address: &Address, wanted: Wanted, tool: Tool) -> Result<Found, JobError> {
    let places = address.places();
    let mut failure = None;
    for place in places {
        let there = address.at(place);
        let found = match connect_there(&there, place, tool).await {
            Ok(found) => found,
            // A permanent error says more than a place that did not answer.
            Err(error) => {
                if failure.is_none() || error.is_permanent() {
                    failure = Some(error);
                }
                continue;
            }
        };
        let (mut session, looks) = found;
        let fits = match wanted {
            Wanted::Any => true,
            _ if places.len() == 1 => true,
            Wanted::Writes => !is_standby(&mut session).await?,
            Wanted::Standby => is_standby(&mut session).await?,
        };
        if fits {
            return Ok(Found {
                session,
                looks,
                address: there,
            });
        }
        close(session).await;
    }
    Err(failure.unwrap_or_else(|| JobError::Unreachable {
        doing: "connect",
        source: ServerFault::new(
            match wanted {
                Wanted::Any | Wanted::Writes => "none of the URL's hosts is a primary",
                Wanted::Standby => "none of the URL's hosts is a standby",
            },
            None,
        ),
    }))
}

async fn connect_there(
    address: &Address,
    place: &Place,
    tool: Tool,
) -> Result<(PgConnection, Looks), JobError> {
    let (session, looks) = match tool {
        Tool::None => (open(address, place, None).await?, Looks::No),
        Tool::Follows => match open(address, place, Some(LOOK_FOR_CLIENT)).await? {
            Err(NoSession::Refused(fault)) if is_of_option(&fault) => {
                (open(address, place, None).await?, Looks::No)
            }
            opened => (opened, Looks::ForItsClient),
        },
    };
    let mut session = session.map_err(|why| refused(address, why))?;
    pooler::refuse_if_shared(&mut session, address, place).await?;
    Ok((calm(session.connection).await?, looks))
}

/// Opens a session within the address's timeout.
pub(super) async fn open(
    address: &Address,
    place: &Place,
    options: Option<&str>,
) -> Result<Result<wire::Session, NoSession>, JobError> {
    let timeout = address.connect_timeout();
    let opened = tokio::time::timeout(timeout, Box::pin(wire::open(address, place, options))).await;
    opened.map_err(|_| JobError::NoAnswer {
        doing: "connect",
        seconds: timeout.as_secs(),
    })
}

/// Removes every timeout that was set for the database or the role, as far as the server knows it, and restricts name
/// lookup to `pg_catalog`.
async fn calm(mut session: PgConnection) -> Result<PgConnection, JobError> {
    let calm = "set search_path = pg_catalog; \
                select set_config(name, '0', false) from pg_settings where name in ('statement_timeout', 'lock_timeout', \
                'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')";
    answer("prepare the session", session.execute(sqlx::raw_sql(calm))).await?;
    Ok(session)
}

pub(super) async fn is_standby(session: &mut PgConnection) -> Result<bool, JobError> {
    let question = "select pg_catalog.pg_is_in_recovery()";
    let answered = sqlx::query_scalar::<_, bool>(question).fetch_one(session);
    answer("ask whether the server is a standby", answered).await
}

/// Returns whether the option may be what was refused: unknown to the server, not possible on its system, or not let
/// through by a pooler.
fn is_of_option(fault: &ServerFault) -> bool {
    matches!(fault.code(), Some("42704" | "22023" | "08P01"))
}

/// Waits for an answer, for as long as a small question may take, and translates an error.
pub(crate) async fn answer<T>(
    doing: &'static str,
    question: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, JobError> {
    answer_within(ANSWER_TIMEOUT, doing, question).await
}

/// Waits as [`answer`] does, with another timeout.
pub(crate) async fn answer_within<T>(
    timeout: Duration,
    doing: &'static str,
    question: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, JobError> {
    match tokio::time::timeout(timeout, question).await {
        Ok(answer) => answer.map_err(|error| meaning(doing, &error)),
        Err(_) => Err(JobError::NoAnswer {
            doing,
            seconds: timeout.as_secs(),
        }),
    }
}

/// Runs a statement that was assembled here from quoted parts.
pub(crate) async fn run(
    session: &mut PgConnection,
    doing: &'static str,
    statement: String,
) -> Result<(), JobError> {
    // Creating and dropping databases copies and deletes files: an hour is generous, but still a limit.
    let timeout = Duration::from_hours(1);
    let done = session.execute(sqlx::raw_sql(AssertSqlSafe(statement)));
    answer_within(timeout, doing, done).await.map(|_| ())
}

/// Returns the statement that opens or closes a database.
pub(crate) fn allow_connections(database: &str, allow: bool) -> String {
    format!(
        "alter database {} allow_connections {allow}",
        identifier(database)
    )
}

/// Ends a session politely. Errors do not matter any more.
pub(crate) async fn close(session: PgConnection) {
    let _ended_either_way = tokio::time::timeout(ANSWER_TIMEOUT, session.close()).await;
}

/// Asks for the server's version: its major number, such as 18, and its text, such as `18.6`.
pub(crate) async fn server_version(session: &mut PgConnection) -> Result<Version, JobError> {
    let question =
        "select current_setting('server_version_num')::int4, current_setting('server_version')";
    let row = answer(
        "ask for the server's version",
        sqlx::query(question).fetch_one(session),
    )
    .await?;
    let column = |error| meaning("read the server's version", &error);
    let number: i32 = row.try_get(0).map_err(column)?;
    let text: String = row.try_get(1).map_err(column)?;
    Ok(Version {
        major: u32::try_from(number / 10_000).unwrap_or_default(),
        text: text
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned(),
    })
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) text: String,
}

/// Returns the extensions of the database and their versions.
pub(crate) async fn extensions(
    session: &mut PgConnection,
) -> Result<BTreeMap<String, String>, JobError> {
    let question = "select extname::text, extversion from pg_extension";
    let rows = sqlx::query_as::<_, (String, String)>(question).fetch_all(session);
    Ok(answer("list the extensions", rows)
        .await?
        .into_iter()
        .collect())
}

/// Counts the database's own tables: what `pg_dump` would call `TABLE`.
pub(crate) async fn count_tables(session: &mut PgConnection) -> Result<u64, JobError> {
    let question = include_str!("count_tables.sql");
    let count = sqlx::query_scalar::<_, i64>(question).fetch_one(session);
    Ok(answer("count the tables", count).await?.unsigned_abs())
}

/// Returns the error for a failed connection attempt.
fn refused(address: &Address, why: NoSession) -> JobError {
    let doing = "connect";
    match why {
        NoSession::Refused(source) => match source.code() {
            Some("3D000") => JobError::Postgres(PostgresError::DatabaseGone {
                database: address.database().to_owned(),
            }),
            Some("55000") => JobError::Postgres(PostgresError::DatabaseClosed {
                database: address.database().to_owned(),
                by_hand: allow_connections(address.database(), true),
            }),
            _ => said(doing, source),
        },
        NoSession::Broken(source) => JobError::Unreachable { doing, source },
        NoSession::Untrusted(source) => JobError::Postgres(PostgresError::Untrusted { source }),
        NoSession::Impossible(why) => {
            JobError::Postgres(PostgresError::ConnectionImpossible { why })
        }
    }
}

/// Returns what an error of the driver means, by its code or its kind, never by its message.
pub(crate) fn meaning(doing: &'static str, error: &sqlx::Error) -> JobError {
    let source = ServerFault::from(error);
    if source.code().is_none() && is_of_connection(error) {
        return JobError::Unreachable { doing, source };
    }
    said(doing, source)
}

/// Returns what a server's error means, by its code.
fn said(doing: &'static str, source: ServerFault) -> JobError {
    match Verdict::of(source.code()) {
        Verdict::Refused => JobError::Refused(source),
        Verdict::Denied => JobError::Denied { doing, source },
        Verdict::Unreachable => JobError::Unreachable { doing, source },
        Verdict::Passing => JobError::Statement { doing, source },
        Verdict::Final => JobError::Statement {
            doing,
            source: source.for_good(),
        },
    }
}

/// Returns whether the connection itself failed, as opposed to what was sent over it.
fn is_of_connection(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed
    )
}

/// Fails if a restore would run the dump's code as a superuser and the job does not allow that.
///
/// Functions behind constraints, indexes and triggers run as the role that restores, and a `set role` would not confine
/// a superuser. Returns whether the role is a superuser.
pub(crate) async fn may_run_their_code(
    session: &mut PgConnection,
    job: &Restore,
) -> Result<bool, JobError> {
    let is_superuser = is_superuser(session).await?;
    if is_superuser && !job.as_superuser {
        return Err(JobError::Postgres(PostgresError::AsSuperuser));
    }
    Ok(is_superuser)
}

pub(crate) async fn is_superuser(session: &mut PgConnection) -> Result<bool, JobError> {
    let question = "select rolsuper from pg_catalog.pg_roles where rolname = current_user";
    let answered = sqlx::query_scalar::<_, bool>(question).fetch_optional(session);
    Ok(answer("ask for the role's attributes", answered)
        .await?
        .unwrap_or(false))
}

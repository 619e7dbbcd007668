//! Our own connection to a server: how it is made, and what its errors mean.

use std::{collections::BTreeMap, ffi::OsString, future::Future, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _,
    postgres::PgConnectOptions,
};

use super::{address::Address, names::identifier};
use crate::{
    error::{JobError, ServerFault},
    job::Restore,
};

/// How long an answer to one of our small questions may take.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// What makes a backend look whether its client is still there: PostgreSQL 14 and later, on systems that can tell.
const LOOK_FOR_CLIENT: (&str, &str) = ("client_connection_check_interval", "2s");

/// Whether the server takes the option that makes backends look for their clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looks {
    /// A backend whose client was killed ends within seconds, whatever it waits for.
    ForItsClient,
    /// It ends when it has something to say: a statement that waits for a lock keeps its own locks until then.
    No,
}

impl Looks {
    /// Returns what a tool's environment needs for it.
    pub(crate) fn environment(self) -> Option<(&'static str, OsString)> {
        self.environment_with("")
    }

    /// The same with more options, where the server takes any.
    pub(crate) fn environment_with(self, options: &str) -> Option<(&'static str, OsString)> {
        let (name, value) = LOOK_FOR_CLIENT;
        match self {
            Self::ForItsClient => Some((
                "PGOPTIONS",
                format!("-c {name}={value} {options}").trim_end().into(),
            )),
            Self::No => None,
        }
    }
}

/// Connects, and turns off what the database or the role may have set that would cut us short.
pub(crate) async fn connect(address: &Address) -> Result<PgConnection, JobError> {
    let session = open(address, &address.connect_options())
        .await?
        .map_err(|error| refused("connect", address, &error))?;
    calm(session).await
}

/// The same before a tool is started there, and whether the server looks for that tool when it was killed.
pub(crate) async fn connect_before_tool(
    address: &Address,
) -> Result<(PgConnection, Looks), JobError> {
    let options = address.connect_options().options([LOOK_FOR_CLIENT]);
    match open(address, &options).await? {
        Ok(session) => Ok((calm(session).await?, Looks::ForItsClient)),
        Err(error) if is_of_option(&error) => Ok((connect(address).await?, Looks::No)),
        Err(error) => Err(refused("connect", address, &error)),
    }
}

/// Connects under a name of its own, by which others can end the session, and for statements that must not outlive this process or
/// wait for long: each is given up after `lock_timeout`, and with its client where the server looks for that.
pub(crate) async fn connect_named(
    address: &Address,
    name: &str,
    lock_timeout: Duration,
) -> Result<PgConnection, JobError> {
    let named = address.connect_options().application_name(name);
    let looking = named.clone().options([LOOK_FOR_CLIENT]);
    let opened = match open(address, &looking).await? {
        Err(error) if is_of_option(&error) => open(address, &named).await?,
        opened => opened,
    };
    let session = opened.map_err(|error| refused("connect", address, &error))?;
    let mut session = calm(session).await?;
    let set = format!("set lock_timeout = {}", lock_timeout.as_millis());
    run(&mut session, "limit how long locks are waited for", set).await?;
    Ok(session)
}

async fn open(
    address: &Address,
    options: &PgConnectOptions,
) -> Result<sqlx::Result<PgConnection>, JobError> {
    let timeout = address.connect_timeout();
    let connected = tokio::time::timeout(timeout, options.connect()).await;
    connected.map_err(|_| JobError::NoAnswer {
        doing: "connect",
        seconds: timeout.as_secs(),
    })
}

async fn calm(mut session: PgConnection) -> Result<PgConnection, JobError> {
    let calm = "set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0; \
                set search_path = pg_catalog";
    answer("prepare the session", session.execute(sqlx::raw_sql(calm))).await?;
    Ok(session)
}

/// Returns whether it may be the option that was refused: unknown to the server, impossible on its system, or none that a pooler lets through.
fn is_of_option(error: &sqlx::Error) -> bool {
    matches!(code_of(error).as_deref(), Some("42704" | "22023" | "08P01"))
}

/// Waits for an answer, for as long as one may take, and says what it means if it is no.
pub(crate) async fn answer<T>(
    doing: &'static str,
    question: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, JobError> {
    answer_within(ANSWER_TIMEOUT, doing, question).await
}

/// The same for questions that may take longer.
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

/// Runs a statement that was put together here from quoted parts.
pub(crate) async fn run(
    session: &mut PgConnection,
    doing: &'static str,
    statement: String,
) -> Result<(), JobError> {
    // Making and dropping databases copies and deletes files: an hour is generous, and still an end.
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

/// Ends a session politely; what goes wrong then harms nobody.
pub(crate) async fn close(session: PgConnection) {
    let _ended_either_way = tokio::time::timeout(ANSWER_TIMEOUT, session.close()).await;
}

/// Asks for the server's version: its number, such as 180006, and its text, such as `18.6`.
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

/// A server's version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) text: String,
}

/// Asks for the extensions of the database and their versions.
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

/// Says what an error of a connection attempt means.
fn refused(doing: &'static str, address: &Address, error: &sqlx::Error) -> JobError {
    match code_of(error).as_deref() {
        Some("3D000") => JobError::DatabaseGone {
            database: address.database().to_owned(),
        },
        Some("55000") => JobError::DatabaseClosed {
            database: address.database().to_owned(),
            by_hand: allow_connections(address.database(), true),
        },
        _ => meaning(doing, error),
    }
}

/// Says what an error of the driver means, by its code or its kind and never by its words.
pub(crate) fn meaning(doing: &'static str, error: &sqlx::Error) -> JobError {
    let source = ServerFault::from(error);
    match source.code() {
        // 28: the role, its password or a host-based rule.
        Some("28P01" | "28000") => JobError::Refused(source),
        Some("42501") => JobError::Denied { doing, source },
        // 57P: shut down, crashed, starting up, or our session was ended. 08: the connection broke.
        // 53: too many connections, or out of memory or disk.
        Some(code)
            if ["57P", "08", "53"]
                .iter()
                .any(|class| code.starts_with(class)) =>
        {
            JobError::Unreachable { doing, source }
        }
        None if is_of_connection(error) => JobError::Unreachable { doing, source },
        Some(_) | None => JobError::Statement { doing, source },
    }
}

/// Returns whether it was the connection that failed, and not what was said over it.
fn is_of_connection(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed
    )
}

/// Returns the SQLSTATE of what the database said.
fn code_of(error: &sqlx::Error) -> Option<String> {
    let said = error.as_database_error()?;
    said.code().map(std::borrow::Cow::into_owned)
}

/// Makes sure that a restore may run here what the dump's authors wrote: functions behind constraints, indexes and triggers run as
/// the role that restores, and a superuser's `set role` would not hold them.
///
/// Returns whether the role is a superuser.
pub(crate) async fn may_run_their_code(
    session: &mut PgConnection,
    job: &Restore,
) -> Result<bool, JobError> {
    let is_superuser = is_superuser(session).await?;
    if is_superuser && !job.as_superuser {
        return Err(JobError::AsSuperuser);
    }
    Ok(is_superuser)
}

/// Asks whether our role is a superuser.
pub(crate) async fn is_superuser(session: &mut PgConnection) -> Result<bool, JobError> {
    let question = "select rolsuper from pg_catalog.pg_roles where rolname = current_user";
    let answered = sqlx::query_scalar::<_, bool>(question).fetch_optional(session);
    Ok(answer("ask for the role's attributes", answered)
        .await?
        .unwrap_or(false))
}

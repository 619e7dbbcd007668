//! How a connection is made: passwords, TLS, poolers, and the settings of a role that must not affect it.

use anyhow::{Context as _, Result, ensure};
use lastgood_jobs::{
    error::{ErrorKind, JobError, PostgresError},
    job::RestoreTarget,
};
use rstest::rstest;
use sqlx::{ConnectOptions as _, Row as _};
use url::Url;

use crate::{
    failures::with_fake_dump,
    lab::{Lab, Server, attempt, shows_no_secret, tables, until, variable},
    subject::{Subject, backup},
};

async fn fails(lab: &Lab, resource: &Subject) -> Result<JobError> {
    let result = backup(attempt(), resource, None, &lab.worker).await;
    let error = result.err().context("the backup succeeded")?;
    shows_no_secret(&error)?;
    Ok(error)
}

/// Guards against rejecting characters that `SASLprep` forbids or does not know: libpq uses such a password unchanged.
#[rstest]
#[case::emoji("hunter2-marker😀")]
#[case::tab("hunter2-marker\tx")]
#[case::no_break_space("hunter2-marker\u{a0}x")]
#[case::soft_hyphen("hunter2-marker\u{ad}x")]
#[case::right_to_left("hunter2-marker\u{627}1")]
#[tokio::test]
async fn any_password_works_as_in_psql(#[case] password: &str) -> Result<()> {
    let lab = Lab::owner(Server::pg18()?).await?;
    let change = format!("alter role \"{}\" password '{password}'", lab.name);
    lab.server.run("postgres", &change).await?;
    let resource = lab.with_url(|url| {
        url.set_password(Some(password)).ok();
    })?;
    backup(attempt(), &resource, None, &lab.worker)
        .await
        .map_err(|error| anyhow::anyhow!(error.report()))?;
    // A wrong password of the same kind, of which nothing may be shown.
    let wrong = lab.with_url(|url| {
        url.set_password(Some(&format!("{password}😱"))).ok();
    })?;
    let error = fails(&lab, &wrong).await?;
    ensure!(error.kind() == ErrorKind::Auth, "{}", error.report());
    ensure!(!error.report().contains('😱'), "{}", error.report());
    lab.clean().await
}

/// Sets each limit by which a server ends what takes long, for the lab's role.
pub(crate) async fn limit(lab: &Lab, to: &str) -> Result<()> {
    let limits: String = [
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "transaction_timeout",
    ]
    .map(|limit| format!("alter role \"{}\" set {limit} = '{to}'; ", lab.name))
    .concat();
    lab.server.run("postgres", &limits).await
}

/// Guards against a limit that the database or the role sets for everybody, and that ends long operations.
#[tokio::test(flavor = "multi_thread")]
async fn no_limit_of_the_role_ends_a_backup() -> Result<()> {
    let mut lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table t as select 1 as a").await?;
    limit(&lab, "400ms").await?;
    // Starts once lastgood's own session is older than all of the limits.
    let script = "PSQL=${REAL%pg_dump}psql
        while [ \"$($PSQL -XAtc \"set statement_timeout = 0; select count(*) from pg_stat_activity where application_name = 'lastgood' \
        and state = 'idle in transaction' and clock_timestamp() - xact_start > '600 ms'\" | /usr/bin/tail -n 1)\" = 0 ]; do :; done
        exec $REAL \"$@\"";
    let _fake = with_fake_dump(&mut lab, script).await?;
    lab.backup(attempt())
        .await
        .map_err(|error| anyhow::anyhow!(error.report()))?;
    lab.clean().await
}

/// The tests' PostgreSQL 17 speaks TLS, with a certificate for localhost that the authority in `ca.pem` signed.
fn tls(name: &str) -> Result<String> {
    Ok(format!("{}/{name}", variable("LASTGOOD_TEST_TLS_DIR")?))
}

fn with_query(lab: &Lab, query: &str) -> Result<Subject> {
    let ca = tls("ca.pem")?;
    // The system's authorities, none of which signed the server's certificate.
    let other = "/etc/ssl/certs/ca-certificates.crt";
    let query = query.replace("CA", &ca).replace("OTHER", other);
    lab.with_url(|url| url.set_query(Some(&query)))
}

#[rstest]
#[case::full("sslmode=verify-full&sslrootcert=CA")]
#[case::chain("sslmode=verify-ca&sslrootcert=CA")]
#[case::require_with_ca("sslmode=require&sslrootcert=CA")]
#[case::ca_alone("sslrootcert=CA")]
#[case::encrypted("sslmode=require")]
#[case::allow("sslmode=allow")]
#[case::bound("sslmode=verify-full&sslrootcert=CA&channel_binding=require")]
#[case::bound_to_whatever("sslmode=require&channel_binding=require")]
#[tokio::test]
async fn tls_is_as_strict_as_the_url_says_and_works(#[case] query: &str) -> Result<()> {
    let lab = Lab::owner(Server::pg17()?).await?;
    let resource = with_query(&lab, query)?;
    backup(attempt(), &resource, None, &lab.worker)
        .await
        .map_err(|error| anyhow::anyhow!(error.report()))?;
    lab.clean().await
}

/// Guards against a check that the URL asks for and another of its parameters silently turns off.
#[rstest]
#[case::full("sslmode=verify-full&sslrootcert=OTHER", true)]
#[case::chain("sslmode=verify-ca&sslrootcert=OTHER", true)]
#[case::as_libpq("sslmode=require&sslrootcert=OTHER", true)]
#[case::ca_alone("sslrootcert=OTHER", true)]
#[case::system("sslmode=verify-full", true)]
#[case::no_file("sslmode=require&sslrootcert=/nowhere/ca.pem", false)]
#[case::bound_without_tls("sslmode=disable&channel_binding=require", false)]
#[tokio::test]
async fn a_server_that_does_not_prove_itself_is_sent_nothing(
    #[case] query: &str,
    #[case] is_of_certificate: bool,
) -> Result<()> {
    let lab = Lab::owner(Server::pg17()?).await?;
    let error = fails(&lab, &with_query(&lab, query)?).await?;
    ensure!(error.is_permanent(), "{}", error.report());
    ensure!(
        matches!(error, JobError::Postgres(PostgresError::Untrusted { .. })) == is_of_certificate,
        "{}",
        error.report()
    );
    lab.clean().await
}

/// Returns the lab's resource behind the pooler that the variable names. Without a pooler, reports the skip and returns
/// `None`.
fn behind(lab: &Lab, variable_name: &str) -> Result<Option<Subject>> {
    use std::io::Write as _;
    let url = variable(variable_name)?;
    if let Some(why) = url.strip_prefix("skip: ") {
        writeln!(std::io::stderr(), "SKIPPED: PgBouncer: {why}")?;
        return Ok(None);
    }
    let pooler: Url = url.parse()?;
    let resource = lab.with_url(|url| {
        url.set_port(pooler.port()).ok();
    })?;
    Ok(Some(resource))
}

/// Guards against a pooler that passes one client's settings on to the next.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_shares_connections_is_refused_and_its_clients_notice_nothing() -> Result<()>
{
    let lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table t as select 1 as a").await?;
    let Some(resource) = behind(&lab, "LASTGOOD_TEST_PGBOUNCER_TRANSACTION_URL")? else {
        return lab.clean().await;
    };
    let error = fails(&lab, &resource).await?;
    ensure!(
        matches!(
            error,
            JobError::Postgres(PostgresError::SharedConnections { .. })
        ) && error.is_permanent(),
        "{}",
        error.report()
    );
    ensure!(
        error.to_string().contains("the server's own address"),
        "{error}"
    );
    // Another client, on the server connection that ours had.
    let url: sqlx::postgres::PgConnectOptions =
        secrecy::ExposeSecret::expose_secret(&resource.url).parse()?;
    let mut client = url
        .statement_cache_capacity(0)
        .extra_float_digits(None)
        .disable_statement_logging()
        .connect()
        .await?;
    let seen = sqlx::raw_sql("select a::text from t");
    let row = sqlx::Executor::fetch_one(&mut client, seen).await?;
    ensure!(row.try_get::<String, _>(0)? == "1");
    lab.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_session_mode_works() -> Result<()> {
    let mut lab = Lab::owner(Server::pg18()?).await?;
    lab.run("create table t as select 1 as a").await?;
    let Some(resource) = behind(&lab, "LASTGOOD_TEST_PGBOUNCER_SESSION_URL")? else {
        return lab.clean().await;
    };
    lab.resource = resource;
    let point = lab
        .backup(attempt())
        .await
        .map_err(|error| anyhow::anyhow!(error.report()))?;
    let target = RestoreTarget::InPlace {
        overwrite: "db-1".parse()?,
        merge: false,
    };
    let restored = lab
        .restore(&point, target)
        .await
        .map_err(|error| anyhow::anyhow!(error.report()))?;
    ensure!(tables(&restored) == 1);
    // The pooler keeps its connections to the database, which is about to be dropped.
    let end = format!(
        "select count(pg_terminate_backend(pid))::text from pg_stat_activity where datname = '{}'",
        lab.name
    );
    until("nobody is in the database", || async {
        Ok(lab.server.ask("postgres", &end).await? == "0")
    })
    .await?;
    lab.clean().await
}

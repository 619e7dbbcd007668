use std::path::Path;

use rstest::rstest;

use super::*;
use crate::error::AddressError;

fn parse(url: &str) -> Result<Address, AddressError> {
    Address::parse(&url.to_owned().into())
}

fn environment(address: &Address) -> Vec<String> {
    let pairs = address.environment(Path::new("/w/pgpass"), 18).into_iter();
    pairs
        .map(|(name, value)| format!("{name}={}", value.to_string_lossy()))
        .collect()
}

#[test]
fn a_url_is_taken_apart_once_for_both_kinds_of_client() -> anyhow::Result<()> {
    let address = parse(
        "postgresql://us%65r:p%3Aa%5Cs%20s@db.example:5433/my%2Fdb?sslmode=verify-full&connect_timeout=3",
    )?;
    assert_eq!(address.database(), "my/db");
    assert_eq!(
        environment(&address),
        [
            "PGHOST=db.example",
            "PGPORT=5433",
            "PGUSER=user",
            "PGDATABASE=my/db",
            "PGSSLMODE=verify-full",
            "PGPASSFILE=/w/pgpass",
            "PGCONNECT_TIMEOUT=3",
            "PGAPPNAME=lastgood",
            "PGSSLCERT=/dev/null/none",
            "PGSSLKEY=/dev/null/none",
            "PGSERVICEFILE=/dev/null/none",
            "PGGSSENCMODE=disable",
            "PGSSLROOTCERT=system",
        ]
    );
    assert_eq!(address.user(), "user");
    Ok(())
}

/// Guards against a file in the home directory of the worker's user that decides about a customer's server.
#[rstest]
#[case::as_the_server_likes("postgres://u@h/d", 18, Some("/dev/null/none"))]
#[case::encrypted("postgres://u@h/d?sslmode=require", 15, Some("/dev/null/none"))]
#[case::proven("postgres://u@h/d?sslmode=verify-full", 18, Some("system"))]
#[case::proven_to_old_tools("postgres://u@h/d?sslmode=verify-full", 15, None)]
#[case::by_a_file("postgres://u@h/d?sslmode=verify-ca&sslrootcert=/ca", 15, Some("/ca"))]
fn tools_trust_what_the_url_names(
    #[case] url: &str,
    #[case] major: u32,
    #[case] expected: Option<&str>,
) -> anyhow::Result<()> {
    let environment = parse(url)?.environment(Path::new("/w/pgpass"), major);
    let found = environment
        .into_iter()
        .find_map(|(name, value)| (name == "PGSSLROOTCERT").then_some(value));
    assert_eq!(found, expected.map(Into::into));
    Ok(())
}

#[test]
fn a_password_file_is_private_escaped_and_removed() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let file = parse("postgres://u:p%3Aa%5Cs@h/d")?.password_file(directory.path())?;
    assert_eq!(
        std::fs::read_to_string(file.path())?,
        "*:*:*:*:p\\:a\\\\s\n"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.path().metadata()?.permissions());
    assert_eq!(mode & 0o777, 0o600);
    drop(file);
    assert_eq!(std::fs::read_dir(directory.path())?.count(), 0);
    Ok(())
}

#[rstest]
#[case::socket("postgres://u@/d?host=/run/pg", "PGHOST=/run/pg")]
#[case::socket_in_host("postgres://u@%2Frun%2Fpg/d", "PGHOST=/run/pg")]
#[case::v6("postgres://u@[::1]:1/d", "PGHOST=::1")]
#[case::query("postgres://u@/d?host=h&port=7", "PGHOST=h")]
#[case::several("postgres://u@h:1,[::1],%2Frun/d", "PGHOST=h,::1,/run")]
#[case::several_in_query("postgres://u@/d?host=h,i&port=7", "PGHOST=h,i")]
fn hosts_are_found_wherever_they_stand(#[case] url: &str, #[case] host: &str) {
    assert_eq!(environment(&parse(url).unwrap())[0], host);
}

#[rstest]
#[case::no_url("hunter2", "not a URL")]
#[case::scheme("mysql://u:hunter2@h/d", "scheme")]
#[case::user("postgres://:hunter2@h/d", "no user")]
#[case::database("postgres://u:hunter2@h", "no database")]
#[case::host("postgres://u:hunter2@/d", "no host")]
#[case::ports("postgres://u:hunter2@h,i,j/d?port=1,2", "a different number of ports")]
#[case::host_of_several("postgres://u:hunter2@h,/d", "no host")]
#[case::unknown(
    "postgres://u:hunter2@h/d?optons=hunter2",
    "\"optons\" is not supported"
)]
#[case::value("postgres://u:hunter2@h/d?sslmode=hunter2", "\"sslmode\"")]
#[case::newline("postgres://u:hunter2%0A@h/d", "control character")]
#[case::line_in_user("postgres://u%0d:hunter2@h/d", "control character")]
#[case::line_in_host("postgres://u:hunter2@h%0a/d", "control character")]
#[case::line_in_database("postgres://u:hunter2@h/d%0a", "control character")]
#[case::line_in_parameter("postgres://u:hunter2@h/d?sslrootcert=/a%0ab", "control character")]
#[case::percent("postgres://u:hunter2%zz@h/d", "password is not valid")]
fn what_cannot_be_used_is_named_without_the_secret(#[case] url: &str, #[case] why: &str) {
    let error = parse(url).unwrap_err();
    assert!(error.to_string().contains(why), "{error}");
    assert!(!format!("{error:?} {error}").contains("hunter2"));
}

#[rstest]
#[case::own("h:1,i:2,j", &[], "h:1,i:2,j:5432")]
#[case::one_for_all("h,i", &["7"], "h:7,i:7")]
#[case::each("h,i", &["7,8"], "h:7,i:8")]
#[case::order_does_not_matter("I,h", &[], "h:5432,i:5432")]
fn each_host_has_its_port(
    #[case] hosts: &str,
    #[case] ports: &[&str],
    #[case] server: &str,
) -> anyhow::Result<()> {
    let ports: Vec<String> = ports.iter().map(|it| format!("?port={it}")).collect();
    let ports = ports.concat();
    let address = parse(&format!("postgres://u:p@{hosts}/d{ports}"))?;
    assert_eq!(address.server(), server);
    Ok(())
}

/// No mode is laxer than libpq's, and a certificate is checked whenever it can be.
#[rstest]
#[case::nothing("", SslMode::Prefer)]
#[case::said("?sslmode=allow", SslMode::Allow)]
#[case::with_ca("?sslrootcert=/ca", SslMode::VerifyFull)]
#[case::prefer_with_ca("?sslmode=prefer&sslrootcert=/ca", SslMode::VerifyFull)]
#[case::as_libpq("?sslmode=require&sslrootcert=/ca", SslMode::VerifyCa)]
#[case::chain("?sslmode=verify-ca&sslrootcert=/ca", SslMode::VerifyCa)]
#[case::chain_of_the_system("?sslmode=verify-ca", SslMode::VerifyFull)]
#[case::weak_with_system("?sslmode=require&sslrootcert=system", SslMode::VerifyFull)]
#[case::without("?sslmode=disable&sslrootcert=/ca", SslMode::Disable)]
fn a_certificate_is_checked_wherever_it_can_be(
    #[case] query: &str,
    #[case] mode: SslMode,
) -> anyhow::Result<()> {
    let address = parse(&format!("postgres://u:p@db.example/d{query}"))?;
    assert_eq!(address.ssl_mode(), mode);
    Ok(())
}

/// Guards against a number in a URL that decides how long a slot is held.
#[rstest]
#[case::none("", 15)]
#[case::for_ever("?connect_timeout=0", 15)]
#[case::said("?connect_timeout=3", 3)]
#[case::years("?connect_timeout=999999999", 60)]
fn no_url_makes_anybody_wait_for_long(
    #[case] query: &str,
    #[case] seconds: u64,
) -> anyhow::Result<()> {
    let address = parse(&format!("postgres://u:p@db.example/d{query}"))?;
    assert_eq!(address.connect_timeout().as_secs(), seconds);
    Ok(())
}

#[test]
fn no_debug_shows_the_password() {
    let address = parse("postgres://u:hunter2@h/d").unwrap();
    assert!(!format!("{address:?}").contains("hunter2"));
}

//! How a server is reached: a connection URL, taken apart once for our own connection and for the client tools.

use std::{
    borrow::Cow,
    ffi::OsString,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    ConnectOptions as _,
    postgres::{PgConnectOptions, PgSslMode},
};
use tempfile::NamedTempFile;
use url::Url;

use crate::{engine::percent, process::Secrets};

const APPLICATION: &str = "lastgood";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// One database on one server, and who asks.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    host: Host,
    port: u16,
    user: String,
    password: Option<Password>,
    database: String,
    ssl_mode: SslMode,
    ssl_root_cert: Option<String>,
    channel_binding: Option<String>,
    connect_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    Socket(PathBuf),
}

#[derive(Debug, Clone)]
struct Password {
    plain: SecretString,
    /// As the URL spells it.
    encoded: SecretString,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Why a connection URL cannot be used. Repeats nothing of it but parameters' names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a URL.
    #[error("it is not a URL such as postgresql://user:password@host:5432/database")]
    NotAUrl,
    /// Another scheme.
    #[error("its scheme is not postgres or postgresql")]
    Scheme,
    /// A part that is missing.
    #[error("it names no {0}")]
    Missing(&'static str),
    /// A part that does not decode, or holds what no connection can carry.
    #[error("its {0} is not valid")]
    Invalid(&'static str),
    /// What no part of a URL needs.
    #[error("{}", percent::CONTROL)]
    Control,
    /// Several hosts.
    #[error("it names several hosts: one is supported")]
    SeveralHosts,
    /// A parameter that is not known here.
    #[error(
        "its parameter {0:?} is not supported: use host, port, sslmode, sslrootcert, channel_binding, connect_timeout, \
         application_name"
    )]
    UnknownParameter(String),
    /// A parameter whose value is not known here.
    #[error("the value of its parameter {0:?} is not supported")]
    Parameter(&'static str),
}

impl Address {
    /// Takes a connection URL apart.
    pub(crate) fn parse(secret: &SecretString) -> Result<Self, AddressError> {
        let text = secret.expose_secret().trim();
        if percent::has_control(text) {
            return Err(AddressError::Control);
        }
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::NotAUrl)?;
        if !matches!(scheme, "postgres" | "postgresql") {
            return Err(AddressError::Scheme);
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        if authority
            .rsplit('@')
            .next()
            .is_some_and(|hosts| hosts.contains(','))
        {
            return Err(AddressError::SeveralHosts);
        }
        let url = parse_url(text, authority)?;
        let mut address = Self {
            host: host_of(&url)?,
            port: url.port().unwrap_or(5432),
            user: decode(url.username(), "user")?,
            password: password_of(&url)?,
            database: decode(url.path().trim_start_matches('/'), "database")?,
            ssl_mode: SslMode::Prefer,
            ssl_root_cert: None,
            channel_binding: None,
            connect_timeout: CONNECT_TIMEOUT,
        };
        for (name, value) in url.query_pairs() {
            address.take_parameter(&name, value)?;
        }
        match () {
            () if address.user.is_empty() => Err(AddressError::Missing("user")),
            () if address.database.is_empty() => Err(AddressError::Missing("database")),
            () if address.host == Host::Name(String::new()) => Err(AddressError::Missing("host")),
            () => Ok(address),
        }
    }

    fn take_parameter(&mut self, name: &str, value: Cow<'_, str>) -> Result<(), AddressError> {
        if value.contains(['\0', '\n', '\r']) {
            return Err(AddressError::Invalid("query"));
        }
        match name {
            "host" if value.starts_with('/') => self.host = Host::Socket(PathBuf::from(&*value)),
            "host" if value.contains(',') => return Err(AddressError::SeveralHosts),
            "host" => self.host = Host::Name(value.into_owned()),
            "port" => self.port = value.parse().map_err(|_| AddressError::Parameter("port"))?,
            "sslmode" => {
                self.ssl_mode = SslMode::parse(&value).ok_or(AddressError::Parameter("sslmode"))?;
            }
            "sslrootcert" => self.ssl_root_cert = Some(value.into_owned()),
            // Our own connection knows no channel binding; the tools', which carry the data, do.
            "channel_binding" if matches!(&*value, "disable" | "prefer" | "require") => {
                self.channel_binding = Some(value.into_owned());
            }
            "channel_binding" => return Err(AddressError::Parameter("channel_binding")),
            "connect_timeout" => {
                let seconds = value
                    .parse()
                    .map_err(|_| AddressError::Parameter("connect_timeout"))?;
                // 0 means for ever to libpq; nothing here waits for ever.
                if seconds > 0 {
                    self.connect_timeout = Duration::from_secs(seconds);
                }
            }
            // Accepted for the sake of URLs made for other programs: here the application is lastgood.
            "application_name" => {}
            unknown => {
                let name = unknown.chars().take(40).collect();
                return Err(AddressError::UnknownParameter(name));
            }
        }
        Ok(())
    }

    /// Returns what of the worker's machine it leans on.
    pub(crate) fn leans_on_machine(&self) -> Option<&'static str> {
        let is_socket = match &self.host {
            Host::Socket(_) => true,
            // libpq's abstract sockets.
            Host::Name(name) => name.starts_with('@'),
        };
        let is_file = |cert: &str| cert != "system";
        if is_socket {
            Some("a socket")
        } else if self.ssl_root_cert.as_deref().is_some_and(is_file) {
            Some("a file")
        } else {
            None
        }
    }

    /// Returns where the server is: `host:port`, in lower case.
    pub(crate) fn server(&self) -> String {
        let port = self.port;
        let server = match &self.host {
            Host::Name(name) if name.contains(':') => format!("[{name}]:{port}"),
            Host::Name(name) => format!("{name}:{port}"),
            Host::Socket(directory) => format!("{}:{port}", directory.display()),
        };
        server.to_lowercase()
    }

    /// Returns the database's name.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// Returns the address of another database on the same server.
    pub(crate) fn with_database(&self, name: &str) -> Self {
        Self {
            database: name.to_owned(),
            ..self.clone()
        }
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// Returns what our own connection needs. Leaves nothing to the worker's environment.
    pub(crate) fn connect_options(&self) -> PgConnectOptions {
        let mut options = PgConnectOptions::new_without_pgpass()
            .port(self.port)
            .username(&self.user)
            .database(&self.database)
            .ssl_mode(self.ssl_mode.for_sqlx())
            .application_name(APPLICATION)
            // Poolers between us and the server may not know prepared statements.
            .statement_cache_capacity(0);
        options = match &self.host {
            Host::Name(name) => options.host(name),
            Host::Socket(directory) => options.socket(directory),
        };
        if let Some(password) = &self.password {
            options = options.password(password.plain.expose_secret());
        }
        if let Some(cert) = self
            .ssl_root_cert
            .as_deref()
            .filter(|cert| *cert != "system")
        {
            options = options.ssl_root_cert(cert);
        }
        options.disable_statement_logging()
    }

    /// Writes the file that tells a tool the password. It is removed when dropped.
    pub(crate) fn password_file(&self, directory: &Path) -> std::io::Result<NamedTempFile> {
        // Made with mode 0600: libpq ignores one that others may read.
        let mut file = tempfile::Builder::new()
            .prefix("pgpass.")
            .tempfile_in(directory)?;
        if let Some(password) = &self.password {
            let plain = password.plain.expose_secret();
            let escaped = plain.replace('\\', "\\\\").replace(':', "\\:");
            file.write_all(format!("*:*:*:*:{escaped}\n").as_bytes())?;
        }
        file.flush()?;
        Ok(file)
    }

    /// Returns a tool's whole environment. Not in argv, where everybody could read it.
    pub(crate) fn environment(
        &self,
        password_file: &Path,
        tool_major: u32,
    ) -> Vec<(&'static str, OsString)> {
        let host = match &self.host {
            Host::Name(name) => name.into(),
            Host::Socket(directory) => directory.clone().into_os_string(),
        };
        let mut environment = vec![
            ("PGHOST", host),
            ("PGPORT", self.port.to_string().into()),
            ("PGUSER", (&self.user).into()),
            ("PGDATABASE", (&self.database).into()),
            ("PGSSLMODE", self.ssl_mode.as_str().into()),
            ("PGPASSFILE", password_file.into()),
            (
                "PGCONNECT_TIMEOUT",
                self.connect_timeout.as_secs().to_string().into(),
            ),
            ("PGAPPNAME", APPLICATION.into()),
        ];
        match &self.ssl_root_cert {
            Some(cert) => environment.push(("PGSSLROOTCERT", cert.into())),
            // As our own connection does; libpq knows the word from 16 on.
            None if self.ssl_mode == SslMode::VerifyFull && tool_major >= 16 => {
                environment.push(("PGSSLROOTCERT", "system".into()));
            }
            None => {}
        }
        if let Some(binding) = &self.channel_binding {
            environment.push(("PGCHANNELBINDING", binding.into()));
        }
        environment
    }

    /// Returns what must never be seen of a tool's words.
    pub(crate) fn secrets(&self) -> Secrets {
        Secrets::new(self.password.iter().flat_map(|password| {
            let plain = password.plain.expose_secret();
            [
                plain.to_owned(),
                password.encoded.expose_secret().to_owned(),
                url::form_urlencoded::byte_serialize(plain.as_bytes()).collect(),
            ]
        }))
    }
}

impl SslMode {
    const ALL: [Self; 6] = [
        Self::Disable,
        Self::Allow,
        Self::Prefer,
        Self::Require,
        Self::VerifyCa,
        Self::VerifyFull,
    ];

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    fn for_sqlx(self) -> PgSslMode {
        match self {
            Self::Disable => PgSslMode::Disable,
            Self::Allow => PgSslMode::Allow,
            Self::Prefer => PgSslMode::Prefer,
            Self::Require => PgSslMode::Require,
            Self::VerifyCa => PgSslMode::VerifyCa,
            Self::VerifyFull => PgSslMode::VerifyFull,
        }
    }
}

/// Parses the text as a URL; one without a host (it is in the query) gets an empty one.
fn parse_url(text: &str, authority: &str) -> Result<Url, AddressError> {
    // The url crate takes no user without a host: give it one that is recognised below.
    let has_no_host = authority.ends_with('@');
    let patched = if has_no_host {
        Cow::Owned(text.replacen(authority, &format!("{authority}{NO_HOST}"), 1))
    } else {
        Cow::Borrowed(text)
    };
    Url::parse(&patched).map_err(|_| AddressError::NotAUrl)
}

const NO_HOST: &str = "no-host.invalid";

fn host_of(url: &Url) -> Result<Host, AddressError> {
    match url.host_str() {
        None | Some(NO_HOST) => Ok(Host::Name(String::new())),
        Some(host) => {
            let host = decode(host, "host")?;
            if host.starts_with('/') {
                return Ok(Host::Socket(host.into()));
            }
            // An IPv6 address stands in brackets in a URL, and without them elsewhere.
            Ok(Host::Name(host.trim_matches(['[', ']']).to_owned()))
        }
    }
}

fn password_of(url: &Url) -> Result<Option<Password>, AddressError> {
    let Some(encoded) = url.password() else {
        return Ok(None);
    };
    Ok(Some(Password {
        plain: decode(encoded, "password")?.into(),
        encoded: encoded.to_owned().into(),
    }))
}

/// Decodes percent signs, and refuses what neither an environment nor a password file can carry.
fn decode(text: &str, what: &'static str) -> Result<String, AddressError> {
    let text = percent::decode(text).ok_or(AddressError::Invalid(what))?;
    if text.contains(['\0', '\n', '\r']) {
        return Err(AddressError::Invalid(what));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

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
                "PGSSLROOTCERT=system",
            ]
        );
        let options = address.connect_options();
        assert_eq!(options.get_host(), "db.example");
        assert_eq!(options.get_database(), Some("my/db"));
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
    fn hosts_are_found_wherever_they_stand(#[case] url: &str, #[case] host: &str) {
        assert_eq!(environment(&parse(url).unwrap())[0], host);
    }

    #[rstest]
    #[case::no_url("hunter2", "not a URL")]
    #[case::scheme("mysql://u:hunter2@h/d", "scheme")]
    #[case::user("postgres://:hunter2@h/d", "no user")]
    #[case::database("postgres://u:hunter2@h", "no database")]
    #[case::host("postgres://u:hunter2@/d", "no host")]
    #[case::hosts("postgres://u:hunter2@h,i/d", "several hosts")]
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

    #[test]
    fn no_debug_shows_the_password() {
        let address = parse("postgres://u:hunter2@h/d").unwrap();
        assert!(!format!("{address:?}").contains("hunter2"));
    }
}

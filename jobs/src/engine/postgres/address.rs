//! How a server is reached: a connection URL, taken apart once for our own connection and for the client tools.

use std::{
    ffi::OsString,
    fmt,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use tempfile::NamedTempFile;
use url::Url;

use crate::{
    engine::{
        percent,
        transport::{self, Transport},
    },
    process::Secrets,
};

/// How we are called in `pg_stat_activity`.
pub(super) const APPLICATION: &str = "lastgood";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The most that a URL can ask for: it holds a slot for as long.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_mins(1);
const PORT: u16 = 5432;
/// A path below which nothing can be: a tool that is pointed there finds no file, and looks for none in the worker's home.
const NO_FILE: &str = "/dev/null/none";
/// The certificates of the system.
const SYSTEM: &str = "system";

/// One database on one server, and who asks. A server may have several places: a primary and its standbys.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    places: Vec<Place>,
    members: Members,
    user: String,
    password: Option<Password>,
    database: String,
    ssl_mode: SslMode,
    ssl_root_cert: Option<String>,
    binding: Binding,
    connect_timeout: Duration,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) host: Host,
    pub(super) port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    Socket(PathBuf),
}

/// Which of several places a backup may read: libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Members {
    Any,
    Primary,
    Standby,
    PreferStandby,
}

/// Whether the password must be bound to the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    Disable,
    Prefer,
    Require,
}

#[derive(Debug, Clone)]
struct Password {
    plain: SecretString,
    /// As the URL spells it.
    encoded: SecretString,
}

/// How strictly the connection is protected: libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SslMode {
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
    /// Several hosts and ports that do not pair.
    #[error(
        "it names several hosts and another number of ports: name one port for all, or one for each"
    )]
    Ports,
    /// What no part of a URL needs.
    #[error("{}", percent::CONTROL)]
    Control,
    /// A parameter that is not known here.
    #[error(
        "its parameter {0:?} is not supported: use host, port, sslmode, sslrootcert, channel_binding, connect_timeout, \
         target_session_attrs, application_name"
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
        let url = parse_url(scheme, authority, rest)?;
        let mut found = Found {
            hosts: hosts_of(authority)?,
            ..Found::default()
        };
        for (name, value) in url.query_pairs() {
            found.take_parameter(&name, &value)?;
        }
        let address = Self {
            user: decode(url.username(), "user")?,
            password: password_of(&url)?,
            database: decode(url.path().trim_start_matches('/'), "database")?,
            places: places(found.hosts, &found.ports)?,
            ssl_mode: SslMode::effective(found.ssl_mode, found.ssl_root_cert.as_deref()),
            ssl_root_cert: found.ssl_root_cert,
            members: found.members.unwrap_or(Members::Any),
            binding: found.binding.unwrap_or(Binding::Prefer),
            connect_timeout: found.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
        };
        let has_no_host = |place: &Place| place.host == Host::Name(String::new());
        match () {
            () if address.user.is_empty() => Err(AddressError::Missing("user")),
            () if address.database.is_empty() => Err(AddressError::Missing("database")),
            () if address.places.iter().any(has_no_host) => Err(AddressError::Missing("host")),
            () => Ok(address),
        }
    }

    /// Returns what of the worker's machine it leans on.
    pub(crate) fn leans_on_machine(&self) -> Option<&'static str> {
        let is_socket = |place: &Place| match &place.host {
            Host::Socket(_) => true,
            // libpq's abstract sockets.
            Host::Name(name) => name.starts_with('@'),
        };
        if self.places.iter().any(is_socket) {
            Some("a socket")
        } else if self.ca_file().is_some() {
            Some("a file")
        } else {
            None
        }
    }

    /// Returns where the server is: `host:port`, in lower case, several with commas between them.
    pub(crate) fn server(&self) -> String {
        let place = |place: &Place| place.to_string().to_lowercase();
        let mut places: Vec<String> = self.places.iter().map(place).collect();
        places.sort();
        places.join(",")
    }

    /// Returns how the way to the server is protected.
    pub(crate) fn transport(&self) -> Transport {
        let is_local = |place: &Place| match &place.host {
            Host::Socket(_) => true,
            Host::Name(name) => name.starts_with('@') || transport::is_loopback(name),
        };
        match self.ssl_mode {
            SslMode::VerifyFull => Transport::Verified,
            _ if self.places.iter().all(is_local) => Transport::Local,
            SslMode::VerifyCa => Transport::Unverified(
                "its certificate's name is not compared with the host: sslmode=verify-full",
            ),
            SslMode::Require => {
                Transport::Unverified("any certificate is taken: sslmode=verify-full")
            }
            SslMode::Prefer | SslMode::Allow => Transport::Unverified(
                "TLS is used or not, as the other end likes, and any certificate is taken: sslmode=verify-full",
            ),
            SslMode::Disable => Transport::Unverified("nothing is encrypted: sslmode=verify-full"),
        }
    }

    /// Returns where it may be reached, in the URL's order.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Returns which of them a backup may read.
    pub(super) fn members(&self) -> Members {
        self.members
    }

    /// Returns whether a backup that a standby has failed may be tried on the primary.
    pub(super) fn may_leave_standby(&self) -> bool {
        self.places.len() > 1 && matches!(self.members, Members::Any | Members::PreferStandby)
    }

    /// Returns the same for the primary alone.
    pub(super) fn primary_only(&self) -> Self {
        Self {
            members: Members::Primary,
            ..self.clone()
        }
    }

    /// Returns the same with one place.
    pub(super) fn at(&self, place: &Place) -> Self {
        Self {
            places: vec![place.clone()],
            ..self.clone()
        }
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn password(&self) -> Option<&SecretString> {
        self.password.as_ref().map(|password| &password.plain)
    }

    pub(super) fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }

    pub(super) fn binding(&self) -> Binding {
        self.binding
    }

    /// Returns the file with the certificates that it trusts, where they are not the system's.
    pub(super) fn ca_file(&self) -> Option<&str> {
        self.ssl_root_cert.as_deref().filter(|cert| *cert != SYSTEM)
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
        let list = |one: fn(&Place) -> String| -> OsString {
            let all: Vec<String> = self.places.iter().map(one).collect();
            all.join(",").into()
        };
        let host = list(|place| match &place.host {
            Host::Name(name) => name.clone(),
            Host::Socket(directory) => directory.display().to_string(),
        });
        let mut environment = vec![
            ("PGHOST", host),
            ("PGPORT", list(|place| place.port.to_string())),
            ("PGUSER", (&self.user).into()),
            ("PGDATABASE", (&self.database).into()),
            ("PGSSLMODE", self.ssl_mode.as_str().into()),
            ("PGPASSFILE", password_file.into()),
            (
                "PGCONNECT_TIMEOUT",
                self.connect_timeout.as_secs().to_string().into(),
            ),
            ("PGAPPNAME", APPLICATION.into()),
            // What is in the home of the worker's own user, and its Kerberos ticket, are nothing to a customer's server.
            ("PGSSLCERT", NO_FILE.into()),
            ("PGSSLKEY", NO_FILE.into()),
            ("PGSERVICEFILE", NO_FILE.into()),
            ("PGGSSENCMODE", "disable".into()),
        ];
        if self.places.len() > 1 {
            // Restores alone go to several places: a backup's is one by then.
            environment.push(("PGTARGETSESSIONATTRS", "read-write".into()));
        }
        match &self.ssl_root_cert {
            Some(cert) => environment.push(("PGSSLROOTCERT", cert.into())),
            // As our own connection does; libpq knows the word from 16 on.
            None if self.ssl_mode == SslMode::VerifyFull && tool_major >= 16 => {
                environment.push(("PGSSLROOTCERT", SYSTEM.into()));
            }
            None => {}
        }
        match self.binding {
            Binding::Prefer => {}
            Binding::Disable | Binding::Require => {
                environment.push(("PGCHANNELBINDING", self.binding.as_str().into()));
            }
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

    /// Returns the mode that is gone by. It is never laxer than libpq's, and checks the server's certificate wherever the URL names
    /// what to check it against.
    fn effective(said: Option<Self>, root_cert: Option<&str>) -> Self {
        match (said, root_cert) {
            // libpq checks the chain alone.
            (Some(Self::Require), Some(cert)) if cert != SYSTEM => Self::VerifyCa,
            (Some(Self::Disable), _) => Self::Disable,
            (Some(Self::VerifyCa), Some(cert)) if cert != SYSTEM => Self::VerifyCa,
            // Anybody gets a certificate from one of the system's authorities: without the name it proves nothing.
            (Some(Self::VerifyCa | Self::VerifyFull), _) | (_, Some(_)) => Self::VerifyFull,
            (Some(said), None) => said,
            (None, None) => Self::Prefer,
        }
    }
}

impl Binding {
    fn parse(text: &str) -> Option<Self> {
        let all = [Self::Disable, Self::Prefer, Self::Require];
        all.into_iter().find(|binding| binding.as_str() == text)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
}

impl Members {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "any" => Some(Self::Any),
            "primary" | "read-write" => Some(Self::Primary),
            "standby" | "read-only" => Some(Self::Standby),
            "prefer-standby" => Some(Self::PreferStandby),
            _ => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.host {
            Host::Name(name) if name.contains(':') => write!(f, "[{name}]:{port}"),
            Host::Name(name) => write!(f, "{name}:{port}"),
            Host::Socket(directory) => write!(f, "{}:{port}", directory.display()),
        }
    }
}

/// What the parts of a URL say, before they are put together.
#[derive(Default)]
struct Found {
    hosts: Vec<(Host, Option<u16>)>,
    ports: Vec<u16>,
    ssl_mode: Option<SslMode>,
    ssl_root_cert: Option<String>,
    binding: Option<Binding>,
    members: Option<Members>,
    connect_timeout: Option<Duration>,
}

impl Found {
    fn take_parameter(&mut self, name: &str, value: &str) -> Result<(), AddressError> {
        if value.contains(['\0', '\n', '\r']) {
            return Err(AddressError::Invalid("query"));
        }
        match name {
            "host" => {
                let hosts = value.split(',');
                self.hosts = hosts.map(|host| (Host::of(host), None)).collect();
            }
            "port" => {
                let ports = value.split(',').map(str::parse);
                self.ports = ports
                    .collect::<Result<_, _>>()
                    .map_err(|_| AddressError::Parameter("port"))?;
            }
            "sslmode" => self.ssl_mode = Some(known("sslmode", SslMode::parse(value))?),
            "sslrootcert" => self.ssl_root_cert = Some(value.to_owned()),
            "channel_binding" => {
                self.binding = Some(known("channel_binding", Binding::parse(value))?);
            }
            "target_session_attrs" => {
                self.members = Some(known("target_session_attrs", Members::parse(value))?);
            }
            "connect_timeout" => {
                let seconds = known("connect_timeout", value.parse().ok())?;
                // 0 means for ever to libpq; nothing here waits for ever.
                if seconds > 0 {
                    let asked = Duration::from_secs(seconds);
                    self.connect_timeout = Some(asked.min(CONNECT_TIMEOUT_MAX));
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
}

fn known<T>(name: &'static str, value: Option<T>) -> Result<T, AddressError> {
    value.ok_or(AddressError::Parameter(name))
}

/// Parses the text as a URL whose hosts are left out: it may name several, or none, which the url crate does not take.
fn parse_url(scheme: &str, authority: &str, rest: &str) -> Result<Url, AddressError> {
    let behind = rest.get(authority.len()..).unwrap_or_default();
    let who = match authority.rsplit_once('@') {
        Some((who, _)) => format!("{who}@"),
        None => String::new(),
    };
    Url::parse(&format!("{scheme}://{who}{NO_HOST}{behind}")).map_err(|_| AddressError::NotAUrl)
}

const NO_HOST: &str = "no-host.invalid";

/// Returns the hosts that stand behind the user, each with the port behind it.
fn hosts_of(authority: &str) -> Result<Vec<(Host, Option<u16>)>, AddressError> {
    let hosts = authority.rsplit('@').next().unwrap_or_default();
    hosts.split(',').map(host_and_port).collect()
}

fn host_and_port(text: &str) -> Result<(Host, Option<u16>), AddressError> {
    // An IPv6 address stands in brackets in a URL, and without them elsewhere.
    let (host, port) = match text.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((v6, rest)) => {
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or(AddressError::NotAUrl)?),
            };
            (v6, port)
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.filter(|port| !port.is_empty());
    let port = port.map(str::parse).transpose();
    let host = decode(host, "host")?;
    if host.contains(|c: char| c.is_whitespace() || matches!(c, '[' | ']')) {
        return Err(AddressError::NotAUrl);
    }
    Ok((Host::of(&host), port.map_err(|_| AddressError::NotAUrl)?))
}

/// Gives each host its port.
fn places(hosts: Vec<(Host, Option<u16>)>, ports: &[u16]) -> Result<Vec<Place>, AddressError> {
    let count = hosts.len();
    let port_of = |index: usize| match ports {
        [one] => Some(*one),
        many if many.len() == count => many.get(index).copied(),
        _ => None,
    };
    if !ports.is_empty() && port_of(0).is_none() {
        return Err(AddressError::Ports);
    }
    let place = |(index, (host, own)): (usize, (Host, Option<u16>))| Place {
        host,
        port: port_of(index).or(own).unwrap_or(PORT),
    };
    Ok(hosts.into_iter().enumerate().map(place).collect())
}

impl Host {
    fn of(text: &str) -> Self {
        if text.starts_with('/') {
            Self::Socket(text.into())
        } else {
            Self::Name(text.trim_matches(['[', ']']).to_owned())
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
    #[case::ports("postgres://u:hunter2@h,i,j/d?port=1,2", "another number of ports")]
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

    /// What is told of a URL's protection: no mode is laxer than libpq's, and a certificate that can be checked is.
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

    /// The kind: a number in a URL that holds a slot for as long as it says.
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
}

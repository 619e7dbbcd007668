//! Parses a PostgreSQL connection URL.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::{Address, Binding, Host, Members, Password, Place, SslMode};
use crate::{error::AddressError, percent};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest timeout that a URL can set: a connection that waits holds a slot.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_mins(1);
const PORT: u16 = 5432;

impl Address {
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
}

/// The parts of a URL before they are put together.
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
                // To libpq 0 means no limit; nothing here waits for ever.
                if seconds > 0 {
                    let asked = Duration::from_secs(seconds);
                    self.connect_timeout = Some(asked.min(CONNECT_TIMEOUT_MAX));
                }
            }
            // Accepted because URLs made for other programs have it; our application name is always lastgood.
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

/// Parses the URL with a placeholder for its hosts: there may be several or none, which the url crate does not accept.
fn parse_url(scheme: &str, authority: &str, rest: &str) -> Result<Url, AddressError> {
    let behind = rest.get(authority.len()..).unwrap_or_default();
    let who = match authority.rsplit_once('@') {
        Some((who, _)) => format!("{who}@"),
        None => String::new(),
    };
    Url::parse(&format!("{scheme}://{who}{NO_HOST}{behind}")).map_err(|_| AddressError::NotAUrl)
}

const NO_HOST: &str = "no-host.invalid";

/// Returns the hosts after the user, each with its own port if it has one.
fn hosts_of(authority: &str) -> Result<Vec<(Host, Option<u16>)>, AddressError> {
    let hosts = authority.rsplit('@').next().unwrap_or_default();
    hosts.split(',').map(host_and_port).collect()
}

fn host_and_port(text: &str) -> Result<(Host, Option<u16>), AddressError> {
    // An IPv6 address is in brackets in a URL, and without them elsewhere.
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

fn password_of(url: &Url) -> Result<Option<Password>, AddressError> {
    let Some(encoded) = url.password() else {
        return Ok(None);
    };
    Ok(Some(Password {
        plain: decode(encoded, "password")?.into(),
        encoded: encoded.to_owned().into(),
    }))
}

/// Percent-decodes a part of the URL, and refuses characters that an environment or a password file cannot carry.
fn decode(text: &str, what: &'static str) -> Result<String, AddressError> {
    let text = percent::decode(text).ok_or(AddressError::Invalid(what))?;
    if text.contains(['\0', '\n', '\r']) {
        return Err(AddressError::Invalid(what));
    }
    Ok(text)
}

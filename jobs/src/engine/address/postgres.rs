//! A PostgreSQL connection URL, parsed once for our own connections and for the client tools.

mod for_tools;
mod modes;
mod parse;

use std::{fmt, path::PathBuf, time::Duration};

use secrecy::SecretString;

pub(crate) use self::modes::{Binding, Members, SslMode};

use super::transport::{self, Transport};

/// Our `application_name`, as `pg_stat_activity` shows it.
pub(crate) const APPLICATION: &str = "lastgood";
/// The `sslrootcert` that stands for the system's certificates.
const SYSTEM: &str = "system";

/// One database on one server and who connects. The server may have several places: a primary and its standbys.
#[derive(Debug, Clone)]
pub struct Address {
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

/// One host and port where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    Socket(PathBuf),
}

#[derive(Debug, Clone)]
struct Password {
    plain: SecretString,
    /// As the URL spells it.
    encoded: SecretString,
}

impl Address {
    /// Returns which part of the worker's machine the address relies on.
    pub(crate) fn leans_on_machine(&self) -> Option<&'static str> {
        let is_socket = |place: &Place| match &place.host {
            Host::Socket(_) => true,
            // An abstract socket in libpq's notation.
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

    /// Returns where the server is: `host:port` in lower case, several separated by commas.
    pub(crate) fn server(&self) -> String {
        let place = |place: &Place| place.to_string().to_lowercase();
        let mut places: Vec<String> = self.places.iter().map(place).collect();
        places.sort();
        places.join(",")
    }

    /// Returns how the connection to the server is protected.
    pub(crate) fn transport(&self) -> Transport {
        let is_local = |place: &Place| match &place.host {
            Host::Socket(_) => true,
            Host::Name(name) => name.starts_with('@') || transport::is_loopback(name),
        };
        match self.ssl_mode {
            SslMode::VerifyFull => Transport::Verified,
            _ if self.places.iter().all(is_local) => Transport::Local,
            SslMode::VerifyCa => Transport::Unverified(
                "its certificate's name is not compared with the host: set sslmode=verify-full",
            ),
            SslMode::Require => {
                Transport::Unverified("any certificate is accepted: set sslmode=verify-full")
            }
            SslMode::Prefer | SslMode::Allow => Transport::Unverified(
                "the other end decides whether TLS is used, and any certificate is accepted: set sslmode=verify-full",
            ),
            SslMode::Disable => {
                Transport::Unverified("nothing is encrypted: set sslmode=verify-full")
            }
        }
    }

    /// Returns its places, in the URL's order.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    pub(crate) fn members(&self) -> Members {
        self.members
    }

    /// Returns whether a backup that failed on a standby may be tried on the primary.
    pub(crate) fn may_leave_standby(&self) -> bool {
        self.places.len() > 1 && matches!(self.members, Members::Any | Members::PreferStandby)
    }

    /// Returns this address, restricted to the primary.
    pub(crate) fn primary_only(&self) -> Self {
        Self {
            members: Members::Primary,
            ..self.clone()
        }
    }

    /// Returns this address with a single place.
    pub(crate) fn at(&self, place: &Place) -> Self {
        Self {
            places: vec![place.clone()],
            ..self.clone()
        }
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }

    pub(crate) fn password(&self) -> Option<&SecretString> {
        self.password.as_ref().map(|password| &password.plain)
    }

    pub(crate) fn ssl_mode(&self) -> SslMode {
        self.ssl_mode
    }

    pub(crate) fn binding(&self) -> Binding {
        self.binding
    }

    /// Returns the file with the certificates to trust; `None` if those are the system's.
    pub(crate) fn ca_file(&self) -> Option<&str> {
        self.ssl_root_cert.as_deref().filter(|cert| *cert != SYSTEM)
    }

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

impl Host {
    fn of(text: &str) -> Self {
        if text.starts_with('/') {
            Self::Socket(text.into())
        } else {
            Self::Name(text.trim_matches(['[', ']']).to_owned())
        }
    }
}

#[cfg(test)]
mod tests;

//! Parses the connection URL of a Redis or Valkey server.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::transport::{self, Transport};
use crate::{error::RedisError, percent};

const PORT: u16 = 6379;

/// One server and who connects.
#[derive(Debug, Clone)]
pub struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `None` is the server's default user.
    pub(crate) user: Option<String>,
    pub(crate) password: Option<SecretString>,
    pub(crate) tls: Option<Tls>,
}

/// How each end of a TLS connection proves its identity. The files are the worker's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Trusted instead of the system's certificates.
    pub(crate) ca_file: Option<PathBuf>,
    /// The name in the server's certificate, if it is not the host.
    pub(crate) server_name: Option<String>,
    /// Our own certificate and its key, for servers that ask for one.
    pub(crate) cert_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
}

impl Address {
    /// Parses a connection URL. The error repeats nothing of the URL but the names of parameters.
    pub(crate) fn parse(secret: &SecretString) -> Result<Self, RedisError> {
        let text = secret.expose_secret().trim();
        if percent::has_control(text) {
            return Err(unusable(percent::CONTROL));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(not_a_url)?;
        let tls = match scheme {
            "redis" | "valkey" => None,
            "rediss" | "valkeys" => Some(Tls::default()),
            _ => {
                return Err(unusable(
                    "its scheme is not redis, rediss, valkey or valkeys",
                ));
            }
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let hosts = authority.rsplit('@').next().unwrap_or_default();
        if hosts.contains(',') {
            return Err(unusable("it names several hosts: one server is supported"));
        }
        // An unencoded `?` or `/` in a password: the apparent host, port and parameters may then be parts of the
        // password.
        if !authority.contains('@') && rest.contains('@') {
            return Err(not_a_url());
        }
        let url = Url::parse(text).map_err(|_| not_a_url())?;
        if url.fragment().is_some() {
            return Err(unusable(
                "it has a part after #: lastgood always checks the server's certificate; name your own authority with \
                 tls-ca-file",
            ));
        }
        check_database(url.path().trim_start_matches('/'))?;
        let mut address = Self {
            host: host_of(&url)?,
            port: url.port().unwrap_or(PORT),
            user: some(decoded(url.username(), "user")?),
            password: url
                .password()
                .map(|it| decoded(it, "password"))
                .transpose()?
                .map(Into::into),
            tls,
        };
        for (name, value) in url.query_pairs() {
            address.take_parameter(&name, &value)?;
        }
        address.check_certificate()?;
        Ok(address)
    }

    /// Returns which part of the worker's machine the address relies on.
    pub(crate) fn leans_on_machine(&self) -> Option<&'static str> {
        let names_file = self.tls.as_ref().is_some_and(|tls| {
            tls.ca_file.is_some() || tls.cert_file.is_some() || tls.key_file.is_some()
        });
        names_file.then_some("a file")
    }

    /// Returns how the connection to the server is protected.
    pub(crate) fn transport(&self) -> Transport {
        if self.tls.is_some() {
            Transport::Verified
        } else if transport::is_loopback(&self.host) {
            Transport::Local
        } else {
            Transport::Unverified("nothing is encrypted: use rediss:// or valkeys:// in its URL")
        }
    }

    /// Returns where the server is: `host:port` in lower case.
    pub(crate) fn server(&self) -> String {
        let (host, port) = (self.host.to_lowercase(), self.port);
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }

    fn take_parameter(&mut self, name: &str, value: &str) -> Result<(), RedisError> {
        if matches!(name, "db" | "database") {
            return check_database(value);
        }
        let known = [
            "tls-ca-file",
            "tls-server-name",
            "tls-cert-file",
            "tls-key-file",
        ];
        let Some(name) = known.into_iter().find(|it| *it == name) else {
            if !is_name(name) {
                return Err(not_a_url());
            }
            return Err(unusable(format!(
                "its parameter {name} is not supported: use {}",
                known.join(", ")
            )));
        };
        let Some(tls) = &mut self.tls else {
            return Err(unusable(format!(
                "its parameter {name} needs a connection with TLS: begin with rediss:// or valkeys://"
            )));
        };
        if value.is_empty() || value.contains('\0') {
            return Err(unusable(format!(
                "the value of its parameter {name} is not valid"
            )));
        }
        match name {
            "tls-ca-file" => tls.ca_file = Some(value.into()),
            "tls-server-name" => tls.server_name = Some(value.to_owned()),
            "tls-cert-file" => tls.cert_file = Some(value.into()),
            _ => tls.key_file = Some(value.into()),
        }
        Ok(())
    }

    fn check_certificate(&self) -> Result<(), RedisError> {
        let Some(tls) = &self.tls else {
            return Ok(());
        };
        if tls.cert_file.is_some() == tls.key_file.is_some() {
            return Ok(());
        }
        Err(unusable(
            "tls-cert-file and tls-key-file must be given together",
        ))
    }
}

fn host_of(url: &Url) -> Result<String, RedisError> {
    match url.host() {
        None | Some(Host::Domain("")) => Err(unusable("it names no host")),
        Some(Host::Domain(name)) => decoded(name, "host"),
        Some(Host::Ipv4(ip)) => Ok(ip.to_string()),
        Some(Host::Ipv6(ip)) => Ok(ip.to_string()),
    }
}

/// Refuses every database but 0: a backup is always of the whole server, and the URL must not suggest less.
fn check_database(number: &str) -> Result<(), RedisError> {
    if matches!(number, "" | "0") {
        return Ok(());
    }
    Err(unusable(
        "it names a database, but a backup is always of the whole server with all its databases: leave it out",
    ))
}

fn decoded(text: &str, what: &'static str) -> Result<String, RedisError> {
    percent::decode(text).ok_or_else(|| unusable(format!("its {what} is not valid")))
}

/// Returns whether a parameter's name may be repeated in an error. Anything else may be a part of a password.
fn is_name(text: &str) -> bool {
    let is_of_names = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_');
    (1..=40).contains(&text.len()) && text.bytes().all(is_of_names)
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|it| !it.is_empty())
}

fn not_a_url() -> RedisError {
    unusable(
        "it is not a URL such as redis://user:password@host:6379: percent-encode everything but letters and digits in user \
         and password",
    )
}

fn unusable(why: impl Into<String>) -> RedisError {
    RedisError::Address { why: why.into() }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn parse(url: &str) -> Result<Address, RedisError> {
        Address::parse(&url.to_owned().into())
    }

    #[rstest]
    #[case::all(
        "redis://us%65r:p%3As@db.example:7000/0",
        "db.example",
        7000,
        Some("user"),
        Some("p:s")
    )]
    #[case::default_user("valkey://:p@h", "h", 6379, None, Some("p"))]
    #[case::nobody("redis://h/", "h", 6379, None, None)]
    #[case::no_password("redis://u@h?db=0", "h", 6379, Some("u"), None)]
    #[case::v6("redis://[::1]:1", "::1", 1, None, None)]
    fn a_url_is_taken_apart(
        #[case] url: &str,
        #[case] host: &str,
        #[case] port: u16,
        #[case] user: Option<&str>,
        #[case] password: Option<&str>,
    ) -> anyhow::Result<()> {
        let address = parse(url)?;
        assert_eq!((address.host.as_str(), address.port), (host, port));
        assert_eq!(address.user.as_deref(), user);
        assert_eq!(
            address.password.as_ref().map(ExposeSecret::expose_secret),
            password
        );
        assert_eq!(address.tls, None);
        Ok(())
    }

    #[test]
    fn tls_is_checked_against_what_the_url_names() -> anyhow::Result<()> {
        let url =
            "rediss://h?tls-ca-file=/c%20a.pem&tls-server-name=n&tls-cert-file=/c&tls-key-file=/k";
        let tls = Tls {
            ca_file: Some("/c a.pem".into()),
            server_name: Some("n".to_owned()),
            cert_file: Some("/c".into()),
            key_file: Some("/k".into()),
        };
        assert_eq!(parse(url)?.tls, Some(tls));
        assert_eq!(parse("valkeys://h")?.tls, Some(Tls::default()));
        Ok(())
    }

    #[rstest]
    #[case::no_url("hunter2", "not a URL")]
    #[case::scheme("http://u:hunter2@h", "scheme")]
    #[case::host("redis://", "no host")]
    #[case::port("redis://u:hunter2@h:99999", "not a URL")]
    #[case::hosts("redis://u:hunter2@h,i", "several hosts")]
    #[case::database("redis://u:hunter2@h/1", "whole server")]
    #[case::database_in_query("redis://u:hunter2@h?db=2", "whole server")]
    #[case::path("redis://u:hunter2@h/hunter2", "whole server")]
    #[case::unchecked(
        "rediss://u:hunter2@h#insecure",
        "always checks the server's certificate"
    )]
    #[case::unknown("redis://u:hunter2@h?tsl=hunter2", "tsl is not supported")]
    #[case::mark_in_password("redis://u:6379?hunter2@h", "percent-encode")]
    #[case::more_in_password("redis://u:6379?a&hunter=hunter2@h", "percent-encode")]
    #[case::slash_in_password("redis://u:6379/hunter2@h", "percent-encode")]
    #[case::odd_parameter("redis://u:hunter2@h?hunter2=1", "percent-encode")]
    #[case::no_tls("redis://u:hunter2@h?tls-ca-file=/hunter2", "rediss://")]
    #[case::no_key(
        "rediss://u:hunter2@h?tls-cert-file=/hunter2",
        "must be given together"
    )]
    #[case::empty("rediss://u:hunter2@h?tls-ca-file=", "tls-ca-file is not valid")]
    #[case::line_in_password("redis://u:hunter2%0d%0aSET%20a%20b@h", "control character")]
    #[case::line_in_user("redis://u%0a:hunter2@h", "control character")]
    #[case::line_in_host("redis://u:hunter2@h%0a", "control character")]
    #[case::line_in_parameter("rediss://u:hunter2@h?tls-server-name=a%0db", "control character")]
    #[case::percent("redis://u:hunter2%zz@h", "password is not valid")]
    fn what_cannot_be_used_is_named_without_the_secret(#[case] url: &str, #[case] why: &str) {
        let error = parse(url).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }

    #[test]
    fn no_debug_shows_the_password() -> anyhow::Result<()> {
        let address = parse("redis://u:hunter2@h")?;
        assert!(!format!("{address:?}").contains("hunter2"));
        Ok(())
    }
}

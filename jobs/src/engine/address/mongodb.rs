//! Parses a MongoDB connection URL, and says what is wrong with one without repeating it.

use std::{borrow::Cow, fmt};

use mongodb::options::{AuthMechanism, ConnectionString, HostInfo, ServerAddress, Tls, TlsOptions};
use secrecy::{ExposeSecret as _, SecretString};

use super::transport::{self, Transport};
use crate::{error::MongodbError, percent};

/// The server's own databases, which hold none of a customer's data: a backup of one would succeed and be empty.
const OWN: [&str; 3] = ["admin", "config", "local"];
/// Characters that no database name contains.
pub(crate) const NEVER_IN_NAMES: [char; 6] = ['/', '\\', '.', ' ', '"', '$'];
/// Options that are accepted and ignored, because URLs made for other drivers have them.
const COMPRESSION: [&str; 2] = ["compressors", "zlibCompressionLevel"];
/// An option with a longer name is not repeated in an error.
const OPTION_CHARS_SHOWN: usize = 40;

/// One deployment and who connects. Its `Debug` shows none of the fields.
#[derive(Clone)]
pub struct Address(ConnectionString);

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address")
    }
}

impl Address {
    /// Parses `mongodb://…` or `mongodb+srv://…` with every option of the driver. Contacts no server.
    pub(crate) fn parse(url: &SecretString) -> Result<Self, MongodbError> {
        parse(url).map(Self)
    }

    pub(crate) fn to_connection_string(&self) -> ConnectionString {
        self.0.clone()
    }

    /// Returns which part of the worker's machine the address relies on.
    pub(crate) fn leans_on_machine(&self) -> Option<&'static str> {
        let is_socket = match &self.0.host_info {
            HostInfo::HostIdentifiers(hosts) => hosts
                .iter()
                .any(|host| !matches!(host, ServerAddress::Tcp { .. })),
            HostInfo::DnsRecord(_) => false,
            _ => true,
        };
        let names_file = match &self.0.tls {
            Some(Tls::Enabled(tls)) => {
                tls.ca_file_path.is_some() || tls.cert_key_file_path.is_some()
            }
            Some(Tls::Disabled) | None => false,
        };
        let mechanism = self
            .0
            .credential
            .as_ref()
            .and_then(|it| it.mechanism.as_ref());
        let is_of_machine = mechanism.is_some_and(|mechanism| {
            !matches!(
                mechanism,
                AuthMechanism::ScramSha1
                    | AuthMechanism::ScramSha256
                    | AuthMechanism::Plain
                    | AuthMechanism::MongoDbX509
            )
        });
        match () {
            () if is_socket => Some("a socket"),
            () if names_file => Some("a file"),
            () if is_of_machine => Some("the identity"),
            () => None,
        }
    }

    /// Returns how the connection to its servers is protected.
    pub(crate) fn transport(&self) -> Transport {
        let is_loopback = |host: &ServerAddress| !matches!(host, ServerAddress::Tcp { host, .. } if !transport::is_loopback(host));
        let is_here = matches!(&self.0.host_info, HostInfo::HostIdentifiers(hosts) if hosts.iter().all(is_loopback));
        let is_of_record = matches!(self.0.host_info, HostInfo::DnsRecord(_));
        let takes_any = |tls: &TlsOptions| tls.allow_invalid_certificates == Some(true);
        match &self.0.tls {
            Some(Tls::Enabled(tls)) if !takes_any(tls) => Transport::Verified,
            // `mongodb+srv` implies TLS, unless the URL says otherwise.
            None if is_of_record => Transport::Verified,
            _ if is_here => Transport::Local,
            Some(Tls::Enabled(_)) => Transport::Unverified(
                "any certificate is accepted: leave tlsAllowInvalidCertificates and tlsInsecure out of its URL",
            ),
            Some(Tls::Disabled) | None => {
                Transport::Unverified("nothing is encrypted: set tls=true in its URL")
            }
        }
    }

    /// Returns where its servers are, sorted: the members of a replica set may be listed in any order.
    pub(crate) fn server(&self) -> Option<String> {
        match &self.0.host_info {
            HostInfo::HostIdentifiers(hosts) => {
                let mut hosts: Vec<_> = hosts
                    .iter()
                    .map(|host| host.to_string().to_lowercase())
                    .collect();
                hosts.sort();
                Some(hosts.join(","))
            }
            HostInfo::DnsRecord(name) => Some(name.to_lowercase()),
            _ => None,
        }
    }
}

fn parse(url: &SecretString) -> Result<ConnectionString, MongodbError> {
    let url = &without_compression(url.expose_secret());
    if percent::has_control(url.trim()) {
        return Err(MongodbError::Address {
            why: percent::CONTROL.to_owned(),
        });
    }
    let mut parsed = ConnectionString::parse(url).map_err(|_| MongodbError::Address {
        // The driver's own message quotes the URL, perhaps a part of the password.
        why: complaint(url),
    })?;
    if parsed.socks5_proxy.is_some() {
        let why =
            "its option proxyHost is not supported: consumers connect to the servers themselves";
        return Err(MongodbError::Address {
            why: why.to_owned(),
        });
    }
    let own = |it: &&str| OWN.contains(it);
    if let Some(own) = parsed.default_database.as_deref().filter(own) {
        let why = format!(
            "its path names the server's own database {own}: name yours, or none for the whole deployment, and append \
             ?authSource={own} if the user is defined in it"
        );
        return Err(MongodbError::Address { why });
    }
    let is_none = |it: &&str| it.contains(NEVER_IN_NAMES);
    if parsed
        .default_database
        .as_deref()
        .is_some_and(|it| is_none(&it))
    {
        let why = "its path is not a valid database name, which has no / \\ . $ \" and no spaces";
        return Err(MongodbError::Address {
            why: why.to_owned(),
        });
    }
    #[expect(
        deprecated,
        reason = "the driver takes the option only to refuse it later"
    )]
    {
        // URLs made for other drivers often set it. Every wait here has its own deadline.
        parsed.socket_timeout = None;
    }
    Ok(parsed)
}

/// Returns the URL without the options that ask for compression: the guard that checks what a server sends reads only
/// uncompressed messages.
fn without_compression(url: &str) -> Cow<'_, str> {
    let asks = |option: &&str| {
        let name = option.split('=').next().unwrap_or_default();
        COMPRESSION.iter().any(|it| it.eq_ignore_ascii_case(name))
    };
    match url.split_once('?') {
        // After an unencoded `?` in a password, nothing is an option.
        Some((before, options))
            if !options.contains('@') && options.split('&').any(|it| asks(&it)) =>
        {
            let kept: Vec<_> = options.split('&').filter(|it| !asks(it)).collect();
            Cow::Owned(if kept.is_empty() {
                before.to_owned()
            } else {
                format!("{before}?{}", kept.join("&"))
            })
        }
        Some(_) | None => Cow::Borrowed(url),
    }
}

/// Returns what is wrong with a URL that the driver refuses. Repeats nothing of the URL but the name of an option.
fn complaint(url: &str) -> String {
    let Some((before, options)) = url.split_once('?') else {
        return main_part_complaint(url);
    };
    // After an unencoded `?` in a password, nothing is an option.
    if options.contains('@') || ConnectionString::parse(before).is_err() {
        return main_part_complaint(url);
    }
    let is_fine = |option: &&str| ConnectionString::parse(format!("{before}?{option}")).is_ok();
    let Some(option) = options.split('&').find(|option| !is_fine(option)) else {
        return "its options contradict each other, or one is given twice".to_owned();
    };
    match option.split_once('=') {
        Some((name, _)) if is_name(name) => {
            format!("its option {name} is unknown to the driver, or has an invalid value")
        }
        Some(_) | None => "one of its options is not of the form name=value".to_owned(),
    }
}

fn main_part_complaint(url: &str) -> String {
    if url.starts_with("mongodb://") || url.starts_with("mongodb+srv://") {
        "write it as mongodb://user:password@host:port/database?options, or mongodb+srv:// with one host and no port, and \
         percent-encode everything but letters and digits in user and password"
            .to_owned()
    } else {
        "it begins with neither mongodb:// nor mongodb+srv://".to_owned()
    }
}

fn is_name(text: &str) -> bool {
    (1..=OPTION_CHARS_SHOWN).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("mongodb://u:p%40ss@h:27017/shop", Some("shop"))]
    #[case::deployment(
        "mongodb://u:p@h1:1,h2:2,[::1]:3/?replicaSet=rs0&authSource=admin",
        None
    )]
    #[case::no_slash("mongodb://h", None)]
    #[case::srv(
        "mongodb+srv://u:p@cluster.example.com/shop?retryWrites=true&w=majority",
        Some("shop")
    )]
    #[case::tls("mongodb://h/a?tls=true&tlsAllowInvalidCertificates=true", Some("a"))]
    #[case::scram(
        "mongodb://u:p@h/a?authMechanism=SCRAM-SHA-256&readPreference=secondary",
        Some("a")
    )]
    #[case::other_drivers("mongodb://h/a?socketTimeoutMS=1000", Some("a"))]
    #[case::compressed("mongodb://h/a?compressors=zlib", Some("a"))]
    #[case::compressed_anyhow(
        "mongodb://u:p@h/a?compressors=zstd,snappy,zlib&tls=true&ZLIBcompressionLevel=9",
        Some("a")
    )]
    #[case::compressed_without_a_database("mongodb://h?compressors=snappy", None)]
    fn what_the_driver_understands_is_taken(#[case] url: &str, #[case] database: Option<&str>) {
        let parsed = parse(&url.to_owned().into()).unwrap();
        assert_eq!(parsed.default_database.as_deref(), database);
    }

    #[rstest]
    #[case::other_engine("postgres://u:hunter2marker@h/d", "begins with neither")]
    #[case::no_url("hunter2marker", "begins with neither")]
    #[case::slash_in_password("mongodb://u:hunter2marker/x@h/d", "percent-encode")]
    #[case::mark_in_password("mongodb://u:hunter2marker?x=hunter2marker@h/d", "percent-encode")]
    #[case::percent_in_password("mongodb://u:hunter2marker%zz@h/d", "percent-encode")]
    #[case::colon_in_password("mongodb://u:hunter2marker:x@h/d", "percent-encode")]
    #[case::port("mongodb://u:hunter2marker@h:hunter2marker/d", "percent-encode")]
    #[case::srv_with_port("mongodb+srv://u:hunter2marker@h:1/d", "no port")]
    #[case::option(
        "mongodb://u:hunter2marker@h/d?authOrigin=hunter2marker",
        "option authOrigin"
    )]
    #[case::value("mongodb://u:hunter2marker@h/d?tls=hunter2marker", "option tls")]
    #[case::bare_option(
        "mongodb://u:hunter2marker@h/d?hunter2marker",
        "not of the form name=value"
    )]
    #[case::odd_option(
        "mongodb://u:hunter2marker@h/d?hunter2marker=1",
        "not of the form name=value"
    )]
    #[case::behind_compression(
        "mongodb://u:hunter2marker@h/d?compressors=zlib&tls=hunter2marker",
        "option tls"
    )]
    #[case::proxy(
        "mongodb://u:hunter2marker@h/d?proxyHost=hunter2marker",
        "option proxyHost"
    )]
    #[case::proxy_port("mongodb://u:hunter2marker@h/d?proxyPort=1", "option proxyPort")]
    #[case::servers_own("mongodb://u:hunter2marker@h/admin", "authSource=admin")]
    #[case::no_name("mongodb://u:hunter2marker@h/a.b", "not a valid database name")]
    #[case::twice("mongodb://u:hunter2marker@h/d?tls=true&tls=false", "given twice")]
    #[case::line_in_user("mongodb://u%0a:hunter2marker@h/d", "control character")]
    #[case::line_in_password("mongodb://u:hunter2marker%0d%0ax@h/d", "control character")]
    #[case::line_in_host("mongodb://u:hunter2marker@h%0a/d", "control character")]
    #[case::line_in_database("mongodb://u:hunter2marker@h/d%0a", "control character")]
    #[case::line_in_option("mongodb://u:hunter2marker@h/d?appName=a%0db", "control character")]
    fn what_it_does_not_is_explained_without_being_repeated(#[case] url: &str, #[case] says: &str) {
        let error = parse(&url.to_owned().into()).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(says), "{text}");
        assert!(!text.contains("hunter2marker"), "{text}");
    }
}

//! MongoDB: dumped and restored by this process itself, over the network.

mod address;
pub mod archive_format;
pub(crate) mod dump;
mod error;
mod meaning;
mod oplog;
#[cfg(test)]
mod pretend;
pub(crate) mod restore;
pub(crate) mod session;
mod watch;
mod wire;

use mongodb::options::{AuthMechanism, HostInfo, ServerAddress, Tls, TlsOptions};
use secrecy::SecretString;

pub use self::{dump::DumpFault, error::MongodbError, restore::RestoreFault};
use crate::{
    engine::transport::{self, Transport},
    error::JobError,
};

/// The library that speaks to servers, as `Cargo.lock` has it.
const DRIVER: &str = "mongodb driver 3.9.1";

/// What the names of collections begin with that a restore makes for itself: never a customer's. Permanent.
const OURS: &str = "lastgood_restore.";

/// Checks a connection URL without reaching for its server. The error never repeats the URL.
pub(crate) fn check_url(url: &SecretString) -> Result<(), JobError> {
    address::parse(url)?;
    Ok(())
}

/// Returns what of the worker's machine a URL leans on.
pub(crate) fn leans_on_machine(url: &SecretString) -> Result<Option<&'static str>, JobError> {
    let parsed = address::parse(url)?;
    let is_socket = match &parsed.host_info {
        HostInfo::HostIdentifiers(hosts) => hosts
            .iter()
            .any(|host| !matches!(host, ServerAddress::Tcp { .. })),
        HostInfo::DnsRecord(_) => false,
        _ => true,
    };
    let names_file = match &parsed.tls {
        Some(Tls::Enabled(tls)) => tls.ca_file_path.is_some() || tls.cert_key_file_path.is_some(),
        Some(Tls::Disabled) | None => false,
    };
    let mechanism = parsed.credential.and_then(|it| it.mechanism);
    let is_of_machine = mechanism.is_some_and(|mechanism| {
        !matches!(
            mechanism,
            AuthMechanism::ScramSha1
                | AuthMechanism::ScramSha256
                | AuthMechanism::Plain
                | AuthMechanism::MongoDbX509
        )
    });
    Ok(match () {
        () if is_socket => Some("a socket"),
        () if names_file => Some("a file"),
        () if is_of_machine => Some("the identity"),
        () => None,
    })
}

/// Returns how the way to a URL's servers is protected.
pub(crate) fn transport(url: &SecretString) -> Result<Transport, JobError> {
    let parsed = address::parse(url)?;
    let is_loopback = |host: &ServerAddress| !matches!(host, ServerAddress::Tcp { host, .. } if !transport::is_loopback(host));
    let is_here = matches!(&parsed.host_info, HostInfo::HostIdentifiers(hosts) if hosts.iter().all(is_loopback));
    let is_of_record = matches!(parsed.host_info, HostInfo::DnsRecord(_));
    let takes_any = |tls: &TlsOptions| tls.allow_invalid_certificates == Some(true);
    Ok(match &parsed.tls {
        Some(Tls::Enabled(tls)) if !takes_any(tls) => Transport::Verified,
        // A record in the DNS stands for TLS, unless the URL says otherwise.
        None if is_of_record => Transport::Verified,
        _ if is_here => Transport::Local,
        Some(Tls::Enabled(_)) => Transport::Unverified(
            "any certificate is taken: leave tlsAllowInvalidCertificates and tlsInsecure out of its URL",
        ),
        Some(Tls::Disabled) | None => {
            Transport::Unverified("nothing is encrypted: tls=true in its URL")
        }
    })
}

/// Returns where a URL's servers are: in the order of their names, for a set is the same set in any order.
pub(crate) fn server(url: &SecretString) -> Option<String> {
    match address::parse(url).ok()?.host_info {
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

/// Returns the protocols and formats that this build speaks.
pub(crate) fn protocols() -> Vec<String> {
    vec![
        format!("MongoDB wire protocol ({DRIVER})"),
        dump::FORMAT.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_the_one_that_is_linked() {
        let (_, version) = DRIVER.rsplit_once(' ').unwrap();
        let locked = include_str!("../../../Cargo.lock");
        let linked = format!("name = \"mongodb\"\nversion = \"{version}\"");
        assert!(locked.contains(&linked), "Cargo.lock has another driver");
    }
}

//! Redis and Valkey: dumped and restored by this process itself, over the network.

mod address;
mod connection;
pub(crate) mod dump;
mod error;
mod info;
mod mark;
pub(crate) mod rdb;
mod reply;
pub(crate) mod restore;
mod tls;

use secrecy::SecretString;

pub use self::error::RedisError;
use crate::{
    engine::transport::{self, Transport},
    error::JobError,
};

/// Checks a connection URL without reaching for its server. The error never repeats the URL.
pub(crate) fn check_url(url: &SecretString) -> Result<(), JobError> {
    address::Address::parse(url)?;
    Ok(())
}

/// Returns what of the worker's machine a URL leans on.
pub(crate) fn leans_on_machine(url: &SecretString) -> Result<Option<&'static str>, JobError> {
    let tls = address::Address::parse(url)?.tls;
    let names_file = tls.is_some_and(|tls| {
        tls.ca_file.is_some() || tls.cert_file.is_some() || tls.key_file.is_some()
    });
    Ok(names_file.then_some("a file"))
}

/// Returns how the way to a URL's server is protected.
pub(crate) fn transport(url: &SecretString) -> Result<Transport, JobError> {
    let address = address::Address::parse(url)?;
    Ok(if address.tls.is_some() {
        Transport::Verified
    } else if transport::is_loopback(&address.host) {
        Transport::Local
    } else {
        Transport::Unverified("nothing is encrypted: rediss:// or valkeys:// in its URL")
    })
}

/// Returns where a URL's server is.
pub(crate) fn server(url: &SecretString) -> Option<String> {
    let address = address::Address::parse(url).ok()?;
    Some(address.server())
}

/// Returns the protocols and formats that this build speaks.
pub(crate) fn protocols() -> Vec<String> {
    vec![
        "native: RESP2, replication, SCAN and DUMP, RESTORE".to_owned(),
        "RDB 1 to 13 (Redis) and 80 (Valkey 9)".to_owned(),
    ]
}

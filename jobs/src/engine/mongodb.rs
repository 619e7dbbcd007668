//! MongoDB: dumped and restored by this process itself, over the network.

mod address;
pub mod archive_format;
pub(crate) mod dump;
mod error;
mod meaning;
#[cfg(test)]
mod pretend;
pub(crate) mod restore;
pub(crate) mod session;

use mongodb::options::HostInfo;
use secrecy::SecretString;

pub use self::{dump::DumpFault, error::MongodbError, restore::RestoreFault};
use crate::error::JobError;

/// The library that speaks to servers, as `Cargo.lock` has it.
const DRIVER: &str = "mongodb driver 3.9.1";

/// What the names of collections begin with that a restore makes for itself: never a customer's. Permanent.
const OURS: &str = "lastgood_restore.";

/// Checks a connection URL without reaching for its server. The error never repeats the URL.
pub(crate) fn check_url(url: &SecretString) -> Result<(), JobError> {
    address::parse(url)?;
    Ok(())
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

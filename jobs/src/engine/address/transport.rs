//! How the connection to a customer's server is protected, by its URL.

use std::net::IpAddr;

/// How the connection to a server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By TLS, and the server proves that it is the one in the URL.
    Verified,
    /// It stays on the worker's machine.
    Local,
    /// Somebody on the network can read it or impersonate the server. Says why, and what to set instead.
    Unverified(&'static str),
}

impl Transport {
    /// Returns why the connection should not be relied on; `None` if it can be.
    #[must_use]
    pub fn doubt(self) -> Option<&'static str> {
        match self {
            Self::Verified | Self::Local => None,
            Self::Unverified(why) => Some(why),
        }
    }
}

/// Returns whether a host is this machine, judged without asking the network.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

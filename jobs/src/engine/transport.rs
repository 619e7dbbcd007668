//! How is the way to a customer's server protected, as its URL asks?

use std::net::IpAddr;

/// How the way to a server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By TLS, and the server proves that it is the one that the URL names.
    Verified,
    /// It does not leave the worker's machine.
    Local,
    /// Somebody on the way can read it, or answer in the server's place: why, and what to ask for instead.
    Unverified(&'static str),
}

impl Transport {
    /// Returns why nobody should rely on it, where that is so.
    #[must_use]
    pub fn doubt(self) -> Option<&'static str> {
        match self {
            Self::Verified | Self::Local => None,
            Self::Unverified(why) => Some(why),
        }
    }
}

/// Returns whether a host is this machine, whatever the network says.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

//! Why the URL of a PostgreSQL server cannot be used.

use crate::percent;

/// Why a connection URL cannot be used. Repeats nothing of the URL but parameters' names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text is not a URL.
    #[error("it is not a URL such as postgresql://user:password@host:5432/database")]
    NotAUrl,
    /// The scheme is not PostgreSQL's.
    #[error("its scheme is not postgres or postgresql")]
    Scheme,
    /// A part is missing.
    #[error("it names no {0}")]
    Missing(&'static str),
    /// A part does not decode, or holds characters that no connection can carry.
    #[error("its {0} is not valid")]
    Invalid(&'static str),
    /// The URL names several hosts, and neither one port nor one for each host.
    #[error(
        "it names several hosts and a different number of ports: name one port for all, or one for each"
    )]
    Ports,
    /// The URL has control characters, which no part needs.
    #[error("{}", percent::CONTROL)]
    Control,
    /// A parameter is not known here.
    #[error(
        "its parameter {0:?} is not supported: use host, port, sslmode, sslrootcert, channel_binding, connect_timeout, \
         target_session_attrs, application_name"
    )]
    UnknownParameter(String),
    /// The value of a parameter is not known here.
    #[error("the value of its parameter {0:?} is not supported")]
    Parameter(&'static str),
}

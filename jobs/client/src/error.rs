//! Why a request to the API failed.

use std::{fmt, time::Duration};

use serde::Deserialize;
use uuid::Uuid;

/// Why a request failed. No variant holds the token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The API's address is not an http or https URL with a host.
    #[error("the API's address is not an http or https URL with a host")]
    BadUrl,
    /// The token cannot be sent in a header.
    #[error(
        "the token is not one that `lastgood token create` made: it has characters that are not allowed in a header"
    )]
    BadToken,
    /// The idempotency key cannot be sent in a header.
    #[error("an idempotency key is 1 to 255 printable ASCII characters")]
    BadKey,
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The API does not answer.
    #[error("the API does not answer: check its address, and that `lastgood api` is running")]
    Unreachable(#[source] reqwest::Error),
    /// The API refused the request and says why.
    #[error("{0}")]
    Refused(Problem),
    /// Something other than the API answered with an error.
    #[error(
        "status {0}, from something that is not lastgood's API: check the address, and the proxy in front of it"
    )]
    Status(u16),
    /// The answer cannot be decoded: it is of another version, or does not come from the API.
    #[error("cannot read the API's answer: is this client as new as the API?")]
    NotUnderstood(#[source] serde_json::Error),
    /// The run did not end in time. It goes on.
    #[error("run {run} has not ended within {within:?}; it continues")]
    StillUnderWay {
        /// The run.
        run: Uuid,
        /// How long the client waited for it.
        within: Duration,
    },
}

impl ClientError {
    /// Returns whether the same request may succeed later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused(problem) => problem.status == 503,
            Self::Status(status) => matches!(status, 502..=504),
            Self::BadUrl
            | Self::BadToken
            | Self::BadKey
            | Self::Tls(_)
            | Self::NotUnderstood(_)
            | Self::StillUnderWay { .. } => false,
        }
    }

    pub(crate) fn unreachable(error: reqwest::Error) -> Self {
        Self::Unreachable(error.without_url())
    }
}

/// Problem details, as the API sends them (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// The kind of problem, for example `urn:lastgood:problem:conflict`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status of the answer.
    pub status: u16,
    /// What is wrong with the request, and what to do about it.
    pub detail: String,
    /// The request's id, which finds more in the API's log.
    pub instance: String,
    /// How long to wait before trying again.
    #[serde(default)]
    pub retry_after_seconds: Option<u32>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (status {}, request {})",
            self.detail, self.status, self.instance
        )
    }
}

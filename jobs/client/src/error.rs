//! Why the API did not grant a request.

use std::{fmt, time::Duration};

use serde::Deserialize;
use uuid::Uuid;

/// Why there is no answer, or not the one that was wanted. No variant holds the token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The API's address is none.
    #[error("the API's address is not an http or https URL with a host")]
    BadUrl,
    /// The token cannot be in a header.
    #[error(
        "the token is not one that `lastgood token create` made: it has characters that no header may have"
    )]
    BadToken,
    /// The key cannot be in a header.
    #[error("an idempotency key is 1 to 255 printable ASCII characters")]
    BadKey,
    /// TLS cannot be set up.
    #[error("cannot set TLS up")]
    Tls(#[source] rustls::Error),
    /// Nobody answers.
    #[error("the API does not answer: check its address, and that `lastgood api` runs")]
    Unreachable(#[source] reqwest::Error),
    /// The API says why not.
    #[error("{0}")]
    Refused(Problem),
    /// Something that is not the API answers with an error.
    #[error(
        "status {0}, from something that is not lastgood's API: check the address, and the proxy before it"
    )]
    Status(u16),
    /// The answer is of another version, or of something else.
    #[error("the answer is not understood: is this client as new as the API?")]
    NotUnderstood(#[source] serde_json::Error),
    /// It has not ended in time.
    #[error("run {run} has not ended within {within:?}; it goes on")]
    StillUnderWay {
        /// The run.
        run: Uuid,
        /// How long it was waited for.
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
    /// Which kind: `urn:lastgood:problem:conflict`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The answer's status.
    pub status: u16,
    /// What is wrong with the request, and what to do.
    pub detail: String,
    /// The request's id, under which the API's log has more.
    pub instance: String,
    /// When to try again.
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

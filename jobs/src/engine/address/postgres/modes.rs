//! The URL parameters with a closed set of values, in libpq's words.

use super::SYSTEM;

/// Which of several places a backup may read: libpq's `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Members {
    Any,
    Primary,
    Standby,
    PreferStandby,
}

/// Whether the password must be bound to the server's certificate: libpq's `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binding {
    Disable,
    Prefer,
    Require,
}

/// How strictly the connection is protected: libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl SslMode {
    const ALL: [Self; 6] = [
        Self::Disable,
        Self::Allow,
        Self::Prefer,
        Self::Require,
        Self::VerifyCa,
        Self::VerifyFull,
    ];

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Returns the mode that is used.
    ///
    /// Never laxer than libpq's: it checks the server's certificate whenever the URL names what to check it against.
    pub(crate) fn effective(said: Option<Self>, root_cert: Option<&str>) -> Self {
        match (said, root_cert) {
            // As libpq: with a root certificate, `require` checks the chain alone.
            (Some(Self::Require), Some(cert)) if cert != SYSTEM => Self::VerifyCa,
            (Some(Self::Disable), _) => Self::Disable,
            (Some(Self::VerifyCa), Some(cert)) if cert != SYSTEM => Self::VerifyCa,
            // Anybody can get a certificate from one of the system's authorities, so it proves nothing unless the host
            // name is checked too.
            (Some(Self::VerifyCa | Self::VerifyFull), _) | (_, Some(_)) => Self::VerifyFull,
            (Some(said), None) => said,
            (None, None) => Self::Prefer,
        }
    }
}

impl Binding {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let all = [Self::Disable, Self::Prefer, Self::Require];
        all.into_iter().find(|binding| binding.as_str() == text)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
}

impl Members {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "any" => Some(Self::Any),
            "primary" | "read-write" => Some(Self::Primary),
            "standby" | "read-only" => Some(Self::Standby),
            "prefer-standby" => Some(Self::PreferStandby),
            _ => None,
        }
    }
}

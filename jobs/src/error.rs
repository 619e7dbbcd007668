//! Why a job failed, and whether trying again can help.
//!
//! Rules: a variant says *what* failed, in lower case, with what the reader needs to act; `#[source]` says why and is
//! not repeated. No variant ever holds a secret. Retryable or permanent is decided here, in one exhaustive match.

/// Which family a failure belongs to: stored with the run and a metric label. The names are permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The resource, its connection or the request cannot work as they are.
    Config,
    /// The server refused the role or its password.
    Auth,
    /// The server could not be reached, or went away.
    Connect,
    /// A client tool is missing, or of the wrong version.
    Tool,
    /// The dump failed, was cut short, or is too small to be true.
    Dump,
    /// The store failed or is full.
    Storage,
    /// The archive is damaged, or not what its manifest says.
    Corrupt,
    /// The target of a restore cannot take it.
    Target,
    /// The restore failed.
    Restore,
    /// The attempt lost its lease to another.
    LeaseLost,
    /// A fault of lastgood or of the worker's machine.
    Internal,
}

impl ErrorKind {
    /// Returns the stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Auth => "auth",
            Self::Connect => "connect",
            Self::Tool => "tool",
            Self::Dump => "dump",
            Self::Storage => "storage",
            Self::Corrupt => "corrupt",
            Self::Target => "target",
            Self::Restore => "restore",
            Self::LeaseLost => "lease_lost",
            Self::Internal => "internal",
        }
    }
}

/// A job's failure.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    // variants: to be written with the code that raises them
    /// A placeholder of the skeleton.
    #[error("{0}")]
    Internal(String),
}

impl JobError {
    /// Returns the family.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Internal(_) => ErrorKind::Internal,
        }
    }

    /// Returns whether another attempt could never do better without somebody changing something first.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Internal(_) => false,
        }
    }

    /// Returns the whole story on one line: what failed and every cause, `: ` between them.
    #[must_use]
    pub fn report(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }
}

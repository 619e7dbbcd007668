//! Which family a failure belongs to.

/// Which family a failure belongs to. Stored with the run, and a metric label; the names are permanent.
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
    /// All families.
    pub const ALL: [Self; 11] = [
        Self::Config,
        Self::Auth,
        Self::Connect,
        Self::Tool,
        Self::Dump,
        Self::Storage,
        Self::Corrupt,
        Self::Target,
        Self::Restore,
        Self::LeaseLost,
        Self::Internal,
    ];

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

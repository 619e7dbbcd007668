//! How closely is a tier's RPO held? By the cadence alone, or to the minute.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

/// How closely the RPO is held. The names in files and in JSON are permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// By the tier's cadence: exposure passes the RPO by as long as a backup waits and takes.
    #[default]
    Cadence,
    /// To the minute: each resource is backed up early enough for its own backups to be done in time.
    Strict,
}

impl Hold {
    /// Every way, in the order in which messages name them.
    pub const ALL: [Self; 2] = [Self::Strict, Self::Cadence];

    /// Returns the way that a file names, or `None` for another word.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hold| hold.as_str() == name)
    }

    /// Returns the name that files and JSON use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cadence => "cadence",
            Self::Strict => "strict",
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

//! What a drill found, as it is recorded.

use serde::{Deserialize, Serialize};

use crate::{contents::Comparison, manifest::Manifest, scratch::NotPossible};

/// A drill that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Drilled {
    /// What it found.
    pub outcome: Outcome,
    /// What was compared; `None` if nothing was.
    pub comparison: Option<Comparison>,
    /// How long each part took.
    pub seconds: Seconds,
    /// The size of the dump.
    pub dump_bytes: u64,
    /// The size of the archive.
    pub stored_bytes: u64,
    /// What the scratch server was; `None` if none was started.
    pub server: Option<String>,
    /// What else the reader should know.
    pub notes: Vec<String>,
}

/// How long the parts of a drill took, in seconds. A part that was not reached took none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Fetching, decrypting and hashing the archive.
    pub verify: f64,
    /// Starting the scratch server.
    pub start: f64,
    /// Restoring, indexes included: what a customer would wait for.
    pub restore: f64,
    /// Dumping the restored database, and comparing.
    pub check: f64,
}

/// What a drill found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All that was dumped came back.
    Proven,
    /// It was restored, and something is missing or other than it was dumped.
    Differs {
        /// What, for a person.
        because: String,
    },
    /// It could not be restored.
    Failed {
        /// Why, for a person.
        because: String,
    },
    /// Nothing is known: this consumer cannot drill it.
    NotPossible {
        /// The kind of reason.
        reason: Unproven,
        /// What to do, for a person.
        because: String,
    },
}

/// Why a restore point could not be drilled. Stored names are permanent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Unproven {
    /// There is no server program of the right version.
    NoServer,
    /// It would take more room than drills may.
    TooLarge,
    /// The file system is too full.
    NoRoom,
    /// The machine has too little memory.
    NoMemory,
    /// PostgreSQL does not run as root.
    AsRoot,
    /// The directory for drills cannot be used.
    Directory,
    /// The configured server's role is a superuser.
    Superuser,
    /// The configured server is of another version.
    OtherVersion,
    /// The scratch server lacks an extension or a module.
    ExtensionAbsent,
    /// The dump needs what only the customer's own server has, e.g. a role or a locale.
    EnvironmentAbsent,
    /// Nothing but names could be compared.
    NothingComparable,
    /// The list of contents cannot be read.
    UnreadableList,
    /// The dump holds what only a superuser can create.
    NeedsSuperuser,
    /// This consumer lacks the client tools.
    NoTools,
    /// The archive was made by a build that recorded no contents.
    NothingRecorded,
    /// A newer build recorded the contents.
    NewerList,
}

impl Unproven {
    /// Returns the stored name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl From<&NotPossible> for Unproven {
    fn from(reason: &NotPossible) -> Self {
        match reason {
            NotPossible::NoServer { .. } => Self::NoServer,
            NotPossible::TooLarge { .. } => Self::TooLarge,
            NotPossible::NoRoom { .. } => Self::NoRoom,
            NotPossible::NoMemory { .. } => Self::NoMemory,
            NotPossible::AsRoot => Self::AsRoot,
            NotPossible::Directory { .. } => Self::Directory,
            NotPossible::Superuser => Self::Superuser,
            NotPossible::OtherVersion { .. } => Self::OtherVersion,
        }
    }
}

impl Outcome {
    /// Returns the stored name. Permanent.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Differs { .. } => "differs",
            Self::Failed { .. } => "failed",
            Self::NotPossible { .. } => "not_possible",
        }
    }

    /// Returns why it is not proven, for a person.
    #[must_use]
    pub fn because(&self) -> Option<&str> {
        match self {
            Self::Proven => None,
            Self::Differs { because }
            | Self::Failed { because }
            | Self::NotPossible { because, .. } => Some(because),
        }
    }

    pub(super) fn nothing_recorded() -> Self {
        Self::NotPossible {
            reason: Unproven::NothingRecorded,
            because: "the archive has no list of its contents, because an older lastgood made it: the next backup has one"
                .to_owned(),
        }
    }
}

impl Drilled {
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            outcome: Outcome::Proven,
            comparison: None,
            seconds: Seconds::default(),
            dump_bytes: manifest.dump.size_bytes,
            stored_bytes: manifest.archive.size_bytes,
            server: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn ends(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }
}

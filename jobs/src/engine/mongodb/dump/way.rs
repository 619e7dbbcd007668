//! In which way a deployment is dumped, and which way is next if that fails.

use std::fmt;

use crate::error::{DumpFault, JobError, MongodbError};

/// A way to dump, the best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Everything from one snapshot.
    Snapshot,
    /// Each collection in its current state, with the oplog of the whole dump, which a restore replays to one instant.
    Oplog {
        /// Why a snapshot failed.
        because: String,
        /// Whether the snapshot lacked single collections, as opposed to being lost as a whole: another snapshot may
        /// then serve for the rest.
        lacks_some: bool,
    },
    /// From a snapshot. Collections that it lacks are read after it and named in the manifest.
    MostOfSnapshot,
    /// Each collection in its current state, and nothing more.
    Loose {
        /// Why the better ways failed.
        because: String,
    },
}

impl Way {
    /// Returns the next way after this one failed, or the failure itself if no other way would do better.
    pub(super) fn after(self, error: JobError) -> Result<Self, JobError> {
        let JobError::Mongodb(MongodbError::Dump(fault)) = &error else {
            return Err(error);
        };
        let said = fault.to_string();
        let is_of_snapshot = fault.is_of_snapshot();
        match self {
            Self::Snapshot if is_of_snapshot => Ok(Self::Oplog {
                because: said,
                lacks_some: !matches!(
                    fault,
                    DumpFault::SnapshotTooOld { .. } | DumpFault::NoSnapshots { .. }
                ),
            }),
            Self::Oplog {
                because,
                lacks_some,
            } if fault.is_of_oplog() => {
                let lost = format!("{because}; and {said}");
                tracing::warn!("{lost}");
                Ok(if lacks_some {
                    Self::MostOfSnapshot
                } else {
                    Self::Loose { because: lost }
                })
            }
            Self::MostOfSnapshot if is_of_snapshot => Ok(Self::Loose { because: said }),
            Self::Snapshot | Self::Oplog { .. } | Self::MostOfSnapshot | Self::Loose { .. } => {
                Err(error)
            }
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot => write!(f, "from a snapshot"),
            Self::Oplog { because, .. } => write!(f, "with the oplog beside it, because {because}"),
            Self::MostOfSnapshot => {
                write!(
                    f,
                    "from a snapshot, followed by the collections that it lacks"
                )
            }
            Self::Loose { because } => {
                write!(f, "one collection after another, because {because}")
            }
        }
    }
}

//! In which way a deployment is dumped, and in which instead where that does not work out.

use std::fmt;

use super::{super::error::MongodbError, fault::DumpFault};
use crate::error::JobError;

/// A way to dump, the best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Everything from one snapshot.
    Snapshot,
    /// Everything as it is when its turn comes, and the oplog of all that time, which a restore replays to one instant.
    Oplog {
        /// Why not from a snapshot.
        because: String,
        /// Whether it was one collection that the snapshot lacked, and not the snapshot that was lost: another may have all.
        lacks_some: bool,
    },
    /// From a snapshot; what it lacks is read after it, and named.
    MostOfSnapshot,
    /// Everything as it is when its turn comes, and nothing more.
    Loose {
        /// Why not better.
        because: String,
    },
}

impl Way {
    /// Returns the way to go after this one has failed; the failure itself where no other way would do better.
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
                write!(f, "from a snapshot, and what it lacks after it")
            }
            Self::Loose { because } => {
                write!(f, "collection after collection, because {because}")
            }
        }
    }
}

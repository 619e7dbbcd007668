//! Which family a failure belongs to, and whether a retry or another store may do better.

use super::{ErrorKind, JobError};

impl JobError {
    /// Returns the family of the failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotConfirmed { .. }
            | Self::NotKept { .. }
            | Self::NoSuchPoint { .. }
            | Self::OtherPoint { .. }
            | Self::NotThisWay { .. }
            | Self::Key(_)
            | Self::NoStore { .. }
            | Self::ObjectKey(_)
            | Self::DumpTooLarge { .. }
            | Self::NoTargetUrl => ErrorKind::Config,
            Self::Postgres(error) => error.kind(),
            Self::Mongodb(error) => error.kind(),
            Self::Redis(error) => error.kind(),
            Self::Refused(_) | Self::Denied { .. } => ErrorKind::Auth,
            Self::Unreachable { .. } | Self::NoAnswer { .. } => ErrorKind::Connect,
            Self::UnknownFormat { .. } => ErrorKind::Tool,
            Self::DumpNotWhole(_) | Self::DumpTooSmall { .. } => ErrorKind::Dump,
            Self::StoreFull { .. }
            | Self::Store { .. }
            | Self::StoreDenied { .. }
            | Self::StoreUnable { .. }
            | Self::StoreChanged { .. }
            | Self::StoreRefuses { .. } => ErrorKind::Storage,
            Self::Damaged { .. } | Self::BadManifest { .. } | Self::BadEscrow { .. } => {
                ErrorKind::Corrupt
            }
            Self::TargetNotEmpty { .. } | Self::PerhapsFilledBefore { .. } => ErrorKind::Target,
            Self::LeaseLost => ErrorKind::LeaseLost,
            Self::ScratchDied { .. }
            | Self::Statement { .. }
            | Self::Io { .. }
            | Self::Stopped { .. } => ErrorKind::Internal,
        }
    }

    /// Returns whether the store failed, so that another store with the same restore point may do better.
    #[must_use]
    pub fn is_of_the_store(&self) -> bool {
        matches!(
            self,
            Self::NoSuchPoint { .. }
                | Self::StoreFull { .. }
                | Self::Store { .. }
                | Self::StoreDenied { .. }
                | Self::StoreUnable { .. }
                | Self::StoreChanged { .. }
                | Self::StoreRefuses { .. }
                | Self::Damaged { .. }
                | Self::BadManifest { .. }
                | Self::BadEscrow { .. }
                | Self::NoStore { .. }
        )
    }

    /// Returns whether no retry can succeed before somebody changes something.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::NotConfirmed { .. }
            | Self::NotKept { .. }
            | Self::NoSuchPoint { .. }
            | Self::OtherPoint { .. }
            | Self::NotThisWay { .. }
            | Self::NoTargetUrl
            | Self::ObjectKey(_)
            | Self::Refused(_)
            | Self::Denied { .. }
            | Self::StoreUnable { .. }
            | Self::UnknownFormat { .. }
            | Self::DumpTooLarge { .. }
            | Self::StoreRefuses { .. }
            | Self::Damaged { .. }
            | Self::BadManifest { .. }
            | Self::BadEscrow { .. }
            | Self::NoStore { .. }
            | Self::TargetNotEmpty { .. }
            | Self::PerhapsFilledBefore { .. } => true,
            Self::Postgres(error) => error.is_permanent(),
            Self::Mongodb(error) => error.is_permanent(),
            Self::Redis(error) => error.is_permanent(),
            Self::Key(error) => error.is_permanent(),
            Self::StoreDenied { may_pass, .. } => !may_pass,
            Self::Statement { source, .. } => source.is_final(),
            Self::Unreachable { .. }
            | Self::NoAnswer { .. }
            | Self::DumpNotWhole(_)
            | Self::DumpTooSmall { .. }
            | Self::StoreFull { .. }
            | Self::Store { .. }
            | Self::StoreChanged { .. }
            | Self::LeaseLost
            | Self::ScratchDied { .. }
            | Self::Io { .. }
            | Self::Stopped { .. } => false,
        }
    }
}

//! Which family a failure belongs to, and whether another attempt or another store can do better.

use std::io;

use super::{ErrorKind, JobError};
use crate::{engine::postgres::verdict::Verdict, storage::PUT_TOGETHER};

impl JobError {
    /// Returns the family.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Address(_)
            | Self::DatabaseGone { .. }
            | Self::NotConfirmed { .. }
            | Self::NotKept { .. }
            | Self::NoSuchPoint { .. }
            | Self::OtherPoint { .. }
            | Self::NotThisWay { .. }
            | Self::ConnectionImpossible { .. }
            | Self::SharedConnections { .. }
            | Self::Key(_)
            | Self::NoStore { .. }
            | Self::AsSuperuser
            | Self::BreaksReplication { .. }
            | Self::ObjectKey(_)
            | Self::DumpTooLarge { .. }
            | Self::NoTargetUrl => ErrorKind::Config,
            Self::Mongodb(error) => error.kind(),
            Self::Redis(error) => error.kind(),
            Self::Refused(_) | Self::Denied { .. } | Self::RowSecurity { .. } => ErrorKind::Auth,
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::NoAnswer { .. }
            | Self::DatabaseClosed { .. } => ErrorKind::Connect,
            Self::NoClient { .. }
            | Self::ServerTooOld { .. }
            | Self::UnknownFormat { .. }
            | Self::ToolStart { .. } => ErrorKind::Tool,
            Self::DumpFailed { .. }
            | Self::PreparedTransactions { .. }
            | Self::DumpNotWhole(_)
            | Self::DumpTooSmall { .. } => ErrorKind::Dump,
            Self::StoreFull { .. }
            | Self::Store { .. }
            | Self::StoreDenied { .. }
            | Self::StoreUnable { .. }
            | Self::StoreChanged { .. }
            | Self::StoreRefuses { .. } => ErrorKind::Storage,
            Self::Damaged { .. } | Self::BadManifest { .. } | Self::BadEscrow { .. } => {
                ErrorKind::Corrupt
            }
            Self::TargetNotEmpty { .. }
            | Self::PerhapsFilledBefore { .. }
            | Self::TargetOlder { .. }
            | Self::NoExtension { .. }
            | Self::ExtensionNeedsSuperuser { .. }
            | Self::NoTablespace { .. }
            | Self::LockTableTooSmall { .. }
            | Self::NotATarget { .. }
            | Self::OthersDatabase { .. }
            | Self::TargetRefused { .. }
            | Self::TargetInUse { .. }
            | Self::LeftClosed { .. } => ErrorKind::Target,
            Self::RestoreFailed { .. } | Self::RestoreNotWhole { .. } => ErrorKind::Restore,
            Self::LeaseLost => ErrorKind::LeaseLost,
            Self::Statement { .. } | Self::Io { .. } | Self::Stopped { .. } => ErrorKind::Internal,
        }
    }

    /// Returns whether it was the store that failed, so that another store which holds the same point may do better.
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

    /// Returns whether another attempt could never do better without somebody changing something first.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Address(_)
            | Self::DatabaseGone { .. }
            | Self::NotConfirmed { .. }
            | Self::NotKept { .. }
            | Self::NoSuchPoint { .. }
            | Self::OtherPoint { .. }
            | Self::NotThisWay { .. }
            | Self::NoTargetUrl
            | Self::ObjectKey(_)
            | Self::ConnectionImpossible { .. }
            | Self::SharedConnections { .. }
            | Self::Untrusted { .. }
            | Self::Refused(_)
            | Self::Denied { .. }
            | Self::RowSecurity { .. }
            | Self::PreparedTransactions { .. }
            | Self::NoClient { .. }
            | Self::ServerTooOld { .. }
            | Self::StoreUnable { .. }
            | Self::UnknownFormat { .. }
            | Self::DumpTooLarge { .. }
            | Self::StoreRefuses { .. }
            | Self::Damaged { .. }
            | Self::BadManifest { .. }
            | Self::BadEscrow { .. }
            | Self::NoStore { .. }
            | Self::TargetNotEmpty { .. }
            | Self::PerhapsFilledBefore { .. }
            | Self::TargetOlder { .. }
            | Self::NoExtension { .. }
            | Self::ExtensionNeedsSuperuser { .. }
            | Self::AsSuperuser
            | Self::NoTablespace { .. }
            | Self::BreaksReplication { .. }
            | Self::LockTableTooSmall { .. }
            | Self::NotATarget { .. }
            | Self::OthersDatabase { .. } => true,
            Self::Mongodb(error) => error.is_permanent(),
            Self::Redis(error) => error.is_permanent(),
            Self::Key(error) => error.is_permanent(),
            // The same keys were good for the parts: a server that was started anew may have forgotten those.
            Self::StoreDenied { doing, .. } => *doing != PUT_TOGETHER,
            Self::Statement { source, .. } => source.is_final(),
            Self::DumpFailed { stderr, .. } | Self::RestoreFailed { stderr, .. } => {
                Verdict::of_words(stderr).is_final()
            }
            Self::ToolStart { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
            ),
            Self::Unreachable { .. }
            | Self::NoAnswer { .. }
            | Self::DatabaseClosed { .. }
            | Self::DumpNotWhole(_)
            | Self::DumpTooSmall { .. }
            | Self::StoreFull { .. }
            | Self::Store { .. }
            | Self::StoreChanged { .. }
            | Self::TargetRefused { .. }
            | Self::TargetInUse { .. }
            | Self::LeftClosed { .. }
            | Self::RestoreNotWhole { .. }
            | Self::LeaseLost
            | Self::Io { .. }
            | Self::Stopped { .. } => false,
        }
    }
}

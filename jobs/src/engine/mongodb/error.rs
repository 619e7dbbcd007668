//! What can go wrong with MongoDB and nowhere else.

use super::{dump::DumpFault, restore::RestoreFault};
use crate::error::ErrorKind;

/// A failure that only this engine knows.
#[derive(Debug, thiserror::Error)]
pub enum MongodbError {
    /// The connection URL does not parse, or asks for what is not supported.
    #[error("the connection URL cannot be used: {why}")]
    Address {
        /// Why. Repeats nothing of the URL but names of parameters.
        why: String,
    },
    /// An answer that MongoDB's protocol does not allow.
    #[error("cannot {doing}: the server's answer has {what}")]
    OddAnswer {
        /// What was being done.
        doing: &'static str,
        /// What is odd about it.
        what: &'static str,
    },
    /// A restore's own failure.
    #[error(transparent)]
    Restore(#[from] RestoreFault),
    /// A dump's own failure.
    #[error(transparent)]
    Dump(#[from] DumpFault),
}

impl MongodbError {
    /// Returns the family.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. } => ErrorKind::Config,
            Self::OddAnswer { .. } => ErrorKind::Internal,
            Self::Restore(fault) => fault.kind(),
            Self::Dump(fault) => fault.kind(),
        }
    }

    /// Returns whether another attempt could never do better without somebody changing something first.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Address { .. } => true,
            Self::OddAnswer { .. } => false,
            Self::Restore(fault) => fault.is_permanent(),
            Self::Dump(fault) => fault.is_permanent(),
        }
    }
}

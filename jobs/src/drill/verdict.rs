//! What does a failure during a drill say about the restore point?
//!
//! A failure of the store, the network, this machine or the lease says nothing: the run is tried again. A damaged archive
//! is judged as a verification judges it. What this consumer lacks leaves the point unproven. Only a server's refusal of
//! the dump itself is a failed drill.

use super::{Outcome, Unproven};
use crate::{
    error::{ErrorKind, JobError, PostgresError, RedisError, chain, postgres::verdict::Verdict},
    scratch::StartError,
};

/// Returns the outcome that a failed restore or dump means, or the error that says nothing about the point.
pub(super) fn of(error: JobError) -> Result<Outcome, JobError> {
    if let Some(reason) = unproven(&error) {
        let because = error.report();
        return Ok(Outcome::NotPossible { reason, because });
    }
    match error.kind() {
        ErrorKind::Config
        | ErrorKind::Connect
        | ErrorKind::Storage
        | ErrorKind::Corrupt
        | ErrorKind::LeaseLost
        | ErrorKind::Internal => Err(error),
        ErrorKind::Tool => Ok(Outcome::NotPossible {
            reason: Unproven::NoTools,
            because: error.report(),
        }),
        ErrorKind::Auth | ErrorKind::Dump | ErrorKind::Target | ErrorKind::Restore => {
            Ok(Outcome::Failed {
                because: error.report(),
            })
        }
    }
}

/// Returns what the scratch server lacks, if that is why.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "few errors say that, and `of` judges all others by their family"
)]
fn unproven(error: &JobError) -> Option<Unproven> {
    match error {
        JobError::Denied { .. } => Some(Unproven::NeedsSuperuser),
        JobError::Postgres(error) => match error {
            PostgresError::NoExtension { .. } => Some(Unproven::ExtensionAbsent),
            PostgresError::ExtensionNeedsSuperuser { .. } => Some(Unproven::NeedsSuperuser),
            PostgresError::RestoreFailed { stderr, .. }
                if Verdict::of_words(stderr) == Verdict::Denied || asks_for_superuser(stderr) =>
            {
                Some(Unproven::NeedsSuperuser)
            }
            PostgresError::TargetOlder { .. } => Some(Unproven::OtherVersion),
            _ => None,
        },
        JobError::Redis(error) => match error {
            RedisError::TargetLacks { .. } => Some(Unproven::ExtensionAbsent),
            RedisError::TargetOlder { .. } | RedisError::NoFunctions { .. } => {
                Some(Unproven::OtherVersion)
            }
            RedisError::TooLittleMemory { .. } | RedisError::Evicted { .. } => {
                Some(Unproven::NoMemory)
            }
            RedisError::HalfRestored { source, .. } => unproven(source),
            _ => None,
        },
        _ => None,
    }
}

/// Returns whether the scratch server refused what only a superuser may create. Its messages are in English.
fn asks_for_superuser(stderr: &str) -> bool {
    [
        "permission denied",
        "must be superuser",
        "Must be superuser",
    ]
    .iter()
    .any(|said| stderr.contains(said))
}

/// Returns the error for a scratch server that did not start, for a reason that may pass.
pub(super) fn of_start(error: &StartError) -> JobError {
    JobError::ScratchDied { how: chain(error) }
}

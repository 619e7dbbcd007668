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
    if is_of_this_machine(&error) {
        return Err(error);
    }
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
            PostgresError::RestoreFailed { stderr, .. } if lacks_the_customers(stderr) => {
                Some(Unproven::EnvironmentAbsent)
            }
            PostgresError::RestoreFailed { stderr, .. } if says(stderr, &["No space left"]) => {
                Some(Unproven::NoRoom)
            }
            // Its tables need more locks in one transaction than a scratch server has.
            PostgresError::LockTableTooSmall { .. } => Some(Unproven::TooLarge),
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
    says(
        stderr,
        &[
            "permission denied",
            "must be superuser",
            "Must be superuser",
        ],
    )
}

/// Returns whether a statement needs what only the customer's own server has: roles that policies name, locales and
/// dictionaries of its machine, its currency.
fn lacks_the_customers(stderr: &str) -> bool {
    let names_a_role = says(stderr, &["role \""]) && says(stderr, &["does not exist"]);
    let lacks = [
        "could not create locale",
        "collation \"",
        "could not open dictionary file",
        "could not open stop-word file",
        "could not open thesaurus file",
        "could not load library",
        "could not access file",
        "invalid input syntax for type money",
        // Texts sort otherwise where the locale was replaced.
        "violates partition constraint",
        "no partition of relation",
    ];
    names_a_role || says(stderr, &lacks)
}

/// Returns whether the scratch server broke off, which says nothing about the dump.
fn is_of_this_machine(error: &JobError) -> bool {
    let JobError::Postgres(PostgresError::RestoreFailed { stderr, .. }) = error else {
        return false;
    };
    let broken_off = [
        "server closed the connection unexpectedly",
        "terminating connection",
        "out of memory",
        "connection to server",
        "the database system is",
    ];
    says(stderr, &broken_off)
}

fn says(stderr: &str, words: &[&str]) -> bool {
    words.iter().any(|word| stderr.contains(word))
}

/// Returns the error for a scratch server that did not start, for a reason that may pass.
pub(super) fn of_start(error: &StartError) -> JobError {
    JobError::ScratchDied { how: chain(error) }
}
